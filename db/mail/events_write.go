package mail

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/internal/endpoint"
)

// emit appends an event with the next number of its e-mail.
func (c *unitOfWork) emit(m *lockedEmail, ev eventRow) {
	m.Sequence++
	m.dirty = true
	ev.ID, ev.EmailID, ev.CustomerID, ev.Sequence, ev.At = pg.NewID(), m.ID, m.CustomerID, m.Sequence, c.now
	c.events = append(c.events, ev)
}

var writeEvents = pg.Prepare("write_events(jsonb)", pg.InsertOf[eventRow]("email_events"))

// writeEvents inserts the events, and a delivery for every endpoint that wants one.
func (c *unitOfWork) writeEvents(mails []*lockedEmail) error {
	if len(c.events) == 0 {
		return nil
	}
	data, err := json.Marshal(c.events)
	if err != nil {
		return fmt.Errorf("encode events: %w", err)
	}
	if _, err := writeEvents.Query(c.late, string(data)).Exec(c.ctx); err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	byID := make(map[string]*lockedEmail, len(mails))
	for _, m := range mails {
		byID[m.ID] = m
	}
	for _, ev := range c.events {
		if err := c.renderBodies(byID[ev.EmailID], ev); err != nil {
			return err
		}
	}
	bodies := c.bodies
	c.written, c.events, c.bodies = append(c.written, c.events...), nil, nil
	return webhooks.Enqueue(c.ctx, c.late, bodies)
}

// mayHaveDeliveries reports whether there may be deliveries worth a look at once.
func (m *lockedEmail) mayHaveDeliveries() bool { return len(m.subscriptions) > 0 && !m.hooksRest }

// renderBodies makes an event's bodies, one for each format.
func (c *unitOfWork) renderBodies(m *lockedEmail, ev eventRow) error {
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatVoIPBIN} {
		if !m.subscriptions.Any(format, string(ev.Type)) {
			continue
		}
		if format == endpoint.FormatVoIPBIN {
			if err := loadContent(c.ctx, c.tx, m); err != nil {
				return err
			}
		}
		kind, body, err := c.s.opts.WebhookBody(format, ev.event(), emailOf(&m.emailRow, m.recipients, m.content, m.attachments))
		if err != nil {
			return fmt.Errorf("webhook body of %s: %w", ev.Type, err)
		}
		if !slices.Contains(m.subscriptions, webhooks.SubscriptionsTo(format, []string{kind})[0]) {
			continue
		}
		b := webhooks.Body{EventID: ev.ID, EmailID: ev.EmailID, CustomerID: ev.CustomerID, Tags: m.Tags, Stream: m.Stream, Format: format, Type: kind, Body: string(body)}
		if m.CallbackID != "" {
			b.CallbackID = &m.CallbackID
		}
		c.bodies = append(c.bodies, b)
	}
	return nil
}

// loadContent reads what only bodies with the whole e-mail need.
func loadContent(ctx context.Context, idb bun.IDB, m *lockedEmail) error {
	if m.content != nil {
		return nil
	}
	m.content = &contentRow{}
	err := idb.NewSelect().Model(m.content).Where("c.email_id = ?", m.ID).Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read content: %w", err)
	}
	if err := idb.NewSelect().Model(&m.attachments).Where("at.email_id = ?", m.ID).Order("at.position").Scan(ctx); err != nil {
		return fmt.Errorf("read attachments: %w", err)
	}
	return nil
}
