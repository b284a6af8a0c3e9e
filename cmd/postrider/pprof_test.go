package main

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/config"
)

func TestProfiler(t *testing.T) {
	t.Parallel()
	addr := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ctx, s := newServices(ctx)
	require.NoError(t, (&app{cfg: config.Config{PprofListen: addr}}).profiler(ctx, s))
	res, err := http.Get("http://" + addr + "/debug/pprof/cmdline")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Error(t, (&app{cfg: config.Config{PprofListen: addr}}).profiler(ctx, s), "the port is taken")
	stop()
	require.NoError(t, s.wait())
	late, err := http.Get("http://" + addr + "/debug/pprof/cmdline")
	if err == nil {
		require.NoError(t, late.Body.Close())
	}
	require.Error(t, err, "the profiler ends with its process")
}
