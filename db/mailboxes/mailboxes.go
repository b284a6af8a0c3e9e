// Package mailboxes keeps mailboxes and the messages that they have received.
package mailboxes

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
)

// Store has the mailboxes. It is safe for concurrent use.
type Store struct{ db *pg.DB }

// New returns the mailboxes of a database.
func New(db *pg.DB) *Store { return &Store{db} }

type mailboxRow struct {
	bun.BaseModel `bun:"table:mailboxes,alias:mb"`

	ID         string    `bun:"id,pk,type:uuid"`
	CustomerID string    `bun:"customer_id,type:uuid"`
	Address    string    `bun:"address"`
	CatchAll   bool      `bun:"catch_all"`
	CreatedAt  time.Time `bun:"created_at,nullzero,default:now()"`
}

func (r *mailboxRow) mailbox() mailbox.Mailbox {
	return mailbox.Mailbox{ID: parsedID(r.ID), CustomerID: parsedID(r.CustomerID), Address: r.Address, CatchAll: r.CatchAll, CreatedAt: pg.UTC(r.CreatedAt)}
}

type messageRow struct {
	bun.BaseModel `bun:"table:messages,alias:ms"`

	ID           string    `bun:"id,pk,type:uuid"`
	MailboxID    string    `bun:"mailbox_id,type:uuid"`
	CustomerID   string    `bun:"customer_id,type:uuid"`
	BlobID       string    `bun:"blob_id,type:uuid"`
	EnvelopeFrom string    `bun:"envelope_from"`
	EnvelopeTo   []string  `bun:"envelope_to,array"`
	RemoteAddr   string    `bun:"remote_addr"`
	Helo         string    `bun:"helo"`
	Subject      string    `bun:"subject"`
	From         string    `bun:"header_from"`
	To           string    `bun:"header_to"`
	MessageID    string    `bun:"message_id"`
	Size         int64     `bun:"size"`
	SHA256       string    `bun:"sha256"`
	ReceivedAt   time.Time `bun:"received_at"`
}

func (r *messageRow) message() mailbox.Message {
	return mailbox.Message{
		ID: parsedID(r.ID), MailboxID: parsedID(r.MailboxID), CustomerID: parsedID(r.CustomerID), EnvelopeFrom: r.EnvelopeFrom, EnvelopeTo: r.EnvelopeTo,
		RemoteAddr: r.RemoteAddr, Helo: r.Helo, Size: r.Size, SHA256: r.SHA256, Subject: r.Subject, From: r.From, To: r.To,
		MessageID: r.MessageID, ReceivedAt: pg.UTC(r.ReceivedAt),
	}
}

// CatchAllMailbox makes the mailbox that takes what no other takes, or finds it.
// There is one in an installation.
func (s *Store) CatchAllMailbox(ctx context.Context, customerID, address string) (mailbox.Mailbox, error) {
	row := mailboxRow{ID: pg.NewID(), CustomerID: customerID, Address: address, CatchAll: true}
	if _, err := s.db.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
		return mailbox.Mailbox{}, pg.Translate(err)
	}
	if err := s.db.NewSelect().Model(&row).Where("mb.catch_all").Scan(ctx); err != nil {
		return mailbox.Mailbox{}, pg.Translate(err)
	}
	return row.mailbox(), nil
}

// Mailboxes lists a customer's mailboxes, newest first.
func (s *Store) Mailboxes(ctx context.Context, customerID string) ([]mailbox.Mailbox, error) {
	var rows []*mailboxRow
	if err := s.db.NewSelect().Model(&rows).Where("mb.customer_id = ?", customerID).Order("mb.created_at DESC", "mb.id DESC").Scan(ctx); err != nil {
		return nil, pg.Translate(err)
	}
	out := make([]mailbox.Mailbox, len(rows))
	for i, r := range rows {
		out[i] = r.mailbox()
	}
	return out, nil
}

// MailboxFor finds the mailbox that takes an address: its own, else the
// catch-all. mailbox.ErrNotFound says that there is neither.
func (s *Store) MailboxFor(ctx context.Context, address string) (mailbox.Mailbox, error) {
	var row mailboxRow
	err := s.db.NewSelect().Model(&row).Where("lower(mb.address) = ? OR mb.catch_all", pg.CleanText(strings.ToLower(address))).Order("mb.catch_all").Limit(1).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return mailbox.Mailbox{}, mailbox.ErrNotFound
	}
	if err != nil {
		return mailbox.Mailbox{}, pg.Translate(err)
	}
	return row.mailbox(), nil
}

// StoreMessages keeps one received message in each of several mailboxes, all or
// none. Each customer has the bytes once.
func (s *Store) StoreMessages(ctx context.Context, ms []mailbox.Message, raw []byte) error {
	return s.db.InTx(ctx, func(tx bun.Tx) error {
		blobs := map[string]string{}
		rows := make([]messageRow, len(ms))
		for i, m := range ms {
			customer := m.CustomerID.String()
			if blobs[customer] == "" {
				blob, err := files.StoreBlob(ctx, tx, customer, raw, m.ReceivedAt)
				if err != nil {
					return err
				}
				blobs[customer] = blob.ID
			}
			rows[i] = messageRow{
				ID: m.ID.String(), MailboxID: m.MailboxID.String(), CustomerID: customer, BlobID: blobs[customer], EnvelopeFrom: pg.CleanText(m.EnvelopeFrom),
				RemoteAddr: m.RemoteAddr, Helo: pg.CleanText(m.Helo), Subject: pg.CleanText(m.Subject), From: pg.CleanText(m.From), To: pg.CleanText(m.To),
				MessageID: pg.CleanText(m.MessageID), Size: m.Size, SHA256: m.SHA256, ReceivedAt: m.ReceivedAt, EnvelopeTo: make([]string, len(m.EnvelopeTo)),
			}
			for j, a := range m.EnvelopeTo {
				rows[i].EnvelopeTo[j] = pg.CleanText(a)
			}
		}
		if _, err := tx.NewInsert().Model(&rows).Exec(ctx); err != nil {
			return fmt.Errorf("insert messages: %w", err)
		}
		return nil
	})
}

// parsedID reads a uuid column, which holds nothing else.
func parsedID(s string) uuid.UUID { return uuid.MustParse(s) }

// Messages lists a mailbox's messages, newest first. A page ends after limit messages, or before
// the one that would take it past portion.Page. A mailbox that the customer does not have is a
// CodeNotFound.
func (s *Store) Messages(ctx context.Context, customerID, mailboxID string, after email.Cursor, limit int) ([]mailbox.Message, *email.Cursor, error) {
	known, err := s.db.NewSelect().Model((*mailboxRow)(nil)).Where("mb.id = ?", mailboxID).Where("mb.customer_id = ?", customerID).Exists(ctx)
	if err != nil {
		return nil, nil, pg.Translate(err)
	}
	if !known {
		return nil, nil, pg.NotFound("mailbox")
	}
	type head struct {
		ID         string
		ReceivedAt time.Time
		Bytes      int64
	}
	var heads []head
	q := s.db.NewSelect().Model((*messageRow)(nil)).Column("id", "received_at").
		ColumnExpr("octet_length(ms.envelope_to::text) + octet_length(ms.subject) + octet_length(ms.header_to) + octet_length(ms.header_from) AS bytes").
		Where("ms.mailbox_id = ?", mailboxID).Apply(pg.NewestFirst("ms", "received_at", after, limit))
	if err := q.Scan(ctx, &heads); err != nil {
		return nil, nil, pg.Translate(err)
	}
	heads, next := pg.Page(heads, pg.Within(heads, limit, func(h head) int64 { return h.Bytes }), func(h head) (time.Time, string) { return h.ReceivedAt, h.ID })
	if len(heads) == 0 {
		return nil, next, nil
	}
	ids := make([]string, len(heads))
	for i, h := range heads {
		ids[i] = h.ID
	}
	var rows []*messageRow
	if err := s.db.NewSelect().Model(&rows).Where("ms.id IN (?)", bun.List(ids)).Order("ms.received_at DESC", "ms.id DESC").Scan(ctx); err != nil {
		return nil, nil, pg.Translate(err)
	}
	out := make([]mailbox.Message, len(rows))
	for i, r := range rows {
		out[i] = r.message()
	}
	return out, next, nil
}

// ReceivedMessage gives one message of a customer's mailbox with its Size bytes, which are read
// from Postgres as the reader is. A message that the customer's mailbox does not have is a
// CodeNotFound.
func (s *Store) ReceivedMessage(ctx context.Context, customerID, mailboxID, id string) (mailbox.Message, io.Reader, error) {
	var row messageRow
	err := s.db.NewSelect().Model(&row).Where("ms.id = ?", id).Where("ms.mailbox_id = ?", mailboxID).Where("ms.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return mailbox.Message{}, nil, pg.NotFound("message")
	}
	if err != nil {
		return mailbox.Message{}, nil, pg.Translate(err)
	}
	return row.message(), files.NewReader(ctx, s.db, row.BlobID, row.Size), nil
}
