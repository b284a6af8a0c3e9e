package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// accept has the message of a direct start stored. From then on the run knows the
// e-mail by its id alone, as every other run does.
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
		if final(err) {
			app, _ := errors.AsType[*temporal.ApplicationError](err)
			return app // the refusal itself, without the activity around it
		}
		if workflow.GetInfo(s.ctx).GetContinueAsNewSuggested() && s.controlling == 0 {
			return workflow.NewContinueAsNewError(s.ctx, email.WorkflowSendEmail, s.in)
		}
		if err := s.notAccepted(err, wait); err != nil {
			return err
		}
	}
	// What came before there was an e-mail is carried out before it is sent.
	return workflow.Await(s.ctx, func() bool { return s.controlling == 0 })
}

// notAccepted waits before the message is tried again.
func (s *sendEmail) notAccepted(err error, wait time.Duration) error {
	why := err.Error()
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		why = app.Message()
	}
	s.state = email.State{Waiting: email.WaitingAcceptance, NextAt: workflow.Now(s.ctx).Add(wait)}
	s.sayNotAccepted(why)
	return workflow.NewTimerWithOptions(s.ctx, wait, workflow.TimerOptions{Summary: s.waitingFor()}).Get(s.ctx, nil)
}

// follow waits for the end of an e-mail that another run sends: this is a repetition
// of that run's start.
func (s *sendEmail) follow() error {
	s.sayFollowing()
	in := delivery.FollowEmailInput{EmailID: s.in.EmailID, Owner: s.owner}
	st, err := regular(s.ctx, email.ActivityFollow, act.FollowEmail, regularFollow("sent by another run"), in)
	if err != nil {
		return err
	}
	s.state = st
	return nil
}
