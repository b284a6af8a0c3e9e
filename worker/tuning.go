package worker

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// These numbers tune a worker. docs/operating.md has the measurements. There is no setting
// for them, since none of them bounds an installation: a mail costs about 10 ms of CPU, the
// rest is waiting.
const (
	// slots is how many workflow tasks, local activities and activities run at once,
	// each. A fresh e-mail holds a workflow task and a local activity while its relay
	// answers. 50 suffice for relays that answer at once. 200 keep two cores busy where
	// an answer takes 100 ms and more. They are few enough that an attempt gets one of a
	// relay's 10 connections (max_conns) well within the 5 s that it has inline: 200
	// mails of 100 ms on 10 connections are 2 s. With 1000 they would be 10 s. Most of a
	// burst would then become regular activities, at seven events each. Postgres sees at
	// most 20 of them at a time (db.Options.MaxConns). A transaction never waits for a
	// second connection, so they queue for milliseconds and cannot starve.
	slots = 200

	// stickyRuns is how many runs a process keeps in memory between their workflow
	// tasks: 40 KiB each, so about 80 MiB; the SDK's 10,000 would be 400. One that is
	// not there is replayed from its history when it is next woken. A mail that waits
	// does so for minutes to months, and its history is some ten events.
	stickyRuns = 2_000
)

// The pollers ask the server for tasks, and scale with what there is: idle, few hold
// a connection open; in a burst of starts by another process a fixed 2 took 29 mails
// a second, 5 and 20 took 37, this took 56. Eager starts need none. Activities are the
// exception, and most of them long.
func workflowPollers() worker.PollerBehavior { return pollers(5, 2, 50) }
func activityPollers() worker.PollerBehavior { return pollers(2, 1, 20) }

func pollers(initial, least, most int) worker.PollerBehavior {
	return worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{
		InitialNumberOfPollers: initial, MinimumNumberOfPollers: least, MaximumNumberOfPollers: most,
	})
}

// options of the SDK's worker. The drain has no number here: what an exchange may
// take is up to the installation's relays (POSTRIDER_DRAIN_TIMEOUT).
func (o Options) options(free *Slots) worker.Options {
	out := worker.Options{
		WorkerStopTimeout:          o.DrainTimeout,
		OnFatalError:               o.OnFatalError,
		Tuner:                      tuner(free),
		WorkflowTaskPollerBehavior: workflowPollers(),
		ActivityTaskPollerBehavior: activityPollers(),
	}
	if o.Deployment != "" {
		out.DeploymentOptions = worker.DeploymentOptions{
			UseVersioning:             true,
			Version:                   worker.WorkerDeploymentVersion{DeploymentName: o.Deployment, BuildID: o.BuildID},
			DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
		}
	}
	return out
}

// tuner gives out slots of each kind, those for workflow tasks from free.
func tuner(free *Slots) worker.WorkerTuner {
	t, err := worker.NewCompositeTuner(worker.CompositeTunerOptions{
		WorkflowSlotSupplier: free, ActivitySlotSupplier: fixed(slots), LocalActivitySlotSupplier: fixed(slots),
		NexusSlotSupplier: fixed(slots), SessionActivitySlotSupplier: fixed(slots),
	})
	if err != nil {
		panic(err) // nothing of it depends on a setting
	}
	return t
}

func fixed(n int) worker.SlotSupplier {
	s, err := worker.NewFixedSizeSlotSupplier(n)
	if err != nil {
		panic(err) // the number is a constant
	}
	return s
}
