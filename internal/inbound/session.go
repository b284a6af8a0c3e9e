package inbound

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/spool"
)

// session is one client's conversation.
type session struct {
	server *Server
	conn   *conn
	helo   string

	// mu guards tx: with BDAT, go-smtp calls Data and Reset from two goroutines.
	mu sync.Mutex
	tx transaction
}

// transaction is the envelope of the message at hand.
type transaction struct {
	open       bool
	from       string
	envelopeID string
	utf8       bool

	// deliveries are in the order of their first recipient.
	deliveries []delivery
	slow, drop bool
	// settled are deferrals that end when this message is stored.
	settled []deferralKey
}

// delivery is a mailbox and the recipients that it took.
type delivery struct {
	box mailbox.Mailbox
	to  []string
}

func (s *Server) newSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	client, ok := c.Conn().(*conn)
	if !ok {
		return nil, errNotOurs
	}
	own := &session{server: s, conn: client, helo: plaintext.Line(c.Hostname(), maxHeloBytes)}
	if s.cfg.Own != nil {
		return noSubmission{own}, nil
	}
	return own, nil
}

// noSubmission is a session that offers a login and refuses it. So a program that wants to
// submit mail gets a reply that says what this port is.
type noSubmission struct{ *session }

// AuthMechanisms are those that mail programs choose.
func (noSubmission) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth refuses every login.
func (s noSubmission) Auth(string) (sasl.Server, error) {
	s.conn.faults.Add(1)
	return nil, errNoLogin
}

// maxHeloBytes is the length of a domain name (RFC 5321 §4.5.3.1.2).
const maxHeloBytes = 255

// Mail opens a transaction.
func (s *session) Mail(from string, opts *gosmtp.MailOptions) error {
	if limit := s.server.cfg.MaxMessageBytes; opts.Size > limit {
		return tooLarge(limit)
	}
	if from != "" {
		var refused error
		if from, refused = checkAddress(from, opts.UTF8, codeBadSender); refused != nil {
			return refused
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.open {
		return errNestedMail
	}
	if !s.server.memory.Room(s.conn.key, opts.Size) {
		return errSpool
	}
	s.tx = transaction{open: true, from: from, envelopeID: opts.EnvelopeID, utf8: opts.UTF8}
	s.conn.began()
	return nil
}

// Rcpt finds the mailbox of a recipient.
func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	to, err := checkAddress(to, s.tx.utf8, codeBadRecipient)
	if err != nil {
		return err
	}
	box, err := s.mailboxFor(to)
	if err != nil {
		return err
	}
	var steered steering
	if s.server.cfg.Steer {
		steered = steer(to)
	}
	if steered.refuse != nil {
		return steered.refuse
	}
	key := keyOf(s.tx.envelopeID, s.tx.from, to)
	if steered.deferred && s.server.deferrals.refuse(key) {
		return errDeferred
	}

	s.tx.add(box, to)
	s.tx.slow = s.tx.slow || steered.slow
	s.tx.drop = s.tx.drop || steered.drop
	if steered.deferred && s.tx.envelopeID == "" {
		// Without an ENVID the next message looks the same, and is deferred again.
		s.tx.settled = append(s.tx.settled, key)
	}
	return nil
}

// mailboxFor finds the mailbox of a recipient. Its errors are replies.
func (s *session) mailboxFor(to string) (mailbox.Mailbox, error) {
	ctx, cancel := context.WithTimeout(s.server.ctx, s.server.cfg.StoreTimeout)
	defer cancel()
	failed := func(step string, err error) (mailbox.Mailbox, error) {
		s.server.log.Error("inbound.failed", "step", step, "to", email.MaskAddress(to), "error", err)
		return mailbox.Mailbox{}, errStoreDown
	}
	box, err := s.server.store.MailboxFor(ctx, to)
	switch {
	case errors.Is(err, mailbox.ErrNotFound):
		s.conn.faults.Add(1)
		return box, errUnknownMailbox
	case err != nil:
		return failed("find mailbox", err)
	case s.server.cfg.Own == nil || !box.CatchAll || strings.EqualFold(box.Address, to):
		return box, nil
	}
	own, err := s.server.cfg.Own(ctx, s.tx.envelopeID)
	switch {
	case err != nil:
		return failed("find e-mail", err)
	case !own:
		s.conn.faults.Add(1)
		return box, errNoSubmission
	}
	return box, nil
}

func (t *transaction) add(box mailbox.Mailbox, to string) {
	i := slices.IndexFunc(t.deliveries, func(d delivery) bool { return d.box.ID == box.ID })
	if i < 0 {
		t.deliveries = append(t.deliveries, delivery{box: box, to: []string{to}})
		return
	}
	if d := &t.deliveries[i]; !slices.Contains(d.to, to) {
		d.to = append(d.to, to)
	}
}

// Data receives the message and stores it. Its error is the reply; nil is 250, which
// means stored.
func (s *session) Data(r io.Reader) error {
	start := time.Now()
	s.mu.Lock()
	tx := s.tx
	s.mu.Unlock()

	message := s.server.memory.Spool(s.conn.key, s.server.cfg.MaxMessageBytes)
	defer func() {
		if err := message.Close(); err != nil {
			s.server.log.Error("inbound.failed", "step", "close spool", "error", err)
		}
	}()
	if refused := s.receive(r, message); refused != nil {
		return refused
	}
	messages, err := s.store(tx, message, start)
	if err != nil {
		s.server.log.Error("inbound.failed", "step", "store message", "from", maskSender(tx.from),
			"bytes", message.Size(), "remote", s.conn.RemoteAddr().String(), "error", err)
		return errStoreDown
	}
	s.conn.faults.Store(0)
	s.server.conns.storedMessage(s.conn)
	s.logStored(tx, messages, start)
	s.server.deferrals.settle(tx.settled)
	return s.conclude(tx, messages[0].ID)
}

// store holds the whole message in memory no longer than it takes.
func (s *session) store(tx transaction, message *spool.Spool, start time.Time) ([]mailbox.Message, error) {
	ctx, cancel := context.WithTimeout(s.server.ctx, s.server.cfg.StoreTimeout)
	defer cancel()
	raw, done, err := s.server.memory.load(ctx, s.conn.key, message)
	if err != nil {
		return nil, err
	}
	defer done()
	messages, err := s.messages(tx, raw, start.UTC())
	if err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(s.server.ctx, s.server.cfg.StoreTimeout)
	defer cancel()
	return messages, s.server.store.StoreMessages(ctx, messages, raw)
}

// receive takes the whole message, from the connection itself after DATA and from r
// with BDAT. Its errors are replies. After DATA the client has sent all of it then,
// for any reply.
func (s *session) receive(r io.Reader, message *spool.Spool) error {
	var stored, read error
	if s.conn.data.Swap(false) {
		stored, read = s.conn.readData(message)
	} else {
		stored, read = copyChunks(message, r)
	}
	switch {
	case errors.Is(read, errRestTooLong) && errors.Is(stored, spool.ErrTooLarge):
		return s.giveUp(stored, replyTooLarge(s.server.cfg.MaxMessageBytes))
	case errors.Is(read, errRestTooLong):
		return s.giveUp(stored, replyNoRoom)
	case read != nil: // the end of the connection, or RSET between two chunks: no client reads this reply
		return errClientGone
	case errors.Is(stored, spool.ErrTooLarge):
		return tooLarge(s.server.cfg.MaxMessageBytes)
	case stored != nil:
		s.server.log.Error("inbound.failed", "step", "spool message", "bytes", message.Size(), "error", stored)
		return errSpool
	}
	return nil
}

// giveUp ends the connection of a client that goes on sending a message which is not stored.
func (s *session) giveUp(why error, reply string) error {
	s.server.log.Warn("inbound.gave_up", "remote", s.conn.RemoteAddr().String(), "error", why)
	_ = s.conn.hangUp(reply) // net.ErrClosed, always
	return errClientGone
}

// copyChunks copies until the end of src or the first error, and tells whose it is.
func copyChunks(dst io.Writer, src io.Reader) (stored, read error) {
	buf := make([]byte, spool.BlockBytes)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, stored = dst.Write(buf[:n]); stored != nil {
				return stored, nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, err
		}
	}
}

func (s *session) messages(tx transaction, raw []byte, now time.Time) ([]mailbox.Message, error) {
	digest := sha256.Sum256(raw)
	summary := Summary(raw)
	list := make([]mailbox.Message, 0, len(tx.deliveries))
	for _, d := range tx.deliveries {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		list = append(list, mailbox.Message{
			ID: id, MailboxID: d.box.ID, CustomerID: d.box.CustomerID,
			EnvelopeFrom: tx.from, EnvelopeTo: d.to,
			RemoteAddr: s.conn.RemoteAddr().String(), Helo: s.helo,
			Size: int64(len(raw)), SHA256: hex.EncodeToString(digest[:]),
			Subject: summary.Subject, From: summary.From, To: summary.To, MessageID: summary.MessageID,
			ReceivedAt: now,
		})
	}
	return list, nil
}

func (s *session) logStored(tx transaction, messages []mailbox.Message, start time.Time) {
	for _, m := range messages {
		s.server.log.Info("inbound.stored", "message_id", m.ID.String(), "mailbox_id", m.MailboxID.String(),
			"from", maskSender(tx.from), "to", email.MaskAddress(m.EnvelopeTo[0]), "recipients", len(m.EnvelopeTo),
			"bytes", m.Size, "remote", m.RemoteAddr, "ms", time.Since(start).Milliseconds(), "slow", tx.slow, "drop", tx.drop)
	}
}

// conclude gives the reply to a stored message, as the recipients steer it. A
// shutdown ends the wait of slow@ with 250: the message is stored, and any
// other answer would bring it again.
func (s *session) conclude(tx transaction, id uuid.UUID) error {
	if tx.slow {
		timer := time.NewTimer(s.server.cfg.SlowFor)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.server.stopping:
		}
	}
	if tx.drop {
		if err := s.conn.cut(); err != nil {
			s.server.log.Info("inbound.connection", "detail", "cut for drop@", "error", err)
		}
		return errClientGone
	}
	return accepted(id)
}

// Reset ends the transaction.
func (s *session) Reset() {
	s.conn.ended()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = transaction{}
}

// Logout is part of gosmtp.Session; there is nothing to free.
func (s *session) Logout() error { return nil }

func maskSender(from string) string {
	if from == "" {
		return "<>"
	}
	return email.MaskAddress(from)
}
