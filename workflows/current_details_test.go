package workflows_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/workflows"
)

// metadata are the run's details that the UI and the CLI show.
func (r *run) metadata() *sdkpb.WorkflowMetadata {
	r.t.Helper()
	val, err := r.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(r.t, err)
	var m sdkpb.WorkflowMetadata
	require.NoError(r.t, val.Get(&m))
	return &m
}

// statuses collects what the run publishes as EmailStatus.
func (r *run) statuses() *[]string {
	var out []string
	r.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(args mock.Arguments) {
		status, _ := args.Get(0).(temporal.SearchAttributes).GetKeyword(temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus))
		out = append(out, status)
	}).Return(nil)
	return &out
}

func TestSendEmailCurrentDetails(t *testing.T) {
	t.Parallel()
	tested := map[email.Waiting]bool{email.WaitingAcceptance: true} // in TestDirectStartWaitsForPostgres
	retry := email.State{Status: email.StatusSending, Detail: email.DetailDeferred, NextAttempt: 2, Open: 1, NextAt: start.Add(5 * time.Minute), Waiting: email.WaitingRetry,
		Last: email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted, see\n`[us](http://x.test)`"}}
	for name, tt := range map[string]struct {
		// waiting is what the first step answers.
		waiting email.State
		details string
		status  string
	}{
		"retry": {retry, "**deferred**: one recipient waits, `451 4.7.1 greylisted, see '[us](http://x.test)'`.\n\nNext: attempt 2 at 12:05 UTC; `retry_now` makes it at once.", "deferred"},
		"ip_blocked": {email.State{Status: email.StatusSending, Detail: email.DetailIPBlocked, NextAttempt: 3, Open: 2, NextAt: start.Add(5 * time.Minute), Waiting: email.WaitingRetry,
			Last: email.Reply{Code: 554, Enhanced: "5.7.1", Text: "blocked using zen.spamhaus.org"}},
			"**ip_blocked**: 2 of its recipients wait because the server refuses the relay's address or the sender's domain for its reputation, see `relay.ip_blocked` in the worker's log, " +
				"`554 5.7.1 blocked using zen.spamhaus.org`.\n\nNext: attempt 3 at 12:05 UTC; `retry_now` makes it at once.", "ip_blocked"},
		"unauthenticated": {email.State{Status: email.StatusSending, Detail: email.DetailUnauthenticated, NextAttempt: 2, Open: 1, NextAt: start.Add(48 * time.Hour), Waiting: email.WaitingRetry,
			Last: email.Reply{Code: 550, Enhanced: "5.7.26", Text: "unauthenticated"}},
			"**unauthenticated**: one recipient waits because the sender's domain does not authenticate the mail: its SPF, DKIM or DMARC record has to be changed, " +
				"`550 5.7.26 unauthenticated`.\n\nNext: attempt 2 at 2026-01-03 12:00 UTC; `retry_now` makes it at once.", "unauthenticated"},
		"held": {email.State{Status: email.StatusQueued, Detail: email.DetailHeld, NextAttempt: 1, Open: 3, Waiting: email.WaitingHeld},
			"**held**: 3 of its recipients wait.\n\nNext: nothing before it is resumed.", "held"},
		"held, with an end": {email.State{Status: email.StatusSending, Detail: email.DetailHeld, NextAttempt: 2, Open: 1, Waiting: email.WaitingHeld, NextAt: start.Add(72 * time.Hour)},
			"**held**: one recipient waits.\n\nNext: nothing before it is resumed; it expires at 2026-01-04 12:00 UTC.", "held"},
		"held and paused": {email.State{Status: email.StatusQueued, Detail: email.DetailHeld, NextAttempt: 1, Open: 1, Waiting: email.WaitingHeld, HeldBy: []email.Holder{email.HolderOperator, email.HolderPause}},
			"**held**: an operator holds it; one recipient waits.\n\nNext: nothing before it is resumed and the pause is lifted, see `postrider pauses`.", "held"},
		"paused": {email.State{Status: email.StatusQueued, Detail: email.DetailHeld, NextAttempt: 1, Open: 1, Waiting: email.WaitingPaused},
			"**held**: mail like this is paused; one recipient waits.\n\nNext: nothing before the pause is lifted, see `postrider pauses`.", "held"},
		"scheduled": {email.State{Status: email.StatusQueued, Detail: email.DetailScheduled, NextAttempt: 1, Open: 1, Waiting: email.WaitingScheduled, NextAt: start.Add(48 * time.Hour)},
			"**scheduled**: one recipient waits.\n\nNext: first attempt at 2026-01-03 12:00 UTC; `reschedule` moves it.", "scheduled"},
		"throttled": {email.State{Status: email.StatusQueued, Detail: email.DetailThrottled, NextAttempt: 1, Open: 1, Waiting: email.WaitingThrottled, ThrottledBy: email.RelayRate("primary"), NextAt: start.Add(time.Hour)},
			"**throttled**: one recipient waits.\n\nNext: attempt 1 at 13:00 UTC: the rate of relay primary.", "throttled"},
		"throttled by a domain": {email.State{Status: email.StatusQueued, Detail: email.DetailThrottled, NextAttempt: 1, Open: 1, Waiting: email.WaitingThrottled, ThrottledBy: email.RecipientRate("gmail.com"), NextAt: start.Add(time.Minute)},
			"**throttled**: one recipient waits.\n\nNext: attempt 1 at 12:01 UTC: the rate for recipients at gmail.com.", "throttled"},
		"warming up": {email.State{Status: email.StatusQueued, Detail: email.DetailThrottled, NextAttempt: 1, Open: 2, Waiting: email.WaitingThrottled, ThrottledBy: email.WarmupOf("x.com"), NextAt: start.Add(12 * time.Hour)},
			"**throttled**: 2 of its recipients wait.\n\nNext: attempt 1 at 00:00 UTC: the warm-up of x.com.", "throttled"},
		"throttled, in an older history": {email.State{Status: email.StatusQueued, Detail: email.DetailThrottled, NextAttempt: 1, Open: 1, Waiting: email.WaitingThrottled, NextAt: start.Add(time.Hour)},
			"**throttled**: one recipient waits.\n\nNext: attempt 1 at 13:00 UTC: a rate.", "throttled"},
	} {
		tested[tt.waiting.Waiting] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRun(t)
			statuses := r.statuses()
			on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
				if n == 1 {
					return delivery.ResolveAttachmentsResult{State: tt.waiting}, nil
				}
				return delivery.ResolveAttachmentsResult{State: ready}, nil
			})
			sending(r)
			recording(r, deliveredState())
			fired(r)
			r.RegisterDelayedCallback(func() {
				require.Equal(t, tt.details, r.metadata().GetCurrentDetails())
				r.SignalWorkflow(email.SignalWake, nil)
			}, time.Minute)
			_, err := r.execute()
			require.NoError(t, err)
			require.Equal(t, []string{tt.status, "delivered"}, *statuses)
			require.Equal(t, "**delivered**: of its recipients 1 delivered.\n\nNext: nothing, the e-mail is finished.", r.metadata().GetCurrentDetails())
		})
	}
	for _, w := range email.Waitings() {
		require.True(t, tested[w], "no row for %s", w)
	}
}

func TestSendEmailCurrentDetailsOfFinishedEmail(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	sending(r)
	recording(r, email.State{Status: email.StatusDelivered, Detail: email.DetailPartial, Final: true, Results: []email.RecipientResult{
		{Status: email.RecipientDelivered, SMTPCode: 250, Text: "ok"}, {Status: email.RecipientBounced, SMTPCode: 550, Enhanced: "5.1.1", Text: "no such user"}, {Status: email.RecipientDelivered},
	}})
	fired(r)
	_, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, "**delivered partial**: of its recipients 2 delivered, 1 bounced, `550 5.1.1 no such user`.\n\nNext: nothing, the e-mail is finished.", r.metadata().GetCurrentDetails())
}

func TestSendEmailDescribesItsHandlers(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, email.State{Status: email.StatusQueued, Detail: email.DetailHeld, NextAttempt: 1, Waiting: email.WaitingHeld})
	described := 0
	r.RegisterDelayedCallback(func() {
		def := r.metadata().GetDefinition()
		for kind, ds := range map[string][]*sdkpb.WorkflowInteractionDefinition{"query": def.GetQueryDefinitions(), "signal": def.GetSignalDefinitions(), "update": def.GetUpdateDefinitions()} {
			for _, d := range ds {
				if !strings.HasPrefix(d.GetName(), "__") {
					require.NotEmpty(t, d.GetDescription(), "%s %s", kind, d.GetName())
					described++
				}
			}
		}
		r.SetContinueAsNewSuggested(true) // the next look ends this run
		r.SignalWorkflow(email.SignalWake, nil)
	}, time.Minute)
	_, err := r.execute()
	require.ErrorContains(t, err, "continue as new")
	require.Equal(t, 2*len(email.Actions())+2, described, "each action as a signal and an update, wake, and the query")
}

// While no relay is available, the run publishes that once and the server retries the
// activity. A wake-up makes the run try at once.
func TestSendEmailRelayDown(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	statuses := r.statuses()
	resolved(r, ready)
	down := temporal.NewApplicationErrorWithOptions("relay primary: connection refused", "relay_unavailable",
		temporal.ApplicationErrorOptions{NextRetryDelay: 5 * time.Minute, Category: temporal.ApplicationErrorCategoryBenign})
	var said []bool
	up := false
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		said = append(said, in.RelayDown)
		switch {
		case up:
			return sent(in.Attempt), nil
		case in.RelayDown:
			return delivery.SendSMTPResult{}, down
		}
		return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true, RelayDown: true, Reply: email.Reply{Text: "relay primary: connection refused"}}, nil
	})
	recording(r, deliveredState())
	fired(r)
	r.RegisterDelayedCallback(func() {
		require.Equal(t, "**relay_down**: no relay takes mail, `relay primary: connection refused`.\n\n"+
			"Next: attempt 1 as soon as one does, tried every 10 s to 5 min.", r.metadata().GetCurrentDetails())
		up = true
		r.SignalWorkflow(email.SignalWake, nil)
	}, 12*time.Minute)
	_, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true, true, true}, said, "inline, then at 0, 5, 10 and 12 minutes")
	require.Equal(t, 12*time.Minute, r.Now().Sub(start))
	require.Equal(t, []string{"relay_down", "delivered"}, *statuses)
}

func TestSendEmailRelayDownContinuesAsNew(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		if in.RelayDown {
			return delivery.SendSMTPResult{}, temporal.NewApplicationErrorWithOptions("down", "relay_unavailable", temporal.ApplicationErrorOptions{NextRetryDelay: time.Minute})
		}
		return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true, RelayDown: true}, nil
	})
	r.RegisterDelayedCallback(func() {
		r.SetContinueAsNewSuggested(true)
		r.SignalWorkflow(email.SignalWake, nil)
	}, 2*time.Minute)
	_, err := r.execute()
	_, ok := errors.AsType[*workflow.ContinueAsNewError](err)
	require.True(t, ok, "%v", err)
}

func TestSendEmailPublishesARegularAttempt(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	statuses := r.statuses()
	resolved(r, ready)
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		if in.Inline {
			return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true}, nil
		}
		return sent(in.Attempt), nil
	})
	recording(r, deliveredState())
	fired(r)
	_, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, []string{"sending", "delivered"}, *statuses)
}

// TestSendEmailRecordSummary: the UI shows the outcome of an attempt beside RecordStatus.
func TestSendEmailRecordSummary(t *testing.T) {
	t.Parallel()
	for want, sent := range map[string]delivery.SendSMTPResult{
		"attempt 1: 550 5.1.1":     {Attempt: 1, Sent: true, Reply: email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user y@example.net"}},
		"attempt 2: 250":           {Attempt: 2, Sent: true, Reply: email.Reply{Code: 250, Text: "OK"}},
		"attempt 3: no reply":      {Attempt: 3, Sent: true},
		"status, nothing was sent": {Attempt: 1},
	} {
		require.Equal(t, want, workflows.Outcome(sent, ""))
	}
	require.Equal(t, "status, an attachment is missing", workflows.Outcome(delivery.SendSMTPResult{}, "gone"))
}
