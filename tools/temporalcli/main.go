// Command temporalcli prints the path of the Temporal CLI that dev and the tests
// use, and builds it first if it must: `make temporal` runs it, so that the
// minutes of a first build are a step of their own.
//
//	temporalcli MODULE CACHE
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/postrider/postrider/internal/devstack"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: temporalcli MODULE CACHE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	path, err := devstack.TemporalCLI(ctx, os.Args[1], os.Args[2], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "temporalcli:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}
