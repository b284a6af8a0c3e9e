package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newSlotsWith makes slots on which Await waits for so long.
func newSlotsWith(patience time.Duration) *Slots {
	s := newSlots(freeForStarts)
	s.patience = patience
	return s
}

func TestSlotsAwait(t *testing.T) {
	t.Parallel()
	t.Run("a start waits until enough slots are free", func(t *testing.T) {
		t.Parallel()
		s := newSlotsWith(time.Hour)
		s.Await(t.Context())
		require.NotNil(t, s.TryReserveSlot(nil))
		went := make(chan struct{})
		go func() {
			s.Await(t.Context())
			close(went)
		}()
		require.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.freed != nil
		}, time.Minute, time.Millisecond, "it waits")
		s.ReleaseSlot(nil)
		<-went
	})
	t.Run("without free slots it goes on after its patience", func(t *testing.T) {
		t.Parallel()
		s := newSlotsWith(time.Millisecond)
		for range freeForStarts {
			require.NotNil(t, s.TryReserveSlot(nil))
		}
		require.Nil(t, s.TryReserveSlot(nil), "no more than there are")
		s.Await(t.Context())
	})
}
