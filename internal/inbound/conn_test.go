package inbound

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheCommandsOfAClientThatIsGoneAreNotCarriedOut, however many it has sent.
func TestTheCommandsOfAClientThatIsGoneAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var lookups atomic.Int32
	first, gone := make(chan struct{}), make(chan struct{})
	b.store.find = func() {
		if lookups.Add(1) == 1 {
			close(first)
			<-gone
		}
	}
	c := b.hello()
	_, err := io.WriteString(c, "MAIL FROM:<a@x.test>\r\n"+strings.Repeat("RCPT TO:<b@y.test>\r\n", 500))
	require.NoError(t, err)
	<-first
	require.NoError(t, c.Conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.Conn.Close())
	close(gone)
	require.Eventually(t, func() bool {
		b.server.conns.mu.Lock()
		defer b.server.conns.mu.Unlock()
		return len(b.server.conns.open) == 0
	}, patience, time.Millisecond)
	require.Less(t, lookups.Load(), int32(10))
}
