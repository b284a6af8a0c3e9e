package inbound

import (
	"fmt"
	"io"
	"net"
	"slices"
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
func clocked(t *testing.T, cfg Config, prepare ...func(*Server)) (*bench, *handClock) {
	t.Helper()
	at := &handClock{at: time.Now()}
	return setup(t, cfg, append(prepare, func(s *Server) { s.conns.now = at.now })...), at
}

// crowdedMail is how long a client of a crowded port may wait with MAIL.
func crowdedMail(d time.Duration) func(*Server) { return func(s *Server) { s.conns.crowdedMail = d } }

// waits waits until the server waits for all clients to send.
func (b *bench) waits() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s := b.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			if !c.progress.waiting || !c.progress.reading {
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
			if !c.progress.waiting || !c.progress.reading || !c.progress.since.Equal(at.now()) || c.progress.messageLag > lag {
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
	b.waits()
	for range 3 {
		at.pass(20 * time.Second)
		for _, c := range slow {
			c.send("x")
		}
		busy.send(strings.Repeat(line, 30)) // 1.5 KiB a second
		b.read(at, time.Hour)
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
	b, at := clocked(t, Config{MaxConnections: 12}, crowdedMail(time.Hour))
	lone := b.dialFrom("127.0.0.2")
	lone.expect("220")
	at.pass(time.Minute)
	var many []*client
	for range 3 {
		c := b.dialFrom("127.0.0.3")
		c.expect("220")
		many = append(many, c)
		b.waits()
		at.pass(roundTrip + silentFor)
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

// crowd is a port that clients from many addresses fill, each of which sends a message that does
// not end.
type crowd struct {
	*bench
	at      *handClock
	clients []*crowdClient
}

type crowdClient struct {
	*client
	rate int // bytes a second
}

// slowRate is a little more than a client must send.
const slowRate = 2 << 10

// crowded has a port of so many places, and clients at slowRate in all that rest leaves. Each
// connects a second after the one before.
func crowded(t *testing.T, places int, rest ...*crowdClient) *crowd {
	t.Helper()
	b, at := clocked(t, Config{MaxConnections: places, MailTimeout: time.Hour}, crowdedMail(time.Hour))
	c := &crowd{bench: b, at: at, clients: rest}
	for _, r := range rest {
		r.client = c.message("127.0.3.1")
	}
	for i := range places - len(rest) {
		c.join(fmt.Sprintf("127.0.0.%d", 2+i))
		c.pass(time.Second)
	}
	return c
}

// message begins a message on a new connection.
func (c *crowd) message(address string) *client {
	c.t.Helper()
	client := c.dialFrom(address)
	client.expect("220")
	client.cmd("EHLO x.test", "250")
	client.envelope("a@x.test", "b@dev.test")
	return client
}

// join adds a client at slowRate.
func (c *crowd) join(address string) {
	c.t.Helper()
	c.clients = append(c.clients, &crowdClient{c.message(address), slowRate})
}

// loses checks that a client has lost its place, and removes it.
func (c *crowd) loses(i int) {
	c.t.Helper()
	c.clients[i].expect("421 4.3.2 Too many connections, and this one")
	c.clients[i].closed()
	c.clients = slices.Delete(c.clients, i, i+1)
}

// pass lets time pass in which each client sends at its rate, and the server reads it.
func (c *crowd) pass(d time.Duration) {
	c.t.Helper()
	c.waits()
	c.at.pass(d)
	of := map[string]bool{}
	for _, client := range c.clients {
		of[client.LocalAddr().String()] = true
		client.send(strings.Repeat("x", int(d*time.Duration(client.rate)/time.Second)-2) + "\r\n")
	}
	require.Eventually(c.t, func() bool {
		s := c.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		read := 0
		for open := range s.open {
			if p := open.progress; of[open.RemoteAddr().String()] && p.waiting && p.since.Equal(c.at.now()) && p.lag == 0 {
				read++
			}
		}
		return read == len(of)
	}, patience, time.Millisecond)
}

// TestAClientThatIsFarAwayKeepsItsPlace: slow clients fill the port. A new client has the place of
// the one that has had its own for longest. It takes 250 ms for each command, and keeps its place
// while a slow client connects before each of them.
func TestAClientThatIsFarAwayKeepsItsPlace(t *testing.T) {
	t.Parallel()
	c := crowded(t, 20)
	honest := c.dialFrom("127.0.1.1")
	honest.expect("220")
	c.loses(0)
	for i, step := range []struct{ command, reply string }{
		{"EHLO far.test", "250"}, {"MAIL FROM:<far@x.test>", "250"}, {"RCPT TO:<b@dev.test>", "250"},
		{"RCPT TO:<c@dev.test>", "250"}, {"RCPT TO:<d@dev.test>", "250"}, {"DATA", "354"}, {note + ".", "250"},
	} {
		c.pass(250 * time.Millisecond)
		c.join(fmt.Sprintf("127.0.2.%d", 1+i))
		c.loses(0)
		honest.cmd(step.command, step.reply)
	}
	require.Equal(t, "far@x.test", receive(t, c.store.stored).EnvelopeFrom)
	require.Equal(t, 20, c.server.conns.count())
}

// TestAClientThatLostItsPlaceIsRefused while the port is full, for a minute. Others are not, nor one
// that lost its place after a message.
func TestAClientThatLostItsPlaceIsRefused(t *testing.T) {
	t.Parallel()
	const first, second = "127.0.0.2", "127.0.0.3"
	c := crowded(t, 12)
	c.join("127.0.1.1")
	c.loses(0)
	c.dialFrom(first).expect("421 4.3.2 Too many connections, limit 12")

	c.join("127.0.1.2")
	c.loses(0)
	require.NoError(t, c.clients[0].Close())
	c.clients = c.clients[1:]
	require.Eventually(t, func() bool { return c.server.conns.count() == 11 }, patience, time.Millisecond)
	c.join(first) // a place is free
	c.dialFrom(second).expect("421 4.3.2 Too many connections, limit 12")

	c.pass(barredFor)
	c.join(second)
	c.loses(0)

	useful := c.dialFrom("127.0.1.3")
	useful.expect("220")
	c.loses(0)
	useful.cmd("EHLO x.test", "250")
	useful.envelope("a@x.test", "b@dev.test")
	useful.cmd(note+".", "250")
	c.pass(roundTrip + silentFor)
	c.join("127.0.1.4")
	useful.expect("421 4.3.2")
	c.pass(tenure)
	c.join("127.0.1.3")
	c.loses(0)
}

// TestAClientThatLeavesAFullPortIsRefused: sessions that end before they are old, and come again at
// once, do not keep all places.
func TestAClientThatLeavesAFullPortIsRefused(t *testing.T) {
	t.Parallel()
	c := crowded(t, 20)
	c.dialFrom("127.0.1.1").expect("220")
	c.loses(0)
	leave := func(open int) {
		require.NoError(t, c.clients[0].Close())
		c.clients = c.clients[1:]
		require.Eventually(t, func() bool { return c.server.conns.count() == open }, patience, time.Millisecond)
	}
	leave(19)
	leave(18)
	leave(17) // from here on fewer than 2 of 20 places would have to be free
	c.join("127.0.0.3")
	c.dialFrom("127.0.0.5").expect("220")
	c.dialFrom("127.0.0.4").expect("421 4.3.2 Too many connections, limit 20")
	c.dialFrom("127.0.1.2").expect("220")
}

// TestASessionHasTenSecondsForAMessage: a new client does not have its place before.
func TestASessionHasTenSecondsForAMessage(t *testing.T) {
	t.Parallel()
	c := crowded(t, 9)
	c.dialFrom("127.0.1.1").expect("421 4.3.2 Too many connections, limit 9")
	c.pass(time.Second)
	c.join("127.0.1.1")
	c.loses(0)
	c.dialFrom("127.0.1.2").expect("421 4.3.2 Too many connections, limit 9")
}

// TestAMessageThatComesFastKeepsItsPlace before those that have had theirs for less time.
func TestAMessageThatComesFastKeepsItsPlace(t *testing.T) {
	t.Parallel()
	large := &crowdClient{rate: 2 * busyRate}
	c := crowded(t, 20, large)
	require.Eventually(t, func() bool {
		s := c.server.conns
		s.mu.Lock()
		defer s.mu.Unlock()
		for open := range s.open {
			if open.RemoteAddr().String() == large.LocalAddr().String() {
				return open.progress.waiting && open.progress.held(c.at.now()) == 0
			}
		}
		return false
	}, patience, time.Millisecond)
	for i := range 5 {
		c.join(fmt.Sprintf("127.0.1.%d", 1+i))
		c.loses(1)
		c.pass(time.Second)
	}
	large.cmd(".", "250")
}

func TestSiteOf(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1",
		"2001:db8:1:2::/64":  "2001:db8:1::/48",
		"2001:db8:1:ff::/64": "2001:db8:1::/48",
		"pipe":               "pipe",
	} {
		require.Equal(t, want, siteOf(key))
	}
}

// TestAClientThatLosesItsPlaceGetsAReply: a client whose bytes arrive while it loses its place gets the 421.
func TestAClientThatLosesItsPlaceGetsAReply(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	c := b.hello()
	conn := b.server.conns.snapshot()[0]
	b.waits()
	b.server.conns.mu.Lock()
	conn.progress.evicted = true
	b.server.conns.forget(conn)
	b.server.conns.mu.Unlock()
	c.send("NOOP\r\n")
	require.Eventually(t, func() bool { // the server has read it, and serves the client no more
		b.server.conns.mu.Lock()
		defer b.server.conns.mu.Unlock()
		return !conn.progress.waiting
	}, patience, time.Millisecond)
	require.NoError(t, conn.Close(), "as go-smtp does")
	require.ErrorIs(t, conn.hangUp(replyEvicted), net.ErrClosed)
	c.expect("421 4.3.2 ")
	c.closed()
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
