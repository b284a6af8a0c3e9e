package workflows

import (
	"errors"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// descriptions are what the Temporal UI and CLI show of signals and updates.
var descriptions = map[email.Action]string{
	email.ActionCancel:     "End what has not been sent. What the server accepts meanwhile stays accepted",
	email.ActionHold:       "Keep further attempts from beginning, until resumed",
	email.ActionResume:     "End a hold",
	email.ActionRetryNow:   "Try deferred recipients again at once",
	email.ActionReschedule: "Move the first attempt to send_at; only before it",
}

// handleControls accepts every action as a signal and as an update, and a cancellation of the
// run as a cancel. The store carries each out, as over REST. Then the run is woken and reads
// the e-mail's state again.
func (s *sendEmail) handleControls(ctx workflow.Context) error {
	for _, action := range email.Actions() {
		name := string(action)
		// The handler decodes the argument itself: for one that it cannot decode, the SDK's
		// error has a type of its own and names Go types.
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
	// One coroutine receives all signals: the SDK resumes every coroutine at every step of
	// the workflow.
	workflow.Go(ctx, func(ctx workflow.Context) {
		canceled := false
		sel := s.signals(ctx).AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {
			canceled = true
			s.startControl(ctx, email.ActionCancel, email.RescheduleInput{})
		})
		for !canceled {
			sel.Select(ctx)
		}
		for sel = s.signals(ctx); ; { // without ctx.Done, which stays ready after a cancellation
			sel.Select(ctx)
		}
	})
	return nil
}

// updateInput reads an update's argument. Only reschedule has one; the arguments of other
// updates are ignored.
func updateInput(action email.Action, raw converter.RawValue) (in email.RescheduleInput, err error) {
	if action != email.ActionReschedule {
		return in, nil
	}
	if raw.Payload() != nil && converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &in) != nil {
		in = email.RescheduleInput{}
	}
	if in.SendAt.IsZero() {
		const give = `give the new time in RFC 3339 format: {"send_at": "2026-01-02T15:04:05Z"}`
		return in, refused("reschedule: "+give, email.ErrorDetails{Errors: []email.FieldError{{Pointer: "send_at", Code: "invalid", Detail: give}}})
	}
	return in, nil
}

// signals starts an action for each of its signals. The SDK does not decode the inputs: it
// would drop a signal that it cannot decode and block until the next one, and the run would
// receive no other signals meanwhile. Only reschedule has an input.
func (s *sendEmail) signals(ctx workflow.Context) workflow.Selector {
	sel := workflow.NewSelector(ctx)
	for _, action := range email.Actions() {
		channel := workflow.GetSignalChannelWithOptions(ctx, string(action), workflow.SignalChannelOptions{Description: descriptions[action]})
		sel.AddReceive(channel, func(channel workflow.ReceiveChannel, _ bool) {
			if action != email.ActionReschedule {
				channel.ReceiveAsync(nil)
				s.startControl(ctx, action, email.RescheduleInput{})
				return
			}
			var raw converter.RawValue
			channel.ReceiveAsync(&raw)
			s.startControl(ctx, action, s.rescheduleInput(raw))
		})
	}
	return sel
}

// rescheduleInput reads the input of a reschedule signal. An unreadable input is the zero value,
// which the store refuses.
func (s *sendEmail) rescheduleInput(raw converter.RawValue) (in email.RescheduleInput) {
	if raw.Payload() == nil {
		return in
	}
	if err := converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &in); err != nil {
		s.log.Warn("signal without a readable time", "action", string(email.ActionReschedule))
		return email.RescheduleInput{}
	}
	return in
}

// startControl carries out an action in a coroutine of its own.
func (s *sendEmail) startControl(ctx workflow.Context, action email.Action, in email.RescheduleInput) {
	workflow.Go(ctx, func(ctx workflow.Context) {
		if _, err := s.control(ctx, action, in); err != nil {
			// A signal has no answer, so the refusal goes to the log.
			s.log.Warn("action refused", "action", string(action), "error", err)
		}
	})
}

// control carries out an action, once the e-mail is stored. It works in a canceled ctx too:
// cancel is called with one.
func (s *sendEmail) control(ctx workflow.Context, action email.Action, in email.RescheduleInput) (email.State, error) {
	s.controlling++
	defer func() { s.controlling-- }()
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: it ends with the activity
	if err := workflow.Await(steps, func() bool { return s.in.EmailID != "" }); err != nil {
		return email.State{}, err
	}
	st, err := regular(steps, email.ActivityControl, act.ControlEmail, urgent(s.prioritized(regularOptions(string(action)))),
		delivery.ControlInput{EmailID: s.in.EmailID, Action: action, SendAt: in.SendAt})
	if err != nil {
		if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
			return st, app // the refusal itself, without the SDK's ActivityError around it
		}
		return st, err
	}
	s.woken.SendAsync(true)
	if s.owner != "" {
		if err := workflow.SignalExternalWorkflow(steps, s.owner, "", email.SignalWake, nil).Get(steps, nil); err != nil {
			s.log.Warn("the run that sends the e-mail was not woken", "error", err) // the gate reads the action from the row
		}
	}
	return st, nil
}
