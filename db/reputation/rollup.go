package reputation

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/mail"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/reputation"
)

// actor is who changes things here, for the audit log and the pauses.
const actor = "reputation"

// RollUp counts the events of all customers since the last time, each event once, and derives the
// bands of the domains that are concerned. It does not read past the oldest transaction that is still
// running; the next call does. Several processes may call it at once: a customer whose cursor another
// one has locked is left to that one. Customers take turns, a lot of events each. After each commit
// changed gets the domains that have become worse. RollUp ends with the first error.
func (s *Store) RollUp(ctx context.Context, changed func(reputation.Change)) error {
	ctx = account.WithActor(ctx, account.Actor{Name: actor})
	// A customer without a cursor is newer than the schema: all of its events count.
	_, err := s.db.NewRaw(`INSERT INTO reputation_cursors (customer_id) SELECT c.id FROM customers AS c
		WHERE NOT EXISTS (SELECT 1 FROM reputation_cursors AS rc WHERE rc.customer_id = c.id) ON CONFLICT DO NOTHING`).Exec(ctx)
	if err != nil {
		return pg.Translate(err)
	}
	waiting, err := s.waiting(ctx)
	for err == nil && len(waiting) > 0 {
		var left []string
		for _, customerID := range waiting {
			more, rollUpErr := s.rollUpLot(ctx, customerID, changed)
			if rollUpErr != nil {
				return rollUpErr
			}
			if more {
				left = append(left, customerID)
			}
		}
		waiting = left
	}
	return err
}

// waiting are the customers that have events behind their cursors, or domains whose window has moved
// on by a day.
func (s *Store) waiting(ctx context.Context) (ids []string, err error) {
	err = s.db.NewRaw(`SELECT c.customer_id FROM reputation_cursors AS c
		WHERE EXISTS (SELECT 1 FROM email_events AS ev WHERE ev.customer_id = c.customer_id AND (ev.txid, ev.id) > (c.txid, c.event_id)
				AND ev.txid < pg_snapshot_xmin(pg_current_snapshot()))
			OR c.txid > pg_snapshot_xmax(pg_current_snapshot())
			OR EXISTS (SELECT 1 FROM reputation_states AS st WHERE st.customer_id = c.customer_id AND `+outdated+`)`).Scan(ctx, &ids)
	return ids, pg.Translate(err)
}

// rollUpLot counts up to lotMax events of a customer in one transaction. more says that there may be
// others.
func (s *Store) rollUpLot(ctx context.Context, customerID string, changed func(reputation.Change)) (more bool, err error) {
	var changes []reputation.Change
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		cursor, ok, err := lockCursor(ctx, tx, customerID)
		if err != nil || !ok {
			return err
		}
		outcomes, next, n, err := mail.CountOutcomes(ctx, tx, customerID, cursor.FeedPlace, cursor.CountedFrom, lotMax)
		if err != nil {
			return err
		}
		more = n == lotMax
		if err := addCounts(ctx, tx, customerID, outcomes); err != nil {
			return err
		}
		domains := map[string]bool{}
		for _, o := range outcomes {
			domains[o.SenderDomain] = true
		}
		if changes, err = s.judge(ctx, tx, customerID, slices.Sorted(maps.Keys(domains))); err != nil {
			return err
		}
		_, err = tx.NewRaw("UPDATE reputation_cursors SET txid = ?::xid8, event_id = ? WHERE customer_id = ?", next.TxID, next.EventID, customerID).Exec(ctx)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("roll up reputation: %w", err)
	}
	for _, c := range changes {
		changed(c)
	}
	return more, nil
}

// cursorRow is how far a customer's feed was read. CountedFrom is a timestamptz as Postgres writes it.
type cursorRow struct {
	mail.FeedPlace
	CountedFrom string
	Restored    bool
	Start       string
	TxNow       string
}

// lockCursor locks a customer's cursor. ok is false if another process has it.
func lockCursor(ctx context.Context, tx bun.Tx, customerID string) (row cursorRow, ok bool, err error) {
	err = tx.NewRaw(`SELECT txid, event_id, counted_from::text AS counted_from, txid > pg_snapshot_xmax(pg_current_snapshot()) AS restored,
			pg_snapshot_xmin(pg_current_snapshot())::text AS start, now()::text AS tx_now
		FROM reputation_cursors WHERE customer_id = ? FOR UPDATE SKIP LOCKED`, customerID).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return row, false, nil
	}
	if err != nil {
		return row, false, fmt.Errorf("lock cursor: %w", err)
	}
	if row.Restored {
		// The database was restored into a server whose transaction ids begin anew. Events of the old one
		// have later ids, and come again some day: the time tells them apart.
		row.FeedPlace, row.CountedFrom = mail.FeedPlace{TxID: row.Start, EventID: uuid.Nil.String()}, row.TxNow
		_, err = tx.NewRaw("UPDATE reputation_cursors SET counted_from = ?::timestamptz WHERE customer_id = ?", row.CountedFrom, customerID).Exec(ctx)
	}
	return row, true, err
}

// dayRow is a row of reputation_days, written as JSON.
type dayRow struct {
	CustomerID   string              `json:"customer_id" sql:"uuid"`
	SenderDomain string              `json:"sender_domain"`
	Day          string              `json:"day" sql:"date"`
	Stream       email.Stream        `json:"stream"`
	Provider     reputation.Provider `json:"provider"`
	reputation.Counts
}

var addDays = strings.ReplaceAll(pg.InsertOf[dayRow]("reputation_days AS d"), "$1", "?0") + ` ON CONFLICT (customer_id, sender_domain, day, stream, provider) DO UPDATE SET
	sent = d.sent + excluded.sent, delivered = d.delivered + excluded.delivered, deferred = d.deferred + excluded.deferred, hard = d.hard + excluded.hard, soft = d.soft + excluded.soft,
	blocked = d.blocked + excluded.blocked, complained = d.complained + excluded.complained, unsubscribed = d.unsubscribed + excluded.unsubscribed`

// addCounts adds outcomes to the days, by provider.
func addCounts(ctx context.Context, tx bun.Tx, customerID string, outcomes []mail.Outcomes) error {
	// by has a row for each key, which is a row without counts.
	by := map[dayRow]reputation.Counts{}
	for _, o := range outcomes {
		if o.Counts == (reputation.Counts{}) {
			continue // failed without an attempt
		}
		key := dayRow{CustomerID: customerID, SenderDomain: o.SenderDomain, Day: o.Day.Format(time.DateOnly), Stream: o.Stream, Provider: reputation.ProviderOf(o.RecipientDomain)}
		sum := by[key]
		sum.Add(o.Counts)
		by[key] = sum
	}
	if len(by) == 0 {
		return nil
	}
	var rows []dayRow
	for key, sum := range by {
		key.Counts = sum
		rows = append(rows, key)
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("encode days: %w", err)
	}
	_, err = tx.NewRaw(addDays, string(text)).Exec(ctx)
	return pg.Wrap("add days", err)
}
