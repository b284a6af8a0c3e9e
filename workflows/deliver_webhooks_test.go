package workflows_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/workflows"
)

func newWebhookRun(t *testing.T) *run {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	r := &run{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	r.SetStartTime(start)
	r.RegisterWorkflow(workflows.DeliverWebhooks)
	r.RegisterActivity(&activities.Activities{})
	return r
}

func TestDeliverWebhooksEndsWhenNothingWaits(t *testing.T) {
	t.Parallel()
	r := newWebhookRun(t)
	on(r, email.ActivityDeliverWebhooks, func(n int, in email.DeliverWebhooksInput) (delivery.DeliverWebhooksResult, error) {
		require.Equal(t, "EP", in.EndpointID)
		if n <= 3 {
			return delivery.DeliverWebhooksResult{Failed: 1, Waiting: 1, NextAt: start.Add(time.Duration(n) * time.Hour)}, nil
		}
		return delivery.DeliverWebhooksResult{Delivered: 1}, nil
	})
	r.ExecuteWorkflow(email.WorkflowDeliverWebhooks, email.DeliverWebhooksInput{EndpointID: "EP"})
	require.NoError(t, r.GetWorkflowError())
	require.Len(t, r.calls, 4)
	require.Equal(t, 3*time.Hour, r.Now().Sub(start))
}

func TestDeliverWebhooksWake(t *testing.T) {
	t.Parallel()
	r := newWebhookRun(t)
	on(r, email.ActivityDeliverWebhooks, func(n int, _ email.DeliverWebhooksInput) (delivery.DeliverWebhooksResult, error) {
		if n == 1 {
			return delivery.DeliverWebhooksResult{Waiting: 1, NextAt: start.Add(24 * time.Hour)}, nil
		}
		return delivery.DeliverWebhooksResult{Delivered: 2}, nil
	})
	r.RegisterDelayedCallback(func() { r.SignalWorkflow(email.SignalWake, nil) }, time.Minute)
	r.ExecuteWorkflow(email.WorkflowDeliverWebhooks, email.DeliverWebhooksInput{EndpointID: "EP"})
	require.NoError(t, r.GetWorkflowError())
	require.Equal(t, time.Minute, r.Now().Sub(start))
}

func TestDeliverWebhooksContinuesAsNew(t *testing.T) {
	t.Parallel()
	r := newWebhookRun(t)
	r.SetContinueAsNewSuggested(true)
	on(r, email.ActivityDeliverWebhooks, func(int, email.DeliverWebhooksInput) (delivery.DeliverWebhooksResult, error) {
		return delivery.DeliverWebhooksResult{Waiting: 9, NextAt: start.Add(time.Hour)}, nil
	})
	r.ExecuteWorkflow(email.WorkflowDeliverWebhooks, email.DeliverWebhooksInput{EndpointID: "EP"})
	require.ErrorContains(t, r.GetWorkflowError(), "continue as new")
	require.Len(t, r.calls, 1, "what is due was delivered first")
}
