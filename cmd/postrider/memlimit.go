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

// heapRatio is the part of a container's memory that Go's heap may use. The rest is for the
// program itself and the kernel's buffers.
const heapRatio = 0.85

// limitMemory sets the garbage collector's memory limit to that of the container (cgroup v1 or
// v2). Without a limit, garbage may grow to the size of the live heap. GOMEMLIMIT in the
// environment overrides the container's limit; AUTOMEMLIMIT=off sets none. It returns the limit
// in bytes, or math.MaxInt64 if there is none or it cannot be read.
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

// memory is how the heap of a process is divided. All parts together fit into the heap.
type memory struct {
	// requests is the default of POSTRIDER_REQUEST_MEMORY_BYTES, inbound that of
	// POSTRIDER_INBOUND_MEMORY_BYTES.
	requests, inbound int64
	// connections is the limit of the API's port. hashes is how many passwords are hashed at
	// the same time.
	connections, hashes int
	// large bounds the large messages that are being sent, by their size before encoding. A
	// larger one is sent without others.
	large int64
}

// The memory that the parts need, in bytes.
const (
	// restBytes is for everything else: the program itself, small requests, runs, webhooks, and
	// connections to Postgres, Temporal and relays.
	restBytes = 64 << 20
	// hashBytes is for hashing one password.
	hashBytes = 64 << 20
	// smtpBytes is for one connection of a client that sends a message.
	smtpBytes = 64 << 10
	// sentTimes is how many times its size a large message needs while it is loaded, encoded
	// and sent. Text of short lines needs that much.
	sentTimes = 5
	// leastLarge is the least that large messages have.
	leastLarge = 8 << 20
	// leastRequests is the least that requests have.
	leastRequests = 32 << 20
)

// divide divides a heap among the parts of a process.
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

// fill sets the settings that the environment does not give.
func (m memory) fill(cfg *config.Config) {
	cfg.RequestMemoryBytes = cmp.Or(cfg.RequestMemoryBytes, m.requests)
	cfg.InboundMemoryBytes = cmp.Or(cfg.InboundMemoryBytes, m.inbound)
}

// others is the memory of all parts except the requests' shared budget and the worker.
func (m memory) others(cfg config.Config) int64 {
	n := int64(restBytes+api.LargestRequest) + int64(m.connections)*httpserver.ConnectionBytes + int64(m.hashes)*hashBytes
	if cfg.InboundListen != "" {
		n += 2*m.inbound + int64(cfg.InboundMaxConnections)*smtpBytes
	}
	return n
}

func clamp(n, least, most int64) int64 { return max(least, min(n, most)) }
