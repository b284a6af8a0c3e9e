package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// newSlotsWith makes slots on which Await waits for so long.
func newSlotsWith(patience time.Duration) *Slots {
	s := newSlots(freeForBroadcast)
	s.patience = patience
	return s
}

// awaits waits for slots in the background; what it returns is closed when they are there.
func (s *Slots) awaits(t *testing.T, stream email.Stream) <-chan struct{} {
	t.Helper()
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.freed)
	}
	before, went := waiting(), make(chan struct{})
	go func() {
		s.Await(t.Context(), stream)
		close(went)
	}()
	require.Eventually(t, func() bool { return waiting() == before+1 }, time.Minute, time.Millisecond, "it waits")
	return went
}

func TestSlotsAwait(t *testing.T) {
	t.Parallel()
	t.Run("a start waits until enough slots are free", func(t *testing.T) {
		t.Parallel()
		s := newSlotsWith(time.Hour)
		s.Await(t.Context(), email.StreamBroadcast)
		require.NotNil(t, s.TryReserveSlot(nil))
		went := s.awaits(t, email.StreamBroadcast)
		s.ReleaseSlot(nil)
		<-went
	})
	t.Run("broadcast mail leaves slots to transactional mail", func(t *testing.T) {
		t.Parallel()
		s := newSlotsWith(time.Hour)
		for range freeForBroadcast - freeForUrgent {
			s.Await(t.Context(), email.StreamTransactional)
			require.NotNil(t, s.TryReserveSlot(nil))
		}
		broadcast := s.awaits(t, email.StreamBroadcast)
		s.Await(t.Context(), email.StreamTransactional)
		require.NotNil(t, s.TryReserveSlot(nil))
		transactional := s.awaits(t, email.StreamTransactional)
		s.ReleaseSlot(nil)
		<-transactional
		select {
		case <-broadcast:
			require.Fail(t, "too few are free for broadcast mail")
		default:
		}
		for range freeForBroadcast - freeForUrgent {
			s.ReleaseSlot(nil)
		}
		<-broadcast
	})
	t.Run("without free slots it goes on after its patience", func(t *testing.T) {
		t.Parallel()
		s := newSlotsWith(time.Millisecond)
		for range freeForBroadcast {
			require.NotNil(t, s.TryReserveSlot(nil))
		}
		require.Nil(t, s.TryReserveSlot(nil), "no more than there are")
		s.Await(t.Context(), email.StreamBroadcast)
		s.Await(t.Context(), email.StreamTransactional)
	})
}
