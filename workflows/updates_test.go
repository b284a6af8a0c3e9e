package workflows_test

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/workflows"
)

// TestSendEmailRefusedUpdates: for a wrong argument or an unknown update the caller gets an
// error of type invalid_request that names no Go type.
func TestSendEmailRefusedUpdates(t *testing.T) {
	t.Parallel()
	failures := workflows.Failures{FailureConverter: temporal.GetDefaultFailureConverter()}
	for name, tt := range map[string]struct {
		update string
		args   []any
		words  string
	}{
		"a time in words":    {"reschedule", []any{map[string]string{"send_at": "tomorrow"}}, "give the new time in RFC 3339 format"},
		"a time of no type":  {"reschedule", []any{map[string]any{"send_at": 17}}, "give the new time in RFC 3339 format"},
		"no argument":        {"reschedule", nil, "give the new time in RFC 3339 format"},
		"null":               {"reschedule", []any{nil}, "give the new time in RFC 3339 format"},
		"a string":           {"reschedule", []any{"2026-01-02T15:04:05Z"}, "give the new time in RFC 3339 format"},
		"an unknown update":  {"pause", nil, `there is no update "pause": SendEmail takes cancel, hold`},
		"unknown, with dots": {"a. KnownUpdates", nil, "there is no update"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRun(t)
			later := ready
			later.Waiting, later.NextAt = email.WaitingScheduled, start.Add(time.Hour)
			on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
				if n == 1 {
					return delivery.ResolveAttachmentsResult{State: later}, nil
				}
				return delivery.ResolveAttachmentsResult{State: ready}, nil
			})
			sending(r)
			recording(r, deliveredState())
			fired(r)
			var refused error
			r.RegisterDelayedCallback(func() {
				r.UpdateWorkflow(tt.update, "1", &testsuite.TestUpdateCallback{OnReject: func(err error) { refused = err }, OnAccept: func() { t.Error("accepted") }, OnComplete: func(any, error) {}}, tt.args...)
			}, time.Minute)
			_, err := r.execute()
			require.NoError(t, err)
			require.Error(t, refused)
			f := failures.ErrorToFailure(refused)
			require.Equal(t, string(email.CodeInvalidRequest), f.GetApplicationFailureInfo().GetType(), f.GetMessage())
			require.Contains(t, f.GetMessage(), tt.words)
			require.NotContains(t, f.GetMessage(), "Time.UnmarshalJSON")
		})
	}
	other := failures.ErrorToFailure(errors.New("no update"))
	require.Equal(t, "no update", other.GetMessage(), "other errors are as they were")
}

// TestSendEmailUpdatesWithoutArgument: only reschedule needs an argument. Those of other
// updates are ignored.
func TestSendEmailUpdatesWithoutArgument(t *testing.T) {
	t.Parallel()
	for _, args := range [][]any{nil, {17}} {
		r := newRun(t)
		later := ready
		later.Waiting, later.NextAt = email.WaitingScheduled, start.Add(time.Hour)
		on(r, email.ActivityResolveAttachments, func(n int, _ delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
			if n == 1 {
				return delivery.ResolveAttachmentsResult{State: later}, nil
			}
			return delivery.ResolveAttachmentsResult{State: ready}, nil
		})
		held := 0
		on(r, email.ActivityControl, func(_ int, in delivery.ControlInput) (email.State, error) {
			require.Equal(t, email.ActionHold, in.Action)
			held++
			return ready, nil
		})
		sending(r)
		recording(r, deliveredState())
		fired(r)
		r.RegisterDelayedCallback(func() {
			r.UpdateWorkflow("hold", "1", &testsuite.TestUpdateCallback{OnReject: func(err error) { t.Error(err) }, OnAccept: func() {}, OnComplete: func(any, error) {}}, args...)
		}, time.Minute)
		_, err := r.execute()
		require.NoError(t, err)
		require.Equal(t, 1, held)
	}
}

// TestSendEmailLateWakeUps: the SDK logs no warning of a wake-up that comes while the run ends.
func TestSendEmailLateWakeUps(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	r := &run{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	r.SetStartTime(start)
	r.RegisterWorkflow(workflows.SendEmail)
	r.RegisterActivity(&activities.Activities{})
	require.NoError(t, r.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes()))
	resolved(r, ready)
	sending(r)
	recording(r, deliveredState())
	fired(r)
	r.RegisterDelayedCallback(func() {
		r.SignalWorkflow(email.SignalWake, nil)
		r.SignalWorkflow(email.SignalWake, nil)
	}, 0)
	_, err := r.execute()
	require.NoError(t, err)
	require.NotContains(t, logged.String(), "nhandled signal")
}
