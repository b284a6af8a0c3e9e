package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// minDomainWait is the shortest wait between two checks. Without it a run would loop while its
// clock is ahead of the database's.
const minDomainWait = time.Second

// VerifyDomain looks at the DNS records of one sender domain whenever a check is due. It ends when
// the domain is deleted or there is no next check. At most one run per domain is open. Its input is
// an email.VerifyDomainInput.
func VerifyDomain(ctx workflow.Context, raw converter.RawValue) (email.VerifyDomainResult, error) {
	in, err := input[email.VerifyDomainInput](raw, takesDomain)
	if err == nil && in.DomainID == "" {
		err = refused(takesDomain)
	}
	if err != nil {
		return email.VerifyDomainResult{}, err
	}
	v := &verifyDomain{in: in, asks: workflow.NewBufferedChannel(ctx, 1)}
	if err := v.handleUpdate(ctx); err != nil {
		return v.result(), err
	}
	for {
		if err := v.check(ctx); err != nil {
			return v.result(), err
		}
		if v.ended() {
			// Updates that wait get their answers before the run ends.
			return v.result(), workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() && !v.asked && workflow.AllHandlersFinished(ctx) {
			return v.result(), workflow.NewContinueAsNewError(ctx, email.WorkflowVerifyDomain, in)
		}
		if err := v.wait(ctx); err != nil {
			return v.result(), err
		}
	}
}

// verifyDomain is a run of VerifyDomain.
type verifyDomain struct {
	in email.VerifyDomainInput
	// last is what the last check said.
	last delivery.CheckDomainResult
	// looks counts the checks that have asked the DNS.
	looks int
	// asked: a signal or an update wants a look now. asks wakes the run for it.
	asked bool
	asks  workflow.Channel
	// over: the run answers no more updates with a look.
	over bool
}

const verifyNowDescription = "Look at the DNS now, at most every 10 seconds. A pending or failed domain's checks begin anew"

// handleUpdate answers verify_now with the domain's state after the next look.
func (v *verifyDomain) handleUpdate(ctx workflow.Context) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, email.SignalVerifyNow, func(ctx workflow.Context) (email.VerifyDomainResult, error) {
		before := v.looks
		v.asked = true
		v.asks.SendAsync(true)
		err := workflow.Await(ctx, func() bool { return v.looks > before || v.over })
		return v.result(), err
	}, workflow.UpdateHandlerOptions{Description: verifyNowDescription})
}

// verifySignals is the channel of the signal verify_now.
func verifySignals(ctx workflow.Context) workflow.ReceiveChannel {
	return workflow.GetSignalChannelWithOptions(ctx, email.SignalVerifyNow, workflow.SignalChannelOptions{Description: verifyNowDescription})
}

// receive takes the signals that are there: several are one.
func (v *verifyDomain) receive(ctx workflow.Context) {
	for _, ch := range []workflow.ReceiveChannel{wakeSignals(ctx), v.asks} {
		for ch.ReceiveAsync(nil) {
			continue
		}
	}
	for signals := verifySignals(ctx); signals.ReceiveAsync(nil); {
		v.asked = true
	}
}

// check runs one check, and describes what it said.
func (v *verifyDomain) check(ctx workflow.Context) error {
	v.receive(ctx)
	in := delivery.CheckDomainInput{DomainID: v.in.DomainID, VerifyNow: v.asked}
	v.asked = false
	res, err := regular(ctx, email.ActivityCheckDomain, act.CheckDomain, regularDomain("look at the DNS"), in)
	if err != nil {
		return err
	}
	v.last = res
	if res.Checked {
		v.looks++
	}
	workflow.SetCurrentDetails(ctx, v.details(workflow.Now(ctx)))
	return nil
}

// ended reports whether nothing is left to do. From then on updates are answered without a look.
func (v *verifyDomain) ended() bool {
	v.over = v.last.Deleted || v.last.NextAt.IsZero() && !v.asked
	return v.over
}

// wait waits until the next check is due, or a signal or an update wants a look.
func (v *verifyDomain) wait(ctx workflow.Context) error {
	if v.asked {
		return nil
	}
	timerCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	sel := workflow.NewSelector(ctx)
	timer := workflow.NewTimerWithOptions(timerCtx, max(v.last.NextAt.Sub(workflow.Now(ctx)), minDomainWait), workflow.TimerOptions{Summary: v.summary(workflow.Now(ctx))})
	sel.AddFuture(timer, func(workflow.Future) {})
	for _, ch := range []workflow.ReceiveChannel{wakeSignals(ctx), v.asks} {
		sel.AddReceive(ch, func(c workflow.ReceiveChannel, _ bool) { c.ReceiveAsync(nil) })
	}
	sel.AddReceive(verifySignals(ctx), func(c workflow.ReceiveChannel, _ bool) {
		c.ReceiveAsync(nil)
		v.asked = true
	})
	sel.Select(ctx)
	return ctx.Err()
}

func (v *verifyDomain) result() email.VerifyDomainResult {
	return email.VerifyDomainResult{
		DomainID: v.in.DomainID, Domain: v.last.Domain, Status: v.last.Status, Deleted: v.last.Deleted, Problem: v.last.Problem, NextCheckAt: v.last.NextAt,
	}
}

// summary is one line: "example.com: warning, next look 14:05", or "…, waits for its turn".
func (v *verifyDomain) summary(now time.Time) string {
	if v.last.Waits {
		return fmt.Sprintf("%s: %s, waits for its turn", v.last.Domain, v.last.Status)
	}
	return fmt.Sprintf("%s: %s, next look %s", v.last.Domain, v.last.Status, clock(v.last.NextAt, now))
}

// details are the current details of the run.
func (v *verifyDomain) details(now time.Time) string {
	if v.last.Deleted {
		return "The domain is deleted. Nothing comes next."
	}
	what := "the required records are there"
	if v.last.Problem != "" {
		what = v.last.Problem
	} else if v.last.Status == "pending" {
		what = "the required records are not verified yet"
	}
	next := "nothing, until `verify_now`"
	switch {
	case v.last.Waits:
		next = "a look at the DNS when it is the domain's turn: others of its customer, or of many customers, are before it"
	case !v.last.NextAt.IsZero():
		next = "a look at the DNS at " + clock(v.last.NextAt, now) + " UTC"
	}
	return fmt.Sprintf("**%s**: %s; %s.\n\nNext: %s.", v.last.Status, v.last.Domain, what, next)
}
