package mail

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// TestTheRunCacheIsBounded: it keeps so many bytes, and each e-mail for so long.
func TestTheRunCacheIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newRunCache()
		keep := func(id string, bytes int) {
			h.keep(&cachedEmail{id: id, at: time.Now(), message: email.Message{Text: strings.Repeat("x", bytes)}})
		}
		takes := func(id string) bool {
			_, planned := h.takePlan(id)
			_, sent := h.takeMessage(id)
			require.Equal(t, planned, sent, id)
			return sent
		}
		keep("half", cachedBytes/2)
		keep("too much", cachedBytes/2+1)
		keep("the rest", cachedBytes/2)
		require.False(t, takes("too much"))
		require.True(t, takes("half"))
		keep("again", cachedBytes/2)
		time.Sleep(cachedFor)
		require.True(t, takes("again"))
		time.Sleep(time.Millisecond)
		keep("next", 1)
		require.False(t, takes("the rest"), "too old")
		require.Equal(t, int64(1), h.bytes)
		require.Len(t, h.oldest, 1, "what was taken is not remembered")
		time.Sleep(cachedFor + time.Millisecond)
		_, planned := h.takePlan("next")
		require.False(t, planned, "too old")
		require.Zero(t, h.bytes)
	})
}
