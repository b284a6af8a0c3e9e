package inbound

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/logtest"
	"github.com/postrider/postrider/internal/mailbox"
)

// memory is the Store interface that this package owns, in memory.
type memory struct {
	// find, if set, is called for each address that is looked up.
	find     func()
	mu       sync.Mutex
	boxes    map[string]mailbox.Mailbox // by lower-case address
	catchAll *mailbox.Mailbox
	findErr  error
	storeErr error
	calls    int // of StoreMessages
	messages []mailbox.Message
	stored   chan mailbox.Message
	// gate, if set, holds StoreMessages until it is closed.
	gate chan struct{}
}

func newMemory() *memory {
	return &memory{
		boxes:    map[string]mailbox.Mailbox{},
		catchAll: &mailbox.Mailbox{ID: uuid.New(), CustomerID: uuid.New(), Address: "inbox@dev.test", CatchAll: true},
		stored:   make(chan mailbox.Message, 1000),
	}
}

func (m *memory) MailboxFor(_ context.Context, address string) (mailbox.Mailbox, error) {
	if m.find != nil {
		m.find()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.findErr != nil {
		return mailbox.Mailbox{}, m.findErr
	}
	if box, ok := m.boxes[strings.ToLower(address)]; ok {
		return box, nil
	}
	if m.catchAll != nil {
		return *m.catchAll, nil
	}
	return mailbox.Mailbox{}, mailbox.ErrNotFound
}

func (m *memory) StoreMessages(ctx context.Context, messages []mailbox.Message, raw []byte) error {
	if m.gate != nil {
		select {
		case <-m.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.storeErr != nil {
		return m.storeErr
	}
	for _, msg := range messages {
		msg.Raw = bytes.Clone(raw)
		m.messages = append(m.messages, msg)
		m.stored <- msg
	}
	return nil
}

func (m *memory) set(f func(*memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func (m *memory) all() []mailbox.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]mailbox.Message(nil), m.messages...)
}

type bench struct {
	t      *testing.T
	store  *memory
	server *Server
	log    *logtest.Buffer
	served chan error
}

// setup serves on a free port. prepare changes the server before it listens. Change the
// store before the first command.
func setup(t *testing.T, cfg Config, prepare ...func(*Server)) *bench {
	t.Helper()
	b := &bench{t: t, store: newMemory(), log: &logtest.Buffer{}, served: make(chan error, 1)}
	cfg.Addr = "127.0.0.1:0"
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.dev.test"
	}
	b.server = New(cfg, b.store, slog.New(slog.NewJSONHandler(b.log, nil)))
	for _, p := range prepare {
		p(b.server)
	}
	require.NoError(t, b.server.Listen())
	go func() { b.served <- b.server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := b.server.Shutdown(ctx); err != nil { // the test may have done it, or left clients
			require.True(t, isExpectedStop(err), err)
		}
	})
	return b
}

func isExpectedStop(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed)
}

// client speaks SMTP by hand.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

func (b *bench) dial() *client { return b.dialFrom("127.0.0.1") }

// dialFrom connects from an address of this machine.
func (b *bench) dialFrom(address string) *client {
	b.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	nc, err := dialer.Dial("tcp", b.server.Addr().String())
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = nc.Close() }) // the server may have closed it
	require.NoError(b.t, nc.SetDeadline(time.Now().Add(patience)))
	return &client{t: b.t, Conn: nc, r: bufio.NewReader(nc)}
}

// hello is a client past EHLO.
func (b *bench) hello() *client {
	b.t.Helper()
	c := b.dial()
	c.expect("220 mx.dev.test")
	c.cmd("EHLO client.test", "250")
	return c
}

// mailTimeout changes Config.MailTimeout for those who are connected, too, so that a slow
// machine gets through what comes before.
func (b *bench) mailTimeout(d time.Duration) {
	b.server.conns.mu.Lock()
	b.server.conns.mail = d
	b.server.conns.mu.Unlock()
	for _, c := range b.server.conns.snapshot() {
		c.shorten()
	}
}

// send writes as it is.
func (c *client) send(s string) {
	c.t.Helper()
	_, err := io.WriteString(c.Conn, s)
	require.NoError(c.t, err)
}

// reply reads one reply with all its lines.
func (c *client) reply() string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		require.NoError(c.t, err, all.String())
		all.WriteString(line)
		if len(line) > 3 && line[3] == ' ' {
			return strings.TrimRight(all.String(), "\r\n")
		}
	}
}

func (c *client) expect(prefix string) string {
	c.t.Helper()
	got := c.reply()
	require.True(c.t, strings.HasPrefix(got, prefix), "got %q, want %q", got, prefix)
	return got
}

func (c *client) cmd(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.expect(prefix)
}

// closed waits for the server's end of the connection to close.
func (c *client) closed() {
	c.t.Helper()
	_, err := c.r.ReadByte()
	require.Error(c.t, err)
	var timeout net.Error
	require.False(c.t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
}

// envelope opens a transaction to these recipients and asks for DATA.
func (c *client) envelope(from string, to ...string) {
	c.t.Helper()
	c.cmd("MAIL FROM:<"+from+">", "250")
	for _, a := range to {
		c.cmd("RCPT TO:<"+a+">", "250")
	}
	c.cmd("DATA", "354")
}

const note = "From: Ann <ann@x.test>\r\nTo: bob@dev.test\r\nSubject: Hi\r\nMessage-ID: <1@x.test>\r\n\r\nHello\r\n"

func receive(t *testing.T, ch <-chan mailbox.Message) mailbox.Message {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(patience):
		require.FailNow(t, "nothing was stored")
		return mailbox.Message{}
	}
}
