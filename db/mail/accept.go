package mail

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/suppression"
)

// startLease is how long the accepting process has to start the run itself
// before a sweeper may.
const startLease = 10 * time.Second

// Accept stores a message as an e-mail, with its recipients, attachments and an outbox row leased
// to owner (a process), in one transaction. After it returns, the mail cannot be lost.
//
// With an idempotency key the same message is accepted once, however often and however concurrently
// it comes: replayed says that the e-mail is an earlier one.
//
// Its errors are Failures: CodeDomainUnverified for a sender domain that the customer has not
// proven; CodeInvalidRequest for a file that does not exist, CodeBlocked and CodeTooLarge for files
// that may not be sent; CodeCredits for too few credits; CodeIdempotencyConflict for another
// message under the same key. Customers whose messages wait to be stored take turns; with too many
// waiting, it returns CodeUnavailable at once.
func (s *Store) Accept(ctx context.Context, customerID string, m email.Message, owner string, idem email.Idempotency) (out email.Email, replayed bool, err error) {
	a := acceptance{customerID: customerID, message: m, owner: owner}
	if mayShareTransaction(m, idem) {
		e, solo, err := s.accepts.Do(ctx, a)
		switch {
		case err == nil && e != nil:
			return *e, false, nil
		case solo:
			return out, false, err
		}
	}
	release, err := s.solo.Acquire(ctx, customerID)
	if err != nil {
		return out, false, err
	}
	defer release()
	return s.acceptOnce(ctx, a, idem)
}

// acceptOnce accepts a message that does not share its transaction, once for each key.
func (s *Store) acceptOnce(ctx context.Context, a acceptance, idem email.Idempotency) (out email.Email, replayed bool, err error) {
	a.id = pg.NewID()
	earlier := ""
	err = s.inUnit(ctx, func(c *unitOfWork) error {
		if earlier, err = c.reserve(a.customerID, a.id, idem); err != nil || earlier != "" {
			return err
		}
		es, err := c.accept([]acceptance{a})
		if err == nil {
			out = *es[0]
		}
		return err
	})
	if err != nil || earlier == "" {
		return out, false, err
	}
	out, err = s.Email(ctx, a.customerID, earlier)
	return out.AsAccepted(), true, err
}

// acceptMany accepts messages in one transaction; see accept.
func (s *Store) acceptMany(ctx context.Context, as []acceptance) (out []*email.Email, err error) {
	err = s.inUnit(ctx, func(c *unitOfWork) error {
		out, err = c.accept(as)
		return err
	})
	return out, err
}

// accept stores messages, each as an e-mail of its own. A single one is refused with its
// reason. Of several, those that would be refused, or whose customer has to pay, are left out:
// their e-mails are nil.
func (c *unitOfWork) accept(as []acceptance) ([]*email.Email, error) {
	out, made := make([]*email.Email, len(as)), make([]*lockedEmail, len(as))
	var emails, listed []*lockedEmail
	for i, a := range as {
		from, err := c.sender(a.customerID, a.message.From.Domain())
		if err != nil {
			return nil, err
		}
		if len(as) > 1 && (from.refusal != nil || from.prepaid) {
			continue
		}
		if from.refusal != nil {
			return nil, from.refusal
		}
		ml, err := c.compose(a, from.subscriptions)
		if err != nil {
			return nil, err
		}
		made[i], emails = ml, append(emails, ml)
		if from.suppresses {
			listed = append(listed, ml)
		}
	}
	if err := c.suppressNew(listed); err != nil {
		return nil, err
	}
	used := map[string]*usage{}
	for i, ml := range made {
		if ml == nil {
			continue
		}
		if as[i].owner != delivery.NoOwner && !ml.Status.Final() {
			c.stored = append(c.stored, ml)
		}
		prepaid := c.senders[senderKey{ml.CustomerID, as[i].message.From.Domain()}].prepaid
		used[ml.CustomerID] = used[ml.CustomerID].and(ml.charged(), prepaid)
		if ml.IgnoreSuppressions {
			if err := c.auditIgnoring(ml.CustomerID, ml.ID, ""); err != nil {
				return nil, err
			}
		}
		e := emailOf(&ml.emailRow, ml.recipients, ml.content, ml.attachments)
		e.CallbackURL = as[i].message.CallbackURL
		out[i] = &e
	}
	if err := c.insert(emails); err != nil {
		return nil, err
	}
	// Last, because the customers' other requests wait for what this locks. In one order,
	// because others do the same at the same time.
	for _, u := range sortedUsage(used) {
		if err := accounts.Charge(c.ctx, c.tx, u.customerID, u.emails, u.recipients, u.prepaid); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// auditIgnoring notes in the audit log that an e-mail, or some of a batch, is sent to suppressed addresses,
// too.
func (c *unitOfWork) auditIgnoring(customerID, id, detail string) error {
	return audit.Write(c.ctx, c.late, customerID, "email.suppressions_ignored", id, detail)
}

// compose makes the rows of an acceptance, and stores what its attachments hold.
func (c *unitOfWork) compose(a acceptance, subscriptions webhooks.Subscriptions) (*lockedEmail, error) {
	m := a.message
	var err error
	if m.Attachments, err = c.attachFiles(a.customerID, m); err != nil {
		return nil, err
	}
	callbackID, err := webhooks.CallbackEndpoint(c.ctx, c.tx, a.customerID, m.CallbackURL)
	if err != nil {
		return nil, err
	}
	if a.id == "" {
		a.id = pg.NewID()
	}
	ml := c.newEmail(a.id, a.customerID, m, subscriptions, callbackID)
	ml.WorkflowID = cmp.Or(a.workflowID, email.WorkflowIDPrefix+a.id)
	if ml.attachments, err = c.newAttachmentRows(a.id, a.customerID, m.Attachments, nil); err != nil {
		return nil, err
	}
	if a.owner != "" {
		c.enqueueStart(ml, a.owner, c.leaseOf(a.owner))
	}
	return ml, nil
}

// newEmail makes the rows of a message that begins its life now, and its first event.
func (c *unitOfWork) newEmail(id, customerID string, m email.Message, wants webhooks.Subscriptions, callbackID string) *lockedEmail {
	due := c.now
	if m.SendAt.After(c.now) {
		due = m.SendAt
	}
	ml := &lockedEmail{emailRow: newEmailRow(id, customerID, m, c.now), recipients: newRecipientRows(id, m, c.addressKeys, c.now, due), content: newContentRow(id, m), subscriptions: wants}
	if callbackID != "" {
		ml.subscriptions = slices.Concat(wants, webhooks.SubscriptionsTo(endpoint.FormatStandard, endpoint.Outcomes()))
	}
	ml.CallbackID = callbackID
	if m.Unsubscribe {
		ml.LinkBase = c.s.opts.LinkBase
	}
	c.deriveStatus(ml)
	event := email.EventQueued
	if ml.Detail == email.DetailScheduled {
		event = email.EventScheduled
	}
	c.emit(ml, eventRow{Type: event})
	return ml
}

// leaseOf is until when a process that accepts mail has the lease of its starts. delivery.NoOwner has
// none.
func (c *unitOfWork) leaseOf(owner string) time.Time {
	if owner == delivery.NoOwner {
		return c.now
	}
	return c.now.Add(startLease)
}

// enqueueStart inserts the order to start an e-mail's run, leased to owner until a time.
func (c *unitOfWork) enqueueStart(m *lockedEmail, owner string, until time.Time) {
	c.outboxInserts = append(c.outboxInserts, outboxRow{EmailID: m.ID, Stream: m.Stream, CustomerID: m.CustomerID, LeaseOwner: owner, LeaseUntil: until, CreatedAt: c.now})
}

// insert writes e-mails that begin their life in this transaction, with their rows and the orders
// for their runs. It waits for no lock, so it comes before a charge, which does.
func (c *unitOfWork) insert(mails []*lockedEmail) error {
	var (
		rows        []*emailRow
		recipients  []*recipientRow
		contents    []*contentRow
		large       []*contentRow
		attachments []*attachmentRow
	)
	for _, m := range mails {
		rows, recipients = append(rows, &m.emailRow), append(recipients, m.recipients...)
		attachments = append(attachments, m.attachments...)
		if m.content.large() {
			large = append(large, m.content)
		} else {
			contents = append(contents, m.content)
		}
	}
	if err := insertLate(c, "e-mails", rows); err != nil {
		return err
	}
	if err := insertLate(c, "recipients", recipients); err != nil {
		return err
	}
	if err := insertLate(c, "contents", contents); err != nil {
		return err
	}
	for _, content := range large {
		if err := c.copyContent(content); err != nil {
			return err
		}
	}
	if err := insertLate(c, "attachments", attachments); err != nil {
		return err
	}
	if err := c.writeOutbox(); err != nil {
		return err
	}
	return c.writeEvents(mails)
}

// insertLate inserts rows, if there are any, together with the commit.
func insertLate[R any](c *unitOfWork, what string, rows []R) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := c.late.NewInsert().Model(&rows).Returning("NULL").Exec(c.ctx); err != nil {
		return fmt.Errorf("insert %s: %w", what, err)
	}
	return nil
}

// reserve takes a key for the e-mail, or finds the e-mail that has it. A request with the same key
// at the same time waits for the first to commit. A key that is too old is free.
func (c *unitOfWork) reserve(customerID, emailID string, idem email.Idempotency) (earlier string, err error) {
	if idem.Key == "" {
		return "", nil
	}
	res, err := c.tx.NewRaw(`INSERT INTO idempotency_keys AS k (customer_id, key, fingerprint, email_id, created_at) VALUES (?, ?, ?, ?, now())
		ON CONFLICT (customer_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, email_id = excluded.email_id, created_at = now()
		WHERE k.created_at < now() - ? * interval '1 second'`,
		customerID, idem.Key, idem.Fingerprint, emailID, email.IdempotencyKept.Seconds()).Exec(c.ctx)
	if err != nil {
		return "", fmt.Errorf("reserve idempotency key: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return "", err
	}
	var fingerprint string
	err = c.tx.NewRaw("SELECT email_id, fingerprint FROM idempotency_keys WHERE customer_id = ? AND key = ?", customerID, idem.Key).
		Scan(c.ctx, &earlier, &fingerprint)
	if err != nil {
		return "", fmt.Errorf("read idempotency key: %w", err)
	}
	if fingerprint != idem.Fingerprint {
		return "", email.Fail(email.CodeIdempotencyConflict, "this Idempotency-Key was used for another message; use a new key for a new message")
	}
	return earlier, nil
}

// findAcceptance reads the time, and what acceptance asks about a customer and a sender domain.
var findAcceptance = pg.Prepare("find_acceptance(uuid, text)", `SELECT now(),
		(SELECT array_agg(DISTINCT w.format || ' ' || t) FROM webhook_endpoints AS w, unnest(w.events) AS t
			WHERE w.customer_id = $1 AND w.disabled_at IS NULL AND w.kind <> 'callback'),
		coalesce((SELECT customer_id = $1 FROM domains WHERE name = $2 AND verified_at IS NOT NULL),
			(SELECT false FROM domain_locks WHERE name = $2),
			(SELECT false FROM domains WHERE customer_id = $1 AND name = $2 AND status = 'failed')),
		EXISTS (SELECT 1 FROM customers WHERE id = $1 AND credits IS NOT NULL), EXISTS (SELECT 1 FROM suppressions WHERE customer_id = $1)`)

// checkSender sets the transaction's time, unless it is set already, and checks that the
// customer may send from the domain. A refusal is its error.
func (c *unitOfWork) checkSender(customerID, domain string) (f senderCheck, err error) {
	var now time.Time
	// own: the customer has verified the domain. False: another customer has, or the domain
	// is locked, or its verification has failed. NULL: none of these.
	var own sql.NullBool
	err = findAcceptance.Query(c.tx, customerID, domain).Scan(c.ctx, &now, pgdialect.Array((*[]string)(&f.subscriptions)), &own, &f.prepaid, &f.suppresses)
	if err != nil {
		return f, fmt.Errorf("check sender domain: %w", err)
	}
	if c.now.IsZero() {
		c.now = now
	}
	if !own.Bool && (c.s.opts.RequireVerifiedDomains || own.Valid) {
		return f, c.refuseSender(customerID, domain)
	}
	return f, nil
}

// refuseSender says why a customer may not send from a domain. It returns an error in any case.
func (c *unitOfWork) refuseSender(customerID, domain string) error {
	refusal, err := accounts.RefusedSender(c.ctx, c.tx, customerID, domain)
	switch {
	case err != nil:
		return fmt.Errorf("read sender domain: %w", err)
	case refusal != nil:
		return refusal
	case c.s.opts.RequireVerifiedDomains:
		return email.Fail(email.CodeDomainUnverified, "the sender's domain is not verified for this customer: add it with POST /v1.0/domains and publish its records, have the operator run `postrider domain add %s --customer %s --verified`, or send from a verified domain", domain, customerID)
	}
	return email.Fail(email.CodeDomainUnverified, "the sender's domain %s is verified for another customer, or was taken from one: send from a domain of your own", domain)
}

func newEmailRow(id, customerID string, m email.Message, now time.Time) emailRow {
	row := emailRow{
		ID: id, CustomerID: customerID,
		FromEmail: m.From.Email, FromName: m.From.Name, FromLabel: m.From.Label, FromDetail: m.From.Detail,
		ReplyTo: addressRows(m.ReplyTo), Subject: m.Subject, Metadata: m.Metadata, Tags: m.Tags,
		Topic: m.Topic, Unsubscribe: m.Unsubscribe, IgnoreSuppressions: m.IgnoreSuppressions,
		Stream: m.Stream, OnAmbiguous: m.OnAmbiguous, SendAt: m.SendAt, ExpiresAt: m.ExpiresAt,
		SizeBytes: m.Size(), Attachments: len(m.Attachments),
		StatusAt: now, CreatedAt: now,
	}
	// The driver writes nil as NULL, not as the column's default.
	if row.Metadata == nil {
		row.Metadata = map[string]string{}
	}
	if row.Tags == nil {
		row.Tags = []string{}
	}
	if row.Stream == "" {
		row.Stream = email.StreamTransactional
	}
	if row.OnAmbiguous == "" {
		row.OnAmbiguous = email.AmbiguousRetry
	}
	return row
}

func newRecipientRows(emailID string, m email.Message, keys suppression.Keys, now, due time.Time) []*recipientRow {
	var rows []*recipientRow
	add := func(kind email.RecipientKind, as []email.Address) {
		for _, a := range as {
			rows = append(rows, &recipientRow{
				ID: pg.NewID(), EmailID: emailID, Position: len(rows), Kind: kind, Address: a.Email, Name: a.Name, Label: a.Label,
				Detail: a.Detail, Status: email.RecipientQueued, StatusAt: now, NextAttemptAt: due, AddressKey: keys.Key(a.Email),
			})
		}
	}
	add(email.KindTo, m.To)
	add(email.KindCc, m.Cc)
	add(email.KindBcc, m.Bcc)
	return rows
}

func newContentRow(emailID string, m email.Message) *contentRow {
	row := &contentRow{EmailID: emailID, Text: m.Text, TextFromHTML: m.TextFromHTML, HTML: m.HTML, Method: m.Calendar.Method, Calendar: m.Calendar.ICS, Headers: []headerJSON{}}
	for _, h := range m.Headers {
		row.Headers = append(row.Headers, headerJSON(h))
	}
	return row
}

// newAttachmentRows stores inline contents as files, and references as they are;
// those to bytes that are stored share them. known are contents that were stored
// before, by where they are in memory; nil knows none.
func (c *unitOfWork) newAttachmentRows(emailID, customerID string, as []email.Attachment, known map[*byte]*files.Blob) ([]*attachmentRow, error) {
	rows := make([]*attachmentRow, 0, len(as))
	for i, a := range as {
		row := &attachmentRow{
			ID: pg.NewID(), EmailID: emailID, Position: i, Filename: a.Filename, Type: a.Type, ContentID: a.ContentID,
			ReferenceType: a.ReferenceType, ReferenceID: a.ReferenceID, URL: a.URL, Optional: a.Optional,
			BlobID: a.BlobID, Size: a.Size, SHA256: a.SHA256,
		}
		if a.Content != nil {
			blob, err := c.blobOf(customerID, a.Content, known)
			if err != nil {
				return nil, err
			}
			row.ReferenceType, row.ReferenceID = email.ReferenceFile, blob.ID
			row.BlobID, row.Size, row.SHA256 = blob.ID, blob.Size, blob.SHA256
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (c *unitOfWork) blobOf(customerID string, content []byte, known map[*byte]*files.Blob) (*files.Blob, error) {
	if known == nil || len(content) == 0 {
		return files.StoreBlob(c.ctx, c.tx, customerID, content, c.now)
	}
	if blob := known[&content[0]]; blob != nil {
		return blob, nil
	}
	blob, err := files.StoreBlob(c.ctx, c.tx, customerID, content, c.now)
	known[&content[0]] = blob
	return blob, err
}
