// Package worker registers the workflows and activities, and nothing else.
package worker

import (
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/workflows"
)

// Options of a worker.
type Options struct {
	// DrainTimeout is how long running activities may go on after a stop.
	DrainTimeout time.Duration
	// Deployment and BuildID make it a versioned worker of that worker deployment.
	// Without, it takes every task of the queue.
	Deployment, BuildID string
	// OnFatalError is called once, if the SDK stops the worker by itself: it does so when
	// the namespace has been missing for two minutes. It must not block. Nil is allowed.
	OnFatalError func(error)
}

// New makes a worker for our task queue. Its client decides whether starts are
// eager: where it is the one that dispatch starts runs with, they are.
//
// Slots.Await lets starters wait until this worker has free slots.
func New(c client.Client, a *activities.Activities, opts Options) (worker.Worker, *Slots) {
	worker.SetStickyWorkflowCacheSize(stickyRuns) // the process's; it holds from its first worker on
	free := newSlots(slots)
	w := worker.New(c, email.TaskQueue, opts.options(free))
	Register(w, a)
	return w, free
}

// Register puts everything a SendEmail run needs into a registry.
func Register(r worker.Registry, a *activities.Activities) {
	r.RegisterWorkflowWithOptions(workflows.SendEmail, workflow.RegisterOptions{Name: email.WorkflowSendEmail})
	r.RegisterWorkflowWithOptions(workflows.SendBatch, workflow.RegisterOptions{Name: email.WorkflowSendBatch})
	r.RegisterWorkflowWithOptions(workflows.DeliverWebhooks, workflow.RegisterOptions{Name: email.WorkflowDeliverWebhooks})
	r.RegisterWorkflowWithOptions(workflows.VerifyDomain, workflow.RegisterOptions{Name: email.WorkflowVerifyDomain})
	r.RegisterActivityWithOptions(a, activity.RegisterOptions{})
	r.RegisterNexusService(nexusService())
}
