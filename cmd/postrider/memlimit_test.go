package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/httpserver"
)

// Not parallel: it changes the limit of the process.
func TestLimitMemory(t *testing.T) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		t.Skip("GOMEMLIMIT is set")
	}
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))

	heap := limitMemory(log, memlimit.Limit(512<<20))
	require.EqualValues(t, 456340275, heap)
	require.Equal(t, heap, debug.SetMemoryLimit(-1))
	require.Contains(t, out.String(), "memory.limited")

	none := limitMemory(log, func() (uint64, error) { return 0, memlimit.ErrNoLimit })
	require.EqualValues(t, math.MaxInt64, none)

	out.Reset()
	require.EqualValues(t, math.MaxInt64, limitMemory(log, func() (uint64, error) { return 0, memlimit.ErrCgroupsNotSupported }))
	require.Empty(t, out.String(), "most systems other than Linux have none")
	require.EqualValues(t, math.MaxInt64, limitMemory(log, func() (uint64, error) { return 0, errors.New("odd") }))
	require.Contains(t, out.String(), "memory.unlimited")

	t.Setenv("GOMEMLIMIT", "100MiB")
	require.EqualValues(t, math.MaxInt64, limitMemory(log, memlimit.Limit(512<<20)), "the runtime has read its own setting")
}

// TestDivide: what all parts take at once, the largest request too, in
// containers of 512 MB and more.
func TestDivide(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	cfg := config.Config{InboundListen: ":25", InboundMaxConnections: 200}
	for _, tc := range []struct {
		container                   int64
		requests, inbound           int64
		connections, hashes         int
		withWorker, large, atWorker int64
	}{
		{512 * mb, 85 * mb, 13 * mb, 1160, 1, 42 * mb, 8 * mb, 63 * mb},
		{1024 * mb, 256 * mb, 27 * mb, 2321, 2, 187 * mb, 37 * mb, 139 * mb},
		{2048 * mb, 256 * mb, 54 * mb, 4096, 2, 256 * mb, 110 * mb, 256 * mb},
		{8192 * mb, 256 * mb, 64 * mb, 4096, 2, 256 * mb, 256 * mb, 256 * mb},
	} {
		heap := int64(float64(tc.container) * heapRatio)
		serve := divide(heap, cfg, config.Serve)
		name := fmt.Sprintf("%d MB", tc.container/mb)
		assert.Equal(t, tc.requests/mb, serve.requests/mb, name)
		assert.Equal(t, tc.inbound/mb, serve.inbound/mb, name)
		assert.Equal(t, tc.connections, serve.connections, name)
		assert.Equal(t, tc.hashes, serve.hashes, name)
		sum := restBytes + api.LargestRequest + serve.requests + 2*serve.inbound + 200*smtpBytes + int64(serve.connections)*httpserver.ConnectionBytes + int64(serve.hashes)*hashBytes
		require.LessOrEqual(t, sum, heap, name)

		both := divide(heap, cfg, config.ServeWorker)
		assert.Equal(t, tc.withWorker/mb, both.requests/mb, name)
		assert.Equal(t, tc.large/mb, both.large/mb, name)
		// A larger message is made as a request is that is alone.
		require.LessOrEqual(t, sum-serve.requests+both.requests+both.large*sentTimes, heap, name)

		worker := divide(heap, cfg, config.Worker)
		assert.Equal(t, tc.atWorker/mb, worker.large/mb, name)
		require.LessOrEqual(t, restBytes+int64(worker.connections)*httpserver.ConnectionBytes+worker.large*sentTimes, heap, name)
	}
	none := divide(math.MaxInt64, cfg, config.ServeWorker)
	require.Equal(t, memory{requests: 256 * mb, inbound: 64 * mb, connections: 4096, hashes: 2, large: 256 * mb}, none)
	none.requests = 0
	set := config.Config{RequestMemoryBytes: 5, InboundMemoryBytes: 6}
	none.fill(&set)
	require.Equal(t, config.Config{RequestMemoryBytes: 5, InboundMemoryBytes: 6}, set, "settings go before it")
}
