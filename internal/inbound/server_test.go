package inbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
)

func TestReceive(t *testing.T) {
	t.Parallel()
	t.Run("a client's mail is stored byte for byte with its envelope", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c, err := gosmtp.Dial(b.server.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Hello("relay.test"))
		for _, ext := range []string{"SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "PIPELINING", "8BITMIME"} {
			ok, _ := c.Extension(ext)
			require.True(t, ok, ext)
		}
		raw := "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: ann@x.test\r\nTo: Bob <bob@dev.test>\r\nMessage-Id: <42@x.test>\r\n\r\n" +
			".\r\n..\r\n.dot\r\nno end dot.\r\n\xff\xfe\x00 binary\r\n\r\n\r\n"
		require.NoError(t, c.SendMail("ann@x.test", []string{"bob@dev.test", "eve@dev.test", "bob@dev.test"}, strings.NewReader(raw)))
		require.NoError(t, c.Quit())

		require.Len(t, b.store.all(), 1)
		m := b.store.all()[0]
		require.Equal(t, raw, string(m.Raw))
		require.Equal(t, int64(len(raw)), m.Size)
		require.Len(t, m.SHA256, 64)
		require.Equal(t, "ann@x.test", m.EnvelopeFrom)
		require.Equal(t, []string{"bob@dev.test", "eve@dev.test"}, m.EnvelopeTo)
		require.Equal(t, "relay.test", m.Helo)
		require.Equal(t, "Grüße", m.Subject)
		require.Equal(t, "Bob <bob@dev.test>", m.To)
		require.Equal(t, "42@x.test", m.MessageID)
		require.Equal(t, b.store.catchAll.ID, m.MailboxID)
		require.Equal(t, b.store.catchAll.CustomerID, m.CustomerID)
		require.Equal(t, time.UTC, m.ReceivedAt.Location())
		require.Equal(t, uuid.Version(7), m.ID.Version())
	})
	t.Run("each mailbox gets one message, in one call", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		box := mailbox.Mailbox{ID: uuid.New(), CustomerID: uuid.New(), Address: "own@dev.test"}
		b.store.boxes["own@dev.test"] = box
		c := b.hello()
		c.envelope("", "any@dev.test", "Own@dev.test", "other@dev.test")
		c.send(note + ".\r\n")
		c.expect("250 2.0.0 OK: stored as ")
		all := b.store.all()
		require.Len(t, all, 2)
		require.Equal(t, 1, b.store.calls)
		require.Equal(t, []string{"any@dev.test", "other@dev.test"}, all[0].EnvelopeTo)
		require.Equal(t, []string{"Own@dev.test"}, all[1].EnvelopeTo)
		require.Equal(t, box.ID, all[1].MailboxID)
		require.NotEqual(t, all[0].ID, all[1].ID)
		require.Empty(t, all[0].EnvelopeFrom)
	})
	t.Run("BDAT chunks are one message", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<b@dev.test>", "250")
		c.send("BDAT 7\r\nA: b\r\n\r")
		c.expect("250")
		c.send("BDAT 5 LAST\r\n\n.\r\n.")
		c.expect("250 2.0.0 OK: stored")
		require.Equal(t, "A: b\r\n\r\n.\r\n.", string(b.store.all()[0].Raw))
		c.cmd("NOOP", "250")
	})
	t.Run("a chunk cut short by the end of the connection is not stored", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<b@dev.test>", "250")
		c.send("BDAT 100 LAST\r\nSubject: half")
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		_, err := io.ReadAll(c.r)
		require.NoError(t, err)
		require.Empty(t, b.store.all())
		require.Zero(t, b.store.calls)
	})
	t.Run("a message cut short in DATA is not stored", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		c.envelope("a@x.test", "b@dev.test")
		c.send(note)
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		_, err := io.ReadAll(c.r)
		require.NoError(t, err)
		require.Zero(t, b.store.calls)
	})
	t.Run("the log has no full address", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		c.envelope("secretive@x.test", "hidden@dev.test")
		c.send(note + ".\r\n")
		c.expect("250")
		require.Contains(t, b.log.String(), `"msg":"inbound.stored"`)
		require.Contains(t, b.log.String(), "s***@x.test")
		require.Contains(t, b.log.String(), "h***@dev.test")
		require.NotContains(t, b.log.String(), "secretive")
		require.NotContains(t, b.log.String(), "hidden")
	})
}

func TestSmuggling(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"LF dot LF": "\n.\n", "LF dot CRLF": "\n.\r\n", "CRLF dot LF": "\r\n.\n", "CR dot CR": "\r.\r", "CRLF dot CR": "\r\n.\r", "CR dot CRLF": "\r.\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{})
			c := b.hello()
			c.envelope("a@x.test", "b@dev.test")
			c.send("Subject: one\r\n\r\nbody" + end + "MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@dev.test>\r\nDATA\r\nSubject: two\r\n\r\nx\r\n.\r\n")
			c.expect("250")
			c.cmd("NOOP", "250 2.0.0 I have") // there was one reply, so one message
			require.Len(t, b.store.all(), 1)
			require.Contains(t, string(b.store.all()[0].Raw), "MAIL FROM:<evil@x.test>\r\n")
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	t.Run("no mailbox", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		b.store.catchAll = nil
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<b@dev.test>", "550 5.1.1 ")
	})
	t.Run("a store that is down defers, and the next try is stored once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		down := errors.New("pq: secret detail")
		b.store.findErr = down
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		require.NotContains(t, c.cmd("RCPT TO:<b@dev.test>", "451 4.3.0 "), "secret")
		b.store.set(func(m *memory) { m.findErr, m.storeErr = nil, down })
		c.cmd("RSET", "250")
		c.envelope("a@x.test", "b@dev.test")
		c.send(note + ".\r\n")
		require.NotContains(t, c.expect("451 4.3.0 "), "secret")
		require.Empty(t, b.store.all())
		b.store.set(func(m *memory) { m.storeErr = nil })
		c.envelope("a@x.test", "b@dev.test")
		c.send(note + ".\r\n")
		c.expect("250")
		require.Len(t, b.store.all(), 1)
		require.Contains(t, b.log.String(), "secret detail")
	})
	t.Run("a store that hangs defers", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{StoreTimeout: 50 * time.Millisecond})
		b.store.gate = make(chan struct{})
		c := b.hello()
		c.envelope("a@x.test", "b@dev.test")
		c.send(note + ".\r\n")
		c.expect("451 4.3.0 ")
	})
	t.Run("one byte over the limit", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxMessageBytes: 1000})
		c := b.hello()
		fit := strings.Repeat("x", 998) + "\r\n"
		c.envelope("a@x.test", "b@dev.test")
		c.send(fit + ".\r\n")
		c.expect("250")
		for _, over := range []string{"x" + fit, strings.Repeat(fit, 300)} {
			c.envelope("a@x.test", "b@dev.test")
			c.send(over + ".\r\n")
			require.Contains(t, c.expect("552 5.3.4 "), "1000")
		}
		c.cmd("MAIL FROM:<a@x.test> SIZE=1001", "552 5.3.4 ")
		c.cmd("MAIL FROM:<a@x.test> SIZE=1000", "250")
		c.cmd("RCPT TO:<b@dev.test>", "250")
		c.send("BDAT 1001 LAST\r\nx" + fit)
		c.expect("552 5.3.4 ")
		require.Len(t, b.store.all(), 1)
	})
	t.Run("too many recipients", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxRecipients: 2})
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<1@dev.test>", "250")
		c.cmd("RCPT TO:<2@dev.test>", "250")
		c.cmd("RCPT TO:<3@dev.test>", "452 4.5.3 ")
	})
	t.Run("a message has lines of any length, a command has not", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxLineBytes: 2000})
		c := b.hello()
		long := strings.Repeat("y", 20_000) + "\r\n"
		c.envelope("a@x.test", "b@dev.test")
		c.send(long + ".\r\n")
		c.expect("250")
		require.Equal(t, long, string(b.store.all()[0].Raw))
		c.send("NOOP " + long)
		c.expect("500 5.4.0 ")
		c.closed()
	})
	t.Run("addresses", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		c.cmd("MAIL FROM:<a\x01@x.test>", "501 5.1.7 ")
		c.cmd("MAIL FROM:<jürgen@x.test>", "553 5.6.7 ")
		c.cmd("MAIL FROM:<jürgen@x.test> SMTPUTF8", "250")
		c.cmd("RCPT TO:<b\x00b@dev.test>", "501 5.1.3 ")
		c.cmd("RCPT TO:<b\xff@dev.test>", "501 5.1.3 ")
		require.Contains(t, c.cmd("RCPT TO:<"+strings.Repeat("l", 400)+"@dev.test>", "501 5.1.3 "), "320")
		c.cmd("RCPT TO:<\"a \\\" b\"@dev.test>", "250")
		c.cmd("RCPT TO:<用户@dev.test>", "250")
		c.cmd("DATA", "354")
		c.send(note + ".\r\n")
		c.expect("250")
		require.Equal(t, []string{`"a \" b"@dev.test`, "用户@dev.test"}, b.store.all()[0].EnvelopeTo)
	})
}

func TestConnections(t *testing.T) {
	t.Parallel()
	t.Run("one too many of an address is turned away until another leaves", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxConnectionsPerIP: 2})
		one := b.hello()
		b.hello()
		c := b.dial()
		c.expect("421 4.7.0 ")
		c.closed()
		one.cmd("QUIT", "221")
		one.closed()
		b.hello()
	})
	t.Run("one too many in all", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxConnections: 1})
		b.store.gate = make(chan struct{})
		c := b.hello()
		c.envelope("a@x.test", "b@dev.test")
		c.send(note + ".\r\n")
		b.storing(1) // the server does not wait for that client
		b.dialFrom("127.0.0.2").expect("421 4.3.2 ")
		close(b.store.gate)
		c.expect("250")
	})
	t.Run("addresses are counted as a provider hands them out", func(t *testing.T) {
		t.Parallel()
		for in, want := range map[string]string{
			"192.0.2.1:25": "192.0.2.1", "[::ffff:192.0.2.1]:25": "192.0.2.1",
			"[2001:db8:0:1:aaaa::1]:25": "2001:db8:0:1::/64", "[fe80::1%eth0]:25": "fe80::/64",
		} {
			addr, err := net.ResolveTCPAddr("tcp", in)
			if err != nil { // the machine has no such zone
				continue
			}
			require.Equal(t, want, countKey(addr), in)
		}
	})
	t.Run("two addresses with all the connections they get leave some to others", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxConnections: 60, MaxConnectionsPerIP: 60})
		fill := func(address string) (n int) {
			for {
				c := b.dialFrom(address)
				if reply := c.reply(); !strings.HasPrefix(reply, "220 ") {
					require.Contains(t, reply, "421 4.7.0 ")
					return n
				}
				n++
			}
		}
		require.Equal(t, 20, fill("127.0.0.2"), "half as many as are free then")
		require.Equal(t, 13, fill("127.0.0.3"))
		for i := range 5 {
			b.dialFrom(fmt.Sprintf("127.0.0.%d", 10+i)).expect("220")
		}
	})
	t.Run("without MAIL a client is not kept, whatever else it says", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		b.mailTimeout(100 * time.Millisecond)
		for ended := false; !ended; {
			_, err := io.WriteString(c.Conn, "NOOP\r\nRSET\r\n")
			if err == nil {
				_, err = c.r.ReadString('\n')
			}
			ended = err != nil
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		require.Zero(t, b.server.conns.count())
	})
	t.Run("in a transaction it is", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		idle, c := b.hello(), b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		b.mailTimeout(time.Millisecond)
		idle.expect("421 4.4.2 ")
		idle.closed()
		c.cmd("RCPT TO:<b@dev.test>", "250")
		c.cmd("RSET", "250")
		c.expect("421 4.4.2 ")
		c.closed()
	})
	t.Run("when half are in use, those that wait for MAIL have less time", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxConnections: 4, MailTimeout: time.Hour}, crowdedMail(100*time.Millisecond))
		first := b.hello()
		require.Equal(t, time.Hour, b.server.conns.mailTimeout())
		second := b.dialFrom("127.0.0.2")
		second.expect("220")
		for _, c := range []*client{first, second} { // the first one was waiting already
			c.expect("421 4.4.2 ")
			c.closed()
		}
		require.Eventually(t, func() bool { return b.server.conns.mailTimeout() == time.Hour }, patience, time.Millisecond)
	})
	t.Run("too many errors", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{MaxErrors: 3})
		box := mailbox.Mailbox{ID: uuid.New(), CustomerID: uuid.New(), Address: "own@dev.test"}
		b.store.boxes["own@dev.test"], b.store.catchAll = box, nil
		c := b.hello()
		for range 2 { // what is stored makes up for it
			c.cmd("MAIL FROM:<a@x.test>", "250")
			c.cmd("RCPT TO:<1@dev.test>", "550")
			c.cmd("RCPT TO:<2@dev.test>", "550")
			c.cmd("RCPT TO:<own@dev.test>", "250")
			c.cmd("DATA", "354")
			c.send(note + ".\r\n")
			c.expect("250")
		}
		c.cmd("RCPT TO:<1@dev.test>", "503")
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<1@dev.test>", "550")
		c.cmd("RCPT TO:<2@dev.test>", "550")
		require.Contains(t, c.expect("421 4.7.0 "), "3")
		c.closed()
	})
	t.Run("silence between commands", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{ReadTimeout: 50 * time.Millisecond})
		c := b.dial()
		c.expect("220")
		c.expect("421 4.4.2 ")
		c.closed()
	})
	for name, start := range map[string]string{"DATA": "DATA\r\n", "BDAT": "BDAT 5000 LAST\r\n"} {
		t.Run("silence within a message ends the connection: "+name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{ReadTimeout: 300 * time.Millisecond})
			c := b.hello()
			c.cmd("MAIL FROM:<a@x.test>", "250")
			c.cmd("RCPT TO:<b@dev.test>", "250")
			c.send(start)
			if name == "DATA" {
				c.expect("354")
			}
			c.send("Subject: s")
			c.expect("421 4.4.2 ")
			c.closed()
			require.Zero(t, b.store.calls)
		})
	}
	t.Run("a slow but steady message may take longer than the timeout", func(t *testing.T) {
		t.Parallel()
		b, at := clocked(t, Config{ReadTimeout: time.Minute})
		c := b.hello()
		c.envelope("a@x.test", "b@dev.test")
		for range 10 {
			b.read(at, 0)
			at.pass(20 * time.Second)
			c.send(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 20*minRate/1000+1))
		}
		c.send("\r\n.\r\n")
		c.expect("250")
	})
	t.Run("a session ends however busy", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{SessionTimeout: 300 * time.Millisecond})
		c := b.hello()
		c.envelope("a@x.test", "b@dev.test")
		c.send("X: y\r\n")
		c.expect("421 4.4.2 ")
		c.closed()
	})
}

func TestListen(t *testing.T) {
	t.Parallel()
	t.Run("a port in use names itself and its setting", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		addr := b.server.Addr().String()
		err := New(Config{Addr: addr}, b.store, slog.New(slog.DiscardHandler)).Listen()
		require.ErrorContains(t, err, addr)
		require.ErrorContains(t, err, "POSTRIDER_INBOUND_LISTEN")
	})
	t.Run("Serve listens by itself", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		err := New(Config{Addr: b.server.Addr().String()}, b.store, slog.New(slog.DiscardHandler)).Serve()
		require.ErrorContains(t, err, "POSTRIDER_INBOUND_LISTEN")
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("idle clients are told, a message under way is finished", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		idle, busy := b.hello(), b.hello()
		busy.envelope("a@x.test", "b@dev.test")
		done := make(chan error, 1)
		go func() { done <- b.server.Shutdown(context.Background()) }()
		idle.expect("421 4.3.2 ")
		idle.closed()
		busy.send(note + ".\r\n")
		busy.expect("250")
		busy.expect("421 4.3.2 ")
		require.NoError(t, <-done)
		require.NoError(t, <-b.served)
		require.Len(t, b.store.all(), 1)
		_, err := net.Dial("tcp", b.server.Addr().String())
		require.Error(t, err)
		require.ErrorIs(t, b.server.Shutdown(context.Background()), net.ErrClosed)
	})
	t.Run("slow@ ends early with 250", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{Steer: true, SlowFor: time.Hour})
		c := b.hello()
		c.envelope("a@x.test", "slow@dev.test")
		c.send(note + ".\r\n")
		receive(t, b.store.stored)
		require.NoError(t, b.server.Shutdown(context.Background()))
		c.expect("250 2.0.0 OK: stored")
	})
	t.Run("out of patience, it cuts the message off unstored", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		c := b.hello()
		c.envelope("a@x.test", "b@dev.test")
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		err := b.server.Shutdown(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "1 connections cut")
		c.closed()
		require.Zero(t, b.store.calls)
	})
	t.Run("before Serve", func(t *testing.T) {
		t.Parallel()
		s := New(Config{Addr: "127.0.0.1:0"}, newMemory(), slog.New(slog.DiscardHandler))
		require.NoError(t, s.Listen())
		require.NoError(t, s.Shutdown(context.Background()))
		require.ErrorIs(t, s.Serve(), net.ErrClosed)
	})
	t.Run("under load every 250 is a stored message", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{})
		const clients = 8
		counts := make(chan int, clients)
		for range clients {
			c := b.hello()
			go func() { counts <- c.flood() }()
		}
		for range 20 {
			receive(t, b.store.stored)
		}
		require.NoError(t, b.server.Shutdown(context.Background()))
		total := 0
		for range clients {
			total += <-counts
		}
		require.Equal(t, total, len(b.store.all()))
	})
}

// flood sends until the server has enough, and counts the 250 after the dot.
func (c *client) flood() (accepted int) {
	for n := 0; ; n++ {
		for i, line := range []string{"MAIL FROM:<a@x.test>\r\n", "RCPT TO:<b@dev.test>\r\n", "DATA\r\n", note + ".\r\n"} {
			if _, err := io.WriteString(c.Conn, line); err != nil {
				return accepted
			}
			answer, err := c.r.ReadString('\n')
			if err != nil || !strings.HasPrefix(answer, []string{"250", "250", "354", "250"}[i]) {
				return accepted
			}
		}
		accepted++
	}
}

func TestNothingPanicsOnRubbish(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, line := range []string{
		"\x00\x00\x00\x00", "MAIL", "RCPT TO:<>", "MAIL FROM:<@>", "RCPT TO:<@a,@b:c@d>", "MAIL FROM:<\"\"@x>", "EHLO " + strings.Repeat("é", 3000),
		"BDAT -1", "BDAT 99999999999", "DATA", "MAIL FROM:<a@x.test> ENVID=+", "MAIL FROM:<a@x.test> SIZE=99999999999999999999",
	} {
		c := b.hello()
		c.send(line + "\r\nQUIT\r\n")
		all, err := io.ReadAll(c.r)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(all, []byte("5")) || bytes.HasPrefix(all, []byte("2")), fmt.Sprintf("%q: %q", line, all))
	}
	require.NotContains(t, b.log.String(), "panic")
}

func TestSequence(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	c := b.dial()
	c.expect("220")
	c.cmd("MAIL FROM:<a@x.test>", "503 5.5.1 ")
	c.cmd("EHLO client.test", "250")
	c.cmd("RCPT TO:<b@dev.test>", "503 5.5.1 ")
	c.cmd("DATA", "503 5.5.1 ")
	c.send("BDAT 6 LAST\r\nNOOP\r\n") // the chunk is no command
	c.expect("503 5.5.1 ")
	c.cmd("MAIL FROM:<a@x.test>", "250")
	c.cmd("MAIL FROM:<a@x.test>", "503 5.5.1 ")
	c.cmd("DATA", "503 5.5.1 ")
	c.cmd("RCPT TO:<b@dev.test>", "250")
	c.send("BDAT 4\r\nA: b")
	c.expect("250 2.0.0 Continue")
	for _, command := range []string{"MAIL FROM:<a@x.test>", "RCPT TO:<b@dev.test>", "DATA"} {
		c.cmd(command, "503 5.5.1 ")
	}
	c.send("BDAT 4 LAST\r\n\r\n\r\n")
	c.expect("250 2.0.0 OK: stored")
	c.cmd("HELP", "502 5.5.1 ") // not implemented, whenever it comes
	require.Equal(t, "A: b\r\n\r\n", string(b.store.all()[0].Raw))
}

func TestPostmasterNeedsNoDomain(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	c := b.hello()
	c.cmd("MAIL FROM:<a@x.test>", "250")
	c.cmd("RCPT TO:<postmaster>", "250")
	c.cmd("rcpt to: <PostMaster> NOTIFY=NEVER", "250")
	c.cmd("RCPT TO:<postmaster@dev.test>", "250")
	c.cmd("RCPT TO:<other>", "501")
	c.cmd("DATA", "354")
	c.send("RCPT TO:<postmaster>\r\n.\r\n")
	c.expect("250")
	m := b.store.all()[0]
	require.Equal(t, []string{"postmaster@mx.dev.test", "PostMaster@mx.dev.test", "postmaster@dev.test"}, m.EnvelopeTo)
	require.Equal(t, "RCPT TO:<postmaster>\r\n", string(m.Raw))
	b.store.set(func(m *memory) { m.catchAll = nil })
	c.cmd("MAIL FROM:<a@x.test>", "250")
	c.cmd("RCPT TO:<Postmaster>", "550 5.1.1 ")
}

func TestAClientsOwnWordsAreNoReplyCode(t *testing.T) {
	t.Parallel()
	// The reply to EHLO repeats the name. It is written in pieces of 4096 bytes.
	for _, code := range []string{"354", "421"} {
		b := setup(t, Config{MaxLineBytes: 20_000})
		c := b.dial()
		c.expect("220")
		const before = len("250-Hello ")
		c.send("EHLO " + strings.Repeat("x", 4096-before) + code + "\r\n")
		c.expect("250")
		c.send("NOOP\r\n")
		c.expect("250")
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<b@dev.test>", "250")
		c.send("BDAT 4 LAST\r\n..\r\n")
		c.expect("250 2.0.0 OK: stored")
		require.Equal(t, "..\r\n", string(b.store.all()[0].Raw))
	}
}
