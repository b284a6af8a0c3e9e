package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/require"
)

// Not parallel: it changes the limit of the process.
func TestAContainersMemoryBoundsTheHeap(t *testing.T) {
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
	require.EqualValues(t, 199648869, requestMemory(heap), "190 MiB of 512")

	require.EqualValues(t, 37<<20, largeMemory(heap, requestMemory(heap))>>20<<20, "of serve --worker")
	require.EqualValues(t, 84<<20, largeMemory(heap, 0)>>20<<20, "of a worker")
	require.EqualValues(t, 8<<20, largeMemory(128<<20, 64<<20), "one at a time")

	none := limitMemory(log, func() (uint64, error) { return 0, memlimit.ErrNoLimit })
	require.EqualValues(t, math.MaxInt64, none)
	require.EqualValues(t, 256<<20, requestMemory(none))
	require.EqualValues(t, 256<<20, largeMemory(none, requestMemory(none)))

	out.Reset()
	require.EqualValues(t, math.MaxInt64, limitMemory(log, func() (uint64, error) { return 0, memlimit.ErrCgroupsNotSupported }))
	require.Empty(t, out.String(), "most systems other than Linux have none")
	require.EqualValues(t, math.MaxInt64, limitMemory(log, func() (uint64, error) { return 0, errors.New("odd") }))
	require.Contains(t, out.String(), "memory.unlimited")

	t.Setenv("GOMEMLIMIT", "100MiB")
	require.EqualValues(t, math.MaxInt64, limitMemory(log, memlimit.Limit(512<<20)), "the runtime has read its own setting")
}
