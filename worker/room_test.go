package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStartsWaitForRoom(t *testing.T) {
	t.Parallel()
	r := newRoom(roomFor)
	r.Await(t.Context())
	taken := r.TryReserveSlot(nil)
	require.NotNil(t, taken)
	waited := make(chan time.Duration)
	begin := time.Now()
	go func() {
		r.Await(t.Context())
		waited <- time.Since(begin)
	}()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.freed != nil
	}, 5*time.Second, time.Millisecond, "it waits")
	r.ReleaseSlot(nil)
	require.Less(t, <-waited, roomWait, "it goes on when there is room")

	for range roomFor {
		require.NotNil(t, r.TryReserveSlot(nil))
	}
	require.Nil(t, r.TryReserveSlot(nil), "no more than there are")
	begin = time.Now()
	r.Await(t.Context())
	require.GreaterOrEqual(t, time.Since(begin), roomWait, "but not for ever")
}
