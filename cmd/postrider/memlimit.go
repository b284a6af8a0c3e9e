package main

import (
	"errors"
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/api"
)

// heapRatio is how much of a container's memory Go's garbage collector may let the heap
// grow to. The rest is for goroutine stacks and the kernel's buffers.
const heapRatio = 0.85

// limitMemory tells the garbage collector the limit of the container (cgroup v1 or v2)
// that the process runs in: without it, garbage may grow to as much as is in use. GOMEMLIMIT
// in the environment overrides the container's limit; AUTOMEMLIMIT=off sets none. It returns
// the limit in bytes, math.MaxInt64 if there is none or it cannot be read.
func limitMemory(log *slog.Logger, container memlimit.Provider) int64 {
	limit, err := memlimit.Set(memlimit.WithProvider(container), memlimit.WithRatio(heapRatio))
	switch {
	case errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
	case err != nil:
		log.Warn("memory.unlimited", "error", err, "advice", "set GOMEMLIMIT if the memory of this process is limited")
	case limit < math.MaxInt64:
		log.Info("memory.limited", "heap_bytes", limit)
	}
	return limit
}

// requestMemory is what requests and answers may hold, in bytes, where no setting says
// it: the API's default, but at most 7/16 of the heap, because garbage
// can double what is in use until it is collected.
func requestMemory(heap int64) int64 { return min(api.DefaultMemoryBytes, heap/16*7) }

// largeMemory is what large messages that are being sent may have together, in bytes before
// they are encoded: a quarter of what requests and restOfHeap leave of the heap, because
// sending a message takes about four times its size. 8 MiB is the least; larger messages are
// then sent one at a time.
func largeMemory(heap, requests int64) int64 {
	return min(activities.DefaultLargeBytes, max(8<<20, (heap-requests-restOfHeap)/4))
}

// restOfHeap is for all that is neither a request nor a large message, in bytes.
const restOfHeap = 96 << 20
