package mail

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/internal/delivery"
)

// wakeRow is an order to wake the run of an e-mail. It is written in the transaction of the change
// that the run has to read, and deleted when the run has the signal.
type wakeRow struct {
	bun.BaseModel `bun:"table:wakes"`

	ID      string `bun:"id,pk"`
	EmailID string `bun:"email_id"`
	// LeaseUntil is when the next sweep may take it.
	LeaseUntil time.Time `bun:"lease_until"`
}

// runsToWake collects the runs of changed e-mails, each once.
type runsToWake struct {
	wakes []delivery.Wake
	index map[string]int // in wakes, by workflow id
}

// add adds the run of an e-mail, whose status must be derived. The order for a batch's run names an
// unfinished e-mail if there is one: for a finished e-mail no run is started.
func (w *runsToWake) add(m *lockedEmail) {
	i, known := w.index[m.WorkflowID]
	if !known {
		if w.index == nil {
			w.index = map[string]int{}
		}
		w.index[m.WorkflowID] = len(w.wakes)
		w.wakes = append(w.wakes, delivery.Wake{IDs: []string{uuid.NewString()}, Start: m.run(), Ended: m.Status.Final()})
		return
	}
	if wake := &w.wakes[i]; wake.Ended && !m.Status.Final() {
		wake.Start, wake.Ended = m.run(), false
	}
}

// ids are the orders.
func (w *runsToWake) ids() []string {
	var out []string
	for _, wake := range w.wakes {
		out = append(out, wake.IDs...)
	}
	return out
}

// wakesAtOnce is how many orders one statement writes.
const wakesAtOnce = 1000

// leaseWakes writes the orders for runs, leased to the caller, together with the commit.
func (c *unitOfWork) leaseWakes(runs runsToWake, lease time.Duration) error {
	rows := make([]wakeRow, len(runs.wakes))
	for i, w := range runs.wakes {
		rows[i] = wakeRow{ID: w.IDs[0], EmailID: w.EmailID, LeaseUntil: c.now.Add(lease)}
	}
	for some := range slices.Chunk(rows, wakesAtOnce) {
		if err := insertLate(c, "wakes", some); err != nil {
			return err
		}
	}
	return nil
}

// wakeRunOf orders that the run of an e-mail is woken, and leases the order to the caller for
// delivery.WakeLease.
func (c *unitOfWork) wakeRunOf(m *lockedEmail) ([]string, error) {
	if m.dirty {
		c.deriveStatus(m)
	}
	var runs runsToWake
	runs.add(m)
	return runs.ids(), c.leaseWakes(runs, delivery.WakeLease)
}

// orderWakes orders that the runs of e-mails are woken by the next sweep, for changes by a process
// that does not talk to Temporal.
func (c *unitOfWork) orderWakes(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := c.late.NewRaw("INSERT INTO wakes (email_id) SELECT id FROM emails WHERE id IN (?)", bun.List(ids)).Exec(c.ctx)
	if err != nil {
		return fmt.Errorf("insert wakes: %w", err)
	}
	return nil
}

// wakeColumns are what an order and its e-mail say of a run.
const wakeColumns = "e.id, e.workflow_id, e.customer_id, e.stream, e.batch_id, e.status"

// orderedWake is an order with its e-mail.
type orderedWake struct {
	emailRow
	Wake string `bun:"wake"`
}

// ClaimWakes leases up to limit orders to wake runs for so long. The run of a batch
// comes once. The caller takes the orders away with Woken when their runs have the
// signal.
func (s *Store) ClaimWakes(ctx context.Context, lease time.Duration, limit int) ([]delivery.Wake, error) {
	var rows []orderedWake
	err := s.db.NewRaw(`WITH due AS (SELECT id FROM wakes WHERE lease_until <= now() ORDER BY lease_until LIMIT ? FOR UPDATE SKIP LOCKED),
		claimed AS (UPDATE wakes AS w SET lease_until = now() + ? * interval '1 second' FROM due WHERE w.id = due.id RETURNING w.id, w.email_id)
		SELECT `+wakeColumns+`, claimed.id AS wake FROM emails AS e JOIN claimed ON claimed.email_id = e.id`,
		limit, lease.Seconds()).Scan(ctx, &rows)
	return wakesOf(rows), pg.Translate(err)
}

// Wakes reads the orders that are leased to the caller. Orders that are carried out are missing.
func (s *Store) Wakes(ctx context.Context, ids []string) ([]delivery.Wake, error) {
	var rows []orderedWake
	err := s.db.NewRaw("SELECT "+wakeColumns+", w.id AS wake FROM wakes AS w JOIN emails AS e ON e.id = w.email_id WHERE w.id IN (?)", bun.List(ids)).Scan(ctx, &rows)
	return wakesOf(rows), pg.Translate(err)
}

// wakesOf makes orders for the same run one.
func wakesOf(rows []orderedWake) []delivery.Wake {
	var out []delivery.Wake
	runs := map[string]int{}
	for _, r := range rows {
		i, known := runs[r.WorkflowID]
		if !known {
			i = len(out)
			runs[r.WorkflowID] = i
			out = append(out, delivery.Wake{Start: r.run(), Ended: true})
		}
		out[i].IDs = append(out[i].IDs, r.Wake)
		out[i].Ended = out[i].Ended && r.Status.Final()
	}
	return out
}

// Woken deletes orders that have been carried out.
func (s *Store) Woken(ctx context.Context, ids []string) error {
	_, err := s.db.NewRaw("DELETE FROM wakes WHERE id IN (?)", bun.List(ids)).Exec(ctx)
	return pg.Translate(err)
}
