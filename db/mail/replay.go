package mail

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// replayMax bounds one replay.
const replayMax = 10_000

// Replay sends an endpoint once more the events of a time, and returns how many. Deliveries that
// exist go out again as they are. Events that have none, because the endpoint was disabled or did
// not want them, get one now. types are the events' types; none means those that the endpoint
// wants. An endpoint that the customer does not have is a CodeNotFound, more than replayMax events
// a CodeConflict.
func (s *Store) Replay(ctx context.Context, customerID, endpointID string, since, until time.Time, types []string) (n int, err error) {
	e, err := s.webhooks.Endpoint(ctx, customerID, endpointID)
	if err != nil {
		return 0, err
	}
	if len(types) == 0 {
		types = e.Events
	}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := s.missing(ctx, tx, e, since, until, types); err != nil {
			return err
		}
		var ids []string
		err := tx.NewRaw(`SELECT d.id FROM webhook_deliveries AS d JOIN email_events AS ev ON ev.id = d.event_id
			WHERE d.endpoint_id = ? AND ev.at >= ? AND ev.at < ? AND d.type IN (?) ORDER BY ev.at LIMIT ?`,
			endpointID, since, until, bun.List(types), replayMax+1).Scan(ctx, &ids)
		if err != nil {
			return err
		}
		if n = len(ids); n > replayMax {
			return errReplayTooLong
		}
		if n == 0 {
			return nil
		}
		if err := webhooks.MakeDue(ctx, tx, ids, false); err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "webhook.replayed", endpointID, fmt.Sprintf("%d events from %s to %s", n, since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339)))
	})
	return n, err
}

var errReplayTooLong = email.Fail(email.CodeConflict, "more than %d events fall into that time; ask for a shorter one", replayMax)

// missing writes the deliveries that an endpoint lacks. Their bodies tell the event
// as it was and the e-mail as it is now.
func (s *Store) missing(ctx context.Context, tx bun.Tx, e endpoint.Endpoint, since, until time.Time, types []string) error {
	var rows []eventRow
	q := tx.NewSelect().Model(&rows).Where("ev.customer_id = ?", e.CustomerID).Where("ev.at >= ?", since).Where("ev.at < ?", until).
		Where("ev.type IN (?)", bun.List(endpoint.EmailEvents(e.Format, types))).
		Where("NOT EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.endpoint_id = ? AND d.event_id = ev.id)", e.ID).
		Join("JOIN emails AS e ON e.id = ev.email_id").
		Where("? <> 'callback' OR e.callback_id = ?", e.Kind, e.ID).
		Order("ev.at", "ev.id").Limit(replayMax + 1)
	if len(e.Tags) > 0 {
		q = q.Where("e.tags && ?::text[]", pgdialect.Array(e.Tags))
	}
	if len(e.Streams) > 0 {
		q = q.Where("e.stream IN (?)", bun.List(e.Streams))
	}
	if err := q.Scan(ctx); err != nil {
		return err
	}
	if len(rows) > replayMax {
		return errReplayTooLong
	}
	batch := 500
	if e.Format == endpoint.FormatVoIPBIN {
		batch = 20 // with contents
	}
	for part := range slices.Chunk(rows, batch) {
		if err := s.writeMissing(ctx, tx, e, part, types); err != nil {
			return err
		}
	}
	return nil
}

// writeMissing writes some of them.
func (s *Store) writeMissing(ctx context.Context, tx bun.Tx, e endpoint.Endpoint, events []eventRow, types []string) error {
	mails, err := s.emailsOf(ctx, tx, events, e.Format == endpoint.FormatVoIPBIN)
	if err != nil {
		return err
	}
	var rows []webhooks.Missed
	for _, ev := range events {
		kind, body, err := s.opts.WebhookBody(e.Format, ev.event(), mails[ev.EmailID])
		if err != nil {
			return fmt.Errorf("webhook body of %s: %w", ev.Type, err)
		}
		if !slices.Contains(types, kind) {
			continue
		}
		rows = append(rows, webhooks.Missed{ID: pg.NewID(), EmailID: ev.EmailID, EventID: ev.ID, Type: kind, Body: string(body)})
	}
	return webhooks.InsertMissed(ctx, tx, e.ID, rows)
}

// emailsOf reads the e-mails of events, by id; their contents only if asked to.
func (s *Store) emailsOf(ctx context.Context, tx bun.Tx, events []eventRow, contents bool) (map[string]email.Email, error) {
	ids := make([]string, len(events))
	for i, ev := range events {
		ids[i] = ev.EmailID
	}
	var rows []*emailRow
	if err := tx.NewSelect().Model(&rows).Where("e.id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	var rs []*recipientRow
	if err := tx.NewSelect().Model(&rs).Where("r.email_id IN (?)", bun.List(ids)).Order("r.position").Scan(ctx); err != nil {
		return nil, err
	}
	recipients := map[string][]*recipientRow{}
	for _, r := range rs {
		recipients[r.EmailID] = append(recipients[r.EmailID], r)
	}
	out := make(map[string]email.Email, len(rows))
	for _, r := range rows {
		m := &lockedEmail{emailRow: *r}
		if contents {
			if err := loadContent(ctx, tx, m); err != nil {
				return nil, err
			}
		}
		out[r.ID] = emailOf(r, recipients[r.ID], m.content, m.attachments)
	}
	return out, nil
}
