package suppressions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/suppression"
)

// lotRow is an entry of a lot as storeLot has it.
type lotRow struct {
	ID         string             `json:"id" sql:"uuid"`
	AddressKey string             `json:"address_key"`
	Address    string             `json:"address"`
	Scope      suppression.Scope  `json:"scope"`
	Target     string             `json:"target"`
	Reason     suppression.Reason `json:"reason"`
	Note       string             `json:"note"`
	ExpiresAt  *time.Time         `json:"expires_at"`
	CreatedAt  *time.Time         `json:"created_at"`
}

// lotNew and lotOld are the members of an entry that a lot changes: as the lot has them, where it says
// them, and as they are.
const (
	lotNew = "CASE WHEN $3 THEN su.reason ELSE excluded.reason END, CASE WHEN $4 THEN su.note ELSE excluded.note END, excluded.expires_at"
	lotOld = "su.reason, su.note, su.expires_at"
)

// storeLot adds the entries of a lot of the customer $2, and changes those that are there and differ. It
// answers with the ids of both. $3 and $4 are Lot.KeepReason and KeepNote.
var storeLot = pg.Prepare("store_suppressions(jsonb, uuid, boolean, boolean)", `INSERT INTO suppressions AS su
		(id, customer_id, address_key, address, scope, target, reason, source, note, expires_at, created_at)
	SELECT v.id, $2, v.address_key, v.address, v.scope, v.target, v.reason, 'import', v.note, v.expires_at, coalesce(v.created_at, now()) FROM `+pg.Recordset[lotRow]()+`
	ON CONFLICT (customer_id, address_key, scope, target) DO UPDATE SET (reason, note, expires_at, source, email_id, replaced) = ROW (`+lotNew+`, 'import', NULL, NULL)
	WHERE (`+lotNew+`) IS DISTINCT FROM (`+lotOld+`)
	RETURNING su.id`)

// StoreLot stores a lot of a file in one transaction, see suppression.Import. Storing it again changes
// nothing. Entries that are there keep their id, time and address.
func (s *Store) StoreLot(ctx context.Context, customerID string, lot suppression.Lot) (n suppression.Counts, err error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return n, err
	}
	fresh := make(map[string]bool, len(lot.Entries))
	rows := make([]lotRow, len(lot.Entries))
	for i, e := range lot.Entries { // the ids are in the order of the file, which Export keeps
		rows[i] = lotRow{ID: pg.NewID(), AddressKey: keys.Key(e.Address), Address: e.Address, Scope: e.Scope, Target: e.Target, Reason: e.Reason, Note: e.Note,
			ExpiresAt: pg.OrNull(e.ExpiresAt), CreatedAt: pg.OrNull(e.CreatedAt)}
		fresh[rows[i].ID] = true
	}
	place := func(r lotRow) string { return placeOf(r.AddressKey, r.Scope, r.Target) }
	slices.SortFunc(rows, func(a, b lotRow) int { return strings.Compare(place(a), place(b)) })
	text, err := json.Marshal(rows)
	if err != nil {
		return n, fmt.Errorf("encode suppressions: %w", err)
	}
	var stored []string
	if err := storeLot.Query(s.db, string(text), customerID, lot.KeepReason, lot.KeepNote).Scan(ctx, &stored); err != nil {
		return n, pg.Translate(fmt.Errorf("write suppressions: %w", err))
	}
	for _, id := range stored {
		if fresh[id] {
			n.Added++
		}
	}
	n.Changed = len(stored) - n.Added
	n.Unchanged = len(rows) - len(stored)
	return n, nil
}

// AuditImport notes in the audit log what an import has done.
func (s *Store) AuditImport(ctx context.Context, customerID string, r suppression.Report) error {
	detail := fmt.Sprintf("%s: %d read, %d added, %d changed, %d unchanged, %d refused", r.Format, r.Read, r.Added, r.Changed, r.Unchanged, r.Refused)
	return pg.Translate(audit.Write(ctx, s.db, customerID, "suppression.imported", "", detail))
}

// ExportSuppressions reads the next entries of a customer that have not ended and whose address is not
// erased, oldest first. after is zero for the first ones; next is nil behind the last ones.
func (s *Store) ExportSuppressions(ctx context.Context, customerID string, after email.Cursor, limit int) (out []suppression.Entry, next *email.Cursor, err error) {
	var rows []*entryRow
	q := s.db.NewSelect().Model(&rows).Where("su.customer_id = ?", customerID).Order("su.created_at", "su.id").Limit(int64(limit))
	if !after.At.IsZero() {
		q = q.Where("(su.created_at, su.id) > (?, ?)", after.At, after.ID)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, nil, pg.Translate(fmt.Errorf("read suppressions: %w", err))
	}
	now := time.Now()
	for _, r := range rows {
		if r.Address != "" && (r.ExpiresAt.IsZero() || r.ExpiresAt.After(now)) {
			out = append(out, r.entry())
		}
	}
	if len(rows) == limit {
		last := rows[len(rows)-1]
		next = &email.Cursor{At: pg.UTC(last.CreatedAt), ID: last.ID}
	}
	return out, next, nil
}
