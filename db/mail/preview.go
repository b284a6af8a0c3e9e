package mail

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/senderdomain"
)

// Preview refuses what Accept would refuse, and changes nothing. It gives the message with what is
// known of the files it refers to, and the senders of the customer's last e-mails of its stream.
// Its errors are those of Accept.
func (s *Store) Preview(ctx context.Context, customerID string, m email.Message) (out email.Message, senders email.SenderUse, err error) {
	err = s.inUnit(ctx, func(c *unitOfWork) error {
		from, err := c.checkSender(customerID, m.From.Domain())
		if err != nil {
			return err
		}
		if m.Attachments, err = c.attachFiles(customerID, m); err != nil {
			return err
		}
		if from.prepaid {
			if err := accounts.CheckCredits(ctx, c.tx, customerID, len(m.To)+len(m.Cc)+len(m.Bcc)); err != nil {
				return err
			}
		}
		senders, err = c.senderUse(customerID, m)
		return err
	})
	return m, senders, err
}

// errPreviewed takes back what a preview has done.
var errPreviewed = errors.New("only a preview")

// PreviewBatch refuses what AcceptBatch would refuse, and changes nothing. It tells which items
// would be refused, and the place of the first that would not. Its errors are those of AcceptBatch.
func (s *Store) PreviewBatch(ctx context.Context, customerID string, req email.BatchRequest) (refused []email.RefusedItem, first int, err error) {
	err = s.inUnit(ctx, func(c *unitOfWork) error {
		a := newBatchAcceptance(c, pg.NewID(), customerID, req)
		a.preview = true
		if err := a.accept(delivery.NoOwner); err != nil {
			return err
		}
		refused, first = a.row.batch().Refused, a.items[0].Index
		return errPreviewed
	})
	if errors.Is(err, errPreviewed) {
		err = nil
	}
	return refused, first, err
}

// PreviewSender reads a sender's domain with its last check. Of a domain that the customer does not
// have, it gives no more than the name.
func (s *Store) PreviewSender(ctx context.Context, customerID, domain string) (senderdomain.Domain, error) {
	d, err := s.accounts.DomainByName(ctx, customerID, domain)
	if email.FailureCode(err) == email.CodeNotFound {
		return senderdomain.Domain{Name: domain}, nil
	}
	return d, err
}

// How far back senders are looked for. The second number bounds the work for a
// customer with few e-mails of the stream among many others.
const (
	senderEmails = 100
	senderScan   = 10_000
)

func (c *unitOfWork) senderUse(customerID string, m email.Message) (u email.SenderUse, err error) {
	err = c.tx.NewRaw(`WITH latest AS (
			SELECT lower(e.from_email) AS address FROM (
				SELECT from_email, stream FROM emails WHERE customer_id = ?0 AND deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT ?3
			) AS e WHERE e.stream = ?1 LIMIT ?2
		), most AS (SELECT address, count(*) AS n FROM latest GROUP BY address ORDER BY n DESC, address LIMIT 1)
		SELECT count(*), count(*) FILTER (WHERE address = lower(?4)), coalesce((SELECT address FROM most), ''), coalesce((SELECT n FROM most), 0) FROM latest`,
		customerID, m.Stream, senderEmails, senderScan, m.From.Email).Scan(c.ctx, &u.Total, &u.Same, &u.Address, &u.Count)
	if err != nil {
		return u, fmt.Errorf("read senders: %w", err)
	}
	return u, nil
}
