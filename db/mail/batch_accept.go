package mail

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/portion"
)

// acceptChunk is how many e-mails of a batch are inserted by one statement, or fewer with
// portion.BatchInsert.
const acceptChunk = 250

// AcceptBatch stores many messages, each as an e-mail of its own, in one transaction, with the
// order to start the batch's run leased to owner.
//
// An item is refused for a Failure of req's, for its sender's domain, or for a file that does not
// exist. In strict mode that refuses the whole batch, with the first email.MaxBatchProblems
// problems of all of its items. In permissive mode it refuses the item alone. Too few credits
// (CodeCredits), and a batch without a good item, refuse the whole batch in both modes.
//
// With an idempotency key it is done once, as for Accept. If ctx ends before the commit begins,
// nothing is stored.
func (s *Store) AcceptBatch(ctx context.Context, customerID string, req email.BatchRequest, owner string, idem email.Idempotency) (b email.Batch, items []email.BatchItem, replayed bool, err error) {
	id := pg.NewID()
	earlier := ""
	err = s.inUnit(ctx, func(c *unitOfWork) error {
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
	*unitOfWork
	customerID string
	req        email.BatchRequest
	row        batchRow
	items      []email.BatchItem
	recipients int
	// fields counts the problems of refused items.
	fields        int
	subscriptions webhooks.Subscriptions
	// prepaid: recipients cost credits. suppresses: there is a suppression list.
	prepaid, suppresses bool
	// urgent: it has an e-mail that is not broadcast mail.
	urgent bool
	// ignoring counts the e-mails that are sent to suppressed addresses, too.
	ignoring int
	// preview: it is not meant to be kept, so no e-mails are made.
	preview bool
	// Stored contents and callbacks that items share are looked up once.
	blobs     map[*byte]*files.Blob
	callbacks map[string]string
}

func newBatchAcceptance(c *unitOfWork, id, customerID string, req email.BatchRequest) *batchAcceptance {
	return &batchAcceptance{
		unitOfWork: c, customerID: customerID, req: req, blobs: map[*byte]*files.Blob{}, callbacks: map[string]string{},
		row: batchRow{ID: id, CustomerID: customerID, Stream: email.StreamTransactional, Mode: req.Mode, Total: req.Len, Refused: []refusedJSON{}},
	}
}

func (a *batchAcceptance) accept(owner string) error {
	if err := a.tx.NewRaw("SELECT now()").Scan(a.ctx, &a.now); err != nil {
		return fmt.Errorf("read the time: %w", err)
	}
	a.row.LeaseOwner = owner
	a.row.LeaseUntil, a.row.SeenAt, a.row.CreatedAt = a.leaseOf(owner), a.now, a.now
	if _, err := a.tx.NewInsert().Model(&a.row).Exec(a.ctx); err != nil {
		return fmt.Errorf("insert batch: %w", err)
	}
	for next := 0; next < a.req.Len; {
		var err error
		if next, err = a.chunk(next, min(next+acceptChunk, a.req.Len), owner); err != nil {
			return err
		}
		if err := a.ctx.Err(); err != nil { // the client has gone
			return err
		}
	}
	if a.wholeBatchRefused() || len(a.items) == 0 {
		return a.refusal()
	}
	if a.ignoring > 0 {
		if err := a.auditIgnoring(a.customerID, a.row.ID, fmt.Sprintf("%d e-mails of a batch", a.ignoring)); err != nil {
			return err
		}
	}
	broadcast := !a.urgent && !a.preview
	if broadcast {
		a.row.Stream = email.StreamBroadcast
	}
	if broadcast || len(a.row.Refused) > 0 {
		if _, err := a.tx.NewUpdate().Model(&a.row).WherePK().Column("refused", "stream").Exec(a.ctx); err != nil {
			return fmt.Errorf("write the stream and the refused items of a batch: %w", err)
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

// wholeBatchRefused reports whether an item has refused the whole batch. The further items are read
// all the same, for their problems.
func (a *batchAcceptance) wholeBatchRefused() bool {
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
	var mails []*lockedEmail
	bytes := 0
	for next = from; next < before && bytes < portion.BatchInsert; next++ {
		i := next
		m, err := a.message(i)
		if f, ok := errors.AsType[*email.Failure](err); ok && f.Code != email.CodeUnavailable {
			a.refuse(i, f)
			continue
		}
		if err != nil {
			return next, err
		}
		if a.wholeBatchRefused() {
			continue
		}
		if a.preview {
			a.items = append(a.items, email.BatchItem{Index: i})
			a.recipients += len(m.To) + len(m.Cc) + len(m.Bcc)
			continue
		}
		id := pg.NewID()
		ml := a.newEmail(id, a.customerID, m, a.subscriptions, a.callbacks[m.CallbackURL])
		a.urgent = a.urgent || ml.Stream != email.StreamBroadcast
		if ml.IgnoreSuppressions {
			a.ignoring++
		}
		bytes += storedBytes(m)
		index := i
		ml.BatchID, ml.BatchIndex = a.row.ID, &index
		if ml.attachments, err = a.newAttachmentRows(id, a.customerID, m.Attachments, a.blobs); err != nil {
			return next, err
		}
		ml.WorkflowID = email.BatchWorkflowIDPrefix + a.row.ID
		if unresolved(ml.attachments) { // to be fetched first, which is a run's work
			ml.WorkflowID = email.WorkflowIDPrefix + id
			a.enqueueStart(ml, owner, a.now)
		}
		mails = append(mails, ml)
	}
	if a.suppresses {
		if err := a.suppressNew(mails); err != nil {
			return next, err
		}
	}
	for _, ml := range mails {
		a.items = append(a.items, email.BatchItem{Index: *ml.BatchIndex, EmailID: ml.ID, Detail: ml.Detail})
		a.recipients += ml.charged()
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
	f, err := a.sender(a.customerID, m.From.Domain())
	if err != nil {
		return m, err
	}
	if f.refusal != nil {
		at := *f.refusal
		at.Fields = []email.FieldError{{Pointer: a.req.Sender(i), Code: string(at.Code), Detail: "use an address of a verified domain"}}
		return m, &at
	}
	a.subscriptions, a.prepaid, a.suppresses = f.subscriptions, f.prepaid, f.suppresses
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
		// Suppressed: a suppression list had all recipients, or some of them.
		Suppressed email.Detail
	}
	err = s.db.NewRaw(`SELECT e.batch_index AS index, e.id AS email_id, coalesce(send_at > created_at, false) AS scheduled,
			CASE WHEN r.suppressed = r.of THEN 'suppressed' WHEN r.suppressed > 0 THEN 'partial' ELSE '' END AS suppressed
		FROM emails AS e CROSS JOIN LATERAL (SELECT count(*) AS of, count(*) FILTER (WHERE r.status = 'suppressed' AND r.status_at = e.created_at) AS suppressed
			FROM recipients AS r WHERE r.email_id = e.id) AS r
		WHERE batch_id = ? ORDER BY batch_index`, id).Scan(ctx, &rows)
	if err != nil {
		return email.Batch{}, nil, pg.Translate(err)
	}
	items := make([]email.BatchItem, len(rows))
	for i, r := range rows {
		items[i] = email.BatchItem{Index: r.Index, EmailID: r.EmailID, Detail: r.Suppressed}
		if r.Scheduled {
			items[i].Detail = email.DetailScheduled
		}
	}
	b := row.batch()
	b.Held = false // as it began
	return b, items, nil
}
