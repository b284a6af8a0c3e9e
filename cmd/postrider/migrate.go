package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dispatch"
	"github.com/postrider/postrider/internal/plaintext"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring Postgres and Temporal to this version's schema"}
	cmd.AddCommand(migrateUpCommand(), migrateDownCommand(), migrateStatusCommand())
	return cmd
}

func migrateUpCommand() *cobra.Command {
	var skipTemporal bool
	up := &cobra.Command{
		Use: "up", Short: "Apply the missing migrations: Postgres first, Temporal's search attributes second", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Migrate)
			if err != nil {
				return err
			}
			if err := migratePostgres(cmd.Context(), cmd.OutOrStdout(), cfg.DatabaseURL.Reveal()); err != nil {
				return err
			}
			if skipTemporal {
				return nil
			}
			client, namespace, err := temporalClient(newLog(cmd.ErrOrStderr(), cfg.LogLevel), nil)
			if err != nil {
				return err
			}
			defer client.Close()
			if err := dispatch.EnsureSearchAttributes(cmd.Context(), client, namespace); err != nil {
				return fmt.Errorf("temporal: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "temporal: search attributes in namespace %s are up to date\n", namespace)
			return nil
		},
	}
	up.Flags().BoolVar(&skipTemporal, "skip-temporal", false, "leave Temporal's search attributes alone")
	return up
}

// migratePostgres applies the missing migrations and lists them. An operator who has named the
// wrong database sees that a new schema was created.
func migratePostgres(ctx context.Context, out io.Writer, databaseURL string) error {
	applied, err := db.MigrateUp(ctx, databaseURL)
	for _, m := range applied {
		fmt.Fprintf(out, "postgres: applied %s\n", m.Name)
	}
	if err != nil {
		return err
	}
	switch {
	case len(applied) == 0:
		fmt.Fprintln(out, "postgres: up to date, nothing was applied")
	case applied[0].Step == 1:
		fmt.Fprintf(out, "postgres: up to date; the database held no schema of postrider, %s made it\n", plaintext.Count(len(applied), "migration", "migrations"))
	default:
		fmt.Fprintf(out, "postgres: up to date, applied: %s\n", plaintext.Count(len(applied), "migration", "migrations"))
	}
	return nil
}

func migrateDownCommand() *cobra.Command {
	var yes bool
	down := &cobra.Command{
		Use: "down", Short: "Take back the newest Postgres migration, one step, and delete the data in its tables and columns", Args: cobra.NoArgs,
		Long: `Takes back the newest applied migration, one step, and deletes the data in the
tables and columns that it made. It says first what that is. Without
--yes-delete-data, or while an e-mail is not finished, nothing is changed.
To return to an earlier state restore a backup instead.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Migrate)
			if err != nil {
				return err
			}
			ctx, out, url := cmd.Context(), cmd.OutOrStdout(), cfg.DatabaseURL.Reveal()
			plan, err := db.PlanDown(ctx, url)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s, step %d, applied %s\n", plan.Name, plan.Step, plan.AppliedAt.Format(time.RFC3339))
			printLosses(out, "taking it back deletes:", plan.Losses)
			switch {
			case plan.Unfinished > 0:
				return fmt.Errorf("nothing was changed: %d e-mails are not finished: %w", plan.Unfinished, db.ErrUnfinished)
			case !yes:
				return errors.New("nothing was changed: if all this may be deleted, run it again with --yes-delete-data; to return to an earlier state restore a backup of Postgres")
			}
			done, err := db.MigrateDown(ctx, url, plan.Name)
			if err != nil {
				return fmt.Errorf("nothing was changed: %w", err)
			}
			printLosses(out, "taken back; deleted:", done.Losses)
			return nil
		},
	}
	down.Flags().BoolVar(&yes, "yes-delete-data", false, "delete what the command names")
	return down
}

func printLosses(out io.Writer, title string, losses []db.Loss) {
	fmt.Fprintln(out, title)
	if len(losses) == 0 {
		fmt.Fprintln(out, "  no data")
	}
	for _, l := range losses {
		rows := "rows"
		if l.Rows == 1 {
			rows = "row"
		}
		fmt.Fprintf(out, "  %-40s %d %s\n", l.What, l.Rows, rows)
	}
}

func migrateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "List the migrations, when each was applied, and as which step", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Migrate)
			if err != nil {
				return err
			}
			ms, err := db.MigrationStatus(cmd.Context(), cfg.DatabaseURL.Reveal())
			if err != nil {
				return err
			}
			newest := 0
			for _, m := range ms {
				newest = max(newest, m.Step)
			}
			for _, m := range ms {
				fmt.Fprintf(cmd.OutOrStdout(), "%-24s %s\n", m.Name, stepText(m, newest))
			}
			return nil
		},
	}
}

func stepText(m db.Migration, newest int) string {
	if m.Step == 0 {
		return "not applied"
	}
	text := fmt.Sprintf("applied %s  step %d", m.AppliedAt.Format(time.RFC3339), m.Step)
	if m.Unknown {
		text += ", by a newer version"
	}
	if m.Step == newest {
		text += ", the first that migrate down takes back"
	}
	return text
}
