package dispatch_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/dispatch"
)

// connected is a dispatcher that runs, with a client of its own.
func connected(t *testing.T, addr, namespace string) *dispatch.Dispatcher {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{HostPort: addr, Namespace: namespace})
	require.NoError(t, err)
	d := dispatch.New(c, &outbox{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; c.Close() })
	return d
}

// why waits until a worker is not ready for the reason wanted; an empty one is ready.
func why(t *testing.T, r *dispatch.Readiness, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		last := r.Check(ctx)
		if last == nil || want == "" {
			return last == nil && want == ""
		}
		return strings.Contains(last.Error(), want)
	}, 4*patience, 50*time.Millisecond, "want %q", want)
}

func TestReadyWithoutTemporal(t *testing.T) {
	t.Parallel()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	addr := "127.0.0.1:" + strconv.Itoa(port)
	idle := dispatch.New(lazy(t, addr), &outbox{}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, dispatch.NewReadiness(idle, "default", dispatch.Version{}).Check(t.Context()), "temporal has not answered yet")

	r := dispatch.NewReadiness(connected(t, addr, "default"), "default", dispatch.Version{})
	r.SetPolling(true)
	why(t, r, "temporal does not answer: ")

	dir := t.TempDir()
	temporal := server(t, dir, port)
	why(t, r, "search attributes are missing: run `postrider migrate up`")
	require.NoError(t, dispatch.EnsureSearchAttributes(t.Context(), lazy(t, addr), "default"))
	why(t, r, "")

	require.NoError(t, temporal.Stop(t.Context()))
	why(t, r, "temporal does not answer: ")
	server(t, dir, port)
	why(t, r, "")
	r.SetPolling(false)
	why(t, r, "the worker does not ask for tasks")
}

func TestReadyWithoutANamespace(t *testing.T) {
	t.Parallel()
	temporal := server(t, "", 0)
	r := dispatch.NewReadiness(connected(t, temporal.Address(), "mail"), "mail", dispatch.Version{})
	r.SetPolling(true)
	why(t, r, "temporal has no namespace mail: create it with `temporal operator namespace create --namespace mail`")
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: temporal.Address()})
	require.NoError(t, err)
	defer namespaces.Close()
	require.NoError(t, namespaces.Register(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: "mail", WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)}))
	why(t, r, "search attributes are missing")
	require.Eventually(t, func() bool {
		return dispatch.EnsureSearchAttributes(t.Context(), lazy(t, temporal.Address()), "mail") == nil
	}, patience, 50*time.Millisecond)
	why(t, r, "")
}

// hold is a workflow that stays until it is signalled.
func hold(ctx workflow.Context) error {
	workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
	return nil
}

func TestReadyByVersion(t *testing.T) {
	t.Parallel()
	temporal := server(t, "", 0)
	c := lazy(t, temporal.Address())
	require.NoError(t, dispatch.EnsureSearchAttributes(t.Context(), c, "default"))
	d := connected(t, temporal.Address(), "default")
	ready := func(deployment, build string) *dispatch.Readiness {
		r := dispatch.NewReadiness(d, "default", dispatch.Version{Deployment: deployment, BuildID: build})
		r.SetPolling(true)
		return r
	}
	plain, first, second := ready("", "v1.0.0"), ready("postrider", "v1.0.0"), ready("postrider", "v1.1.0")
	why(t, plain, "")
	why(t, first, "its version is postrider v1.0.0, and current is unversioned: run `temporal worker deployment set-current-version --deployment-name postrider --build-id v1.0.0`")

	for _, build := range []string{"v1.0.0", "v1.1.0"} {
		w := worker.New(c, email.TaskQueue, worker.Options{DeploymentOptions: worker.DeploymentOptions{
			UseVersioning: true, Version: worker.WorkerDeploymentVersion{DeploymentName: "postrider", BuildID: build},
			DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
		}})
		w.RegisterWorkflow(hold)
		require.NoError(t, w.Start())
		t.Cleanup(w.Stop)
	}
	deployment := c.WorkerDeploymentClient().GetHandle("postrider")
	current := func(build string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := deployment.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: build})
			return err == nil
		}, 4*patience, 50*time.Millisecond)
	}
	ramp := func(build string, percent float32) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := deployment.SetRampingVersion(t.Context(), client.WorkerDeploymentSetRampingVersionOptions{BuildID: build, Percentage: percent})
			return err == nil
		}, 4*patience, 50*time.Millisecond)
	}

	// takesAll waits until all new runs may be those of these, and of no other.
	takesAll := func(these ...*dispatch.Readiness) {
		t.Helper()
		for _, r := range []*dispatch.Readiness{plain, first, second} {
			require.Eventually(t, func() bool {
				_ = r.Check(t.Context()) // not ready is no error here
				return r.TakesAll() == slices.Contains(these, r)
			}, 4*patience, 50*time.Millisecond)
		}
	}
	takesAll(plain)
	current("v1.0.0")
	takesAll(first)
	why(t, first, "")
	why(t, second, "its version is postrider v1.1.0, and current is postrider v1.0.0")
	why(t, plain, "version postrider v1.0.0 is current and this worker is unversioned")
	route, err := first.Route(t.Context())
	require.NoError(t, err)
	require.Equal(t, dispatch.Route{Current: dispatch.Version{Deployment: "postrider", BuildID: "v1.0.0"}}, route)

	ramp("v1.1.0", 10)
	why(t, second, "")
	why(t, first, "")
	takesAll()
	ramp("", 0)
	takesAll(first)
	why(t, second, "its version is postrider v1.1.0")

	// A run that is pinned to the old version keeps its workers ready.
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: uuid.NewString(), TaskQueue: email.TaskQueue}, hold)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		desc, err := c.DescribeWorkflowExecution(t.Context(), run.GetID(), "")
		return err == nil && desc.GetWorkflowExecutionInfo().GetVersioningInfo().GetDeploymentVersion().GetBuildId() == "v1.0.0"
	}, 4*patience, 50*time.Millisecond)
	current("v1.1.0")
	why(t, second, "")
	why(t, first, "")
	require.NoError(t, c.SignalWorkflow(t.Context(), run.GetID(), "", "end", nil))
	require.NoError(t, run.Get(t.Context(), nil))
	why(t, first, "its version is postrider v1.0.0, and current is postrider v1.1.0")
	current("")
	why(t, plain, "")
}
