// Package program runs one workflow of an example, with its worker in the same
// process, so that each example is a command that can be tried.
package program

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/worker"
)

// TaskQueue is the examples' own: SendEmail runs on Postrider's, wherever its workers
// are.
const TaskQueue = "postrider-examples"

// Run starts a workflow under an id, waits for its result, and prints it. Temporal is
// found as the environment says (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE …).
func Run(id string, workflow, in any, activities ...any) {
	c, err := temporal.Dial(envconfig.MustLoadDefaultClientOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w := worker.New(c, TaskQueue, worker.Options{})
	w.RegisterWorkflow(workflow)
	for _, a := range activities {
		w.RegisterActivity(a)
	}
	if err := w.Start(); err != nil {
		log.Fatal(err)
	}
	defer w.Stop()
	run, err := c.ExecuteWorkflow(context.Background(), temporal.StartWorkflowOptions{ID: id, TaskQueue: TaskQueue}, workflow, in)
	if err != nil {
		log.Fatal(err)
	}
	var result json.RawMessage
	if err := run.Get(context.Background(), &result); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(result))
}
