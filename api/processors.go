package api

import (
	"context"
	"runtime"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/turns"
)

// smallWork is the largest body whose request waits for no processor, in bytes: decoding it, or
// making a preview of it, takes some milliseconds.
const smallWork = 16 << 10

// newProcessors lets three quarters of the processors that the process may use work on requests
// of more than smallWork, one at least, customers in turn. The rest is left for logins and for small
// requests: Go gives all goroutines that want a processor the same share of it.
func newProcessors() *turns.Turns { return &turns.Turns{AtOnce: max(1, runtime.GOMAXPROCS(0)*3/4)} }

var errNoProcessor = email.Fail(email.CodeUnavailable, "too many large requests are being worked on; try again")

// compute runs what takes a processor for long, with a request's n bytes or more, when it is the
// turn of its customer. It must not wait for clients nor Postgres.
func compute[T any](c *gin.Context, n int64, do func() (T, error)) (T, error) {
	if n <= smallWork {
		return do()
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), turnWait)
	defer cancel()
	done, err := budgetOf(c).processors.Acquire(ctx, shareOf(c))
	if err != nil {
		var none T
		return none, errNoProcessor
	}
	defer done()
	return do()
}
