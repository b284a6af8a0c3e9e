package main

import (
	"cmp"
	"errors"
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/httpserver"
)

// heapRatio is how much of a container's memory Go's garbage collector may let the heap
// grow to. The rest is for the program itself and the kernel's buffers.
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

// memory is how the heap of a process is divided. What is in use of all parts at once is
// no more than the heap.
type memory struct {
	// requests is POSTRIDER_REQUEST_MEMORY_BYTES, inbound POSTRIDER_INBOUND_MEMORY_BYTES,
	// where no setting says it.
	requests, inbound int64
	// connections of the API's port, hashes of passwords at once.
	connections, hashes int
	// large is what large messages that are being sent may have, before they are encoded; one
	// of them alone may have more.
	large int64
}

// What the parts take, in bytes.
const (
	// restBytes is for all that is none of them: what the program takes by itself, small requests,
	// runs, webhooks, and connections to Postgres, Temporal and relays.
	restBytes = 64 << 20
	// hashBytes is what hashing a password takes.
	hashBytes = 64 << 20
	// smtpBytes is what a connection of a client takes that sends a message.
	smtpBytes = 64 << 10
	// sentTimes is what a large message takes that is loaded, encoded and sent: text of short
	// lines five times its size.
	sentTimes = 5
	// leastLarge is what large messages have at least, of which one is sent at a time.
	leastLarge = 8 << 20
	// leastRequests is what requests have at least.
	leastRequests = 32 << 20
)

// divide says what each part of a process may have of a heap. Where it is small, all have
// less.
func divide(heap int64, cfg config.Config, use config.Use) memory {
	m := memory{connections: int(clamp(heap/8/httpserver.ConnectionBytes, 256, httpserver.MaxConnections)), large: activities.DefaultLargeBytes}
	if use == config.Worker { // its port is for probes
		m.large = clamp((heap-restBytes-int64(m.connections)*httpserver.ConnectionBytes)/sentTimes, leastLarge, activities.DefaultLargeBytes)
		return m
	}
	m.inbound, m.hashes = clamp(heap/32, 4<<20, 64<<20), int(clamp(heap/6/hashBytes, 1, 2))
	m.requests = heap - m.others(cfg)
	if use == config.ServeWorker {
		m.large = clamp(m.requests/2/sentTimes, leastLarge, activities.DefaultLargeBytes)
		m.requests -= m.large * sentTimes
	}
	m.requests = clamp(m.requests, leastRequests, api.DefaultMemoryBytes)
	return m
}

// fill sets what no setting says.
func (m memory) fill(cfg *config.Config) {
	cfg.RequestMemoryBytes = cmp.Or(cfg.RequestMemoryBytes, m.requests)
	cfg.InboundMemoryBytes = cmp.Or(cfg.InboundMemoryBytes, m.inbound)
}

// others is what all takes but the requests that share their part, and a worker.
func (m memory) others(cfg config.Config) int64 {
	n := int64(restBytes+api.LargestRequest) + int64(m.connections)*httpserver.ConnectionBytes + int64(m.hashes)*hashBytes
	if cfg.InboundListen != "" {
		n += 2*m.inbound + int64(cfg.InboundMaxConnections)*smtpBytes
	}
	return n
}

func clamp(n, least, most int64) int64 { return max(least, min(n, most)) }
