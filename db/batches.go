package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
)

type batchRow struct {
	bun.BaseModel `bun:"table:batches,alias:b"`

	ID         string          `bun:"id,pk,type:uuid"`
	CustomerID string          `bun:"customer_id,type:uuid"`
	Mode       email.BatchMode `bun:"mode"`
	Total      int             `bun:"total"`
	Refused    []refusedJSON   `bun:"refused,type:jsonb"`
	// RefusedCount is how many there are, where they are not read.
	RefusedCount int `bun:"refused_count,scanonly"`
	holds
	LeaseOwner string    `bun:"lease_owner,type:uuid,nullzero"`
	LeaseUntil time.Time `bun:"lease_until,nullzero"`
	SeenAt     time.Time `bun:"seen_at"`
	CreatedAt  time.Time `bun:"created_at"`
}

type refusedJSON struct {
	Index  int         `json:"index"`
	Code   email.Code  `json:"code"`
	Detail string      `json:"detail"`
	Fields []fieldJSON `json:"fields,omitempty"`
}

type fieldJSON struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

func newRefused(index int, f *email.Failure) refusedJSON {
	r := refusedJSON{Index: index, Code: f.Code, Detail: f.Detail}
	for _, e := range f.Fields {
		r.Fields = append(r.Fields, fieldJSON(e))
	}
	return r
}

func (r *batchRow) batch() email.Batch {
	b := email.Batch{
		ID: r.ID, CustomerID: r.CustomerID, WorkflowID: email.BatchWorkflowIDPrefix + r.ID, Mode: r.Mode, Total: r.Total, Held: r.Held, RefusedCount: max(r.RefusedCount, len(r.Refused)),
		CreatedAt: pg.UTC(r.CreatedAt),
	}
	for _, f := range r.Refused {
		item := email.RefusedItem{Index: f.Index, Code: f.Code, Detail: f.Detail}
		for _, e := range f.Fields {
			item.Fields = append(item.Fields, email.FieldError(e))
		}
		b.Refused = append(b.Refused, item)
	}
	return b
}

// batchColumns are all but the refused items, of which there may be thousands.
const batchColumns = "b.id, b.customer_id, b.mode, b.total, jsonb_array_length(b.refused) AS refused_count, b.held, b.held_by_customer, b.held_by_operator, b.created_at"

// acceptChunk is how many e-mails of a batch are inserted by one statement, or fewer
// where their texts, HTML, headers and metadata come to acceptChunkBytes.
const (
	acceptChunk      = 250
	acceptChunkBytes = 4 << 20
)

// AcceptBatch stores many messages, each as an e-mail of its own, in one
// transaction, with the order to start the batch's run leased to owner. What single
// items are refused for (a Failure of req's, a sender's domain, a file that is not
// there) refuses the whole batch in strict mode, with the first
// email.MaxBatchProblems of what is wrong with all of its items, and the item alone in
// permissive mode; credits that do not suffice, or a batch of which nothing is good,
// refuse it in either.
//
// With an idempotency key it is done once, as for Accept.
func (s *Store) AcceptBatch(ctx context.Context, customerID string, req email.BatchRequest, owner string, idem email.Idempotency) (b email.Batch, items []email.BatchItem, replayed bool, err error) {
	id := pg.NewID()
	earlier := ""
	err = s.inChange(ctx, func(c *change) error {
		if earlier, err = c.reserve(customerID, id, idem); err != nil || earlier != "" {
			return err
		}
		a := newBatchAcceptance(c, id, customerID, req)
		if err := a.accept(owner); err != nil {
			return err
		}
		b, items = a.row.batch(), a.items
		return nil
	})
	if err != nil || earlier == "" {
		return b, items, false, err
	}
	b, items, err = s.acceptedBatch(ctx, customerID, earlier)
	return b, items, true, err
}

// batchAcceptance is the acceptance of one batch.
type batchAcceptance struct {
	*change
	customerID string
	req        email.BatchRequest
	row        batchRow
	items      []email.BatchItem
	recipients int
	// fields counts the problems of refused items.
	fields  int
	wants   webhooks.Subscriptions
	prepaid bool
	// preview: it is not meant to be kept, so no e-mails are made.
	preview bool
	// What items have in common is looked up once: stored contents and callbacks.
	blobs     map[*byte]*files.Blob
	callbacks map[string]string
}

func newBatchAcceptance(c *change, id, customerID string, req email.BatchRequest) *batchAcceptance {
	return &batchAcceptance{
		change: c, customerID: customerID, req: req, blobs: map[*byte]*files.Blob{}, callbacks: map[string]string{},
		row: batchRow{ID: id, CustomerID: customerID, Mode: req.Mode, Total: req.Len, Refused: []refusedJSON{}},
	}
}

func (a *batchAcceptance) accept(owner string) error {
	if err := a.tx.NewRaw("SELECT now()").Scan(a.ctx, &a.now); err != nil {
		return fmt.Errorf("read the time: %w", err)
	}
	a.row.LeaseOwner = owner
	a.row.LeaseUntil, a.row.SeenAt, a.row.CreatedAt = a.now.Add(startLease), a.now, a.now
	if _, err := a.tx.NewInsert().Model(&a.row).Exec(a.ctx); err != nil {
		return fmt.Errorf("insert batch: %w", err)
	}
	for next := 0; next < a.req.Len; {
		var err error
		if next, err = a.chunk(next, min(next+acceptChunk, a.req.Len), owner); err != nil {
			return err
		}
		if err := a.ctx.Err(); err != nil { // the client of a preview has gone
			return err
		}
	}
	if a.hopeless() || len(a.items) == 0 {
		return a.refusal()
	}
	if len(a.row.Refused) > 0 {
		if _, err := a.tx.NewUpdate().Model(&a.row).WherePK().Column("refused").Exec(a.ctx); err != nil {
			return fmt.Errorf("note refused items: %w", err)
		}
	}
	return accounts.Charge(a.ctx, a.tx, a.customerID, len(a.items), a.recipients, a.prepaid)
}

// refuse notes why an item makes no e-mail.
func (a *batchAcceptance) refuse(i int, f *email.Failure) {
	r := newRefused(i, f)
	if a.fields += len(r.Fields); a.fields > email.MaxBatchRefusedFields {
		r.Fields = nil
	}
	a.row.Refused = append(a.row.Refused, r)
}

// hopeless: whatever comes, nothing of the batch is accepted. The rest is read for what
// else is wrong.
func (a *batchAcceptance) hopeless() bool {
	return a.req.Mode != email.BatchPermissive && len(a.row.Refused) > 0
}

// refusal refuses the whole batch, for what is wrong with its items.
func (a *batchAcceptance) refusal() error {
	bad, first := a.row.Refused, a.row.Refused[0]
	code, why := first.Code, first.Detail
	for _, r := range bad {
		if r.Code != code {
			code = email.CodeInvalidRequest
		}
		if r.Detail != why || code == email.CodeInvalidRequest {
			why = "errors says where and why"
		}
	}
	f := email.Fail(code, "%d of the %d items cannot be accepted, so none is: %s. mode: permissive accepts the others", len(bad), a.req.Len, why)
	switch {
	case len(bad) < a.req.Len:
	case why == first.Detail:
		f.Detail = why
	case a.req.Len == 1:
		f.Detail = "the one item cannot be accepted: " + why
	default:
		f.Detail = fmt.Sprintf("none of the %d items can be accepted: %s", a.req.Len, why)
	}
	told := map[fieldJSON]bool{}
	for _, r := range bad {
		if len(r.Fields) == 0 {
			r.Fields = []fieldJSON{{Pointer: a.req.Place(r.Index), Code: string(r.Code), Detail: r.Detail}}
		}
		for _, e := range r.Fields {
			if !told[e] && len(told) < email.MaxBatchProblems { // items may share what is wrong
				told[e] = true
				f.Fields = append(f.Fields, email.FieldError(e))
			}
		}
	}
	return f
}

// chunk accepts the items from and up to before, or fewer. It tells the next.
func (a *batchAcceptance) chunk(from, before int, owner string) (next int, err error) {
	var mails []*mail
	bytes := 0
	for next = from; next < before && bytes < acceptChunkBytes; next++ {
		i := next
		m, err := a.message(i)
		if f, ok := errors.AsType[*email.Failure](err); ok && f.Code != email.CodeUnavailable {
			a.refuse(i, f)
			continue
		}
		if err != nil {
			return next, err
		}
		if a.hopeless() {
			continue
		}
		if a.preview {
			a.items = append(a.items, email.BatchItem{Index: i})
			a.recipients += len(m.To) + len(m.Cc) + len(m.Bcc)
			continue
		}
		id := pg.NewID()
		ml := a.newMail(id, a.customerID, m, a.wants, a.callbacks[m.CallbackURL])
		bytes += storedBytes(m)
		index := i
		ml.BatchID, ml.BatchIndex = a.row.ID, &index
		if ml.attachments, err = a.newAttachmentRows(id, a.customerID, m.Attachments, a.blobs); err != nil {
			return next, err
		}
		ml.WorkflowID = email.BatchWorkflowIDPrefix + a.row.ID
		if unresolved(ml.attachments) { // to be fetched first, which is a run's work
			ml.WorkflowID = email.WorkflowIDPrefix + id
			a.order(ml, owner, a.now)
		}
		mails = append(mails, ml)
		a.items = append(a.items, email.BatchItem{Index: i, EmailID: id, Detail: ml.Detail})
		a.recipients += len(ml.recipients)
	}
	if err := a.insert(mails); err != nil {
		return next, err
	}
	if err := a.tx.Flush(a.ctx); err != nil { // what waits for the commit is in memory
		return next, fmt.Errorf("insert e-mails: %w", err)
	}
	return next, nil
}

// storedBytes is the size of what is stored for each copy of a message.
func storedBytes(m email.Message) int {
	n := len(m.Text) + len(m.HTML) + len(m.Calendar.ICS) + len(m.Subject)
	for _, h := range m.Headers {
		n += len(h.Name) + len(h.Value)
	}
	for name, value := range m.Metadata {
		n += len(name) + len(value)
	}
	return n
}

// message makes an item's message and checks what only the store knows.
func (a *batchAcceptance) message(i int) (email.Message, error) {
	m, err := a.req.Message(i)
	if err != nil {
		return m, err
	}
	if a.req.Refuse != nil {
		if f := a.req.Refuse(i, m); f != nil {
			return m, f
		}
	}
	f, err := a.from(a.customerID, m.From.Domain())
	if err != nil {
		return m, err
	}
	if f.refusal != nil {
		at := *f.refusal
		at.Fields = []email.FieldError{{Pointer: a.req.Sender(i), Code: string(at.Code), Detail: "use an address of a verified domain"}}
		return m, &at
	}
	a.wants, a.prepaid = f.wants, f.prepaid
	if m.Attachments, err = a.attachFiles(a.customerID, m); err != nil {
		if f, ok := errors.AsType[*email.Failure](err); ok {
			for j := range f.Fields {
				f.Fields[j].Pointer = a.req.Place(i) + f.Fields[j].Pointer
			}
		}
		return m, err
	}
	if _, known := a.callbacks[m.CallbackURL]; !known {
		if a.callbacks[m.CallbackURL], err = webhooks.CallbackEndpoint(a.ctx, a.tx, a.customerID, m.CallbackURL); err != nil {
			return m, err
		}
	}
	return m, nil
}

func unresolved(rows []*attachmentRow) bool {
	for _, r := range rows {
		if r.BlobID == "" {
			return true
		}
	}
	return false
}

// acceptedBatch answers once more as the acceptance did.
func (s *Store) acceptedBatch(ctx context.Context, customerID, id string) (email.Batch, []email.BatchItem, error) {
	row, err := s.batchRow(ctx, customerID, id, "b.*")
	if err != nil {
		return email.Batch{}, nil, err
	}
	var rows []struct {
		Index     int
		EmailID   string
		Scheduled bool
	}
	err = s.db.NewRaw(`SELECT batch_index AS index, id AS email_id, coalesce(send_at > created_at, false) AS scheduled FROM emails WHERE batch_id = ? ORDER BY batch_index`, id).Scan(ctx, &rows)
	if err != nil {
		return email.Batch{}, nil, pg.Translate(err)
	}
	items := make([]email.BatchItem, len(rows))
	for i, r := range rows {
		items[i] = email.BatchItem{Index: r.Index, EmailID: r.EmailID}
		if r.Scheduled {
			items[i].Detail = email.DetailScheduled
		}
	}
	b := row.batch()
	b.Held = false // as it began
	return b, items, nil
}

func (s *Store) batchRow(ctx context.Context, customerID, id, columns string) (*batchRow, error) {
	var row batchRow
	err := s.db.NewSelect().Model(&row).ColumnExpr(columns).Where("b.id = ?", id).Where("b.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, pg.NotFound("batch")
	}
	return &row, pg.Translate(err)
}

// rateOver is over how long a batch's rate is taken.
const rateOver = 10 * time.Second

// Batch tells how far a customer's batch has come.
func (s *Store) Batch(ctx context.Context, customerID, id string) (email.BatchProgress, error) {
	row, err := s.batchRow(ctx, customerID, id, batchColumns)
	if err != nil {
		return email.BatchProgress{}, err
	}
	ps, err := s.progress(ctx, []*batchRow{row})
	if err != nil {
		return email.BatchProgress{}, err
	}
	return ps[0], nil
}

// progress counts the e-mails of batches.
func (s *Store) progress(ctx context.Context, rows []*batchRow) ([]email.BatchProgress, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	type count struct {
		BatchID string
		Status  email.Status
		Detail  email.Detail
		Emails  int
		Fresh   int
		NextAt  time.Time `bun:"next_at,nullzero"`
		LastAt  time.Time `bun:"last_at"`
	}
	var counts []count
	// What is due and waits for a relay is tried when that is probed next.
	err := s.db.NewRaw(`SELECT e.batch_id, e.status, CASE WHEN e.status IN ('queued', 'sending') THEN e.status_detail ELSE '' END AS detail, count(*) AS emails,
			count(*) FILTER (WHERE e.status NOT IN ('queued', 'sending', 'canceled') AND e.status_at > now() - ? * interval '1 second') AS fresh,
			min(CASE WHEN e.next_action_at > now() THEN e.next_action_at WHEN e.relay_down AND NOT e.held AND NOT e.paused THEN greatest(rs.next_at, now()) END)
				FILTER (WHERE NOT e.attempt_open) AS next_at, max(e.status_at) AS last_at
		FROM emails AS e LEFT JOIN (SELECT name, min(next_at) AS next_at FROM relay_states WHERE failures > 0 GROUP BY 1) AS rs ON e.relay_down AND rs.name = e.relay_down_by
		WHERE e.batch_id IN (?) GROUP BY 1, 2, 3`, rateOver.Seconds(), bun.List(ids)).Scan(ctx, &counts)
	if err != nil {
		return nil, pg.Translate(err)
	}
	of := map[string][]count{}
	for _, n := range counts {
		of[n.BatchID] = append(of[n.BatchID], n)
	}
	out := make([]email.BatchProgress, len(rows))
	for i, row := range rows {
		p := email.BatchProgress{Batch: row.batch(), Emails: email.StatusCounts{}, Details: map[email.Detail]int{}}
		fresh, last := 0, time.Time{}
		for _, n := range of[row.ID] {
			p.Emails[n.Status] += n.Emails
			if n.Detail != "" {
				p.Details[n.Detail] += n.Emails
			}
			fresh += n.Fresh
			if n.LastAt.After(last) {
				last = n.LastAt
			}
			if !n.NextAt.IsZero() && (p.NextAt.IsZero() || n.NextAt.Before(p.NextAt)) {
				p.NextAt = n.NextAt.UTC()
			}
		}
		if p.Emails[email.StatusQueued]+p.Emails[email.StatusSending] == 0 {
			p.FinishedAt = pg.UTC(last)
		}
		p.Rate = float64(fresh) / min(rateOver.Seconds(), max(1, time.Since(row.CreatedAt).Seconds()))
		out[i] = p
	}
	return out, nil
}

// Batches lists a customer's batches, newest first.
func (s *Store) Batches(ctx context.Context, customerID string, after email.Cursor, limit int) (out []email.BatchProgress, next *email.Cursor, err error) {
	var rows []*batchRow
	q := s.db.NewSelect().Model(&rows).ColumnExpr(batchColumns).Where("b.customer_id = ?", customerID).Apply(pg.NewestFirst("b", "created_at", after, limit))
	if err := q.Scan(ctx); err != nil {
		return nil, nil, pg.Translate(err)
	}
	rows, next = pg.Page(rows, limit, func(r *batchRow) (time.Time, string) { return r.CreatedAt, r.ID })
	out, err = s.progress(ctx, rows)
	return out, next, err
}

// ControlBatchFor is ControlBatch on behalf of a customer.
func (s *Store) ControlBatchFor(ctx context.Context, customerID, id string, action email.Action) (p email.BatchProgress, own []email.Email, err error) {
	if _, err = s.batchRow(ctx, customerID, id, "b.id"); err != nil {
		return p, nil, err
	}
	if own, err = s.controlBatch(ctx, id, action, email.HolderCustomer); err != nil {
		return p, nil, err
	}
	p, err = s.Batch(ctx, customerID, id)
	return p, own, err
}

// controlChunk is how many of a batch's e-mails are read and written together.
const controlChunk = 250

// ControlBatch cancels, holds or resumes for an operator all e-mails of a batch that are
// not finished, those with runs of their own included: all of them, or none if it does not
// come to its end. Nothing of the batch is opened meanwhile. Doing it again is harmless.
// Resuming ends the holds that are the operator's own, and is refused if there are only
// others'. It gives those that have runs of their own, to be woken.
func (s *Store) ControlBatch(ctx context.Context, id string, action email.Action) (own []email.Email, err error) {
	return s.controlBatch(ctx, id, action, email.HolderOperator)
}

func (s *Store) controlBatch(ctx context.Context, id string, action email.Action, by email.Holder) (own []email.Email, err error) {
	err = s.inChange(ctx, func(c *change) error {
		_, err := c.controlBatch(id, action, by, func(m *mail) {
			if !m.batched() {
				own = append(own, emailOf(&m.emailRow, m.recipients, nil, nil))
			}
		})
		return err
	})
	return own, err
}

// controlBatch carries out an action on a batch in c's transaction, and returns the ids of the
// e-mails that it changed. It calls each, which may be nil, for every unfinished e-mail.
func (c *change) controlBatch(id string, action email.Action, by email.Holder, each func(*mail)) (changed []string, err error) {
	ids, err := c.lockBatch(id)
	if err != nil {
		return nil, err
	}
	lifted, err := c.holdBatch(id, action, by, len(ids) > 0)
	if err != nil {
		return nil, err
	}
	kept := false
	for chunk := range slices.Chunk(ids, controlChunk) {
		c.mails = nil
		if err := c.read(chunk); err != nil {
			return nil, err
		}
		for _, m := range c.mails {
			if action == email.ActionResume && m.Held && !m.mine(by) {
				kept = true
				continue
			}
			if err := c.act(m, email.Control{Action: action}, by); err != nil {
				return nil, err
			}
			if m.dirty {
				changed = append(changed, m.ID)
			}
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
		if err := c.tx.Flush(c.ctx); err != nil { // what waits for the commit is in memory
			return nil, fmt.Errorf("control a batch: %w", err)
		}
		if each != nil {
			for _, m := range c.mails {
				each(m)
			}
		}
	}
	if kept && !lifted && len(changed) == 0 {
		return nil, othersHold("batch", by)
	}
	return changed, nil
}

// holdBatch notes on the batch itself whether it is held and by whom. It reports whether a
// hold has been lifted.
func (c *change) holdBatch(id string, action email.Action, by email.Holder, open bool) (lifted bool, err error) {
	var row batchRow
	err = c.tx.NewRaw("SELECT customer_id, held, held_by_customer, held_by_operator FROM batches WHERE id = ? FOR NO KEY UPDATE", id).Scan(c.ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return false, pg.NotFound("batch")
	}
	if err != nil {
		return false, fmt.Errorf("lock batch: %w", err)
	}
	switch {
	case action == email.ActionResume:
		if lifted = row.lift(by); !lifted && row.Held {
			return false, othersHold("batch", by)
		}
	case action == email.ActionHold && open:
		row.hold(by)
	default:
		row.holds = holds{}
	}
	_, err = c.tx.NewRaw("UPDATE batches SET held = ?, held_by_customer = ?, held_by_operator = ? WHERE id = ?", row.Held, row.HeldByCustomer, row.HeldByOperator, id).Exec(c.ctx)
	if err != nil {
		return false, fmt.Errorf("update batch: %w", err)
	}
	return lifted, audit.Write(c.ctx, c.tx, row.CustomerID, "batch."+string(action), id, "")
}

// lockBatch locks the e-mails of a batch that are not finished, in the order that
// change keeps to, and tells which they are.
func (c *change) lockBatch(id string) (ids []string, err error) {
	const open = "FROM emails WHERE batch_id = ? AND status IN ('queued', 'sending') ORDER BY id"
	c.lockRows("SELECT 1 "+open, id)
	if err := c.tx.NewRaw("SELECT id "+open, id).Scan(c.ctx, &ids); err != nil {
		return nil, fmt.Errorf("lock e-mails of a batch: %w", err)
	}
	return ids, nil
}
