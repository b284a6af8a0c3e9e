package dispatch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestASweepThatFailsIsLoggedOnce: not at each interval, but again after it has worked and
// when it fails otherwise.
func TestASweepThatFailsIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := &Dispatcher{log: slog.New(slog.NewTextHandler(&log, nil))}
		old, other := errors.New("schema is older"), errors.New("gone")
		results := []error{old, old, old, other, other, nil, other, other}
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		d.every(ctx, time.Second, func(context.Context) error {
			if n++; n == len(results) {
				defer cancel()
			}
			return results[n-1]
		})
		require.Equal(t, len(results), n)
		require.Equal(t, 3, strings.Count(log.String(), "dispatch.sweep"), log.String())
		require.Equal(t, 1, strings.Count(log.String(), "schema is older"))
	})
}
