package workflows_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/workflows"
)

func newBatchRun(t *testing.T) *run {
	t.Helper()
	r := newRun(t)
	r.RegisterWorkflow(workflows.SendBatch)
	return r
}

func (r *run) executeBatch(in email.SendBatchInput) (email.SendBatchResult, error) {
	r.ExecuteWorkflow(email.WorkflowSendBatch, in)
	require.True(r.t, r.IsWorkflowCompleted())
	var res email.SendBatchResult
	err := r.GetWorkflowError()
	if err == nil {
		require.NoError(r.t, r.GetWorkflowResult(&res))
	}
	return res, err
}

var route = delivery.Route{Stream: email.StreamBroadcast, SenderDomain: "acme.test"}

func due(n int) delivery.PlanBatchResult {
	return delivery.PlanBatchResult{CustomerID: "C", Stream: email.StreamBroadcast, Total: n, Open: n, Due: n, Routes: []delivery.Route{route}}
}

// planning scripts the results of PlanBatch, one per call; the last one is repeated.
func planning(r *run, plans ...delivery.PlanBatchResult) {
	on(r, email.ActivityPlanBatch, func(n int, _ email.SendBatchInput) (delivery.PlanBatchResult, error) {
		return plans[min(n, len(plans))-1], nil
	})
}

func TestSendBatchActivitiesPerRoute(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	planning(r, due(600), due(600), due(600), due(600), delivery.PlanBatchResult{Total: 600})
	calls := 0
	on(r, email.ActivitySendChunk, func(n int, in delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		require.Equal(t, route, in.Route)
		calls = n
		return delivery.SendChunkResult{Sent: email.BatchCounts{Delivered: 100, Open: 50}, HandedOver: 50, More: n <= 2, Relay: email.Relay{Name: "primary"}}, nil
	})
	res, err := r.executeBatch(email.SendBatchInput{BatchID: "B", Sent: email.BatchCounts{Delivered: 7}})
	require.NoError(t, err)
	require.Equal(t, "B", res.BatchID)
	require.GreaterOrEqual(t, calls, 4, "four go at once")
	require.Equal(t, 100*calls+7, res.Sent.Delivered, "with what an earlier run has sent")
	require.Zero(t, r.Now().Sub(start), "nothing is waited for")
}

func TestSendBatchWaitsUntilDue(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	later := delivery.PlanBatchResult{Total: 1, Open: 1, NextAt: start.Add(48 * time.Hour)}
	planning(r, later, due(1), delivery.PlanBatchResult{Total: 1})
	on(r, email.ActivitySendChunk, func(int, delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		return delivery.SendChunkResult{Sent: email.BatchCounts{Delivered: 1}}, nil
	})
	var statuses []string
	r.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(args mock.Arguments) {
		s, _ := args.Get(0).(temporal.SearchAttributes).GetKeyword(temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus))
		statuses = append(statuses, s)
	}).Return(nil)
	_, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, r.Now().Sub(start))
	require.Equal(t, []string{"scheduled", "sending", "completed"}, statuses)
}

func TestSendBatchRereadsLockedEmails(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	planning(r, due(1), due(1), due(1), due(1), delivery.PlanBatchResult{Total: 1})
	n := 0
	on(r, email.ActivitySendChunk, func(k int, _ delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		n = k
		return delivery.SendChunkResult{}, nil
	})
	_, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
	require.NoError(t, err)
	require.LessOrEqual(t, n, 3, "it does not spin")
	require.GreaterOrEqual(t, r.Now().Sub(start), time.Second)
}

func TestSendBatchActions(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	held := delivery.PlanBatchResult{Total: 1, Open: 1, Held: true}
	planning(r, due(1), held, held, held, delivery.PlanBatchResult{Total: 1})
	on(r, email.ActivitySendChunk, func(int, delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		return delivery.SendChunkResult{}, nil
	})
	var actions []email.Action
	on(r, email.ActivityControlBatch, func(_ int, in delivery.ControlBatchInput) (delivery.Took, error) {
		actions = append(actions, in.Action)
		return delivery.Took{}, nil
	})
	r.RegisterDelayedCallback(func() { r.SignalWorkflow(string(email.ActionHold), nil) }, time.Minute)
	r.RegisterDelayedCallback(func() { r.SignalWorkflow(string(email.ActionResume), nil) }, time.Hour)
	r.RegisterDelayedCallback(r.CancelWorkflow, 2*time.Hour)
	_, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
	require.NoError(t, err, "a cancellation is a business outcome")
	require.Equal(t, []email.Action{email.ActionHold, email.ActionResume, email.ActionCancel}, actions)
}

func TestSendBatchRecordsUnrecordedOutcomes(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	planning(r, due(1), delivery.PlanBatchResult{Total: 1})
	lost := []delivery.UnrecordedAttempt{{EmailID: "E", Attempt: 1, Owner: "O", Outcomes: []delivery.Outcome{{RecipientID: "R", Status: email.RecipientDelivered}}}}
	on(r, email.ActivitySendChunk, func(n int, _ delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		if n == 1 {
			return delivery.SendChunkResult{Unrecorded: lost}, nil
		}
		return delivery.SendChunkResult{}, nil
	})
	on(r, email.ActivityRecordChunk, func(n int, in delivery.RecordChunkInput) (delivery.RecordChunkResult, error) {
		require.Equal(t, lost, in.Attempts)
		if n < 4 {
			return delivery.RecordChunkResult{}, errors.New("no database")
		}
		return delivery.RecordChunkResult{Sent: email.BatchCounts{Delivered: 1}}, nil
	})
	res, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
	require.NoError(t, err)
	require.Equal(t, 1, res.Sent.Delivered)
}

func TestSendBatchKeepsItsTurn(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	planning(r, due(2), delivery.PlanBatchResult{Total: 2})
	turn := delivery.Turn{Relay: "slow", At: start.Add(10 * time.Minute)}
	var turns []delivery.Turn
	on(r, email.ActivitySendChunk, func(n int, in delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		turns = append(turns, in.Route.Turn)
		if n == 1 {
			return delivery.SendChunkResult{Turn: turn, More: true}, nil
		}
		return delivery.SendChunkResult{Sent: email.BatchCounts{Delivered: 2}}, nil
	})
	var waiting string
	r.RegisterDelayedCallback(func() { waiting = r.metadata().GetCurrentDetails() }, 5*time.Minute)
	_, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
	require.NoError(t, err)
	require.Equal(t, "0 of 2 attempted, 0 delivered, 0 go on in runs of their own; broadcast mail from acme.test waits until "+turn.At.Format("15:04:05")+" for the rate of relay slow", waiting)
	require.Equal(t, "2 of 2 attempted, 2 delivered, 0 go on in runs of their own", r.metadata().GetCurrentDetails())
	require.Equal(t, []delivery.Turn{{}, turn}, turns)
	require.Equal(t, 10*time.Minute, r.Now().Sub(start))
}

// While a batch waits for its slot, it checks for expired mail, and keeps the slot.
func TestSendBatchExpiresMailThatWaitsForASlot(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	planning(r, due(2), delivery.PlanBatchResult{Total: 2})
	turn := delivery.Turn{Relay: "slow", At: start.Add(10 * time.Minute)}
	expiries := []time.Duration{3 * time.Minute, 3 * time.Minute, time.Hour}
	var asked []time.Duration
	on(r, email.ActivitySendChunk, func(n int, in delivery.SendChunkInput) (delivery.SendChunkResult, error) {
		asked = append(asked, r.Now().Sub(start))
		if n > len(expiries) {
			return delivery.SendChunkResult{Sent: email.BatchCounts{Delivered: 2}}, nil
		}
		if n > 1 {
			require.Equal(t, turn, in.Route.Turn)
		}
		return delivery.SendChunkResult{Turn: turn, More: true, ExpiresAt: start.Add(expiries[n-1])}, nil
	})
	_, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
	require.NoError(t, err)
	require.Equal(t, []time.Duration{0, 3 * time.Minute, 3*time.Minute + time.Second, 10 * time.Minute}, asked,
		"a second later where Postgres' clock says that it has not expired yet")
}

func TestSendBatchContinuesAsNew(t *testing.T) {
	t.Parallel()
	r := newBatchRun(t)
	r.SetContinueAsNewSuggested(true)
	planning(r, due(5))
	_, err := r.executeBatch(email.SendBatchInput{BatchID: "B", Sent: email.BatchCounts{Delivered: 3}})
	cont, ok := errors.AsType[*workflow.ContinueAsNewError](err)
	require.True(t, ok, "%v", err)
	var in email.SendBatchInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(cont.Input, &in))
	require.Equal(t, email.SendBatchInput{BatchID: "B", Sent: email.BatchCounts{Delivered: 3}}, in)
}

// TestSendBatchRelayDown: the run publishes that no relay is available, in the search attribute
// and in the current details. Then the activity waits.
func TestSendBatchRelayDown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status  string
		noRelay bool
	}{{"relay_down", false}, {"no_relay", true}} {
		t.Run(tt.status, func(t *testing.T) {
			t.Parallel()
			r := newBatchRun(t)
			planning(r, due(2), delivery.PlanBatchResult{Total: 2})
			statuses := r.statuses()
			var waiting string
			var asked []bool
			on(r, email.ActivitySendChunk, func(n int, in delivery.SendChunkInput) (delivery.SendChunkResult, error) {
				asked = append(asked, in.TellRelayDown)
				switch n {
				case 1:
					return delivery.SendChunkResult{RelayDown: "relay primary: connection refused", NoRelay: tt.noRelay, Relay: email.Relay{Name: "primary"}, More: true}, nil
				case 2:
					return delivery.SendChunkResult{}, temporal.NewApplicationErrorWithOptions("relay primary: connection refused", "relay_unavailable",
						temporal.ApplicationErrorOptions{NextRetryDelay: time.Minute})
				}
				return delivery.SendChunkResult{Sent: email.BatchCounts{Delivered: 2}, Relay: email.Relay{Name: "primary"}}, nil
			})
			r.RegisterDelayedCallback(func() { waiting = r.metadata().GetCurrentDetails() }, 30*time.Second)
			res, err := r.executeBatch(email.SendBatchInput{BatchID: "B"})
			require.NoError(t, err)
			require.Equal(t, 2, res.Sent.Delivered)
			require.Equal(t, []bool{true, false, false}, asked, "an activity that the server retries does not return RelayDown again")
			require.Equal(t, []string{"sending", tt.status, "sending", "completed"}, *statuses)
			require.Equal(t, "0 of 2 attempted, 0 delivered, 0 go on in runs of their own; relay primary; "+
				"no relay takes broadcast mail from acme.test, `relay primary: connection refused`, tried every 10 s to 5 min", waiting)
			require.Equal(t, "2 of 2 attempted, 2 delivered, 0 go on in runs of their own; relay primary", r.metadata().GetCurrentDetails())
		})
	}
}
