package worker

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// The numbers a worker is tuned by.
const (
	// localSlots, taskSlots and activitySlots are how many local activities,
	// workflow tasks and activities run at once.
	taskSlots     = 200
	localSlots    = 200
	activitySlots = 200
)

// options of the SDK's worker.
func (o Options) options() worker.Options {
	out := worker.Options{
		WorkerStopTimeout:                       o.DrainTimeout,
		MaxConcurrentWorkflowTaskExecutionSize:  taskSlots,
		MaxConcurrentLocalActivityExecutionSize: localSlots,
		MaxConcurrentActivityExecutionSize:      activitySlots,
		WorkflowTaskPollerBehavior:              pollers(5, 2, 50),
		ActivityTaskPollerBehavior:              pollers(2, 1, 20),
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

func pollers(initial, least, most int) worker.PollerBehavior {
	return worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{
		InitialNumberOfPollers: initial, MinimumNumberOfPollers: least, MaximumNumberOfPollers: most,
	})
}
