package api

import (
	"runtime"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/turns"
)

// smallWork is the largest input that compute processes at once, in bytes. That takes a few
// milliseconds.
const smallWork = 16 << 10

// newProcessors limits concurrent work on inputs of more than smallWork to three quarters of
// GOMAXPROCS, at least one. Customers take turns. The other processors are for logins and small
// requests: Go's scheduler would give each goroutine the same share.
func newProcessors() *turns.Turns { return &turns.Turns{AtOnce: max(1, runtime.GOMAXPROCS(0)*3/4)} }

var errNoProcessor = email.Fail(email.CodeUnavailable, "too many large requests are being processed; try again")

// previewWork is the least work of a preview, as n of compute: rendering and checking some HTML
// takes much longer than decoding it, so each preview waits for a processor.
const previewWork = smallWork + 1

// compute calls do, which uses a processor for an input of n bytes, when the request's customer has
// a turn. do must not wait for clients or Postgres. Without a turn (see awaitTurn) compute returns
// errNoProcessor.
func compute[T any](c *gin.Context, n int64, do func() (T, error)) (T, error) {
	if n <= smallWork {
		return do()
	}
	done, ok := awaitTurn(c, budgetOf(c).processors)
	if !ok {
		var none T
		return none, errNoProcessor
	}
	defer done()
	return do()
}
