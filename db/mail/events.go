package mail

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// eventsMax bounds the events of a page.
const eventsMax = 1000

// EmailEvents lists what happened to one e-mail of a customer after the event of a sequence number,
// in order: as much as fits on a page. next is the number to go on after, 0 at the end. An e-mail
// that the customer does not have is a CodeNotFound.
func (s *Store) EmailEvents(ctx context.Context, customerID, emailID string, after int64) (out []email.Event, next int64, err error) {
	if err := s.mustOwn(ctx, customerID, emailID); err != nil {
		return nil, 0, err
	}
	var rows []eventRow
	err = s.db.NewSelect().Model(&rows).Where("ev.email_id = ?", emailID).Where("ev.sequence > ?", after).Order("ev.sequence").Limit(eventsMax + 1).Scan(ctx)
	if err != nil {
		return nil, 0, pg.Translate(err)
	}
	n := pg.Within(rows, eventsMax, func(r eventRow) int64 { return int64(len(r.SMTPText)) })
	if n < len(rows) {
		next = rows[n-1].Sequence
	}
	return events(rows[:n]), next, nil
}

// mustOwn makes sure that an e-mail is a customer's.
func (s *Store) mustOwn(ctx context.Context, customerID, emailID string) error {
	known, err := s.db.NewSelect().Model((*emailRow)(nil)).Where("e.id = ?", emailID).Where("e.customer_id = ?", customerID).Exists(ctx)
	if err == nil && !known {
		return pg.NotFound("e-mail")
	}
	return pg.Translate(err)
}

// feedRow is an event with its place in the feed.
type feedRow struct {
	eventRow
	TxID string `bun:"txid"`
}

// Feed reads a customer's events behind a cursor, oldest first, and returns the cursor to go on
// from; an empty one is the beginning. It stops before the oldest transaction that is still running
// anywhere: an event is never skipped because its transaction was slow. A cursor that Feed did not
// return is a CodeInvalidRequest.
func (s *Store) Feed(ctx context.Context, customerID, after string, limit int) (out []email.Event, next string, err error) {
	txid, id, err := parseFeedCursor(after)
	if err != nil {
		return nil, "", err
	}
	var rows []feedRow
	err = s.db.NewRaw(`SELECT ev.* FROM email_events AS ev WHERE ev.customer_id = ? AND (ev.txid, ev.id) > (?::xid8, ?::uuid)
		AND ev.txid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY ev.txid, ev.id LIMIT ?`, customerID, txid, id, limit).Scan(ctx, &rows)
	if err != nil {
		return nil, "", pg.Translate(err)
	}
	next = after
	for _, r := range rows {
		out = append(out, r.event())
		next = r.TxID + "-" + r.ID
	}
	return out, next, nil
}

// parseFeedCursor reads a cursor that Feed returned.
func parseFeedCursor(after string) (txid, id string, err error) {
	if after == "" {
		return "0", uuid.Nil.String(), nil
	}
	txid, id, _ = strings.Cut(after, "-")
	u, uerr := uuid.Parse(id)
	if _, terr := strconv.ParseUint(txid, 10, 64); terr != nil || uerr != nil {
		f := email.Fail(email.CodeInvalidRequest, "the place in the feed is not one that it gave")
		f.Fields = []email.FieldError{{Pointer: "after", Code: "invalid", Detail: fmt.Sprintf("give the %q of an earlier answer, or leave it out", "next")}}
		return "", "", f
	}
	return txid, u.String(), nil
}

func events(rows []eventRow) []email.Event {
	out := make([]email.Event, len(rows))
	for i := range rows {
		out[i] = rows[i].event()
	}
	return out
}
