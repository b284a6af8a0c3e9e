// Package workflows decides and waits, and does nothing else: no clock, no
// randomness, no I/O but through the workflow package. What is true is in
// Postgres; a run asks for it, step by step, and never counts by itself.
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

// act is never called; its methods tie activities' types (see local).
var act *activities.Activities

// sendEmail is one run's view of one e-mail.
type sendEmail struct {
	// ctx is disconnected: a cancellation of the run ends the e-mail properly,
	// it does not tear the steps away.
	ctx workflow.Context
	in  email.SendEmailInput
	// owner is the workflow id of the run that sends the e-mail, where that is another.
	owner string
	log   log.Logger
	state email.State
	// plan is what ResolveAttachments said; resolved once nothing is missing.
	plan     delivery.ResolveAttachmentsResult
	resolved bool
	problem  string
	relay    string
	// published is what the search attributes say, as one word.
	published string
	// turn is the place that the e-mail has in a relay's queue.
	turn delivery.Turn
	// woken wakes a waiting run after something inside it changed the e-mail.
	woken workflow.Channel
	// rushed counts how often the same attempt has come to nothing without a wait.
	rushed int
	// controlling counts the actions under way: the run does not end before them.
	controlling int
}

// SendEmail brings one e-mail to its end: one that is stored, or the message of a
// direct start. Whatever recipients' servers say is its result; only an e-mail that is not
// there, or a message that is refused, fails the run. Its input is an email.SendEmailInput.
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

// run brings the e-mail to its end, or waits for the run that does.
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
	// changeSlowDown names the version from which a run waits if the same attempt stays due.
	changeSlowDown = "wait-when-nothing-moves"
	// rushes is how often in a row an attempt may stay due without a wait, as it does without
	// a fault while another process makes it. From then on the run waits for 2, 4, 8 … 300 s.
	rushes     = 5
	slowDownTo = 5 * time.Minute
)

// slowDown has the run wait if the same attempt is due again and again and is never made:
// a fault of ours would otherwise fill the history as fast as the machine can.
func (s *sendEmail) slowDown(attempt int) {
	if s.state.Waiting != "" || s.state.NextAttempt != attempt {
		s.rushed = 0
		return
	}
	if s.rushed++; s.rushed <= rushes || workflow.GetVersion(s.ctx, changeSlowDown, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	s.log.Error("an attempt is due again and again and is never made", "attempt", attempt, "times", s.rushed)
	wait := min(time.Second<<min(s.rushed-rushes, 20), slowDownTo)
	s.state.Waiting, s.state.NextAt = email.WaitingRetry, workflow.Now(s.ctx).Add(wait)
}

// setup reads the input and answers the query, signals and updates from the first task on.
func setup(ctx workflow.Context, raw converter.RawValue) (*sendEmail, error) {
	in, err := input[email.SendEmailInput](raw, takesMessage)
	if err != nil {
		return nil, err
	}
	if err := onlyKnown(ctx, raw, in); err != nil {
		return nil, err
	}
	if (in.EmailID == "") == (len(in.Message) == 0) {
		return nil, refused(takesMessage)
	}
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: the run ends by returning
	s := &sendEmail{ctx: steps, in: in, log: workflow.GetLogger(ctx), woken: workflow.NewBufferedChannel(ctx, 1)}
	err = workflow.SetQueryHandlerWithOptions(ctx, email.QueryStatus, func() (email.State, error) { return s.state, nil },
		workflow.QueryHandlerOptions{Description: "Where the e-mail stands, as this run last saw it"})
	if err != nil {
		return nil, err
	}
	return s, s.listen(ctx)
}

// resolve has the attachments stored, once, when the e-mail is due.
func (s *sendEmail) resolve() error {
	if s.resolved {
		return nil
	}
	in := delivery.ResolveAttachmentsInput{EmailID: s.in.EmailID, Inline: true}
	res, err := local(s.ctx, email.ActivityResolveAttachments, act.ResolveAttachments, localOptions("attachments"), in)
	if err != nil && final(err) {
		return err
	}
	if err != nil || res.Remote {
		s.say(s.state.Status, "the attachments are being fetched", "the first attempt")
		in.Inline = false
		if res, err = regular(s.ctx, email.ActivityResolveAttachments, act.ResolveAttachments, s.ranked(regularResolve("fetch attachments")), in); err != nil {
			return err
		}
	}
	s.plan, s.state, s.problem = res, res.State, res.Problem
	s.resolved = s.state.Waiting == ""
	return nil
}

// send makes one attempt: inline if it is quick, else at its own pace.
func (s *sendEmail) send() (delivery.SendSMTPResult, error) {
	if s.state.Final || s.problem != "" {
		return delivery.SendSMTPResult{}, nil
	}
	in := delivery.SendSMTPInput{EmailID: s.in.EmailID, Attempt: s.state.NextAttempt, Route: s.plan.Route, Inline: true}
	in.Route.Relay, in.Route.Avoid, in.Route.Turn = s.state.OnlyRelay, s.state.FaultyRelay, s.turn
	res, err := delivery.SendSMTPResult{HandOver: true}, error(nil)
	if s.turn.Relay == "" { // a relay with a rate is never sent to inline
		if res, err = local(s.ctx, email.ActivitySendSMTP, act.SendSMTP, localSend(attempt(in)), in); err != nil && final(err) {
			return res, err
		}
		res.HandOver = res.HandOver || err != nil
	}
	for res.HandOver {
		if err := s.handedOver(in, res); err != nil {
			return res, err
		}
		in.Inline, in.RelayDown = false, res.RelayDown
		if res, err = s.sendAtItsPace(in, res); err != nil {
			return res, err
		}
	}
	s.turn = res.Turn
	if res.Relay.Name != "" {
		s.relay = res.Relay.Name
	}
	return res, nil
}

// handedOver publishes what the run is about to wait for: an exchange that takes
// its time, or a relay that is not there.
func (s *sendEmail) handedOver(in delivery.SendSMTPInput, res delivery.SendSMTPResult) error {
	if res.RelayDown {
		if res.Relay.Name != "" {
			s.relay = res.Relay.Name
		}
		detail := email.DetailRelayDown
		if res.NoRelay {
			detail = email.DetailNoRelay
		}
		s.sayRelayDown(in, detail, res.Text)
		return s.publish(string(detail))
	}
	s.saySending(in)
	return s.publish(string(email.StatusSending))
}

// sendAtItsPace makes the attempt as a regular activity. One that waits for a
// relay is begun anew when somebody wakes the run: what they did may have changed
// whether it is wanted at all.
func (s *sendEmail) sendAtItsPace(in delivery.SendSMTPInput, before delivery.SendSMTPResult) (delivery.SendSMTPResult, error) {
	ctx, giveUp := workflow.WithCancel(s.ctx)
	defer giveUp()
	attempt := begin(ctx, email.ActivitySendSMTP, act.SendSMTP, s.ranked(regularSend(attempt(in))), in)
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

// record projects the attempt's outcomes into the e-mail, and fires its webhooks.
func (s *sendEmail) record(sent delivery.SendSMTPResult) error {
	in := delivery.RecordStatusInput{EmailID: s.in.EmailID, Attempt: sent.Attempt, Relay: sent.Relay, Unrecorded: sent.Unrecorded, Problem: s.problem}
	s.problem = ""
	summary := outcome(sent, in.Problem)
	res, err := local(s.ctx, email.ActivityRecordStatus, act.RecordStatus, localOptions(summary), in)
	if err != nil && final(err) {
		return err
	}
	if err != nil {
		s.say(s.state.Status, fmt.Sprintf("attempt %d is over, what came of it is being written down", in.Attempt), "the status; nothing is sent meanwhile")
		if res, err = regular(s.ctx, email.ActivityRecordStatus, act.RecordStatus, s.ranked(regularOptions(summary)), in); err != nil {
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
		// The deliveries are rows with a due time: the sweeper finds them, and a
		// dead receiver must not keep this run open.
		s.log.Warn("webhooks left to the endpoints' runs", "error", err)
	}
	return nil
}

// wait sleeps until the e-mail is due, somebody wakes the run, or the history
// is long enough for a new one.
func (s *sendEmail) wait() error {
	if workflow.GetInfo(s.ctx).GetContinueAsNewSuggested() && s.controlling == 0 {
		return workflow.NewContinueAsNewError(s.ctx, email.WorkflowSendEmail, s.in)
	}
	if err := s.publish(s.standing()); err != nil {
		return err
	}
	timerCtx, stop := workflow.WithCancel(s.ctx)
	defer stop()
	sel := workflow.NewSelector(s.ctx)
	if at := s.state.NextAt; !at.IsZero() {
		d := max(at.Sub(workflow.Now(s.ctx)), time.Millisecond)
		sel.AddFuture(workflow.NewTimerWithOptions(timerCtx, d, workflow.TimerOptions{Summary: s.waitingFor()}), func(workflow.Future) {})
	}
	onWake(s.ctx, sel, s.woken, func() {})
	s.sayWaiting()
	sel.Select(s.ctx)
	s.state.Waiting = "" // the gate says whether that is still so
	return nil
}

// standing is where the e-mail stands, in one word.
func (s *sendEmail) standing() string {
	if s.state.Detail != "" {
		return string(s.state.Detail)
	}
	return string(s.state.Status)
}

// publish puts where the e-mail stands into the search attributes, where that is
// news. Each time costs an event.
func (s *sendEmail) publish(standing string) error {
	if s.published == standing {
		return nil
	}
	s.published = standing
	updates := []temporal.SearchAttributeUpdate{attrStatus.ValueSet(standing)}
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

// finish publishes the end and makes the result, once no action is under way any more.
func (s *sendEmail) finish() (email.SendEmailResult, error) {
	if err := workflow.Await(s.ctx, func() bool { return s.controlling == 0 }); err != nil {
		return email.SendEmailResult{}, err
	}
	s.published = "" // the relay may be news
	if err := s.publish(s.standing()); err != nil {
		return email.SendEmailResult{}, err
	}
	s.sayFinished()
	return email.SendEmailResult{EmailID: s.in.EmailID, Status: s.state.Status, Detail: s.state.Detail, Recipients: s.state.Results}, nil
}
