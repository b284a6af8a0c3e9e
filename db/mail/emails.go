package mail

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
)

// Email reads one e-mail of a customer, deleted ones included. An e-mail that the customer does not
// have is a CodeNotFound.
func (s *Store) Email(ctx context.Context, customerID, id string) (email.Email, error) {
	var row emailRow
	err := s.db.NewSelect().Model(&row).Where("e.id = ?", id).Where("e.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return email.Email{}, pg.NotFound("e-mail")
	}
	if err != nil {
		return email.Email{}, pg.Translate(err)
	}
	out, err := s.assemble(ctx, []*emailRow{&row}, whole)
	if err != nil {
		return email.Email{}, err
	}
	return out[0], nil
}

// headRow is an e-mail's time and id, and about how many bytes its entry has.
type headRow struct {
	ID        string
	CreatedAt time.Time
	Bytes     int64
}

// Emails lists a customer's e-mails that a filter takes, newest first, without the
// deleted ones. An entry has no HTML, calendar or headers, and at most
// email.MaxListedText bytes of the text. A page ends after limit e-mails, or before the
// one that would take it past portion.Page. next is where the following page begins, nil
// on the last one.
func (s *Store) Emails(ctx context.Context, customerID string, f email.Filter, after email.Cursor, limit int) (out []email.Email, next *email.Cursor, err error) {
	page := s.db.NewSelect().Model((*emailRow)(nil)).Column("id", "created_at").Where("e.customer_id = ?", customerID).Where("e.deleted_at IS NULL").
		Apply(matching(f)).Apply(pg.NewestFirst("e", "created_at", after, limit))
	var heads []headRow
	err = s.db.NewRaw(`WITH p AS MATERIALIZED (?0)
		SELECT p.id, p.created_at, octet_length(e.subject) + octet_length(e.metadata::text) + octet_length(e.reply_to::text)
			+ (SELECT least(octet_length(c.body_text), ?1) FROM contents AS c WHERE c.email_id = p.id)
			+ (SELECT coalesce(sum(octet_length(r.address) + octet_length(r.name) + octet_length(r.label) + octet_length(r.detail)
				+ octet_length(r.smtp_text) + coalesce(octet_length(r.accepted_by::text), 0)), 0) FROM recipients AS r WHERE r.email_id = p.id)
			+ CASE WHEN e.attachments = 0 THEN 0 ELSE (SELECT coalesce(sum(octet_length(at.url) + octet_length(at.filename) + octet_length(at.problem)), 0)
				FROM attachments AS at WHERE at.email_id = p.id) END AS bytes
		FROM p JOIN emails AS e ON e.id = p.id ORDER BY p.created_at DESC, p.id DESC`, page, email.MaxListedText).Scan(ctx, &heads)
	if err != nil {
		return nil, nil, pg.Translate(err)
	}
	heads, next = pg.Page(heads, pg.Within(heads, limit, func(h headRow) int64 { return h.Bytes }), func(h headRow) (time.Time, string) { return h.CreatedAt, h.ID })
	if len(heads) == 0 {
		return nil, next, nil
	}
	ids := make([]string, len(heads))
	for i, h := range heads {
		ids[i] = h.ID
	}
	var rows []*emailRow
	if err := s.db.NewSelect().Model(&rows).Where("e.id IN (?)", bun.List(ids)).Order("e.created_at DESC", "e.id DESC").Scan(ctx); err != nil {
		return nil, nil, pg.Translate(err)
	}
	out, err = s.assemble(ctx, rows, listed)
	for i := range out {
		out[i].Text, out[i].TextCut = email.CutText(out[i].Text)
	}
	return out, next, err
}

// ContentBytes is the size of an e-mail's text, HTML and calendar, which Email reads into memory.
// An e-mail that the customer does not have is a CodeNotFound.
func (s *Store) ContentBytes(ctx context.Context, customerID, id string) (n int64, err error) {
	err = s.db.NewRaw(`SELECT octet_length(c.body_text)::bigint + octet_length(c.body_html) + octet_length(c.calendar)
		FROM emails AS e JOIN contents AS c ON c.email_id = e.id WHERE e.id = ? AND e.customer_id = ?`, id, customerID).Scan(ctx, &n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, pg.NotFound("e-mail")
	}
	return n, pg.Translate(err)
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
		return nil, pg.Translate(err)
	}
	var cs []*contentRow
	if err := s.db.NewSelect().Model(&cs).Apply(content).Where("c.email_id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, pg.Translate(err)
	}
	var as []*attachmentRow
	if attached {
		if err := s.db.NewSelect().Model(&as).Where("at.email_id IN (?)", bun.List(ids)).Order("at.position").Scan(ctx); err != nil {
			return nil, pg.Translate(err)
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
	return webhooks.CallbackURLs(ctx, s.db, ids)
}

// Message reads an e-mail's message as it was accepted, attachments' contents
// included, for rendering. An optional attachment that could not be had is left
// out; any other that is not stored is an error.
func (s *Store) Message(ctx context.Context, emailID string) (email.Message, error) {
	if m, ok := s.runCache.takeMessage(emailID); ok {
		return m, nil
	}
	ms, err := s.Outgoing(ctx, []string{emailID})
	if err != nil {
		return email.Message{}, err
	}
	m, ok := ms[emailID]
	if !ok {
		return m, pg.NotFound("e-mail")
	}
	if m.Attachments, err = m.Carried(); err != nil {
		return email.Message{}, err
	}
	for i := range m.Attachments {
		a := &m.Attachments[i]
		if a.Content, err = files.ReadBlob(ctx, s.db, a.BlobID, a.Size); err != nil {
			return email.Message{}, pg.Translate(err)
		}
	}
	return m, nil
}

// findMessages reads e-mails with their contents and recipients.
var findMessages = pg.Prepare("find_messages(uuid[])", `SELECT `+emailColumns+`, now() AS tx_now, c.body_text, c.text_from_html, c.body_html, c.calendar_method, c.calendar, c.headers,
		(SELECT jsonb_agg(to_jsonb(r) ORDER BY r.position) FROM recipients AS r WHERE r.email_id = e.id) AS recipients
	FROM emails AS e JOIN contents AS c ON c.email_id = e.id WHERE e.id = ANY ($1)`)

// Outgoing reads the messages of e-mails that are about to be rendered, all of their
// attachments without their contents; see Content. An id that is not there is missing.
func (s *Store) Outgoing(ctx context.Context, ids []string) (map[string]email.Message, error) {
	rows, err := s.messageRows(ctx, ids)
	if err != nil {
		return nil, err
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
			return nil, pg.Translate(err)
		}
		for _, a := range as {
			attachments[a.EmailID] = append(attachments[a.EmailID], a)
		}
	}
	out := make(map[string]email.Message, len(rows))
	for i := range rows {
		r := &rows[i]
		out[r.ID] = emailOf(&r.emailRow, r.Recipients, r.content(), attachments[r.ID]).Message
	}
	return out, nil
}

// messageRow is what findMessages reads.
type messageRow struct {
	emailRow
	TxNow        time.Time       `bun:"tx_now"`
	Text         string          `bun:"body_text"`
	TextFromHTML bool            `bun:"text_from_html"`
	HTML         string          `bun:"body_html"`
	Method       string          `bun:"calendar_method"`
	Calendar     string          `bun:"calendar"`
	Headers      []headerJSON    `bun:"headers,type:jsonb"`
	Recipients   []*recipientRow `bun:"recipients,type:jsonb"`
}

func (r *messageRow) content() *contentRow {
	return &contentRow{EmailID: r.ID, Text: r.Text, TextFromHTML: r.TextFromHTML, HTML: r.HTML, Method: r.Method, Calendar: r.Calendar, Headers: r.Headers}
}

func (s *Store) messageRows(ctx context.Context, ids []string) (rows []messageRow, err error) {
	err = findMessages.Query(s.db, pgdialect.Array(ids)).Scan(ctx, &rows)
	return rows, pg.Translate(err)
}

// HasEmail reports whether id names an e-mail of any customer. A text that is not a UUID names
// none.
func (s *Store) HasEmail(ctx context.Context, id string) (bool, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return false, nil
	}
	found, err := s.db.NewSelect().Model((*emailRow)(nil)).Where("e.id = ?", parsed).Exists(ctx)
	return found, pg.Translate(err)
}
