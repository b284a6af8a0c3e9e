// Package program runs one workflow of an example, with its worker in the same process.
// So each example is a command that can be tried.
package program

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"

	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
)

// Run starts a workflow under an id, waits for its result, and prints it. Its task
// queue is its own: SendEmail runs on Postrider's, where Postrider's workers are. Temporal
// is found as the environment says (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE …).
func Run(queue, id string, workflow, in any, activities ...any) {
	opts := envconfig.MustLoadDefaultClientOptions()
	opts.Logger = sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	c, err := temporal.Dial(opts)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(workflow)
	for _, a := range activities {
		w.RegisterActivity(a)
	}
	if err := w.Start(); err != nil {
		log.Fatal(err)
	}
	defer w.Stop()
	run, err := c.ExecuteWorkflow(context.Background(), temporal.StartWorkflowOptions{ID: id, TaskQueue: queue}, workflow, in)
	if err != nil {
		log.Fatal(err)
	}
	var result json.RawMessage
	if err := run.Get(context.Background(), &result); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(result))
}
