// Command postrider is the whole product in one binary: the API, the worker, migrations and the
// commands for operators. `postrider dev` also starts Postgres, Temporal and an inbox. Each
// subcommand has a file.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/sendcli"
)

// version is set by the build.
var version = "dev"

func main() {
	// After the first signal, SIGINT ends the process at once. Another SIGTERM does nothing: a
	// supervisor that passes it on, and a process group that gets it too, send two.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) })
	err := root().ExecuteContext(ctx)
	stop()
	if code, ok := errors.AsType[sendcli.ExitCode](err); ok {
		os.Exit(int(code))
	}
	if err != nil {
		text := message(err)
		if errors.Is(err, context.Canceled) {
			text = "interrupted before it was done"
		}
		fmt.Fprintln(os.Stderr, "postrider: "+text)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "postrider",
		Short:         "Durable e-mail: an API in front, a Temporal workflow behind every message",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(devCommand(), serveCommand(), workerCommand(), migrateCommand(),
		sendcli.Command(), customerCommand(), userCommand(), keyCommand(), domainCommand(), suppressionCommand(),
		pauseCommand(), unpauseCommand(), pausesCommand(), holdCommand(), resumeCommand(), cancelCommand(),
		secretCommand(), healthCommand())
	refuseUnknown(cmd)
	return cmd
}

// message is the text of an error for an operator: the detail of an *email.Failure, or the
// text of any other error.
func message(err error) string {
	if f, ok := errors.AsType[*email.Failure](err); ok {
		if f.Err != nil {
			return fmt.Sprintf("%s (%v)", f.Detail, f.Err)
		}
		return f.Detail
	}
	return err.Error()
}

// refuseUnknown makes each command that only groups others refuse an unknown subcommand. Cobra
// would print the help and exit with 0, and a script would not notice.
func refuseUnknown(cmd *cobra.Command) {
	for _, group := range cmd.Commands() {
		refuseUnknown(group)
		if group.Runnable() || !group.HasSubCommands() {
			continue
		}
		group.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return fmt.Errorf("there is no command %q in %q; see %s --help", args[0], c.CommandPath(), c.CommandPath())
		}
	}
}
