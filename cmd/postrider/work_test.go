package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/config"
)

func TestDrainWorkerWaits(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, timeout time.Duration, drain func(context.Context) error, stop func()) string {
		t.Helper()
		var log strings.Builder
		a := &app{log: slog.New(slog.NewTextHandler(&log, nil)), cfg: config.Config{DrainTimeout: timeout}, drain: drain}
		a.drainWorker(t.Context(), stop)
		return log.String()
	}
	drained := func(context.Context) error { return nil }
	t.Run("until both have ended", func(t *testing.T) {
		t.Parallel()
		ended := false
		log := run(t, time.Hour, drained, func() { ended = true })
		require.True(t, ended)
		require.NotContains(t, log, "worker.drained")
	})
	t.Run("at most the timeout, and for the SDK a little longer", func(t *testing.T) {
		t.Parallel()
		never := make(chan struct{})
		defer close(never)
		log := run(t, time.Millisecond, func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("1 exchange is open")
		}, func() { <-never })
		require.Contains(t, log, "1 exchange is open")
		require.Contains(t, log, "activities still run")
	})
	t.Run("what ends in that little time is waited for", func(t *testing.T) {
		t.Parallel()
		log := run(t, time.Millisecond, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}, func() {})
		require.NotContains(t, log, "activities still run")
	})
}
