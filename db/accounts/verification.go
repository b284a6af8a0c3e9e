package accounts

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/senderdomain"
)

const (
	// MaxDomains is how many sender domains a customer may have.
	MaxDomains = 1000
	// MaxDomainRequests is how many requests of a customer per minute may make keys or ask the DNS.
	MaxDomainRequests = 30
	// MaxOperatorDomainRequests is how many an operator's customer may make for other customers.
	MaxOperatorDomainRequests = 300
	// MaxKeys is how many DKIM keys of a domain may be pending, active or retiring.
	MaxKeys = 10
)

// verificationRow is a domain with its verification.
type verificationRow struct {
	bun.BaseModel `bun:"table:domains,alias:d"`

	ID          string                    `bun:"id,pk,type:uuid"`
	CustomerID  string                    `bun:"customer_id,type:uuid"`
	Name        string                    `bun:"name"`
	VerifiedAt  time.Time                 `bun:"verified_at,nullzero"`
	CreatedAt   time.Time                 `bun:"created_at,nullzero,default:now()"`
	Status      senderdomain.DomainStatus `bun:"status"`
	StatusSince time.Time                 `bun:"status_since"`
	VerifiedBy  senderdomain.Verifier     `bun:"verified_by,nullzero"`
	StartedAt   time.Time                 `bun:"started_at,nullzero"`
	Checks      int                       `bun:"checks"`
	Misses      int                       `bun:"misses"`
	FirstMissAt time.Time                 `bun:"first_miss_at,nullzero"`
	Unanswered  int                       `bun:"unanswered"`
	CheckedAt   time.Time                 `bun:"checked_at,nullzero"`
	NextCheckAt time.Time                 `bun:"next_check_at,nullzero"`
	Records     []checkedRecord           `bun:"records,type:jsonb"`
	SPF         []senderdomain.SPFResult  `bun:"spf,type:jsonb"`
	BlockedBy   senderdomain.Blocker      `bun:"blocked_by,nullzero"`
	BounceHost  string                    `bun:"bounce_host"`
	// BounceTarget is the installation's host that BounceHost leads to.
	BounceTarget string `bun:"bounce_target"`
	Revision     int64  `bun:"revision"`

	// TxNow is the time of the transaction that has locked the row.
	TxNow time.Time `bun:"tx_now,scanonly"`
}

func (r *verificationRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

// checkedRecord is a record as domains.records has it.
type checkedRecord struct {
	Kind     senderdomain.Kind    `json:"record"`
	Required bool                 `json:"required"`
	Type     dnslookup.Type       `json:"type"`
	FQDN     string               `json:"fqdn"`
	Value    string               `json:"value"`
	Status   senderdomain.Status  `json:"status"`
	Found    []string             `json:"found,omitempty"`
	Problem  senderdomain.Problem `json:"problem,omitempty"`
	Remedy   string               `json:"remedy,omitempty"`
}

func toChecked(records []senderdomain.Record) []checkedRecord {
	out := make([]checkedRecord, len(records))
	for i, r := range records {
		out[i] = checkedRecord{r.Kind, r.Required, r.Type, r.FQDN, r.Value, r.Status, r.Found, r.Problem, r.Remedy}
	}
	return out
}

func fromChecked(records []checkedRecord) []senderdomain.Record {
	out := make([]senderdomain.Record, len(records))
	for i, r := range records {
		out[i] = senderdomain.Record{Kind: r.Kind, Required: r.Required, Type: r.Type, FQDN: r.FQDN, Value: r.Value, Status: r.Status, Found: r.Found, Problem: r.Problem, Remedy: r.Remedy}
	}
	return out
}

// verifier is who says that the domain is the customer's. An older version writes verified_at alone.
func (r *verificationRow) verifier() senderdomain.Verifier {
	switch {
	case r.VerifiedAt.IsZero():
		return ""
	case r.VerifiedBy == "":
		return senderdomain.VerifiedByOperator
	}
	return r.VerifiedBy
}

// status is what holds for mail, and since when.
func (r *verificationRow) status() (senderdomain.DomainStatus, time.Time) {
	switch {
	case r.verifier() == senderdomain.VerifiedByOperator:
		return senderdomain.DomainVerified, r.VerifiedAt
	case r.VerifiedAt.IsZero() && r.sends(): // an older version has taken the verification back
		return senderdomain.DomainPending, r.StatusSince
	}
	return r.Status, r.StatusSince
}

// sends reports whether the domain sends by its DNS records.
func (r *verificationRow) sends() bool {
	return r.Status == senderdomain.DomainVerified || r.Status == senderdomain.DomainWarning
}

func (r *verificationRow) domain(keys []senderdomain.DKIMKey, bounceHost string) senderdomain.Domain {
	status, since := r.status()
	return senderdomain.Domain{
		ID: r.ID, CustomerID: r.CustomerID, Name: r.Name, Status: status, Since: pg.UTC(since),
		VerifiedAt: pg.UTC(r.VerifiedAt), VerifiedBy: r.verifier(), BlockedBy: r.BlockedBy,
		CheckedAt: pg.UTC(r.CheckedAt), NextCheckAt: pg.UTC(r.NextCheckAt),
		Records: senderdomain.WithResults(senderdomain.DomainRecords(senderdomain.Needs{Domain: r.Name, BounceHost: bounceHost}, keys), fromChecked(r.Records)),
		SPF:     r.SPF, ReturnDomain: senderdomain.ReturnDomain(r.Name, r.ownBounceHost(bounceHost), bounceHost),
		Keys: keys, CreatedAt: pg.UTC(r.CreatedAt),
	}
}

// ownBounceHost is the domain's own host of return paths, if it leads to the installation's.
func (r *verificationRow) ownBounceHost(installation string) string {
	if r.BounceTarget != installation {
		return ""
	}
	return r.BounceHost
}

func (r *verificationRow) state() senderdomain.State {
	return senderdomain.State{
		Status: r.Status, Since: r.StatusSince, StartedAt: r.StartedAt, Checks: r.Checks,
		Misses: r.Misses, FirstMissAt: r.FirstMissAt, Unanswered: r.Unanswered, NextCheckAt: r.NextCheckAt,
	}
}

func (r *verificationRow) setState(s senderdomain.State) {
	r.Status, r.StatusSince, r.StartedAt, r.Checks = s.Status, s.Since, s.StartedAt, s.Checks
	r.Misses, r.FirstMissAt, r.Unanswered, r.NextCheckAt = s.Misses, s.FirstMissAt, s.Unanswered, s.NextCheckAt
}

// save writes a locked row's verification, and ends the claim of a check. A caller that makes the
// result of a check under way wrong raises Revision before.
func (r *verificationRow) save(ctx context.Context, tx bun.Tx) error {
	if r.Records == nil {
		r.Records = []checkedRecord{}
	}
	if r.SPF == nil {
		r.SPF = []senderdomain.SPFResult{}
	}
	_, err := tx.NewUpdate().Model(r).WherePK().
		Column("verified_at", "status", "status_since", "verified_by", "started_at", "checks", "misses", "first_miss_at", "unanswered", "checked_at", "next_check_at", "records", "spf", "blocked_by", "bounce_host", "bounce_target", "revision").
		Set("claimed_until = NULL").Exec(ctx)
	return err
}

// lockVerification reads and locks a domain. customerID bounds it, unless it is empty. A domain that
// does not exist is a CodeNotFound.
func lockVerification(ctx context.Context, tx bun.Tx, customerID, id string) (*verificationRow, error) {
	row := &verificationRow{}
	q := tx.NewSelect().Model(row).ColumnExpr("d.*").ColumnExpr("now() AS tx_now").Where("d.id = ?", id).For("NO KEY UPDATE")
	if customerID != "" {
		q = q.Where("d.customer_id = ?", customerID)
	}
	err := q.Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, pg.NotFound("domain")
	}
	return row, err
}

// CountDomainRequest counts a request that makes keys or asks the DNS. More than MaxDomainRequests of
// a customer within a minute are a CodeTooMany.
func (s *Store) CountDomainRequest(ctx context.Context, customerID string) error {
	return s.countRequest(ctx, "domain_requests", customerID, MaxDomainRequests)
}

// CountOperatorDomainRequest counts one that an operator makes for another customer. The count is that of
// the operator's customer, and may go to MaxOperatorDomainRequests.
func (s *Store) CountOperatorDomainRequest(ctx context.Context, operatorID string) error {
	return s.countRequest(ctx, "operator_domain_requests", operatorID, MaxOperatorDomainRequests)
}

func (s *Store) countRequest(ctx context.Context, table, customerID string, most int) error {
	var n int
	err := s.db.NewRaw(`INSERT INTO ? AS r (customer_id, minute, requests) VALUES (?, date_trunc('minute', now()), 1)
		ON CONFLICT (customer_id) DO UPDATE SET minute = excluded.minute, requests = CASE WHEN r.minute = excluded.minute THEN r.requests + 1 ELSE 1 END
		RETURNING requests`, bun.Ident(table), customerID).Scan(ctx, &n)
	if err != nil {
		return pg.Translate(err)
	}
	if n > most {
		return email.Fail(email.CodeTooMany, "the limit is %d requests a minute that add, verify or rotate a domain; Postrider looks at the DNS by itself, next_check_at says when", most)
	}
	return nil
}

// CreateDomain gives a customer a sender domain (see senderdomain.Parse) with DKIM keys, whose first
// check is due at once. If the customer has the domain, it is returned as it is; if that has no keys,
// it gets some. Another customer may have the domain too: one of them can be verified. A customer
// that does not exist is a CodeNotFound, more than MaxDomains are a CodeConflict.
func (s *Store) CreateDomain(ctx context.Context, customerID, name string) (d senderdomain.Domain, created bool, err error) {
	d, err = s.DomainByName(ctx, customerID, name)
	if err == nil && len(d.Keys) > 0 || err != nil && email.FailureCode(err) != email.CodeNotFound {
		return d, false, err
	}
	pair, err := newKeyPair()
	if err != nil {
		return d, false, err
	}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := pg.LockCustomer(ctx, tx, customerID); err != nil {
			return err
		}
		id := ""
		err := tx.NewRaw("SELECT id FROM domains WHERE customer_id = ? AND name = ?", customerID, name).Scan(ctx, &id)
		if created = errors.Is(err, sql.ErrNoRows); created {
			if err := pg.CheckRoom(ctx, tx, "domains", MaxDomains, "delete one that is not used", "SELECT count(*) FROM domains WHERE customer_id = ?", customerID); err != nil {
				return err
			}
			id = pg.NewID()
			if _, err := tx.NewRaw("INSERT INTO domains (id, customer_id, name) VALUES (?, ?, ?)", id, customerID, name).Exec(ctx); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		row, err := lockVerification(ctx, tx, customerID, id)
		if err != nil {
			return err
		}
		keys, err := keysOf(ctx, tx, id)
		if err != nil || len(keys[id]) > 0 {
			return err // the same request at the same time was first
		}
		if err := s.insertKeys(ctx, tx, id, name, pair); err != nil {
			return err
		}
		row.setState(senderdomain.Start(row.TxNow))
		row.Revision++
		if err := row.save(ctx, tx); err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "domain.added", name, "with DKIM keys")
	})
	if err != nil {
		return d, false, err
	}
	d, err = s.DomainByName(ctx, customerID, name)
	return d, created, err
}

// ListDomains lists a customer's sender domains with their verification, newest first, without their
// records and keys.
func (s *Store) ListDomains(ctx context.Context, customerID string, after email.Cursor, limit int) (out []senderdomain.Domain, next *email.Cursor, err error) {
	q := s.db.NewSelect().Where("d.customer_id = ?", customerID).
		Column("id", "customer_id", "name", "verified_at", "created_at", "status", "status_since", "verified_by", "checked_at", "next_check_at", "blocked_by")
	return pg.List(ctx, q, "d", "created_at", after, limit, (*verificationRow).cursor, func(r *verificationRow) senderdomain.Domain {
		d := r.domain(nil, "")
		d.Records = nil
		return d
	})
}

// DomainByID reads a customer's domain with its verification. A domain that the customer does not have
// is a CodeNotFound.
func (s *Store) DomainByID(ctx context.Context, customerID, id string) (senderdomain.Domain, error) {
	return s.domainWhere(ctx, "d.customer_id = ? AND d.id = ?", customerID, id)
}

// DomainByName is DomainByID by the domain's name.
func (s *Store) DomainByName(ctx context.Context, customerID, name string) (senderdomain.Domain, error) {
	return s.domainWhere(ctx, "d.customer_id = ? AND d.name = ?", customerID, name)
}

func (s *Store) domainWhere(ctx context.Context, where string, args ...any) (senderdomain.Domain, error) {
	row := &verificationRow{}
	err := s.db.NewSelect().Model(row).Where(where, args...).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return senderdomain.Domain{}, pg.NotFound("domain")
	}
	if err != nil {
		return senderdomain.Domain{}, pg.Translate(err)
	}
	keys, err := keysOf(ctx, s.db, row.ID)
	return row.domain(keys[row.ID], s.opts.BounceHost), pg.Translate(err)
}

// change changes a locked domain in one transaction, and reads it afterwards.
func (s *Store) change(ctx context.Context, customerID, id string, do func(tx bun.Tx, row *verificationRow) error) (senderdomain.Domain, error) {
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		row, err := lockVerification(ctx, tx, customerID, id)
		if err != nil {
			return err
		}
		return do(tx, row)
	})
	if err != nil {
		return senderdomain.Domain{}, err
	}
	return s.DomainByID(ctx, customerID, id)
}

// CheckDomainNow makes the next check of a domain due, at the earliest checkPause after the last. A
// pending or failed domain's checks begin anew. A check that is under way is as good as a new one. A
// domain without keys gets some. A domain that the customer does not have is a CodeNotFound.
func (s *Store) CheckDomainNow(ctx context.Context, customerID, id string) (senderdomain.Domain, error) {
	d, err := s.DomainByID(ctx, customerID, id)
	if err == nil && len(d.Keys) == 0 {
		d, _, err = s.CreateDomain(ctx, customerID, d.Name)
		return d, err
	}
	if err != nil {
		return d, err
	}
	return s.change(ctx, customerID, id, func(tx bun.Tx, row *verificationRow) error {
		row.setState(row.state().VerifyNow(row.TxNow))
		if err := row.save(ctx, tx); err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "domain.check", row.Name, "")
	})
}

// RotateDKIM gives a domain new DKIM keys, which take over once their records are published. If new
// keys wait for that already, it changes nothing. A domain that the customer does not have is a
// CodeNotFound, more than MaxKeys are a CodeConflict.
func (s *Store) RotateDKIM(ctx context.Context, customerID, id string) (senderdomain.Domain, error) {
	d, err := s.DomainByID(ctx, customerID, id)
	if err != nil || waitsForRecords(d.Keys) {
		return d, err
	}
	pair, err := newKeyPair()
	if err != nil {
		return d, err
	}
	return s.change(ctx, customerID, id, func(tx bun.Tx, row *verificationRow) error {
		keys, err := keysOf(ctx, tx, id)
		if err != nil || waitsForRecords(keys[id]) {
			return err
		}
		live := 0
		for _, k := range keys[id] {
			if k.State != senderdomain.RevokedKey {
				live++
			}
		}
		if live+len(pair) > MaxKeys {
			return email.Fail(email.CodeConflict, "the domain has %d DKIM keys that are not revoked, the limit is %d; wait until the oldest have retired for 14 days", live, MaxKeys)
		}
		return s.rotate(ctx, tx, row, pair)
	})
}

func (s *Store) rotate(ctx context.Context, tx bun.Tx, row *verificationRow, pair []dkim.PrivateKey) error {
	if err := s.insertKeys(ctx, tx, row.ID, row.Name, pair); err != nil {
		return err
	}
	row.setState(row.state().VerifyNow(row.TxNow))
	row.Revision++
	if err := row.save(ctx, tx); err != nil {
		return err
	}
	return audit.Write(ctx, tx, row.CustomerID, "domain.dkim_rotated", row.Name, "")
}

// waitsForRecords reports whether the newest RSA key does not sign yet.
func waitsForRecords(keys []senderdomain.DKIMKey) bool {
	for _, k := range keys { // newest first
		if k.Algorithm == senderdomain.RSA {
			return k.State == senderdomain.PendingKey
		}
	}
	return false
}

// RefusedSender is the refusal of mail from a domain whose verification has failed, or is under way.
// It names the record that is missing. nil means that the customer does not have the domain, or that
// its checks are not the reason.
func RefusedSender(ctx context.Context, idb bun.IDB, customerID, name string) (*email.Failure, error) {
	row := &verificationRow{}
	err := idb.NewSelect().Model(row).Where("d.customer_id = ?", customerID).Where("d.name = ?", name).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	status, since := row.status()
	missing := senderdomain.FirstProblem(fromChecked(row.Records))
	switch {
	case status == senderdomain.DomainFailed && missing != nil:
		return email.Fail(email.CodeDomainUnverified, "the sender's domain %s has failed verification since %s: the %s record at %s is missing or wrong (%s). %s Then POST /v1.0/domains/%s/verify",
			name, pg.UTC(since).Format(time.RFC3339), missing.Type, missing.FQDN, missing.Problem, missing.Remedy, row.ID), nil
	case status == senderdomain.DomainFailed:
		return email.Fail(email.CodeDomainUnverified, "the sender's domain %s has failed verification since %s: GET /v1.0/domains/%s says why", name, pg.UTC(since).Format(time.RFC3339), row.ID), nil
	case row.VerifiedAt.IsZero() && row.BlockedBy == senderdomain.BlockedByOperator:
		return email.Fail(email.CodeDomainUnverified, "an operator has taken the sender's domain %s back: ask the operator, or send from a verified domain", name), nil
	case row.VerifiedAt.IsZero() && row.BlockedBy == senderdomain.BlockedByCustomer:
		return email.Fail(email.CodeDomainUnverified, "the sender's domain %s is verified for another customer: it becomes free when that customer's records are gone for 48 hours, or that customer deletes it (blocked_by of GET /v1.0/domains/%s)", name, row.ID), nil
	case status == senderdomain.DomainPending && row.BlockedBy == "" && !row.NextCheckAt.IsZero():
		return email.Fail(email.CodeDomainUnverified, "the sender's domain %s is not verified yet: publish the records of GET /v1.0/domains/%s, or send from a verified domain", name, row.ID), nil
	}
	return nil, nil
}
