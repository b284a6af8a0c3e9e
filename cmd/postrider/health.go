package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// healthCommand is what a container's health check runs: the image holds no
// other program that could ask.
func healthCommand() *cobra.Command {
	var worker, ready bool
	cmd := &cobra.Command{
		Use: "health", Short: "Ask this machine's postrider process whether it is well", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, path := envOr("POSTRIDER_LISTEN", ":8080"), "/healthz"
			if worker {
				addr = envOr("POSTRIDER_HEALTH_LISTEN", ":8081")
			}
			if ready {
				path = "/readyz"
			}
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return fmt.Errorf("listen address %q: %w", addr, err)
			}
			if host == "" || net.ParseIP(host).IsUnspecified() {
				host = "127.0.0.1"
			}
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
			if err != nil {
				return err
			}
			client := http.Client{Timeout: 3 * time.Second}
			res, err := client.Do(req)
			if err != nil {
				return err
			}
			if err := res.Body.Close(); err != nil {
				return err
			}
			if res.StatusCode != http.StatusOK {
				return errors.New(path + ": " + res.Status)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&worker, "worker", false, "ask a worker, at POSTRIDER_HEALTH_LISTEN")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it can work, not only whether it answers")
	return cmd
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
