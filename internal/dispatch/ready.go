package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	deploymentpb "go.temporal.io/api/deployment/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
)

// Version is a worker version: a worker deployment and a build of it. The zero value
// stands for all workers without a deployment.
type Version struct {
	Deployment, BuildID string
}

// unversioned is how Temporal's own tools call workers without a deployment.
const unversioned = "unversioned"

func (v Version) String() string {
	if v == (Version{}) {
		return unversioned
	}
	return v.Deployment + " " + v.BuildID
}

// Route says which workers Temporal gives the work of our task queue to.
type Route struct {
	// Current gets new runs, and the tasks of those that no version has to itself.
	Current Version
	// Ramping gets RampPercent of them, 0 to 100; with 0 there is none.
	Ramping     Version
	RampPercent float32
}

// Readiness tells whether this process's worker gets work. It may be used by several
// goroutines.
type Readiness struct {
	dispatcher *Dispatcher
	client     client.Client
	namespace  string
	own        Version
	polling    atomic.Bool
	takesAll   atomic.Bool
}

// NewReadiness looks with the dispatcher's client. A worker without a deployment has
// the zero Version.
func NewReadiness(d *Dispatcher, namespace string, own Version) *Readiness {
	if own.Deployment == "" {
		own = Version{}
	}
	return &Readiness{dispatcher: d, client: d.client, namespace: namespace, own: own}
}

// SetPolling records that the worker has started, or stops, asking for tasks.
func (r *Readiness) SetPolling(polling bool) { r.polling.Store(polling) }

// Check returns nil if the worker asks for tasks and would get one. Otherwise its error
// says what is missing and what to do: Temporal does not answer, the namespace or
// search attributes are missing, other workers are current, or the worker has not
// started. It asks Temporal anew each time, three to four short calls.
func (r *Readiness) Check(ctx context.Context) error {
	if err := r.dispatcher.reachable(); err != nil {
		return err
	}
	if err := r.namespaceExists(ctx); err != nil {
		return err
	}
	missing, err := missingAttributes(ctx, r.client, r.namespace)
	if err != nil {
		return err
	}
	if err := attributesError(missing); err != nil {
		return err
	}
	route, err := r.Route(ctx)
	if err != nil {
		return err
	}
	r.takesAll.Store(route.Current == r.own && route.RampPercent == 0)
	if err := r.served(ctx, route); err != nil {
		return err
	}
	if !r.polling.Load() {
		return errors.New("the worker does not ask for tasks: it is starting or stopping")
	}
	return nil
}

func (r *Readiness) namespaceExists(ctx context.Context) error {
	_, err := r.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: r.namespace})
	if _, missing := errors.AsType[*serviceerror.NamespaceNotFound](err); missing {
		return fmt.Errorf("temporal has no namespace %s: create it with `temporal operator namespace create --namespace %s`, then run `postrider migrate up`", r.namespace, r.namespace)
	}
	if err != nil {
		return fmt.Errorf("temporal does not answer: %w", err)
	}
	return nil
}

// attributesError names the search attributes that are missing; nil if there are none.
func attributesError(missing map[string]enumspb.IndexedValueType) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("search attributes are missing: run `postrider migrate up` (%s)", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
}

// TakesAll reports whether Temporal gave all new runs to workers of this version when Check asked
// last: it was current, and no other was ramping. Only then may a worker begin runs by itself.
func (r *Readiness) TakesAll() bool { return r.takesAll.Load() }

// Route asks Temporal which workers it gives tasks to.
func (r *Readiness) Route(ctx context.Context) (Route, error) {
	res, err := r.client.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
		Namespace: r.namespace, TaskQueueType: enumspb.TASK_QUEUE_TYPE_WORKFLOW,
		TaskQueue: &taskqueuepb.TaskQueue{Name: email.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
	})
	if err != nil {
		return Route{}, fmt.Errorf("describe task queue %s: %w", email.TaskQueue, err)
	}
	info := res.GetVersioningInfo()
	return Route{
		Current:     versionOf(info.GetCurrentDeploymentVersion()),
		Ramping:     versionOf(info.GetRampingDeploymentVersion()),
		RampPercent: info.GetRampingVersionPercentage(),
	}, nil
}

func versionOf(v *deploymentpb.WorkerDeploymentVersion) Version {
	return Version{Deployment: v.GetDeploymentName(), BuildID: v.GetBuildId()}
}

// served returns nil if the route leads to this worker, or runs are pinned to it.
func (r *Readiness) served(ctx context.Context, route Route) error {
	if route.Current == r.own || route.RampPercent > 0 && route.Ramping == r.own {
		return nil
	}
	if r.own == (Version{}) {
		return fmt.Errorf("this worker gets no tasks: version %s is current and this worker is unversioned: set POSTRIDER_DEPLOYMENT, or run `temporal worker deployment set-current-version --deployment-name %s --unversioned`",
			route.Current, route.Current.Deployment)
	}
	pinned, err := r.client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: r.namespace,
		Query: fmt.Sprintf("ExecutionStatus='Running' AND TemporalWorkflowVersioningBehavior='Pinned' AND TemporalWorkerDeploymentVersion='%s:%s'",
			r.own.Deployment, r.own.BuildID),
	})
	if err != nil {
		return fmt.Errorf("count the runs that are pinned to %s: %w", r.own, err)
	}
	if pinned.GetCount() > 0 {
		return nil
	}
	return fmt.Errorf("this worker gets no tasks: its version is %s, and current is %s: run `temporal worker deployment set-current-version --deployment-name %s --build-id %s`, or stop this worker",
		r.own, route.Current, r.own.Deployment, r.own.BuildID)
}
