package inbound

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/spool"
)

// spoolMemory bounds what all messages that are received hold in memory.
//
//  1. A message is collected in a spool: in memory, then in a file.
//  2. To be stored, it is read into memory in one piece. For that it waits until the
//     messages that are being stored leave enough room, addresses in turn, or, where it is larger than what
//     they have together, until nothing else of its size is in memory (Config.Alone).
//
// Collecting takes at most MemoryBytes and a block for each connection; storing as many
// again, and one message if that is larger.
type spoolMemory struct {
	*spool.Pool
	storing *membudget.Budget
	room    int64 // of storing
	alone   func(ctx context.Context, owner string) (done func(), err error)
}

func newSpoolMemory(cfg Config) *spoolMemory {
	m := &spoolMemory{room: cfg.MemoryBytes, alone: cfg.Alone, Pool: spool.New(spool.Config{
		Name: "postrider-inbound", Dir: cfg.SpoolDir, MemoryBytes: cfg.MemoryBytes, DiskBytes: max(cfg.SpoolBytes, 2*cfg.MaxMessageBytes),
		DirSetting: "POSTRIDER_INBOUND_SPOOL_DIR", DiskSetting: "POSTRIDER_INBOUND_SPOOL_BYTES",
	})}
	if m.alone == nil {
		m.room = max(cfg.MemoryBytes, cfg.MaxMessageBytes)
	}
	m.storing = membudget.New(membudget.Options{Total: m.room})
	return m
}

// load returns a message in one piece, once there is room for it among those that are
// being stored; ctx bounds the wait. Until done is called it counts as such a one. The
// spool is empty afterwards.
func (m *spoolMemory) load(ctx context.Context, owner string, message *spool.Spool) (raw []byte, done func(), err error) {
	n := message.Size()
	if n > m.room && m.alone != nil {
		done, err = m.alone(ctx, owner)
	} else {
		n, err = m.storing.Acquire(ctx, owner, n)
		done = func() { m.storing.Release(owner, n) }
	}
	if err != nil {
		return nil, nil, fmt.Errorf("wait for memory for a message of %d bytes: %w", message.Size(), err)
	}
	if raw, err = message.Bytes(); err != nil {
		done()
		return nil, nil, err
	}
	return raw, done, nil
}
