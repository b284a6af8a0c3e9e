package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dispatch"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring Postgres and Temporal to this version's schema"}
	var skipTemporal bool
	up := &cobra.Command{
		Use: "up", Short: "Apply what is missing: Postgres first, Temporal's search attributes second", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Migrate)
			if err != nil {
				return err
			}
			if err := db.MigrateUp(cmd.Context(), cfg.DatabaseURL.Reveal()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "postgres: up to date")
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
	down := &cobra.Command{
		Use: "down", Short: "Take back the newest group of Postgres migrations, with the data in their tables", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Migrate)
			if err != nil {
				return err
			}
			return db.MigrateDown(cmd.Context(), cfg.DatabaseURL.Reveal())
		},
	}
	status := &cobra.Command{
		Use: "status", Short: "List the migrations and when each was applied", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Migrate)
			if err != nil {
				return err
			}
			ms, err := db.MigrationStatus(cmd.Context(), cfg.DatabaseURL.Reveal())
			if err != nil {
				return err
			}
			for _, m := range ms {
				when := "not applied"
				if !m.AppliedAt.IsZero() {
					when = "applied " + m.AppliedAt.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-24s %s\n", m.Name, when)
			}
			return nil
		},
	}
	cmd.AddCommand(up, down, status)
	return cmd
}
