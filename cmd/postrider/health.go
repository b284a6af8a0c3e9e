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
	// probeTimeout is longer than a process takes to say why it is not ready (3 s).
	probeTimeout = 4 * time.Second
	// maxProbeBytes is how much of an answer is read.
	maxProbeBytes = 64 << 10
)

// probeReason is what an answer says of itself: the reason of a worker's port, or the
// detail of the API's problem. It is empty if the answer has neither.
func probeReason(body []byte) string {
	var said struct {
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return "" // another program answers there; its status is in the error
	}
	return cmp.Or(said.Reason, said.Detail)
}

// healthCommand is what a container's health check runs: the image holds no
// other program that could ask.
func healthCommand() *cobra.Command {
	var worker, ready bool
	cmd := &cobra.Command{
		Use: "health", Short: "Ask this machine's postrider process whether it is well", Args: cobra.NoArgs,
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
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it can work, not only whether it answers")
	return cmd
}
