package api

import (
	"cmp"
	"runtime"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/turns"
)

// The classes of work that uses a processor, by the size of the input in bytes.
const (
	// smallWork is the largest input of the first class. It takes a few milliseconds.
	smallWork = 16 << 10
	// mediumWork is the largest input of the second class. It takes some tens of milliseconds.
	mediumWork = 256 << 10
)

// processors limits concurrent work, by class. Customers take turns within a class, and no class
// waits for another: a mail of 20 KiB does not wait for one of 20 MiB.
type processors struct {
	// small is for inputs of up to smallWork. It lets many work at once, and bounds the memory that
	// their work takes besides what they have reserved.
	small *turns.Turns
	// medium is for inputs of up to mediumWork: one at a time for each four processors.
	medium *turns.Turns
	// large is for larger inputs, on three quarters of the processors. The others are for logins
	// and smaller requests: Go's scheduler would give each goroutine the same share.
	large *turns.Turns
}

// smallAtOnce is how many small inputs are worked on at once.
const smallAtOnce = 64

// newProcessors uses the Turns of opts, where they are set. GOMAXPROCS is the number of processors.
func newProcessors(opts Options) processors {
	n := runtime.GOMAXPROCS(0)
	return processors{
		small:  &turns.Turns{AtOnce: smallAtOnce},
		medium: cmp.Or(opts.MediumProcessors, &turns.Turns{AtOnce: max(1, n/4)}),
		large:  cmp.Or(opts.Processors, &turns.Turns{AtOnce: max(1, n*3/4)}),
	}
}

// class returns what an input of n bytes waits for, and how many requests of a customer may wait.
func (p processors) class(n int64) (t *turns.Turns, maxWaiting int) {
	switch {
	case n <= smallWork:
		return p.small, maxWaitingReservations
	case n <= mediumWork:
		return p.medium, maxWaitingTurns
	}
	return p.large, maxWaitingTurns
}

var errNoProcessor = email.Fail(email.CodeUnavailable, "too many large requests are being processed; try again")

// The least work of some requests, as n of compute.
const (
	// previewWork: rendering and checking some HTML takes much longer than decoding it.
	previewWork = smallWork + 1
	// batchWork: a batch of more than smallWork may make many times as much text of its template.
	batchWork = mediumWork + 1
)

// compute calls do, which uses a processor for an input of n bytes, when the request's customer has
// a turn. do must not wait for clients or Postgres. Without a turn (see awaitTurn) compute returns
// errNoProcessor.
func compute[T any](c *gin.Context, n int64, do func() (T, error)) (T, error) {
	t, maxWaiting := budgetOf(c).processors.class(n)
	done, ok := awaitTurn(c, t, maxWaiting)
	if !ok {
		var none T
		return none, errNoProcessor
	}
	defer done()
	return do()
}
