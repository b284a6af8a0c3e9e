package main

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/email"
)

// sending runs the Nexus operation, and cancels it when its workflow receives a signal.
func sending(ctx workflow.Context, endpoint string, in email.SendEmailInput) (email.SendEmailResult, error) {
	opCtx, callOff := workflow.WithCancel(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		workflow.GetSignalChannel(ctx, "call off").Receive(ctx, nil)
		callOff()
	})
	var res email.SendEmailResult
	op := workflow.NewNexusClient(endpoint, email.NexusService).ExecuteOperation(opCtx, email.NexusOperationSend, in, workflow.NexusOperationOptions{})
	err := op.Get(ctx, &res)
	return res, err
}

// TestNexus has mail sent from a namespace that is not Postrider's.
func TestNexus(t *testing.T) {
	t.Parallel()
	s := newStarter(t)
	const endpoint = "postrider-mail"
	out, err := exec.CommandContext(t.Context(), s.cli, "operator", "nexus", "endpoint", "create", "--name", endpoint,
		"--target-namespace", s.namespace, "--target-task-queue", email.TaskQueue, "--address", s.at).CombinedOutput()
	require.NoError(t, err, string(out))
	namespaces, err := temporal.NewNamespaceClient(temporal.Options{HostPort: s.at, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(namespaces.Close)
	require.NoError(t, namespaces.Register(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: "orders", WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)}))
	var orders temporal.Client
	s.eventually("the namespace is known", func() bool {
		orders, err = temporal.Dial(temporal.Options{HostPort: s.at, Namespace: "orders", Logger: quiet{}})
		return err == nil
	})
	t.Cleanup(orders.Close)

	t.Run("the example", func(t *testing.T) {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), "go", "run", "./nexus", "-endpoint", endpoint, "-customer", s.customer, "-from", "shop@acme.test", "-to", "ann@y.test")
		cmd.Dir = "../../examples"
		cmd.Env = append(os.Environ(), "TEMPORAL_ADDRESS="+s.at, "TEMPORAL_NAMESPACE=orders")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "confirmed to a***@y.test\n")
		db := s.sql()
		require.Equal(t, 1, s.count(db, "SELECT count(*) FROM emails AS e JOIN recipients AS r ON r.email_id = e.id AND r.address = 'ann@y.test' WHERE e.workflow_id LIKE 'nexus-%' AND e.status = 'delivered'"))
	})

	w := sdkworker.New(orders, "callers", sdkworker.Options{})
	w.RegisterWorkflow(sending)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	call := func(t *testing.T, in email.SendEmailInput) temporal.WorkflowRun {
		t.Helper()
		run, err := orders.ExecuteWorkflow(t.Context(), temporal.StartWorkflowOptions{TaskQueue: "callers"}, sending, endpoint, in)
		require.NoError(t, err)
		return run
	}
	t.Run("one key is one e-mail", func(t *testing.T) {
		t.Parallel()
		in := s.input(t, mailFrom("nexus@y.test"), "order 5")
		first := result(t, call(t, in))
		require.Equal(t, email.StatusDelivered, first.Status)
		require.Equal(t, first, result(t, call(t, in)))
		require.Equal(t, 1, s.copies(first.EmailID, "nexus@y.test"))
	})
	t.Run("what is refused", func(t *testing.T) {
		t.Parallel()
		refused := refusal(t, call(t, s.input(t, mailFrom("nobody"), "")))
		require.Equal(t, "invalid_request", refused.Type(), "the caller sees why")
		refused = refusal(t, call(t, email.SendEmailInput{EmailID: "x"}))
		require.Equal(t, "invalid_request", refused.Type())
		require.Contains(t, refused.Message(), "give the message to send")
	})
	t.Run("called off", func(t *testing.T) {
		t.Parallel()
		m := mailFrom("off@y.test")
		m.SendAt = time.Now().Add(240 * time.Hour)
		run := call(t, s.input(t, m, "off"))
		db := s.sql()
		s.eventually("scheduled", func() bool {
			return s.count(db, "SELECT count(*) FROM emails WHERE status_detail = 'scheduled'") == 1
		})
		require.NoError(t, orders.SignalWorkflow(t.Context(), run.GetID(), "", "call off", nil))
		require.Equal(t, email.StatusCanceled, result(t, run).Status, "the operation ends with what became of the mail")
	})
}
