package accounts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/senderdomain"
)

// WarnEvery is how often a customer is warned of a sender's domain whose mail a server finds not authenticated.
const WarnEvery = 24 * time.Hour

// domainWarning is the type of the event.
const domainWarning = "domain." + string(senderdomain.DomainWarning)

// AuthRefusal is a reply by which a server did not take mail, because the sender's domain does not authenticate it.
type AuthRefusal struct {
	CustomerID string
	// Domain is the sender's, in lower case.
	Domain string
	// EmailID is an e-mail that got the reply.
	EmailID string
	// Fault is what the server found missing, as "spf". Remedy is what to do.
	Fault, Remedy string
	Reply         email.Reply
}

// authWarning is the member data of a domain.warning about a reply. Members are added, never changed. It has the members
// of a domainEvent, without those of a domain that the customer does not have.
type authWarning struct {
	DomainID    string                    `json:"domain_id,omitempty"`
	CustomerID  string                    `json:"customer_id"`
	Domain      string                    `json:"domain"`
	Status      senderdomain.DomainStatus `json:"status,omitempty"`
	StatusSince *time.Time                `json:"status_since,omitempty"`
	Records     []domainEventRecord       `json:"records"`
	// Reason is unauthenticated: there is none in an event about records.
	Reason  email.Detail `json:"reason"`
	Fault   string       `json:"fault"`
	Remedy  string       `json:"remedy"`
	SMTP    email.Reply  `json:"smtp"`
	EmailID string       `json:"email_id"`
}

// WarnOfRefusal tells a customer's webhooks and the audit log of a refusal, by domain.warning, at most once in WarnEvery
// for each domain. It returns the time from which a refusal leads to another warning. The domain's status stays.
func (s *Store) WarnOfRefusal(ctx context.Context, r AuthRefusal) (next time.Time, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		var now time.Time
		err := tx.NewRaw(`INSERT INTO domain_warnings AS w (customer_id, domain, warned_at) VALUES (?0, ?1, now())
			ON CONFLICT (customer_id, domain) DO UPDATE SET warned_at = now() WHERE w.warned_at <= now() - ?2 * interval '1 second'
			RETURNING warned_at`, r.CustomerID, r.Domain, WarnEvery.Seconds()).Scan(ctx, &now)
		if errors.Is(err, sql.ErrNoRows) {
			return tx.NewRaw("SELECT warned_at + ?2 * interval '1 second' FROM domain_warnings WHERE customer_id = ?0 AND domain = ?1",
				r.CustomerID, r.Domain, WarnEvery.Seconds()).Scan(ctx, &next)
		}
		if err != nil {
			return err
		}
		next = now.Add(WarnEvery)
		data := authWarning{CustomerID: r.CustomerID, Domain: r.Domain, Records: []domainEventRecord{}, Reason: email.DetailUnauthenticated,
			Fault: r.Fault, Remedy: r.Remedy, SMTP: r.Reply, EmailID: r.EmailID}
		if err := data.addDomain(ctx, tx, s.opts.BounceHost); err != nil {
			return err
		}
		if err := webhooks.EnqueueOfCustomer(ctx, tx, r.CustomerID, domainWarning, now, data); err != nil {
			return err
		}
		said := strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", r.Reply.Code, r.Reply.Enhanced, r.Reply.Text)), " ")
		return audit.Write(ctx, tx, r.CustomerID, domainWarning, r.Domain, "a server found no authentication: "+said)
	})
	return next, pg.Translate(err)
}

// addDomain adds what is known of the domain, if the customer has it.
func (w *authWarning) addDomain(ctx context.Context, tx bun.Tx, bounceHost string) error {
	row := &verificationRow{}
	err := tx.NewSelect().Model(row).Where("d.customer_id = ? AND d.name = ?", w.CustomerID, w.Domain).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := keysOf(ctx, tx, row.ID)
	if err != nil {
		return err
	}
	d := row.domain(keys[row.ID], bounceHost)
	w.DomainID, w.Status, w.StatusSince, w.Records = row.ID, d.Status, &d.Since, problemRecords(d.Records)
	return nil
}
