package inbound

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// storing waits until so many messages are being stored.
func (b *bench) storing(n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s := b.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		working := 0
		for c := range s.open {
			if !c.progress.waiting {
				working++
			}
		}
		return working == n && b.server.memory.storing.State().Used > 0
	}, patience, time.Millisecond)
}

// handClock is the clock of a server's progress, which the test moves.
type handClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// clocked is setup with a clock that the test moves.
func clocked(t *testing.T, cfg Config) (*bench, *handClock) {
	t.Helper()
	b, at := setup(t, cfg), &handClock{at: time.Now()}
	b.server.conns.now = at.now
	return b, at
}

// waits waits until the server waits for all clients.
func (b *bench) waits() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s := b.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			if !c.progress.waiting {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
}

// read waits until the server has read what clients have sent since the clock moved, and waits for
// more. lag is how far they are behind in their messages then, at most.
func (b *bench) read(at *handClock, lag time.Duration) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s := b.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			if !c.progress.waiting || !c.progress.since.Equal(at.now()) || c.progress.messageLag > lag {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
}

// TestSlowMessagesGiveTheirPlacesToNewClients: clients from many addresses send a byte each 20
// seconds of a message. A new client is served in the place of the slowest one. Clients that
// make progress keep theirs.
func TestSlowMessagesGiveTheirPlacesToNewClients(t *testing.T) {
	t.Parallel()
	const most = 20
	b, at := clocked(t, Config{MaxConnections: most})
	from := func(i int) *client {
		c := b.dialFrom(fmt.Sprintf("127.0.0.%d", 2+i))
		c.expect("220")
		c.cmd("EHLO x.test", "250")
		c.envelope("a@x.test", "b@dev.test")
		return c
	}
	var slow []*client
	for i := range most - 1 {
		slow = append(slow, from(i))
	}
	busy := from(most)
	line := strings.Repeat("x", 998) + "\r\n"
	for range 3 {
		at.pass(20 * time.Second)
		for _, c := range slow {
			c.send("x")
		}
		busy.send(strings.Repeat(line, 30)) // 1.5 KiB a second
	}
	require.Eventually(t, func() bool {
		s := b.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		behind := 0
		for c := range s.open {
			if c.progress.waiting && c.progress.behind(at.now()) >= 50*time.Second {
				behind++
			}
		}
		return behind == len(slow)
	}, patience, time.Millisecond)
	for i := range slow {
		c := b.dialFrom(fmt.Sprintf("127.0.1.%d", 1+i))
		c.expect("220")
		c.cmd("EHLO new.test", "250")
		c.envelope("new@x.test", "b@dev.test")
		c.send(note + ".\r\n")
		c.expect("250")
	}
	for _, c := range slow {
		require.Equal(t, strings.TrimSuffix(replyEvicted, "\r\n"), c.reply())
		c.closed()
	}
	busy.send("\r\n.\r\n")
	busy.expect("250")
}

// TestSilentClientsGiveTheirPlacesToNewClients at any point of a session, and first those of the
// address that has most of them. Commands without mail are no progress.
func TestSilentClientsGiveTheirPlacesToNewClients(t *testing.T) {
	t.Parallel()
	b, at := clocked(t, Config{MaxConnections: 12})
	b.server.conns.crowdedMail = time.Hour
	lone := b.dialFrom("127.0.0.2")
	lone.expect("220")
	at.pass(time.Minute)
	var many []*client
	for range 3 {
		c := b.dialFrom("127.0.0.3")
		c.expect("220")
		many = append(many, c)
		b.waits()
		at.pass(time.Second)
	}
	for i := range 8 {
		b.dialFrom(fmt.Sprintf("127.0.0.%d", 10+i)).expect("220")
	}
	many[1].cmd("NOOP", "250")
	b.waits()
	b.dialFrom("127.0.0.20").expect("220")
	many[0].expect("421 4.3.2 ")
	b.waits()
	b.dialFrom("127.0.0.21").expect("220")
	many[1].expect("421 4.3.2 ")
	b.waits()
	b.dialFrom("127.0.0.22").expect("220")
	lone.expect("421 4.3.2 ")
	require.Equal(t, 12, b.server.conns.count())
}

// TestAMessageHasAMinimumRate: a client that sends a byte now and then is cut off once it is
// behind by ReadTimeout.
func TestAMessageHasAMinimumRate(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c *client){
		"DATA": func(c *client) { c.envelope("a@x.test", "b@dev.test") },
		"BDAT": func(c *client) {
			c.cmd("MAIL FROM:<a@x.test>", "250")
			c.cmd("RCPT TO:<b@dev.test>", "250")
			c.send("BDAT 1000000 LAST\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, at := clocked(t, Config{ReadTimeout: time.Minute})
			c := b.hello()
			begin(c)
			for range 3 { // 60 seconds, less the time of four bytes
				b.read(at, time.Minute)
				at.pass(19 * time.Second)
				c.send("x")
			}
			b.read(at, time.Minute)
			at.pass(19 * time.Second)
			_, err := io.WriteString(c.Conn, "x")
			require.NoError(t, err)
			c.expect("421 4.4.2 Timeout while waiting for the message")
			c.closed()
			require.Empty(t, b.store.all())
		})
	}
}
