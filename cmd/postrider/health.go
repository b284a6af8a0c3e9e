package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

const (
	// probeTimeout is longer than the 3 s that a process takes to answer that it is not ready.
	probeTimeout = 4 * time.Second
	// maxProbeBytes bounds the answer that is read.
	maxProbeBytes = 64 << 10
)

// probeReason is the reason in an answer of a worker's port, or the detail in one of the API.
// It is empty if the answer has neither.
func probeReason(body []byte) string {
	var answer struct {
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "" // another program answers on this port; the error has its status
	}
	return cmp.Or(answer.Reason, answer.Detail)
}

// healthCommand is for the health check of a container: the image has no other HTTP client.
func healthCommand() *cobra.Command {
	var worker, ready bool
	cmd := &cobra.Command{
		Use: "health", Short: "Check the health of this machine's postrider process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, path := cmp.Or(os.Getenv("POSTRIDER_LISTEN"), ":8080"), "/healthz"
			if worker {
				addr = cmp.Or(os.Getenv("POSTRIDER_HEALTH_LISTEN"), ":8081")
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
			client := http.Client{Timeout: probeTimeout}
			res, err := client.Do(req)
			if err != nil {
				return err
			}
			if res.StatusCode == http.StatusOK {
				return res.Body.Close()
			}
			body, err := io.ReadAll(io.LimitReader(res.Body, maxProbeBytes))
			if err := errors.Join(err, res.Body.Close()); err != nil {
				return fmt.Errorf("%s: %s: read the answer: %w", path, res.Status, err)
			}
			if why := probeReason(body); why != "" {
				return fmt.Errorf("%s: %s: %s", path, res.Status, why)
			}
			return errors.New(path + ": " + res.Status)
		},
	}
	cmd.Flags().BoolVar(&worker, "worker", false, "ask a worker, at POSTRIDER_HEALTH_LISTEN")
	cmd.Flags().BoolVar(&ready, "ready", false, "check that it can work, not only that it answers")
	return cmd
}
