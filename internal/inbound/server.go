// Package inbound is the SMTP server that receives mail for mailboxes, and the
// reading of what it received.
//
//  1. A connection is admitted or turned away by number and address (listener.go).
//  2. Each RCPT TO is looked up: a mailbox takes it, or the reply is 550.
//  3. After DATA (data.go) or BDAT the bytes are collected in memory or, beyond a
//     budget for all of them, in files (spool.go). They are stored as they came, with
//     the envelope, one message for each mailbox, all or none. Nothing is added to
//     them, no Received field either: the envelope has its own columns.
//  4. Only then comes the 250. Failures before that are answered with 4xx, so the
//     client keeps the mail.
//  5. Reading a message (Parse, Attachment) happens later, on request, within caps.
//
// In development local parts steer what happens (testaddresses.go).
package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/membudget"
)

// Store keeps what is received.
type Store interface {
	// MailboxFor finds the mailbox that takes an address: its own, else the
	// catch-all one. mailbox.ErrNotFound means that there is none: the client
	// gets a permanent reply. After any other error it comes again.
	MailboxFor(ctx context.Context, address string) (mailbox.Mailbox, error)
	// StoreMessages stores one message in each of several mailboxes, in ONE
	// transaction: were only some stored, the client's next try would make them
	// twice. Raw is the same for all of them; Message.Raw is nil.
	StoreMessages(ctx context.Context, messages []mailbox.Message, raw []byte) error
}

// Own reports whether an ENVID names an e-mail of this installation.
type Own func(ctx context.Context, envelopeID string) (bool, error)

// Config of a Server. Zero values mean the defaults.
type Config struct {
	// Addr is host:port. Port 0 picks a free one; Server.Addr tells.
	Addr string
	// Hostname is what the server calls itself. Defaults to the machine's name.
	Hostname string

	// MaxMessageBytes is the largest accepted message; a larger one gets 552. Defaults
	// to 50 MiB.
	MaxMessageBytes int64
	// MemoryBytes is what the messages that are being received hold in memory, all
	// together; what goes beyond is held in files. Those that are being stored hold as
	// much again, or one message if that is larger. Defaults to 64 MiB.
	MemoryBytes int64
	// Alone, if set, is asked before a message of more than MemoryBytes is in memory, and
	// waits until nothing else of its size is; done ends that. nil lets one of them be stored
	// at a time.
	Alone func(ctx context.Context, owner string) (done func(), err error)
	// SpoolDir is where those files are; they have no names. Empty means the system's
	// directory for temporary files.
	SpoolDir string
	// SpoolBytes is what all files may have together, and at least twice MaxMessageBytes.
	// A message that finds no more gets 452 4.3.1; those of an IPv4 address or an IPv6 /64
	// have at most as much as is free afterwards, which is half of it. Defaults to 1 GiB.
	SpoolBytes int64
	// EachRate and TotalRate are how many bytes of messages the server reads a second, of one
	// connection and of all of them, addresses in turn. They default to 8 MiB, and to 16 MiB for
	// each processor that the process may use.
	EachRate, TotalRate int64
	// MaxRecipients of one transaction; more get 452 4.5.3. Defaults to 1000; RFC 5321
	// §4.5.3.1.8 asks for at least 100.
	MaxRecipients int
	// MaxLineBytes of a command. Defaults to 8192; RFC 5321 §4.5.3.1.4 asks for 512 and
	// more for extensions. Lines of a message have no limit.
	MaxLineBytes int
	// MaxConnections at once, in all. One more has the place of a silent client. Where there is
	// none, it has that of the one that has had its place for longest without a stored message, at
	// least 10 seconds. Otherwise it gets 421. Defaults to 200.
	MaxConnections int
	// MaxConnectionsPerIP at once, of an IPv4 address or an IPv6 /64, and never more
	// than half as many as are free. Defaults to 50.
	MaxConnectionsPerIP int
	// MaxErrors is how many errors a client may make without a message that is stored:
	// unknown recipients, wrong sequence, wrong syntax; then it gets 421. go-smtp ends the
	// session after four unknown commands in any case. Defaults to 100.
	MaxErrors int

	// MailTimeout is how long a client may be connected without a transaction, before
	// the first MAIL and after each message; at most 10 seconds of it while half of
	// MaxConnections are in use. Defaults to 1 minute.
	MailTimeout time.Duration
	// ReadTimeout is the longest silence of a client in a transaction. Within a message it is
	// how far the client may be behind 1 KiB a second. Defaults to 5 minutes, the least of RFC
	// 5321 §4.5.3.2.7.
	ReadTimeout time.Duration
	// WriteTimeout for a reply. Defaults to 1 minute.
	WriteTimeout time.Duration
	// SessionTimeout ends a connection however busy it is. Defaults to 1 hour.
	SessionTimeout time.Duration
	// StoreTimeout for one call of the Store, and for the wait for memory before.
	// Defaults to 1 minute each, well below the 10 that a client waits for the last reply.
	StoreTimeout time.Duration

	// Steer lets local parts choose outcomes. Only for development.
	Steer bool
	// Own, if set, keeps the catch-all mailbox for mail that Postrider itself delivers,
	// which it knows by the ENVID (RFC 3461 §4.4). Other mail to an address that is no
	// mailbox gets a 550, and a login a 535; both say what the port is. Only for
	// development: without it such mail seems sent, and is stored here.
	Own Own
	// SlowFor is how long slow@ waits. Defaults to 15 seconds.
	SlowFor time.Duration
}

func (c Config) withDefaults() Config {
	if c.Hostname == "" {
		if name, err := os.Hostname(); err == nil && name != "" {
			c.Hostname = name
		} else {
			c.Hostname = "localhost"
		}
	}
	fill(&c.MaxMessageBytes, 50<<20)
	fill(&c.MemoryBytes, 64<<20)
	fill(&c.SpoolBytes, 1<<30)
	fill(&c.EachRate, eachRate)
	fill(&c.TotalRate, defaultTotalRate())
	fill(&c.MaxRecipients, 1000)
	fill(&c.MaxLineBytes, 8192)
	fill(&c.MaxConnections, 200)
	fill(&c.MaxConnectionsPerIP, 50)
	fill(&c.MaxErrors, 100)
	fill(&c.MailTimeout, time.Minute)
	fill(&c.ReadTimeout, 5*time.Minute)
	fill(&c.WriteTimeout, time.Minute)
	fill(&c.SessionTimeout, time.Hour)
	fill(&c.StoreTimeout, time.Minute)
	fill(&c.SlowFor, 15*time.Second)
	return c
}

func fill[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Server receives mail.
type Server struct {
	cfg   Config
	store Store
	log   *slog.Logger

	smtp      *gosmtp.Server
	conns     *connections
	memory    *spoolMemory
	deferrals *deferrals

	// ctx bounds calls of the store; it ends when a shutdown runs out of patience.
	ctx    context.Context
	cancel context.CancelFunc
	// stopping is closed when a shutdown begins.
	stopping chan struct{}

	mu       sync.Mutex
	listener *listener
	served   chan struct{} // closed when Serve returns; nil if it was not called
	stopped  bool
}

// New makes a server that does not listen yet.
func New(cfg Config, store Store, log *slog.Logger) *Server {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		cfg: cfg, store: store, log: log,
		conns: newConnections(ctx, cfg), memory: newSpoolMemory(cfg), deferrals: newDeferrals(time.Now),
		ctx: ctx, cancel: cancel, stopping: make(chan struct{}),
	}
	s.smtp = gosmtp.NewServer(gosmtp.BackendFunc(s.newSession))
	s.smtp.Domain = cfg.Hostname
	s.smtp.MaxMessageBytes = cfg.MaxMessageBytes
	s.smtp.MaxRecipients = cfg.MaxRecipients
	s.smtp.MaxLineLength = 0 // conn holds the limit: this one counts messages, too
	s.smtp.ReadTimeout = cfg.ReadTimeout
	s.smtp.WriteTimeout = cfg.WriteTimeout
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.EnableDSN = true
	s.smtp.AllowInsecureAuth = cfg.Own != nil // no login succeeds, so none is overheard
	s.smtp.ErrorLog = errorLog{log}
	return s
}

// Listen binds the port, so that a port in use is known before anything else
// is started. Calling it again does nothing.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return net.ErrClosed
	case s.listener != nil:
		return nil
	}
	l, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for mail on %s (POSTRIDER_INBOUND_LISTEN): %w", s.cfg.Addr, err)
	}
	if err := s.memory.Prepare(); err != nil {
		return errors.Join(err, l.Close())
	}
	s.listener = &listener{Listener: l, conns: s.conns}
	return nil
}

// Addr is where the server listens, nil before Listen.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Storing is the state of the memory that messages share while they are stored.
func (s *Server) Storing() membudget.State { return s.memory.storing.State() }

// Serve receives mail until Shutdown, then returns nil. It listens first if
// that has not been done.
func (s *Server) Serve() error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.stopped || s.served != nil {
		s.mu.Unlock()
		return net.ErrClosed
	}
	l, served := s.listener, make(chan struct{})
	s.served = served
	s.mu.Unlock()
	defer close(served)

	s.log.Info("inbound.listening", "address", l.Addr().String(), "hostname", s.cfg.Hostname, "steer", s.cfg.Steer)
	err := s.smtp.Serve(l)
	if errors.Is(err, net.ErrClosed) && s.conns.isStopping() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("receive mail on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown takes no more connections, answers clients between messages with
// 421, and waits for the messages under way. When ctx ends first, it cuts those
// off, unanswered, and returns ctx's error. slow@ no longer waits.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.stopped = true
	l, served := s.listener, s.served
	s.mu.Unlock()
	defer s.cancel()

	s.conns.stop()
	close(s.stopping)
	if l == nil {
		return nil
	}
	err := l.Close()
	if served == nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		// After Serve: a connection that it is about to start must be waited for too.
		<-served
		done <- s.smtp.Shutdown(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	s.cancel()
	n := s.conns.cutAll()
	return fmt.Errorf("stop receiving mail: %d connections cut: %w", n, context.Cause(ctx))
}

// errorLog takes what go-smtp would print.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Printf(format string, v ...any) {
	level := slog.LevelInfo // a client that vanished is no fault of ours
	if strings.HasPrefix(format, "panic") {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "inbound.connection", "detail", fmt.Sprintf(format, v...))
}

func (l errorLog) Println(v ...any) { l.Printf("%s", fmt.Sprint(v...)) }
