package webhooks

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

type deliveryRow struct {
	bun.BaseModel `bun:"table:webhook_deliveries,alias:d"`

	ID            string          `bun:"id,pk,type:uuid"`
	EndpointID    string          `bun:"endpoint_id,type:uuid"`
	EmailID       string          `bun:"email_id,type:uuid,nullzero"`
	EventID       string          `bun:"event_id,type:uuid"`
	Type          string          `bun:"type"`
	Body          string          `bun:"body"`
	Status        endpoint.Status `bun:"status"`
	Attempts      int             `bun:"attempts"`
	Spent         int             `bun:"spent"`
	Asked         bool            `bun:"asked"`
	NextAttemptAt time.Time       `bun:"next_attempt_at,nullzero"`
	LastCode      int             `bun:"last_code"`
	LastError     string          `bun:"last_error"`
	CreatedAt     time.Time       `bun:"created_at"`
}

func (r *deliveryRow) delivery() endpoint.Delivery {
	return endpoint.Delivery{
		ID: endpoint.DeliveryIDPrefix + r.ID, EndpointID: r.EndpointID, EmailID: r.EmailID, Type: r.Type, Body: []byte(r.Body),
		Attempts: r.Attempts, NextAttemptAt: pg.UTC(r.NextAttemptAt), Status: r.Status, LastCode: r.LastCode, LastError: r.LastError, CreatedAt: pg.UTC(r.CreatedAt),
	}
}

const deliveryColumns = "d.id, d.endpoint_id, d.email_id, d.event_id, d.type, d.body, d.status, d.attempts, d.next_attempt_at, d.last_code, d.last_error, d.created_at"

// listedDeliveryColumns leave out the body, which may have a whole message.
const listedDeliveryColumns = "d.id, d.endpoint_id, d.email_id, d.event_id, d.type, d.status, d.attempts, d.next_attempt_at, d.last_code, d.last_error, d.created_at"

// callsMax is how many of a delivery's calls a list shows, the last ones.
const callsMax = 20

// Deliveries lists an endpoint's deliveries, newest first, without the bodies, with the last
// callsMax calls made for each. An empty status takes all. A page ends after limit deliveries, or
// before the one that would take it past portion.Page. An endpoint that the customer does not have is
// a CodeNotFound.
func (s *Store) Deliveries(ctx context.Context, customerID, endpointID string, status endpoint.Status, after email.Cursor, limit int) (out []endpoint.Delivery, next *email.Cursor, err error) {
	if _, err := s.Endpoint(ctx, customerID, endpointID); err != nil {
		return nil, nil, err
	}
	var rows []*deliveryRow
	q := s.db.NewSelect().Model(&rows).ColumnExpr(listedDeliveryColumns).Where("d.endpoint_id = ?", endpointID).
		Apply(pg.NewestFirst("d", "created_at", after, limit))
	if status != "" {
		q = q.Where("d.status = ?", status)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, nil, pg.Translate(err)
	}
	sizes, err := s.callBytes(ctx, rows)
	if err != nil {
		return nil, nil, err
	}
	rows, next = pg.Page(rows, pg.Within(rows, limit, func(r *deliveryRow) int64 { return sizes[r.ID] + int64(len(r.LastError)) }),
		func(r *deliveryRow) (time.Time, string) { return r.CreatedAt, r.ID })
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
		out = append(out, r.delivery())
	}
	if len(ids) == 0 {
		return out, next, nil
	}
	var calls []struct {
		DeliveryID string
		Attempt    int
		At         time.Time
		Code       int
		MS         int64
		Error      string
		Answer     string
	}
	err = s.db.NewRaw(listedCalls+" ORDER BY a.attempt", bun.List(ids), callsMax).Scan(ctx, &calls)
	if err != nil {
		return nil, nil, pg.Translate(err)
	}
	for _, c := range calls {
		for i := range out {
			if ids[i] == c.DeliveryID {
				out[i].Log = append(out[i].Log, endpoint.Attempt{Number: c.Attempt, At: pg.UTC(c.At), Code: c.Code, Duration: time.Duration(c.MS) * time.Millisecond, Error: c.Error, Answer: c.Answer})
			}
		}
	}
	return out, next, nil
}

// listedCalls are the calls of deliveries that a list shows. A delivery's calls are
// numbered without gaps; it may have any number, for it can be replayed again and again.
const listedCalls = `SELECT a.delivery_id, a.attempt, a.at, a.code, a.ms, a.error, a.answer FROM webhook_attempts AS a
	JOIN webhook_deliveries AS d ON d.id = a.delivery_id WHERE a.delivery_id IN (?) AND a.attempt > d.attempts - ?`

// callBytes is the size of the calls that a list shows, by the delivery's id.
func (s *Store) callBytes(ctx context.Context, rows []*deliveryRow) (map[string]int64, error) {
	out := make(map[string]int64, len(rows))
	if len(rows) == 0 {
		return out, nil
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	var sizes []struct {
		DeliveryID string
		Bytes      int64
	}
	err := s.db.NewRaw("SELECT c.delivery_id, sum(octet_length(c.error) + octet_length(c.answer) + 100)::bigint AS bytes FROM ("+listedCalls+") AS c GROUP BY 1",
		bun.List(ids), callsMax).Scan(ctx, &sizes)
	for _, size := range sizes {
		out[size.DeliveryID] = size.Bytes
	}
	return out, pg.Translate(err)
}

// RetryDelivery makes a delivery due before all others, whether it waits, failed or was delivered,
// under the same id and with the same body. It has the whole schedule before it again. A delivery
// that the customer does not have is a CodeNotFound.
func (s *Store) RetryDelivery(ctx context.Context, customerID, deliveryID string) (endpoint.Delivery, error) {
	id, ok := strings.CutPrefix(deliveryID, endpoint.DeliveryIDPrefix)
	var row deliveryRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewSelect().Model(&row).ColumnExpr(deliveryColumns).Join("JOIN webhook_endpoints AS w ON w.id = d.endpoint_id AND w.deleted_at IS NULL").
			Where("d.id::text = ?", id).Where("w.customer_id = ?", customerID).For("UPDATE OF d").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) || !ok {
			return pg.NotFound("webhook delivery")
		}
		if err != nil {
			return err
		}
		if err := MakeDue(ctx, tx, []string{row.ID}, true); err != nil {
			return err
		}
		row.Status, row.NextAttemptAt = endpoint.StatusPending, time.Now()
		return audit.Write(ctx, tx, customerID, "delivery.retried", deliveryID, "")
	})
	return row.delivery(), err
}

// MakeDue makes deliveries due, with the whole schedule before them. Their earlier calls stay on
// record.
func MakeDue(ctx context.Context, tx bun.Tx, ids []string, asked bool) error {
	_, err := tx.NewRaw("UPDATE webhook_deliveries SET status = 'pending', spent = attempts, asked = ?, next_attempt_at = now(), lease_until = NULL, done_at = NULL WHERE id IN (?)",
		asked, bun.List(ids)).Exec(ctx)
	return err
}

// Missed is an event that was never written for an endpoint.
type Missed struct{ ID, EmailID, EventID, Type, Body string }

// InsertMissed writes deliveries that an endpoint lacks, due now.
func InsertMissed(ctx context.Context, tx bun.IDB, endpointID string, missed []Missed) error {
	if len(missed) == 0 {
		return nil
	}
	now := time.Now()
	rows := make([]*deliveryRow, len(missed))
	for i, m := range missed {
		rows[i] = &deliveryRow{ID: m.ID, EndpointID: endpointID, EmailID: m.EmailID, EventID: m.EventID, Type: m.Type, Body: m.Body,
			Status: endpoint.StatusPending, NextAttemptAt: now, CreatedAt: now}
	}
	// A replay beside this one may have been first.
	_, err := tx.NewInsert().Model(&rows).On("CONFLICT (endpoint_id, event_id) DO NOTHING").Exec(ctx)
	return err
}
