package api

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An owner may have maxWaitingQuota calls that wait. Others are not concerned.
func TestQuotaBoundsWaitingCalls(t *testing.T) {
	t.Parallel()
	q := newQuota(300)
	_, err := q.acquire(t.Context(), "a", 100)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	for range maxWaitingQuota {
		go func() {
			_, err := q.acquire(ctx, "a", 100)
			waited <- err
		}()
	}
	require.Eventually(t, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.waitingOf("a") == maxWaitingQuota
	}, time.Minute, time.Millisecond)
	_, err = q.acquire(ctx, "a", 100)
	require.ErrorIs(t, err, errTooManyWait)
	_, err = q.acquire(ctx, "b", 50)
	require.NoError(t, err)
	cancel()
	for range maxWaitingQuota {
		require.ErrorIs(t, <-waited, context.Canceled)
	}
}
