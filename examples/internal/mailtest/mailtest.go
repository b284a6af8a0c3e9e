// Package mailtest stands for Postrider in tests of workflows, in virtual time.
package mailtest

import (
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// Env is a workflow under test, and the mails it has sent.
type Env struct {
	*testsuite.TestWorkflowEnvironment
	Sent []client.Message
	// At are when, IDs the workflow ids, Keys the idempotency keys.
	At   []time.Time
	IDs  []string
	Keys []string
}

// Start is the time at which every test begins.
var Start = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

// New makes an environment in which the n-th mail, from 1, ends as become says.
func New(t *testing.T, become func(ctx workflow.Context, n int, m client.Message) email.Status) *Env {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	e := &Env{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment()}
	e.SetStartTime(Start)
	// A workflow and no mock, so that become may wait, and be canceled.
	e.RegisterWorkflowWithOptions(func(ctx workflow.Context, in email.SendEmailInput) (email.SendEmailResult, error) {
		var m client.Message
		require.NoError(t, json.Unmarshal(in.Message, &m))
		e.Sent, e.At = append(e.Sent, m), append(e.At, workflow.Now(ctx).UTC())
		e.IDs, e.Keys = append(e.IDs, workflow.GetInfo(ctx).WorkflowExecution.ID), append(e.Keys, in.IdempotencyKey)
		return email.SendEmailResult{EmailID: "e", Status: become(ctx, len(e.Sent), m)}, nil
	}, workflow.RegisterOptions{Name: email.WorkflowSendEmail})
	return e
}

// Delivered is what becomes of every mail.
func Delivered(workflow.Context, int, client.Message) email.Status { return email.StatusDelivered }

// Execute runs a workflow to its end.
func Execute[R any](t *testing.T, e *Env, wf any, in any) (R, error) {
	t.Helper()
	e.ExecuteWorkflow(wf, in)
	require.True(t, e.IsWorkflowCompleted())
	var res R
	err := e.GetWorkflowError()
	if err == nil {
		require.NoError(t, e.GetWorkflowResult(&res))
	}
	return res, err
}
