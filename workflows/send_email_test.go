package workflows_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/workflows"
)

// run is one SendEmail in virtual time, against activities that a test scripts.
type run struct {
	*testsuite.TestWorkflowEnvironment
	t *testing.T
	// mu guards what activities, which may run at once, write.
	mu    sync.Mutex
	calls []string
}

// patience is how long a step of a run may take in real time.
const patience = 4 * time.Minute

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func newRun(t *testing.T) *run {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	r := &run{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	r.SetStartTime(start)
	// Both are real time, and the machine may be busy.
	r.SetTestTimeout(patience)
	r.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: patience})
	r.RegisterWorkflow(workflows.SendEmail)
	r.RegisterActivity(&activities.Activities{})
	require.NoError(t, r.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes()))
	return r
}

func (r *run) execute() (email.SendEmailResult, error) {
	return r.start(email.SendEmailInput{EmailID: "E"})
}

func (r *run) start(in email.SendEmailInput) (email.SendEmailResult, error) {
	r.ExecuteWorkflow(email.WorkflowSendEmail, in)
	require.True(r.t, r.IsWorkflowCompleted())
	var res email.SendEmailResult
	err := r.GetWorkflowError()
	if err == nil {
		require.NoError(r.t, r.GetWorkflowResult(&res))
	}
	return res, err
}

// on scripts an activity by a function of the call's number, from 1.
func on[I, O any](r *run, name string, fn func(n int, in I) (O, error)) {
	n := 0
	r.OnActivity(name, mock.Anything, mock.Anything).Return(func(_ context.Context, in I) (O, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		n++
		r.calls = append(r.calls, name)
		return fn(n, in)
	})
}

var ready = email.State{Status: email.StatusQueued, NextAttempt: 1, Open: 1}

func resolved(r *run, st email.State) {
	on(r, email.ActivityResolveAttachments, func(int, delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		return delivery.ResolveAttachmentsResult{State: st, CustomerID: "C", RecipientDomains: []string{"x.test"}, Route: delivery.Route{Stream: email.StreamTransactional}}, nil
	})
}

func deliveredState() email.State {
	return email.State{Status: email.StatusDelivered, Final: true, Results: []email.RecipientResult{{ID: "R", Status: email.RecipientDelivered, Attempts: 1}}}
}

func sent(n int) delivery.SendSMTPResult {
	return delivery.SendSMTPResult{Attempt: n, Sent: true, Relay: email.Relay{Name: "primary"}, Reply: email.Reply{Code: 250}}
}

func sending(r *run) {
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) { return sent(in.Attempt), nil })
}

func fired(r *run) {
	on(r, email.ActivityFireWebhooks, func(int, delivery.FireWebhooksInput) (delivery.FireWebhooksResult, error) {
		return delivery.FireWebhooksResult{}, nil
	})
}

func recording(r *run, states ...email.State) {
	on(r, email.ActivityRecordStatus, func(n int, _ delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
		return delivery.RecordStatusResult{State: states[min(n, len(states))-1]}, nil
	})
}

func TestSendEmailDeliversInFourSteps(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	sending(r)
	recording(r, deliveredState())
	fired(r)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
	require.Equal(t, "E", res.EmailID)
	require.Len(t, res.Recipients, 1)
	require.Equal(t, []string{email.ActivityResolveAttachments, email.ActivitySendSMTP, email.ActivityRecordStatus, email.ActivityFireWebhooks}, r.calls)
	require.Zero(t, r.Now().Sub(start))
}

func TestSendEmailRetriesAtNextAt(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	var attempts []int
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		attempts = append(attempts, in.Attempt)
		return sent(in.Attempt), nil
	})
	retry := func(n int, after time.Duration) email.State {
		return email.State{Status: email.StatusSending, Detail: email.DetailDeferred, NextAttempt: n, Open: 1, NextAt: start.Add(after), Waiting: email.WaitingRetry,
			Last: email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted"}}
	}
	recording(r, retry(2, time.Minute), retry(3, 6*time.Minute), deliveredState())
	fired(r)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
	require.Equal(t, []int{1, 2, 3}, attempts)
	require.Equal(t, 6*time.Minute, r.Now().Sub(start))
}

// TestSendEmailSlowsDownWithoutProgress: for an hour the store's plan says that an attempt is
// due, and its gate opens none.
func TestSendEmailSlowsDownWithoutProgress(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	tries := 0
	on(r, email.ActivitySendSMTP, func(int, delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		tries++
		return delivery.SendSMTPResult{Attempt: 1}, nil
	})
	on(r, email.ActivityRecordStatus, func(int, delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
		if r.Now().Sub(start) > time.Hour {
			return delivery.RecordStatusResult{State: deliveredState()}, nil
		}
		return delivery.RecordStatusResult{State: email.State{Status: email.StatusSending, Detail: email.DetailDeferred, NextAttempt: 1}}, nil
	})
	fired(r)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
	require.Less(t, tries, 30)
}

func TestSendEmailScheduled(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	due := start.Add(300 * 24 * time.Hour)
	on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		if n == 1 {
			return delivery.ResolveAttachmentsResult{State: email.State{Status: email.StatusQueued, Detail: email.DetailScheduled, NextAttempt: 1, NextAt: due, Waiting: email.WaitingScheduled}}, nil
		}
		return delivery.ResolveAttachmentsResult{State: ready}, nil
	})
	sending(r)
	recording(r, deliveredState())
	fired(r)
	_, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, due, r.Now().UTC())
	require.Equal(t, 5, len(r.calls))
}

func TestSendEmailWake(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	on(r, email.ActivitySendSMTP, func(n int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		if n == 1 {
			return sent(1), nil
		}
		closed := email.State{Status: email.StatusCanceled, Final: true}
		return delivery.SendSMTPResult{Attempt: in.Attempt, State: &closed}, nil
	})
	waiting := email.State{Status: email.StatusSending, NextAttempt: 2, NextAt: start.Add(12 * time.Hour), Waiting: email.WaitingRetry}
	recording(r, waiting, email.State{Status: email.StatusCanceled, Final: true})
	fired(r)
	r.RegisterDelayedCallback(func() {
		r.SignalWorkflow(email.SignalWake, nil)
		r.SignalWorkflow(email.SignalWake, nil)
	}, time.Minute)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, res.Status)
	require.Equal(t, time.Minute, r.Now().Sub(start))
}

func TestSendEmailHeld(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		if n == 1 {
			return delivery.ResolveAttachmentsResult{State: email.State{Status: email.StatusQueued, Detail: email.DetailHeld, NextAttempt: 1, Waiting: email.WaitingHeld}}, nil
		}
		return delivery.ResolveAttachmentsResult{State: ready}, nil
	})
	sending(r)
	recording(r, deliveredState())
	fired(r)
	r.RegisterDelayedCallback(func() {
		var st email.State
		val, err := r.QueryWorkflow(email.QueryStatus)
		require.NoError(t, err)
		require.NoError(t, val.Get(&st))
		require.Equal(t, email.WaitingHeld, st.Waiting)
		r.SignalWorkflow(email.SignalWake, nil)
	}, 100*24*time.Hour)
	_, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, 100*24*time.Hour, r.Now().Sub(start))
}

// TestSendEmailExpiresByTheDatabasesClock: it is behind the run's by a minute, and the run does not
// ask without a pause until then.
func TestSendEmailExpiresByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	for waiting, detail := range map[email.Waiting]email.Detail{email.WaitingHeld: email.DetailHeld, email.WaitingPaused: email.DetailHeld} {
		r := newRun(t)
		asked := 0
		on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
			asked = n
			if r.Now().Sub(start) < time.Minute {
				return delivery.ResolveAttachmentsResult{State: email.State{Status: email.StatusQueued, Detail: detail, NextAttempt: 1, Waiting: waiting, NextAt: start}}, nil
			}
			return delivery.ResolveAttachmentsResult{State: ready}, nil
		})
		sending(r)
		recording(r, deliveredState())
		fired(r)
		_, err := r.execute()
		require.NoError(t, err)
		require.Equal(t, time.Minute, r.Now().Sub(start))
		require.Equal(t, 61, asked)
	}
}

func TestSendEmailHandOver(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	var inline []bool
	on(r, email.ActivitySendSMTP, func(n int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		inline = append(inline, in.Inline)
		if in.Inline {
			return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true}, nil
		}
		if n < 5 {
			return delivery.SendSMTPResult{}, temporal.NewApplicationErrorWithOptions("relay down", "relay_unavailable",
				temporal.ApplicationErrorOptions{NextRetryDelay: time.Minute, Category: temporal.ApplicationErrorCategoryBenign})
		}
		return sent(in.Attempt), nil
	})
	recording(r, deliveredState())
	fired(r)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
	require.Equal(t, []bool{true, false, false, false, false}, inline)
	require.Equal(t, 3*time.Minute, r.Now().Sub(start), "the relay's own delay, three times")
}

func TestSendEmailFallsBackToRegularActivities(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	on(r, email.ActivityResolveAttachments, func(_ int, in delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		if in.Inline {
			return delivery.ResolveAttachmentsResult{Remote: true}, nil
		}
		return delivery.ResolveAttachmentsResult{State: ready}, nil
	})
	sending(r)
	// Three local tries and more: Postgres is away for a while.
	on(r, email.ActivityRecordStatus, func(n int, _ delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
		if n < 6 {
			return delivery.RecordStatusResult{}, errors.New("no database")
		}
		return delivery.RecordStatusResult{State: deliveredState(), Webhooks: 1}, nil
	})
	// Webhooks never keep a run open.
	on(r, email.ActivityFireWebhooks, func(int, delivery.FireWebhooksInput) (delivery.FireWebhooksResult, error) {
		return delivery.FireWebhooksResult{}, errors.New("no database")
	})
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
}

func TestSendEmailMissingAttachment(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	on(r, email.ActivityResolveAttachments, func(int, delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		return delivery.ResolveAttachmentsResult{State: ready, Problem: "recording not found"}, nil
	})
	on(r, email.ActivitySendSMTP, func(int, delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		require.Fail(t, "never sent without its attachment")
		return delivery.SendSMTPResult{}, nil
	})
	on(r, email.ActivityRecordStatus, func(_ int, in delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
		require.Equal(t, "recording not found", in.Problem)
		return delivery.RecordStatusResult{State: email.State{Status: email.StatusFailed, Detail: email.DetailAttachment, Final: true}}, nil
	})
	fired(r)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.DetailAttachment, res.Detail)
}

func TestSendEmailRecordsUnrecordedOutcomes(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	out := []delivery.Outcome{{RecipientID: "R", Status: email.RecipientDelivered}}
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		s := sent(in.Attempt)
		s.Unrecorded = out
		return s, nil
	})
	on(r, email.ActivityRecordStatus, func(_ int, in delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
		require.Equal(t, out, in.Unrecorded)
		require.Equal(t, "primary", in.Relay.Name)
		return delivery.RecordStatusResult{State: deliveredState()}, nil
	})
	fired(r)
	_, err := r.execute()
	require.NoError(t, err)
}

func TestSendEmailCanceledRun(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	canceled := email.State{Status: email.StatusCanceled, Final: true}
	on(r, email.ActivitySendSMTP, func(n int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		if n == 1 {
			return sent(1), nil
		}
		return delivery.SendSMTPResult{Attempt: in.Attempt, State: &canceled}, nil
	})
	on(r, email.ActivityControl, func(_ int, in delivery.ControlInput) (email.State, error) {
		require.Equal(t, email.ActionCancel, in.Action)
		return canceled, nil
	})
	recording(r, email.State{Status: email.StatusSending, NextAttempt: 2, NextAt: start.Add(12 * time.Hour), Waiting: email.WaitingRetry}, canceled)
	fired(r)
	r.RegisterDelayedCallback(r.CancelWorkflow, time.Hour)
	res, err := r.execute()
	require.NoError(t, err, "a cancellation is a business outcome")
	require.Equal(t, email.StatusCanceled, res.Status)
	require.Equal(t, time.Hour, r.Now().Sub(start))
	require.Contains(t, r.calls, email.ActivityControl)
}

func TestSendEmailFailsOnlyForItsInput(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	on(r, email.ActivityResolveAttachments, func(int, delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		return delivery.ResolveAttachmentsResult{}, temporal.NewNonRetryableApplicationError("there is no such e-mail", "not_found", nil)
	})
	_, err := r.execute()
	require.ErrorContains(t, err, "there is no such e-mail")
}

func TestSendEmailContinuesAsNew(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	r.SetContinueAsNewSuggested(true)
	resolved(r, ready)
	sending(r)
	recording(r, email.State{Status: email.StatusSending, NextAttempt: 2, NextAt: start.Add(time.Hour), Waiting: email.WaitingRetry})
	fired(r)
	_, err := r.execute()
	cont, ok := errors.AsType[*workflow.ContinueAsNewError](err)
	require.True(t, ok, "%v", err)
	var in email.SendEmailInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(cont.Input, &in))
	require.Equal(t, "E", in.EmailID)
}

func TestSendEmailSearchAttributes(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	sending(r)
	recording(r, deliveredState())
	fired(r)
	var got temporal.SearchAttributes
	r.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(args mock.Arguments) { got = args.Get(0).(temporal.SearchAttributes) }).Return(nil).Once()
	_, err := r.execute()
	require.NoError(t, err)
	status, _ := got.GetKeyword(temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus))
	require.Equal(t, "delivered", status)
	relay, _ := got.GetKeyword(temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeRelay))
	require.Equal(t, "primary", relay)
	domains, _ := got.GetKeywordList(temporal.NewSearchAttributeKeyKeywordList(email.SearchAttributeRecipientDomains))
	require.Equal(t, []string{"x.test"}, domains)
}

func TestSendEmailSignalsAndUpdates(t *testing.T) {
	t.Parallel()
	for _, asUpdate := range []bool{false, true} {
		r := newRun(t)
		on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
			if n == 1 {
				return delivery.ResolveAttachmentsResult{State: email.State{Status: email.StatusQueued, NextAttempt: 1, NextAt: start.Add(24 * time.Hour), Waiting: email.WaitingScheduled}}, nil
			}
			return delivery.ResolveAttachmentsResult{State: ready}, nil
		})
		var asked []delivery.ControlInput
		on(r, email.ActivityControl, func(_ int, in delivery.ControlInput) (email.State, error) {
			asked = append(asked, in)
			if in.Action == email.ActionHold {
				return email.State{}, temporal.NewNonRetryableApplicationError("the e-mail is delivered", "conflict", nil)
			}
			return email.State{Status: email.StatusQueued}, nil
		})
		sending(r)
		recording(r, deliveredState())
		fired(r)
		at := email.RescheduleInput{SendAt: start.Add(time.Hour)}
		refused := ""
		r.RegisterDelayedCallback(func() {
			if !asUpdate {
				r.SignalWorkflow("hold", nil)
				r.SignalWorkflow("reschedule", at)
				return
			}
			r.UpdateWorkflow("hold", "1", &testsuite.TestUpdateCallback{OnReject: func(error) {}, OnAccept: func() {}, OnComplete: func(_ any, err error) { refused += err.Error() }}, email.RescheduleInput{})
			r.UpdateWorkflow("reschedule", "2", &testsuite.TestUpdateCallback{OnReject: func(err error) { refused += " " + err.Error() }, OnAccept: func() {}, OnComplete: func(any, error) {}}, email.RescheduleInput{})
			r.UpdateWorkflow("reschedule", "3", &testsuite.TestUpdateCallback{OnReject: func(err error) { t.Error(err) }, OnAccept: func() {}, OnComplete: func(_ any, err error) {
				if err != nil {
					t.Error(err)
				}
			}}, at)
		}, time.Minute)
		_, err := r.execute()
		require.NoError(t, err)
		require.ElementsMatch(t, []delivery.ControlInput{{EmailID: "E", Action: email.ActionHold}, {EmailID: "E", Action: email.ActionReschedule, SendAt: at.SendAt}}, asked)
		require.Equal(t, time.Minute, r.Now().Sub(start), "the run was woken to see what came of it")
		if asUpdate {
			require.Contains(t, refused, "the e-mail is delivered")
			require.Contains(t, refused, "give the new time")
		}
	}
}

func TestSendEmailKeepsItsTurn(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	resolved(r, ready)
	start := r.Now()
	turn := delivery.Turn{Relay: "metered", At: start.Add(time.Hour).UTC()}
	var asked []delivery.Turn
	var inline []bool
	on(r, email.ActivitySendSMTP, func(_ int, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
		asked, inline = append(asked, in.Route.Turn), append(inline, in.Inline)
		if in.Inline {
			return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true}, nil
		}
		if r.Now().Before(turn.At) {
			return delivery.SendSMTPResult{Attempt: in.Attempt, Turn: turn}, nil
		}
		return sent(in.Attempt), nil
	})
	on(r, email.ActivityRecordStatus, func(_ int, in delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
		if in.Relay.Name != "" {
			return delivery.RecordStatusResult{State: deliveredState()}, nil
		}
		return delivery.RecordStatusResult{State: email.State{NextAttempt: 1, Waiting: email.WaitingThrottled, NextAt: r.Now().Add(30 * time.Minute)}}, nil
	})
	fired(r)
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
	require.Equal(t, []delivery.Turn{{}, {}, turn, turn}, asked, "it comes back with the turn it was given")
	require.Equal(t, []bool{true, false, false, false}, inline, "a relay with a rate is never sent to inline")
	require.Equal(t, time.Hour, r.Now().Sub(start))
}

// A signal with an unreadable input is received, and so are the signals after it.
func TestSendEmailUnreadableSignal(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	canceled := email.State{Status: email.StatusCanceled, Final: true}
	scheduled := email.State{Status: email.StatusQueued, Detail: email.DetailScheduled, NextAttempt: 1, NextAt: start.Add(48 * time.Hour), Waiting: email.WaitingScheduled}
	var seen []email.Action
	on(r, email.ActivityResolveAttachments, func(int, delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		if len(seen) == 4 {
			return delivery.ResolveAttachmentsResult{State: canceled}, nil
		}
		return delivery.ResolveAttachmentsResult{State: scheduled}, nil
	})
	var times []time.Time
	on(r, email.ActivityControl, func(_ int, in delivery.ControlInput) (email.State, error) {
		seen, times = append(seen, in.Action), append(times, in.SendAt)
		if in.Action == email.ActionReschedule && in.SendAt.IsZero() {
			return email.State{}, temporal.NewNonRetryableApplicationError("give the new time as send_at", "invalid_request", nil)
		}
		return scheduled, nil
	})
	recording(r, canceled)
	fired(r)
	at := start.Add(24 * time.Hour)
	for i, signal := range []struct {
		action email.Action
		input  any
	}{{email.ActionHold, "asking them"}, {email.ActionReschedule, map[string]string{"send_at": "tomorrow"}},
		{email.ActionReschedule, email.RescheduleInput{SendAt: at}}, {email.ActionCancel, 7}} {
		r.RegisterDelayedCallback(func() { r.SignalWorkflow(string(signal.action), signal.input) }, time.Duration(i+1)*time.Minute)
	}
	res, err := r.execute()
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, res.Status)
	require.Equal(t, []email.Action{email.ActionHold, email.ActionReschedule, email.ActionReschedule, email.ActionCancel}, seen)
	require.Equal(t, []time.Time{{}, {}, at, {}}, times)
}
