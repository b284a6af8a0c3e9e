package inbound

import (
	"context"
	"runtime"

	"golang.org/x/time/rate"

	"github.com/postrider/postrider/internal/turns"
)

// pace bounds how fast the server reads messages, so that clients that send at full speed
// leave the processors and the disk to everything else. The bytes that were read are paid for
// before more is read of the same connection:
//
//  1. a connection reads each bytes a second at most;
//  2. all of them together read total bytes a second at most. Addresses that wait for it take
//     turns, however many connections each of them has.
//
// Meanwhile what a client sends stays in its kernel and ours: TCP slows it down.
type pace struct {
	turns turns.Turns
	total *rate.Limiter
	each  rate.Limit
}

// Rates of reading messages, in bytes a second. A processor reads and writes to a file some
// 200 MiB a second: totalRate for each of them takes a tenth of it.
const (
	eachRate  = 8 << 20
	totalRate = 16 << 20
)

// readBytes is the buffer of a connection: the most that is read of a message at once. A
// chunk of BDAT is read by paidBytes at most. Both rates allow that much at once.
const (
	readBytes = 16 << 10
	paidBytes = 64 << 10
)

func newPace(cfg Config) *pace {
	return &pace{total: rate.NewLimiter(rate.Limit(cfg.TotalRate), paidBytes), each: rate.Limit(cfg.EachRate)}
}

// connection is the limiter of a new connection.
func (p *pace) connection() *rate.Limiter { return rate.NewLimiter(p.each, paidBytes) }

// pay waits until a connection may read again, which has read n bytes, paidBytes at most.
// It fails where ctx ends first.
func (p *pace) pay(ctx context.Context, own *rate.Limiter, address string, n int) error {
	if n == 0 {
		return nil
	}
	if err := own.WaitN(ctx, n); err != nil {
		return err
	}
	done, err := p.turns.Acquire(ctx, address)
	if err != nil {
		return err
	}
	defer done()
	return p.total.WaitN(ctx, n)
}

// defaultTotalRate is totalRate for each processor that the process may use.
func defaultTotalRate() int64 { return totalRate * int64(runtime.GOMAXPROCS(0)) }
