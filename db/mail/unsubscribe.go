package mail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/suppressions"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/suppression"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// links makes the links to unsubscribe by. If the installation's key was lost, the links that were sent lead
// nowhere.
func (s *Store) links(ctx context.Context) (unsubscribe.Links, error) {
	secret, err := s.keys.Installation(ctx, "links", func(bun.Tx, []byte) error { return nil })
	return unsubscribe.NewLinks(secret), err
}

var errNoLink = email.Fail(email.CodeNotFound, "there is no such link")

// linked finds the e-mail of a link's token. A token that the installation has not made costs no query.
func (s *Store) linked(ctx context.Context, token string) (emailID string, err error) {
	made, err := s.links(ctx)
	if err != nil {
		return "", pg.Translate(err)
	}
	emailID, ok := made.EmailOf(token)
	if !ok {
		return "", errNoLink
	}
	return emailID, nil
}

// subscriber is the recipient of an e-mail with a link.
type subscriber struct {
	EmailID, CustomerID, FromEmail, Topic string
	RecipientID, Address                  string
	// Undone is how often the link has undone an unsubscription.
	Undone int
}

// maxUndone is how often a link undoes an unsubscription: a link without a credential must not make any
// number of events.
const maxUndone = 10

// countUndone is Undone of the e-mail e.
const countUndone = "SELECT count(*) FROM email_events AS ev WHERE ev.email_id = e.id AND ev.type = 'email.resubscribed'"

// entry is the entry of the suppression list by which the recipient's address gets no such mail; nil if there is
// none. Entries for all mail, and for a whole domain, say nothing about what the recipient wants.
func (u *subscriber) entry(ctx context.Context, tx bun.IDB, keys suppression.Keys) (*suppression.Entry, error) {
	key := keys.Key(u.Address)
	found, err := suppressions.Of(ctx, tx, []suppressions.Lookup{{CustomerID: u.CustomerID, Key: key, Address: u.Address}})
	if err != nil {
		return nil, err
	}
	scope, target := suppression.ScopeOf(u.Topic)
	i := slices.IndexFunc(found[0], func(e suppression.Entry) bool { return e.Key == key && e.Scope == scope && e.Target == target })
	if i < 0 {
		return nil, nil
	}
	return &found[0][i], nil
}

// own reports whether an entry was made by the link of the e-mail.
func (u *subscriber) own(e *suppression.Entry) bool {
	return e.EmailID == u.EmailID && e.Reason == suppression.Unsubscribe && e.Source == suppression.FromRecipient
}

func (u *subscriber) subscription(e *suppression.Entry) unsubscribe.Subscription {
	out := unsubscribe.Subscription{Recipient: email.MaskAddress(u.Address), Sender: email.DomainOf(u.FromEmail), Topic: u.Topic, State: unsubscribe.Subscribed}
	switch {
	case e == nil:
	case u.own(e) && u.Undone >= maxUndone:
		out.State = unsubscribe.Settled
	case u.own(e):
		out.State = unsubscribe.Unsubscribed
	default:
		out.State = unsubscribe.Elsewhere
	}
	return out
}

// Subscription is what the link with a token is about. A token that is no link's is a CodeNotFound.
func (s *Store) Subscription(ctx context.Context, token string) (out unsubscribe.Subscription, err error) {
	id, err := s.linked(ctx, token)
	if err != nil {
		return out, err
	}
	var u subscriber
	err = s.db.NewRaw(`SELECT e.id AS email_id, e.customer_id, e.from_email, e.topic, r.id AS recipient_id, r.address, (`+countUndone+`) AS undone
		FROM emails AS e JOIN recipients AS r ON r.email_id = e.id WHERE e.id = ? AND e.unsubscribe`, id).Scan(ctx, &u)
	if errors.Is(err, sql.ErrNoRows) {
		return out, errNoLink
	}
	if err != nil {
		return out, pg.Translate(fmt.Errorf("read a subscription: %w", err))
	}
	keys, err := s.suppressions.Keys(ctx)
	if err != nil {
		return out, pg.Translate(err)
	}
	e, err := u.entry(ctx, s.db, keys)
	if err != nil {
		return out, pg.Translate(err)
	}
	return u.subscription(e), nil
}

// Unsubscribe puts the recipient of a link's e-mail on its customer's suppression list. Calling it again changes
// nothing. A token that is no link's is a CodeNotFound.
func (s *Store) Unsubscribe(ctx context.Context, token string) (unsubscribe.Subscription, error) {
	return s.subscribe(ctx, token, func(c *unitOfWork, m *lockedEmail, u *subscriber, e *suppression.Entry) error {
		if e != nil && (u.own(e) || e.ExpiresAt.IsZero()) {
			return nil
		}
		scope, target := suppression.ScopeOf(u.Topic)
		err := suppressions.Put(c.ctx, c.tx, []suppression.Entry{{
			ID: pg.NewID(), CustomerID: u.CustomerID, Key: c.addressKeys.Key(u.Address), Address: u.Address, Scope: scope, Target: target,
			Reason: suppression.Unsubscribe, Source: suppression.FromRecipient, EmailID: u.EmailID,
		}})
		c.emit(m, eventRow{Type: email.EventUnsubscribed, RecipientID: u.RecipientID, Attempt: m.Attempts})
		return err
	})
}

// Resubscribe takes back what Unsubscribe has done with the same token, and nothing else. Its errors are those of
// Unsubscribe.
func (s *Store) Resubscribe(ctx context.Context, token string) (unsubscribe.Subscription, error) {
	return s.subscribe(ctx, token, func(c *unitOfWork, m *lockedEmail, u *subscriber, e *suppression.Entry) error {
		if e == nil || !u.own(e) || u.Undone >= maxUndone {
			return nil
		}
		taken, err := suppressions.TakeBack(c.ctx, c.tx, e.ID, u.EmailID)
		if err == nil && taken {
			u.Undone++
			c.emit(m, eventRow{Type: email.EventResubscribed, RecipientID: u.RecipientID, Attempt: m.Attempts})
		}
		return err
	})
}

// subscribe changes the subscription of a link under the row lock of its e-mail, and returns what it is then. change
// gets the entry that is there.
func (s *Store) subscribe(ctx context.Context, token string, change func(*unitOfWork, *lockedEmail, *subscriber, *suppression.Entry) error) (out unsubscribe.Subscription, err error) {
	id, err := s.linked(ctx, token)
	if err != nil {
		return out, err
	}
	err = s.update(ctx, []string{id}, func(c *unitOfWork) error {
		m, err := c.find(id)
		if err != nil || !m.Unsubscribe || len(m.recipients) != 1 {
			return errNoLink
		}
		r := m.recipients[0]
		u := subscriber{EmailID: m.ID, CustomerID: m.CustomerID, FromEmail: m.FromEmail, Topic: m.Topic, RecipientID: r.ID, Address: r.Address}
		e, err := u.entry(c.ctx, c.tx, c.addressKeys)
		if err != nil {
			return err
		}
		if err := c.tx.NewRaw("SELECT ("+countUndone+") FROM emails AS e WHERE e.id = ?", m.ID).Scan(c.ctx, &u.Undone); err != nil {
			return fmt.Errorf("count what a link has undone: %w", err)
		}
		if err := change(c, m, &u, e); err != nil {
			return err
		}
		if e, err = u.entry(c.ctx, c.tx, c.addressKeys); err != nil {
			return err
		}
		out = u.subscription(e)
		return nil
	})
	return out, err
}
