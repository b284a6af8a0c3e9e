package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// accept stores the message of a direct start. From then on the run refers to the e-mail by
// its id only, as every other run does.
func (s *sendEmail) accept() error {
	if s.in.EmailID != "" {
		return nil
	}
	for wait := acceptWaitFirst; ; wait = min(2*wait, acceptWaitMost) {
		res, err := local(s.ctx, email.ActivityAccept, act.AcceptEmail, localOptions("accept the message"), s.in)
		if err == nil {
			s.in, s.owner = email.SendEmailInput{EmailID: res.EmailID}, res.Owner
			break
		}
		if nonRetryable(err) {
			app, _ := errors.AsType[*temporal.ApplicationError](err)
			return app // the refusal itself, without the SDK's ActivityError around it
		}
		if workflow.GetInfo(s.ctx).GetContinueAsNewSuggested() && s.controlling == 0 {
			return workflow.NewContinueAsNewError(s.ctx, email.WorkflowSendEmail, s.in)
		}
		if err := s.waitForAcceptance(err, wait); err != nil {
			return err
		}
	}
	// Actions that came before the e-mail was stored are carried out before it is sent.
	return workflow.Await(s.ctx, func() bool { return s.controlling == 0 })
}

// waitForAcceptance waits until the next try to store the message.
func (s *sendEmail) waitForAcceptance(err error, wait time.Duration) error {
	why := err.Error()
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		why = app.Message()
	}
	s.state = email.State{Waiting: email.WaitingAcceptance, NextAt: workflow.Now(s.ctx).Add(wait)}
	s.describeNotAccepted(why)
	return workflow.NewTimerWithOptions(s.ctx, wait, workflow.TimerOptions{Summary: s.waitSummary()}).Get(s.ctx, nil)
}

// follow waits for the end of an e-mail that another run sends: this run repeats that run's
// start, with the same idempotency key.
func (s *sendEmail) follow() error {
	s.describeFollowing()
	in := delivery.FollowEmailInput{EmailID: s.in.EmailID, Owner: s.owner}
	st, err := regular(s.ctx, email.ActivityFollow, act.FollowEmail, regularFollow("sent by another run"), in)
	if err != nil {
		return err
	}
	s.state = st
	return nil
}
