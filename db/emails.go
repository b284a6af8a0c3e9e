package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/email"
)

// Email reads one e-mail of a customer, deleted ones included.
func (s *Store) Email(ctx context.Context, customerID, id string) (email.Email, error) {
	var row emailRow
	err := s.db.NewSelect().Model(&row).Where("e.id = ?", id).Where("e.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return email.Email{}, notFound("e-mail")
	}
	if err != nil {
		return email.Email{}, translate(err)
	}
	out, err := s.assemble(ctx, []*emailRow{&row}, whole)
	if err != nil {
		return email.Email{}, err
	}
	return out[0], nil
}

// headRow is an e-mail's place in a list, and about how many bytes its entry has.
type headRow struct {
	ID        string
	CreatedAt time.Time
	Bytes     int64
}

// Emails lists a customer's e-mails that a filter takes, newest first, without the
// deleted ones. An entry has no HTML, calendar or headers, and at most
// email.MaxListedText bytes of the text. A page ends after limit e-mails, or before the
// one that would take it past pageBytes. next is where the following page begins, nil
// on the last one.
func (s *Store) Emails(ctx context.Context, customerID string, f email.Filter, after email.Cursor, limit int) (out []email.Email, next *email.Cursor, err error) {
	place := s.db.NewSelect().Model((*emailRow)(nil)).Column("id", "created_at").Where("e.customer_id = ?", customerID).Where("e.deleted_at IS NULL").
		Apply(matching(f)).Apply(newestFirst("e", "created_at", after, limit))
	var heads []headRow
	err = s.db.NewRaw(`WITH p AS MATERIALIZED (?0)
		SELECT p.id, p.created_at, octet_length(e.subject) + octet_length(e.metadata::text) + octet_length(e.reply_to::text)
			+ (SELECT least(octet_length(c.body_text), ?1) FROM contents AS c WHERE c.email_id = p.id)
			+ (SELECT coalesce(sum(octet_length(r.address) + octet_length(r.name) + octet_length(r.label) + octet_length(r.detail)
				+ octet_length(r.smtp_text) + coalesce(octet_length(r.accepted_by::text), 0)), 0) FROM recipients AS r WHERE r.email_id = p.id)
			+ CASE WHEN e.attachments = 0 THEN 0 ELSE (SELECT coalesce(sum(octet_length(at.url) + octet_length(at.filename) + octet_length(at.problem)), 0)
				FROM attachments AS at WHERE at.email_id = p.id) END AS bytes
		FROM p JOIN emails AS e ON e.id = p.id ORDER BY p.created_at DESC, p.id DESC`, place, email.MaxListedText).Scan(ctx, &heads)
	if err != nil {
		return nil, nil, translate(err)
	}
	heads, next = page(heads, within(heads, limit, func(h headRow) int64 { return h.Bytes }), func(h headRow) (time.Time, string) { return h.CreatedAt, h.ID })
	if len(heads) == 0 {
		return nil, next, nil
	}
	ids := make([]string, len(heads))
	for i, h := range heads {
		ids[i] = h.ID
	}
	var rows []*emailRow
	if err := s.db.NewSelect().Model(&rows).Where("e.id IN (?)", bun.List(ids)).Order("e.created_at DESC", "e.id DESC").Scan(ctx); err != nil {
		return nil, nil, translate(err)
	}
	out, err = s.assemble(ctx, rows, listed)
	for i := range out {
		out[i].Text, out[i].TextCut = email.CutText(out[i].Text)
	}
	return out, next, err
}

// ContentBytes is the size of an e-mail's text, HTML and calendar, which Email reads
// into memory.
func (s *Store) ContentBytes(ctx context.Context, customerID, id string) (n int64, err error) {
	err = s.db.NewRaw(`SELECT octet_length(c.body_text)::bigint + octet_length(c.body_html) + octet_length(c.calendar)
		FROM emails AS e JOIN contents AS c ON c.email_id = e.id WHERE e.id = ? AND e.customer_id = ?`, id, customerID).Scan(ctx, &n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, notFound("e-mail")
	}
	return n, translate(err)
}

// whole reads all of an e-mail's content, listed what a list shows of it.
func whole(q *bun.SelectQuery) *bun.SelectQuery { return q }

func listed(q *bun.SelectQuery) *bun.SelectQuery {
	// left counts characters, each of at least one byte: one more than the limit shows that
	// the text is longer.
	return q.ColumnExpr("c.email_id, left(c.body_text, ?) AS body_text", email.MaxListedText+1)
}

// assemble adds recipients, attachments, and what content selects of the content to
// e-mails' rows.
func (s *Store) assemble(ctx context.Context, rows []*emailRow, content func(*bun.SelectQuery) *bun.SelectQuery) ([]email.Email, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	attached := false
	for i, r := range rows {
		ids[i] = r.ID
		attached = attached || r.Attachments > 0
	}
	var rs []*recipientRow
	if err := s.db.NewSelect().Model(&rs).Where("r.email_id IN (?)", bun.List(ids)).Order("r.position").Scan(ctx); err != nil {
		return nil, translate(err)
	}
	var cs []*contentRow
	if err := s.db.NewSelect().Model(&cs).Apply(content).Where("c.email_id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, translate(err)
	}
	var as []*attachmentRow
	if attached {
		if err := s.db.NewSelect().Model(&as).Where("at.email_id IN (?)", bun.List(ids)).Order("at.position").Scan(ctx); err != nil {
			return nil, translate(err)
		}
	}
	callbacks, err := s.callbacks(ctx, rows)
	if err != nil {
		return nil, err
	}
	recipients := make(map[string][]*recipientRow)
	for _, r := range rs {
		recipients[r.EmailID] = append(recipients[r.EmailID], r)
	}
	contents := make(map[string]*contentRow)
	for _, c := range cs {
		contents[c.EmailID] = c
	}
	attachments := make(map[string][]*attachmentRow)
	for _, a := range as {
		attachments[a.EmailID] = append(attachments[a.EmailID], a)
	}
	out := make([]email.Email, len(rows))
	for i, r := range rows {
		out[i] = emailOf(r, recipients[r.ID], contents[r.ID], attachments[r.ID])
		out[i].CallbackURL = callbacks[r.CallbackID]
	}
	return out, s.addRelayFaults(ctx, rows, out)
}

// callbacks reads the callback URLs of e-mails, by the id of their endpoint.
func (s *Store) callbacks(ctx context.Context, rows []*emailRow) (map[string]string, error) {
	var ids []string
	for _, r := range rows {
		if r.CallbackID != "" && !slices.Contains(ids, r.CallbackID) {
			ids = append(ids, r.CallbackID)
		}
	}
	out := map[string]string{}
	if len(ids) == 0 {
		return out, nil
	}
	var es []*endpointRow
	if err := s.db.NewSelect().Model(&es).Column("id", "url").Where("w.id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, translate(err)
	}
	for _, e := range es {
		out[e.ID] = e.URL
	}
	return out, nil
}

// Message reads an e-mail's message as it was accepted, attachments' contents
// included, for rendering. An optional attachment that could not be had is left
// out; any other that is not stored is an error.
func (s *Store) Message(ctx context.Context, emailID string) (email.Message, error) {
	ms, err := s.Outgoing(ctx, []string{emailID})
	if err != nil {
		return email.Message{}, err
	}
	m, ok := ms[emailID]
	if !ok {
		return m, notFound("e-mail")
	}
	if m.Attachments, err = m.Carried(); err != nil {
		return email.Message{}, err
	}
	for i := range m.Attachments {
		a := &m.Attachments[i]
		if a.Content, err = readBlob(ctx, s.db, a.BlobID, a.Size); err != nil {
			return email.Message{}, translate(err)
		}
	}
	return m, nil
}

// Outgoing reads the messages of e-mails that are about to be rendered, all of their
// attachments without their contents; see Content. An id that is not there is missing.
func (s *Store) Outgoing(ctx context.Context, ids []string) (map[string]email.Message, error) {
	var rows []struct {
		emailRow
		Text         string          `bun:"body_text"`
		TextFromHTML bool            `bun:"text_from_html"`
		HTML         string          `bun:"body_html"`
		Method       string          `bun:"calendar_method"`
		Calendar     string          `bun:"calendar"`
		Headers      []headerJSON    `bun:"headers,type:jsonb"`
		Recipients   []*recipientRow `bun:"recipients,type:jsonb"`
	}
	if err := executed(s.db, "find_messages", pgdialect.Array(ids)).Scan(ctx, &rows); err != nil {
		return nil, translate(err)
	}
	var attached []string
	for i := range rows {
		if rows[i].Attachments > 0 {
			attached = append(attached, rows[i].ID)
		}
	}
	attachments := map[string][]*attachmentRow{}
	if len(attached) > 0 {
		var as []*attachmentRow
		if err := s.db.NewSelect().Model(&as).Where("at.email_id IN (?)", bun.List(attached)).Order("at.position").Scan(ctx); err != nil {
			return nil, translate(err)
		}
		for _, a := range as {
			attachments[a.EmailID] = append(attachments[a.EmailID], a)
		}
	}
	out := make(map[string]email.Message, len(rows))
	for i := range rows {
		r := &rows[i]
		out[r.ID] = emailOf(&r.emailRow, r.Recipients, &contentRow{Text: r.Text, TextFromHTML: r.TextFromHTML, HTML: r.HTML, Method: r.Method, Calendar: r.Calendar, Headers: r.Headers}, attachments[r.ID]).Message
	}
	return out, nil
}

// StoreAttachment keeps what a reference was resolved to: content, read to its
// end, with name and type; or, for an optional one that cannot be had, its Problem,
// and then content is nil. It answers with the attachment as it is stored. Storing
// it again changes nothing. An error of content comes back in the chain.
func (s *Store) StoreAttachment(ctx context.Context, customerID string, a email.Attachment, content io.Reader) (email.Attachment, error) {
	if a.Problem != "" {
		return s.attach(ctx, a, nil)
	}
	blob, err := s.stage(ctx, customerID, content)
	if err != nil {
		return a, err
	}
	out, err := s.attach(ctx, a, blob)
	if err != nil || out.BlobID != blob.ID {
		err = errors.Join(err, s.discard(ctx, blob))
	}
	return out, err
}

// attach writes what became of an attachment, unless another has.
func (s *Store) attach(ctx context.Context, a email.Attachment, blob *blobRow) (email.Attachment, error) {
	var row attachmentRow
	err := s.inTx(ctx, func(tx bun.Tx) error {
		// The e-mail first, as everywhere: its size is to change.
		var emailID string
		err := tx.NewRaw("SELECT e.id FROM emails AS e WHERE e.id = (SELECT email_id FROM attachments WHERE id = ?) FOR UPDATE", a.ID).Scan(ctx, &emailID)
		if err != nil {
			return fmt.Errorf("lock the e-mail of attachment %s: %w", a.ID, err)
		}
		if err := tx.NewSelect().Model(&row).Where("at.id = ?", a.ID).Scan(ctx); err != nil {
			return fmt.Errorf("read attachment %s: %w", a.ID, err)
		}
		if row.BlobID != "" || row.Problem != "" {
			return nil
		}
		if row.Problem = cleanText(a.Problem); blob != nil {
			if err := keep(ctx, tx, blob); err != nil {
				return err
			}
			row.BlobID, row.Size, row.SHA256 = blob.ID, blob.Size, blob.SHA256
			row.Filename, row.Type = a.Filename, a.Type
			if _, err := tx.NewRaw("UPDATE emails SET size_bytes = size_bytes + ? WHERE id = ?", row.Size, emailID).Exec(ctx); err != nil {
				return fmt.Errorf("update the e-mail's size: %w", err)
			}
		}
		if _, err := tx.NewUpdate().Model(&row).WherePK().Column("blob_id", "size", "sha256", "filename", "type", "problem").Exec(ctx); err != nil {
			return fmt.Errorf("update attachment %s: %w", a.ID, err)
		}
		return nil
	})
	return row.attachment(), err
}

// HasEmail reports whether id names an e-mail of any customer. What is no UUID names none.
func (s *Store) HasEmail(ctx context.Context, id string) (bool, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return false, nil
	}
	found, err := s.db.NewSelect().Model((*emailRow)(nil)).Where("e.id = ?", parsed).Exists(ctx)
	return found, translate(err)
}
