package workflows

import (
	"errors"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// descriptions are what the UI and the CLI show of the actions.
var descriptions = map[email.Action]string{
	email.ActionCancel:     "End what has not been sent. What the server accepts meanwhile stays accepted",
	email.ActionHold:       "Keep further attempts from beginning, until resumed",
	email.ActionResume:     "End a hold",
	email.ActionRetryNow:   "Try deferred recipients again at once",
	email.ActionReschedule: "Move the first attempt to send_at; only before it",
}

// listen makes the run take every action as a signal and as an update, and a
// cancellation of the run as a cancel. Each is carried out by the store, as over
// REST; the run is woken to see what came of it.
func (s *sendEmail) listen(ctx workflow.Context) error {
	for _, action := range email.Actions() {
		name := string(action)
		// The SDK would refuse an argument that it cannot decode with an error type of its own
		// and Go's names in it, so what comes is read here.
		err := workflow.SetUpdateHandlerWithOptions(ctx, name, func(ctx workflow.Context, raw converter.RawValue) (email.State, error) {
			in, err := updateInput(action, raw)
			if err != nil {
				return email.State{}, err
			}
			return s.control(ctx, action, in)
		}, workflow.UpdateHandlerOptions{
			Description: descriptions[action],
			Validator: func(_ workflow.Context, raw converter.RawValue) error {
				_, err := updateInput(action, raw)
				return err
			},
		})
		if err != nil {
			return err
		}
	}
	// One coroutine listens for all of it: each is run at every step of the workflow.
	workflow.Go(ctx, func(ctx workflow.Context) {
		canceled := false
		sel := s.signals(ctx).AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {
			canceled = true
			s.begin(ctx, email.ActionCancel, email.RescheduleInput{})
		})
		for !canceled {
			sel.Select(ctx)
		}
		for sel = s.signals(ctx); ; { // one that is canceled stays it
			sel.Select(ctx)
		}
	})
	return nil
}

// updateInput reads an update's argument. Only reschedule takes one; what comes with
// another is not looked at.
func updateInput(action email.Action, raw converter.RawValue) (in email.RescheduleInput, err error) {
	if action != email.ActionReschedule {
		return in, nil
	}
	if raw.Payload() != nil && converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &in) != nil {
		in = email.RescheduleInput{}
	}
	if in.SendAt.IsZero() {
		const give = `give the new time as RFC 3339 has it: {"send_at": "2026-01-02T15:04:05Z"}`
		return in, refused("reschedule: "+give, email.ErrorDetails{Errors: []email.FieldError{{Pointer: "send_at", Code: "invalid", Detail: give}}})
	}
	return in, nil
}

// signals begins an action for each of its signals. What comes with one is not decoded
// by the SDK: a signal that it cannot decode it drops, and then waits for the next, so
// that the run would hear nothing any more. Only reschedule takes an input at all.
func (s *sendEmail) signals(ctx workflow.Context) workflow.Selector {
	sel := workflow.NewSelector(ctx)
	for _, action := range email.Actions() {
		channel := workflow.GetSignalChannelWithOptions(ctx, string(action), workflow.SignalChannelOptions{Description: descriptions[action]})
		sel.AddReceive(channel, func(channel workflow.ReceiveChannel, _ bool) {
			if action != email.ActionReschedule {
				channel.ReceiveAsync(nil)
				s.begin(ctx, action, email.RescheduleInput{})
				return
			}
			var raw converter.RawValue
			channel.ReceiveAsync(&raw)
			s.begin(ctx, action, s.rescheduling(raw))
		})
	}
	return sel
}

// rescheduling reads the input of reschedule. One that is not readable is none, and the
// store refuses that.
func (s *sendEmail) rescheduling(raw converter.RawValue) (in email.RescheduleInput) {
	if raw.Payload() == nil {
		return in
	}
	if err := converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &in); err != nil {
		s.log.Warn("signal without a readable time", "action", string(email.ActionReschedule))
		return email.RescheduleInput{}
	}
	return in
}

// begin carries out an action beside the others.
func (s *sendEmail) begin(ctx workflow.Context, action email.Action, in email.RescheduleInput) {
	workflow.Go(ctx, func(ctx workflow.Context) {
		if _, err := s.control(ctx, action, in); err != nil {
			// A signal has nobody to answer, and a cancellation came too late.
			s.log.Warn("action refused", "action", string(action), "error", err)
		}
	})
}

// control carries out an action, once there is an e-mail. Its context is not the canceled one, if that is
// why it was called.
func (s *sendEmail) control(ctx workflow.Context, action email.Action, in email.RescheduleInput) (email.State, error) {
	s.controlling++
	defer func() { s.controlling-- }()
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: it ends with the activity
	if err := workflow.Await(steps, func() bool { return s.in.EmailID != "" }); err != nil {
		return email.State{}, err
	}
	st, err := regular(steps, email.ActivityControl, act.ControlEmail, urgent(s.ranked(regularOptions(string(action)))),
		delivery.ControlInput{EmailID: s.in.EmailID, Action: action, SendAt: in.SendAt})
	if err != nil {
		if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
			return st, app // the refusal itself, without the activity around it
		}
		return st, err
	}
	s.woken.SendAsync(true)
	if s.owner != "" {
		if err := workflow.SignalExternalWorkflow(steps, s.owner, "", email.SignalWake, nil).Get(steps, nil); err != nil {
			s.log.Warn("the run that sends the e-mail was not woken", "error", err) // the gate knows
		}
	}
	return st, nil
}
