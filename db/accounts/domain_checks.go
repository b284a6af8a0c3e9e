package accounts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/senderdomain"
)

const (
	// checkPause is the shortest time between two checks of a domain, however often they are asked for.
	checkPause = 10 * time.Second
	// claimLease is how long a run has for a check that is due, until a sweep wakes it.
	claimLease = 2 * time.Minute
	// domainOverdueAfter is how late a check has to be before a sweep wakes the domain's run.
	domainOverdueAfter = 5 * time.Second
)

// BeginCheck reads a domain for a check, and claims the check if it is due and finds a place among those
// under way. Otherwise it waits for a turn, see GiveTurns. now makes it due first, as CheckDomainNow does.
// A domain that does not exist is a CodeNotFound.
func (s *Store) BeginCheck(ctx context.Context, id string, now bool) (check senderdomain.Begun, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		row, err := lockVerification(ctx, tx, "", id)
		if err != nil {
			return err
		}
		if now {
			row.setState(row.state().VerifyNow(row.TxNow))
			if err := row.save(ctx, tx); err != nil {
				return err
			}
		}
		keys, err := keysOf(ctx, tx, id)
		if err != nil {
			return err
		}
		check = senderdomain.Begun{Domain: row.domain(keys[id], s.opts.BounceHost), Revision: row.Revision, BounceHost: row.ownBounceHost(s.opts.BounceHost), InstallationHost: s.opts.BounceHost}
		if check.NextCheckAt.IsZero() {
			return row.endWaiting(ctx, tx)
		}
		if earliest := row.CheckedAt.Add(checkPause); !row.CheckedAt.IsZero() && check.NextCheckAt.Before(earliest) {
			check.NextCheckAt = pg.UTC(earliest)
		}
		if check.NextCheckAt.After(row.TxNow) {
			return row.endWaiting(ctx, tx)
		}
		if check.Due, err = row.takePlace(ctx, tx); !check.Due {
			check.Waits, check.NextCheckAt = true, pg.UTC(row.TxNow.Add(maxTurnWait))
		}
		return err
	})
	return check, err
}

// SaveCheck writes what a check has found of a domain's records, and moves its state and its keys. Its
// place is free then. A new status goes to the customer's webhooks and the audit log. SaveCheck writes nothing if the state
// is another than the check began with. It returns the domain as it is then. A domain that does not
// exist is a CodeNotFound.
func (s *Store) SaveCheck(ctx context.Context, check senderdomain.Begun, found senderdomain.Findings) (d senderdomain.Domain, err error) {
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		row, err := lockVerification(ctx, tx, "", check.ID)
		if err != nil {
			return err
		}
		if err := row.endPlace(ctx, tx, !senderdomain.Unanswered(found.Records)); err != nil {
			return err
		}
		byID, err := keysOf(ctx, tx, check.ID)
		if err != nil {
			return err
		}
		keys := byID[check.ID]
		if row.Revision != check.Revision {
			d = row.domain(keys, s.opts.BounceHost)
			return nil
		}
		now := row.TxNow.UTC()
		inUse, err := namedKeys(ctx, tx, row.CustomerID, senderdomain.Retired(keys, now))
		if err != nil {
			return err
		}
		after := senderdomain.NextKeys(keys, found.Records, inUse, now)
		if err := saveKeys(ctx, tx, keys, after); err != nil {
			return err
		}
		if err := row.apply(ctx, tx, after, found, s.opts.BounceHost); err != nil {
			return err
		}
		d = row.domain(after, s.opts.BounceHost)
		return nil
	})
	return d, err
}

// apply moves a locked row to its state after a check.
func (r *verificationRow) apply(ctx context.Context, tx bun.Tx, keys []senderdomain.DKIMKey, found senderdomain.Findings, bounceHost string) error {
	before, _ := r.status()
	state, result := r.state(), senderdomain.ResultOf(found.Records)
	if r.VerifiedAt.IsZero() && r.sends() { // an older version has taken the verification back
		state = senderdomain.Start(r.TxNow)
	}
	r.BlockedBy = ""
	if result == senderdomain.Passed && r.VerifiedAt.IsZero() {
		var err error
		if r.BlockedBy, err = blocker(ctx, tx, r.ID, r.Name); err != nil {
			return err
		}
		if r.BlockedBy != "" {
			result = senderdomain.Unknown
		}
	}
	state = state.Next(result, r.TxNow, 2*rand.Float64()-1)
	if senderdomain.Rotating(keys) && !state.NextCheckAt.IsZero() {
		if pause := senderdomain.RotationPause(r.TxNow.Sub(keys[0].Since)); pause > 0 && r.TxNow.Add(pause).Before(state.NextCheckAt) {
			state.NextCheckAt = r.TxNow.Add(pause)
		}
	}
	state = state.Answered(!senderdomain.Unanswered(found.Records), r.TxNow)
	r.setState(state)
	r.Records, r.CheckedAt, r.BounceHost = toChecked(found.Records), r.TxNow, senderdomain.BounceHost(found.Records, r.ownBounceHost(bounceHost))
	r.SPF, r.BounceTarget = found.SPF, bounceHost
	r.Revision++ // the check is saved once, also if its activity runs twice
	switch {
	case r.sends() && r.VerifiedAt.IsZero():
		r.VerifiedAt, r.VerifiedBy = r.TxNow, senderdomain.VerifiedByDNS
		if err := unlockDomain(ctx, tx, r.Name); err != nil {
			return err
		}
	case !r.sends() && r.verifier() == senderdomain.VerifiedByDNS:
		r.VerifiedAt, r.VerifiedBy = time.Time{}, ""
		if err := wakeClaimants(ctx, tx, r.Name); err != nil {
			return err
		}
	}
	if err := r.save(ctx, tx); err != nil {
		return err
	}
	if now, _ := r.status(); now != before && now != senderdomain.DomainPending {
		return r.announce(ctx, tx, now, keys, bounceHost)
	}
	return nil
}

// blocker says why a domain whose records are right cannot be verified, or nothing.
func blocker(ctx context.Context, tx bun.Tx, id, name string) (by senderdomain.Blocker, err error) {
	err = tx.NewRaw(`SELECT CASE WHEN EXISTS (SELECT 1 FROM domain_locks WHERE name = ?0 AND by_operator) THEN 'operator'
		WHEN EXISTS (SELECT 1 FROM domains WHERE name = ?0 AND verified_at IS NOT NULL AND id <> ?1) THEN 'other_customer' ELSE '' END`, name, id).Scan(ctx, &by)
	return by, err
}

// wakeClaimants makes checks due of customers' domains that wait until a name is free.
func wakeClaimants(ctx context.Context, tx bun.Tx, name string) error {
	_, err := tx.NewRaw(`UPDATE domains SET next_check_at = now(), claimed_until = NULL
		WHERE name = ? AND verified_at IS NULL AND blocked_by = 'other_customer' AND next_check_at IS NOT NULL`, name).Exec(ctx)
	return err
}

// domainEvent is the member data of the events of domains. Members are added, never changed.
type domainEvent struct {
	DomainID    string                    `json:"domain_id"`
	CustomerID  string                    `json:"customer_id"`
	Domain      string                    `json:"domain"`
	Status      senderdomain.DomainStatus `json:"status"`
	StatusSince time.Time                 `json:"status_since"`
	// Records are those with a problem.
	Records []domainEventRecord `json:"records"`
}

type domainEventRecord struct {
	Record   senderdomain.Kind    `json:"record"`
	Required bool                 `json:"required"`
	Type     dnslookup.Type       `json:"type"`
	FQDN     string               `json:"fqdn"`
	Problem  senderdomain.Problem `json:"problem"`
	Remedy   string               `json:"remedy"`
}

// problemRecords are the records with a problem, as events tell of them.
func problemRecords(records []senderdomain.Record) []domainEventRecord {
	out := []domainEventRecord{}
	for _, rec := range records {
		if rec.Problem != "" {
			out = append(out, domainEventRecord{rec.Kind, rec.Required, rec.Type, rec.FQDN, rec.Problem, rec.Remedy})
		}
	}
	return out
}

// announce tells webhooks and the audit log of a new status. "domain." and the status is the type of
// the event.
func (r *verificationRow) announce(ctx context.Context, tx bun.Tx, status senderdomain.DomainStatus, keys []senderdomain.DKIMKey, bounceHost string) error {
	d := r.domain(keys, bounceHost)
	data := domainEvent{r.ID, r.CustomerID, r.Name, d.Status, d.Since, problemRecords(d.Records)}
	detail := "by the DNS"
	if missing := senderdomain.FirstProblem(d.Records); missing != nil {
		detail = fmt.Sprintf("%s %s: %s", missing.Type, missing.FQDN, missing.Problem)
	}
	event := "domain." + string(status)
	if err := webhooks.EnqueueOfCustomer(ctx, tx, r.CustomerID, event, r.TxNow, data); err != nil {
		return err
	}
	return audit.Write(ctx, tx, r.CustomerID, event, r.Name, detail)
}

// ClaimOverdueDomains returns the ids of at most limit domains that need a run, and claims their checks:
// those whose check is late and that no run works on, and those whose turn it is, see GiveTurns. With an
// error it returns those that it has claimed.
func (s *Store) ClaimOverdueDomains(ctx context.Context, limit int) (ids []string, err error) {
	err = s.db.NewRaw(`UPDATE domains AS d SET claimed_until = now() + ?0 * interval '1 second' FROM (
			SELECT id FROM domains WHERE next_check_at < now() - ?1 * interval '1 second' AND queued_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
			ORDER BY next_check_at LIMIT ?2 FOR NO KEY UPDATE SKIP LOCKED) AS late
		WHERE d.id = late.id RETURNING d.id`, claimLease.Seconds(), domainOverdueAfter.Seconds(), limit).Scan(ctx, &ids)
	if err != nil {
		return nil, pg.Translate(err)
	}
	turns, err := s.GiveTurns(ctx, limit)
	return append(ids, turns...), err
}
