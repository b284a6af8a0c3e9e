package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// webhookBody is an event on its way to every endpoint that wants it.
type webhookBody struct {
	EventID    string          `json:"event_id" sql:"uuid"`
	EmailID    string          `json:"email_id" sql:"uuid"`
	CustomerID string          `json:"customer_id" sql:"uuid"`
	CallbackID *string         `json:"callback_id" sql:"uuid"`
	Tags       []string        `json:"tags" sql:"text[]"`
	Stream     email.Stream    `json:"stream"`
	Format     endpoint.Format `json:"format"`
	Type       string          `json:"type"`
	Body       string          `json:"body"`
}

// tell appends an event with the next number of its e-mail.
func (c *change) tell(m *mail, ev eventRow) {
	m.Sequence++
	m.dirty = true
	ev.ID, ev.EmailID, ev.CustomerID, ev.Sequence, ev.At = pg.NewID(), m.ID, m.CustomerID, m.Sequence, c.now
	c.events = append(c.events, ev)
}

var writeEvents = pg.Prepare("write_events(jsonb)", pg.InsertOf[eventRow]("email_events"))

// writeEvents inserts the events, and a delivery for every endpoint that wants one.
func (c *change) writeEvents(mails []*mail) error {
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
	byID := make(map[string]*mail, len(mails))
	for _, m := range mails {
		byID[m.ID] = m
	}
	for _, ev := range c.events {
		if err := c.writeBodies(byID[ev.EmailID], ev); err != nil {
			return err
		}
	}
	bodies := c.bodies
	c.told, c.events, c.bodies = append(c.told, c.events...), nil, nil
	if len(bodies) == 0 {
		return nil
	}
	text, err := json.Marshal(bodies)
	if err != nil {
		return fmt.Errorf("encode deliveries: %w", err)
	}
	_, err = writeDeliveries.Query(c.late, string(text)).Exec(c.ctx)
	return err
}

// writeDeliveries makes ids that begin with the time of their event's, as all others
// do: random ones would be scattered over their index.
var writeDeliveries = pg.Prepare("write_deliveries(jsonb)", `INSERT INTO webhook_deliveries (id, endpoint_id, email_id, event_id, type, body, status, next_attempt_at, created_at)
	SELECT overlay(gen_random_uuid()::text PLACING left(v.event_id::text, 18) FROM 1)::uuid, w.id, v.email_id, v.event_id, v.type, v.body, 'pending', now(), now()
	FROM `+pg.Recordset[webhookBody]()+`
	JOIN webhook_endpoints AS w ON w.customer_id = v.customer_id AND w.disabled_at IS NULL AND w.format = v.format AND v.type = ANY (w.events)
		AND (w.kind <> 'callback' OR w.id = v.callback_id) AND (w.tags = '{}' OR w.tags && v.tags) AND (w.streams = '{}' OR v.stream = ANY (w.streams))`)

// toFire reports whether there may be deliveries worth a look at once.
func (m *mail) toFire() bool { return len(m.wants) > 0 && !m.hooksRest }

// wanted are formats and types, as "standard email.delivered": most events are wanted
// by nobody, and cost no body and no statement.
type wanted []string

func wantedBy(f endpoint.Format, types []string) wanted {
	out := make(wanted, len(types))
	for i, t := range types {
		out[i] = string(f) + " " + t
	}
	return out
}

// any reports whether an event may be wanted in a format.
func (w wanted) any(f endpoint.Format, eventType string) bool {
	if f == endpoint.FormatStandard {
		return slices.Contains(w, string(f)+" "+eventType)
	}
	return slices.ContainsFunc(w, func(s string) bool {
		of, kind, _ := strings.Cut(s, " ")
		return of == string(f) && slices.Contains(endpoint.EmailEvents(f, []string{kind}), eventType)
	})
}

// writeBodies makes an event's bodies, one for each format.
func (c *change) writeBodies(m *mail, ev eventRow) error {
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatVoIPBIN} {
		if !m.wants.any(format, string(ev.Type)) {
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
		if !slices.Contains(m.wants, wantedBy(format, []string{kind})[0]) {
			continue
		}
		b := webhookBody{EventID: ev.ID, EmailID: ev.EmailID, CustomerID: ev.CustomerID, Tags: m.Tags, Stream: m.Stream, Format: format, Type: kind, Body: string(body)}
		if m.CallbackID != "" {
			b.CallbackID = &m.CallbackID
		}
		c.bodies = append(c.bodies, b)
	}
	return nil
}

// loadContent reads what only bodies with the whole e-mail need.
func loadContent(ctx context.Context, idb bun.IDB, m *mail) error {
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
