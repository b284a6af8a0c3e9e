// Package workflows holds the Temporal workflows: they decide and wait. They use time, random
// numbers and I/O only through the SDK's workflow package. The state is in Postgres: a run
// reads it after each step and keeps no counts of its own.
package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// act is never called: local and regular take its methods for their types.
var act *activities.Activities

// sendEmail is the state of one run of SendEmail.
type sendEmail struct {
	// ctx is disconnected: a cancellation of the run cancels the e-mail, not the activity
	// under way.
	ctx workflow.Context
	in  email.SendEmailInput
	// owner is the workflow id of the run that sends the e-mail; empty if this run sends it.
	owner string
	log   log.Logger
	state email.State
	// plan is the result of ResolveAttachments. resolved is set once the e-mail may be sent;
	// problem is why a required attachment is missing.
	plan     delivery.ResolveAttachmentsResult
	resolved bool
	problem  string
	relay    string
	// published is the status or detail in the search attributes.
	published string
	// turn is the slot of a relay's rate that is reserved for the e-mail.
	turn delivery.Turn
	// woken wakes a waiting run after an action of its own changed the e-mail.
	woken workflow.Channel
	// repeats counts how often in a row the same attempt stayed due without a wait.
	repeats int
	// controlling counts the actions under way: the run does not end before them.
	controlling int
}

// SendEmail sends one e-mail until it is finished: a stored e-mail, or the message of a direct
// start. The answers of recipients' servers are its result. The run fails only for an e-mail
// that does not exist or a message that is refused. Its input is an email.SendEmailInput.
func SendEmail(ctx workflow.Context, raw converter.RawValue) (email.SendEmailResult, error) {
	s, err := setup(ctx, raw)
	if err != nil {
		return email.SendEmailResult{}, err
	}
	var res email.SendEmailResult
	if err = s.run(); err == nil {
		res, err = s.finish()
	}
	ignoreWakes(ctx)
	return res, err
}

// run sends the e-mail until it is finished, or waits for the run that sends it.
func (s *sendEmail) run() error {
	if err := s.accept(); err != nil {
		return err
	}
	if s.owner != "" {
		return s.follow()
	}
	for {
		if err := s.resolve(); err != nil {
			return err
		}
		if s.state.Waiting != "" {
			if err := s.wait(); err != nil {
				return err
			}
			continue
		}
		attempt := s.state.NextAttempt
		sent, err := s.send()
		if err != nil {
			return err
		}
		if err := s.record(sent); err != nil {
			return err
		}
		if s.state.Final {
			return nil
		}
		s.slowDown(attempt)
	}
}

const (
	// changeSlowDown is the change id of waiting if the same attempt stays due.
	changeSlowDown = "wait-when-nothing-moves"
	// maxRepeats is how often in a row an attempt may stay due without a wait. That happens
	// without a fault while another process makes it. Then the run waits 2, 4, 8 … 300 s.
	maxRepeats  = 5
	maxSlowDown = 5 * time.Minute
	// minHeldWait is the shortest wait of mail that is held or paused, where only its expiry
	// comes by time. The database's clock, which decides that, may be behind the run's.
	minHeldWait = time.Second
)

// slowDown makes the run wait if the same attempt stays due and is never made. Without the
// wait, such a fault would fill the history in a tight loop.
func (s *sendEmail) slowDown(attempt int) {
	if s.state.Waiting != "" || s.state.NextAttempt != attempt {
		s.repeats = 0
		return
	}
	if s.repeats++; s.repeats <= maxRepeats || workflow.GetVersion(s.ctx, changeSlowDown, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	s.log.Error("an attempt stays due and is never made", "attempt", attempt, "times", s.repeats)
	wait := min(time.Second<<min(s.repeats-maxRepeats, 20), maxSlowDown)
	s.state.Waiting, s.state.NextAt = email.WaitingRetry, workflow.Now(s.ctx).Add(wait)
}

// setup reads the input and registers the handlers of the query, signals and updates, which
// must be there from the first workflow task on.
func setup(ctx workflow.Context, raw converter.RawValue) (*sendEmail, error) {
	in, err := input[email.SendEmailInput](raw, takesMessage)
	if err != nil {
		return nil, err
	}
	if err := refuseUnknownMembers(ctx, raw, in); err != nil {
		return nil, err
	}
	if (in.EmailID == "") == (len(in.Message) == 0) {
		return nil, refused(takesMessage)
	}
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: the run ends by returning
	s := &sendEmail{ctx: steps, in: in, log: workflow.GetLogger(ctx), woken: workflow.NewBufferedChannel(ctx, 1)}
	err = workflow.SetQueryHandlerWithOptions(ctx, email.QueryStatus, func() (email.State, error) { return s.state, nil },
		workflow.QueryHandlerOptions{Description: "The e-mail's state, as this run last read it"})
	if err != nil {
		return nil, err
	}
	return s, s.handleControls(ctx)
}

// resolve reads the plan, and stores the attachments once the e-mail is due.
func (s *sendEmail) resolve() error {
	if s.resolved {
		return nil
	}
	in := delivery.ResolveAttachmentsInput{EmailID: s.in.EmailID, Inline: true}
	res, err := local(s.ctx, email.ActivityResolveAttachments, act.ResolveAttachments, localOptions("attachments"), in)
	if err != nil && nonRetryable(err) {
		return err
	}
	if err != nil || res.Remote {
		s.describe(s.state.Status, "the attachments are being fetched", "the first attempt")
		in.Inline = false
		if res, err = regular(s.ctx, email.ActivityResolveAttachments, act.ResolveAttachments, s.prioritized(regularResolve("fetch attachments")), in); err != nil {
			return err
		}
	}
	s.plan, s.state, s.problem = res, res.State, res.Problem
	s.resolved = s.state.Waiting == ""
	return nil
}

// send makes one attempt: first inline, then, if that takes too long, as a regular activity.
func (s *sendEmail) send() (delivery.SendSMTPResult, error) {
	if s.state.Final || s.problem != "" {
		return delivery.SendSMTPResult{}, nil
	}
	in := delivery.SendSMTPInput{EmailID: s.in.EmailID, Attempt: s.state.NextAttempt, Route: s.plan.Route, Inline: true}
	in.Route.Relay, in.Route.Avoid, in.Route.Turn = s.state.OnlyRelay, s.state.FaultyRelay, s.turn
	res, err := delivery.SendSMTPResult{HandOver: true}, error(nil)
	if s.turn.Relay == "" { // a relay with a rate is never sent to inline
		if res, err = local(s.ctx, email.ActivitySendSMTP, act.SendSMTP, localSend(attemptSummary(in)), in); err != nil && nonRetryable(err) {
			return res, err
		}
		res.HandOver = res.HandOver || err != nil
	}
	for res.HandOver {
		if err := s.publishHandOver(in, res); err != nil {
			return res, err
		}
		in.Inline, in.RelayDown = false, res.RelayDown
		if res, err = s.sendRegular(in, res); err != nil {
			return res, err
		}
	}
	s.turn = res.Turn
	if res.Relay.Name != "" {
		s.relay = res.Relay.Name
	}
	return res, nil
}

// publishHandOver publishes what the run waits for next: a slow exchange, or a relay.
func (s *sendEmail) publishHandOver(in delivery.SendSMTPInput, res delivery.SendSMTPResult) error {
	if res.RelayDown {
		if res.Relay.Name != "" {
			s.relay = res.Relay.Name
		}
		detail := email.DetailRelayDown
		if res.NoRelay {
			detail = email.DetailNoRelay
		}
		s.describeRelayDown(in, detail, res.Text)
		return s.publish(string(detail))
	}
	s.describeSending(in)
	return s.publish(string(email.StatusSending))
}

// sendRegular makes the attempt as a regular activity. While the activity waits for a relay,
// a wake-up of the run starts it anew: the e-mail may have been canceled, held or moved to
// another relay.
func (s *sendEmail) sendRegular(in delivery.SendSMTPInput, before delivery.SendSMTPResult) (delivery.SendSMTPResult, error) {
	ctx, giveUp := workflow.WithCancel(s.ctx)
	defer giveUp()
	attempt := startRegular(ctx, email.ActivitySendSMTP, act.SendSMTP, s.prioritized(regularSend(attemptSummary(in))), in)
	woken := false
	sel := workflow.NewSelector(s.ctx)
	sel.AddFuture(attempt.Future, func(workflow.Future) {})
	if in.RelayDown {
		onWake(s.ctx, sel, s.woken, func() { woken = true })
	}
	sel.Select(s.ctx)
	if woken && !attempt.IsReady() {
		if workflow.GetInfo(s.ctx).GetContinueAsNewSuggested() && s.controlling == 0 {
			return before, workflow.NewContinueAsNewError(s.ctx, email.WorkflowSendEmail, s.in)
		}
		return before, nil
	}
	return attempt.get(s.ctx)
}

// record records the attempt's outcomes, and makes the webhook calls.
func (s *sendEmail) record(sent delivery.SendSMTPResult) error {
	in := delivery.RecordStatusInput{EmailID: s.in.EmailID, Attempt: sent.Attempt, Relay: sent.Relay, Unrecorded: sent.Unrecorded, Problem: s.problem}
	s.problem = ""
	summary := recordSummary(sent, in.Problem)
	res, err := local(s.ctx, email.ActivityRecordStatus, act.RecordStatus, localOptions(summary), in)
	if err != nil && nonRetryable(err) {
		return err
	}
	if err != nil {
		s.describe(s.state.Status, fmt.Sprintf("attempt %d is over, its outcome is being recorded", in.Attempt), "the status; nothing is sent meanwhile")
		if res, err = regular(s.ctx, email.ActivityRecordStatus, act.RecordStatus, s.prioritized(regularOptions(summary)), in); err != nil {
			return err
		}
	}
	s.state = res.State
	fire := delivery.FireWebhooksInput{EmailID: s.in.EmailID, Waiting: res.Webhooks}
	summary = fmt.Sprintf("%d webhooks", fire.Waiting)
	if fire.Waiting == 0 {
		summary = "no webhooks"
	}
	if _, err := local(s.ctx, email.ActivityFireWebhooks, act.FireWebhooks, localOptions(summary), fire); err != nil {
		// The deliveries are rows with a due time, which the sweeper finds. A receiver
		// that does not answer must not keep this run open.
		s.log.Warn("webhooks left to the endpoints' runs", "error", err)
	}
	return nil
}

// wait sleeps until the e-mail is due or a signal wakes the run. If the history is long, it
// continues in a new run instead.
func (s *sendEmail) wait() error {
	if workflow.GetInfo(s.ctx).GetContinueAsNewSuggested() && s.controlling == 0 {
		return workflow.NewContinueAsNewError(s.ctx, email.WorkflowSendEmail, s.in)
	}
	if err := s.publish(s.statusOrDetail()); err != nil {
		return err
	}
	timerCtx, stop := workflow.WithCancel(s.ctx)
	defer stop()
	sel := workflow.NewSelector(s.ctx)
	if at := s.state.NextAt; !at.IsZero() {
		shortest := time.Millisecond
		if s.state.Waiting == email.WaitingHeld || s.state.Waiting == email.WaitingPaused {
			shortest = minHeldWait
		}
		d := max(at.Sub(workflow.Now(s.ctx)), shortest)
		sel.AddFuture(workflow.NewTimerWithOptions(timerCtx, d, workflow.TimerOptions{Summary: s.waitSummary()}), func(workflow.Future) {})
	}
	onWake(s.ctx, sel, s.woken, func() {})
	s.describeWaiting()
	sel.Select(s.ctx)
	s.state.Waiting = "" // the gate decides again whether it has to wait
	return nil
}

// statusOrDetail is the e-mail's detail, or its status if it has none.
func (s *sendEmail) statusOrDetail() string {
	if s.state.Detail != "" {
		return string(s.state.Detail)
	}
	return string(s.state.Status)
}

// publish writes the status to the search attributes, if it has changed: each write adds an
// event to the history.
func (s *sendEmail) publish(status string) error {
	if s.published == status {
		return nil
	}
	s.published = status
	updates := []temporal.SearchAttributeUpdate{attrStatus.ValueSet(status)}
	if s.plan.CustomerID != "" {
		updates = append(updates, attrCustomer.ValueSet(s.plan.CustomerID), attrStream.ValueSet(string(s.plan.Route.Stream)))
	}
	if s.relay != "" {
		updates = append(updates, attrRelay.ValueSet(s.relay))
	}
	if len(s.plan.RecipientDomains) > 0 {
		updates = append(updates, attrDomains.ValueSet(s.plan.RecipientDomains))
	}
	return workflow.UpsertTypedSearchAttributes(s.ctx, updates...)
}

// finish waits for the actions under way, publishes the final status and returns the result.
func (s *sendEmail) finish() (email.SendEmailResult, error) {
	if err := workflow.Await(s.ctx, func() bool { return s.controlling == 0 }); err != nil {
		return email.SendEmailResult{}, err
	}
	s.published = "" // publish again: the relay may have changed
	if err := s.publish(s.statusOrDetail()); err != nil {
		return email.SendEmailResult{}, err
	}
	s.describeFinished()
	return email.SendEmailResult{EmailID: s.in.EmailID, Status: s.state.Status, Detail: s.state.Detail, Recipients: s.state.Results}, nil
}
