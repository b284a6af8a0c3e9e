package mail

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// Resend accepts a finished e-mail's message once more, as a new e-mail to all of its recipients,
// now. Attachments that are stored go as they are, and share their bytes; one that could not be had
// is tried again. With an idempotency key it is done once, as for Accept. An e-mail that the
// customer does not have is a CodeNotFound, one that is not finished a CodeConflict; the other
// errors are those of Accept.
func (s *Store) Resend(ctx context.Context, customerID, id, owner string, idem email.Idempotency) (out email.Email, replayed bool, err error) {
	e, err := s.Email(ctx, customerID, id)
	if err != nil {
		return email.Email{}, false, err
	}
	if !e.Status.Final() {
		return email.Email{}, false, email.Fail(email.CodeConflict, "the e-mail is %s: only a finished one can be sent again", e.Status)
	}
	m := e.Message
	m.SendAt, m.ExpiresAt = time.Time{}, time.Time{}
	// First, for what is accepted must not be answered with an error.
	if err := audit.Write(ctx, s.db, customerID, "email.resend", id, ""); err != nil {
		return email.Email{}, false, pg.Translate(err)
	}
	return s.Accept(ctx, customerID, m, owner, idem)
}

// FirstVerdict returns those of some e-mails that have had their first verdict for every
// recipient: none is queued or being sent any more.
func (s *Store) FirstVerdict(ctx context.Context, ids []string) ([]string, error) {
	var out []string
	err := s.db.NewRaw(`SELECT e.id FROM unnest(ARRAY[?]::uuid[]) AS e(id) WHERE NOT EXISTS
		(SELECT 1 FROM recipients AS r WHERE r.email_id = e.id AND r.status IN ('queued', 'sending'))`, bun.List(ids)).Scan(ctx, &out)
	return out, pg.Translate(err)
}
