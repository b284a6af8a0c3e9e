package mail

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/suppressions"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/pacing"
	"github.com/postrider/postrider/internal/suppression"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// lockedEmail is a locked e-mail with its recipients, changed in memory and written
// back by unitOfWork.flush.
type lockedEmail struct {
	emailRow
	recipients []*recipientRow
	// recipientsBefore holds the recipients' states as they are in the database.
	recipientsBefore map[string]email.RecipientStatus
	// subscriptions are the event types that the endpoints want.
	subscriptions webhooks.Subscriptions
	// hooksRest: each endpoint is in backoff, or a run is probing it. An inline call is not worth it.
	hooksRest bool
	// content and attachments are loaded where bodies need them.
	content     *contentRow
	attachments []*attachmentRow
	// anyPause: something is paused, perhaps this; anyWarmup: a sender's domain is
	// being warmed up, perhaps this one's.
	anyPause, anyWarmup bool
	// paced: its recipients have the slots that they need, or wait for them.
	paced        bool
	statusBefore email.Status
	dirty        bool
	// suppressed are the entries of suppression lists that cover open recipients, by the recipient's id.
	suppressed map[string]suppressedBy
	// sender is set while the date of the message is not fixed.
	sender *senderIdentity
	// fault is what the relay said that gave the recipients back in this change.
	fault email.Reply
}

// unitOfWork is one transaction's work on locked e-mails: the only writer of
// recipients' and e-mails' states, of events and of webhook deliveries. All its
// rows carry one time.
type unitOfWork struct {
	ctx context.Context
	s   *Store
	tx  *pg.Tx
	// late writes together with the commit.
	late   pg.Deferred
	now    time.Time
	emails []*lockedEmail
	// senders are the senders that were looked up.
	senders map[senderKey]senderCheck
	// pauses are the scopes of the pauses that were looked up; empty is none.
	pauses map[pauseKey]email.PauseScope
	// journal has attempts that were read ahead, by e-mail.
	journal map[string]*attemptRow
	// addressKeys makes the keys of recipients.
	addressKeys suppression.Keys
	// links makes the links to unsubscribe by.
	links unsubscribe.Links
	// suppressions are new entries of suppression lists.
	suppressions []suppression.Entry
	events       []eventRow
	bodies       []webhooks.Body
	// written are the events that are written already.
	written []eventRow
	// opened and ended are attempts, recalled the e-mails whose open attempts have a lease that ran out.
	// outboxInserts are the orders for runs to start, outboxDeletes the e-mails whose run exists.
	opened        []openedAttempt
	ended         []attemptRow
	recalled      []string
	outboxDeletes []string
	outboxInserts []outboxRow
	// stored are new e-mails whose runs begin in this process.
	stored []*lockedEmail
	// refusals are replies that a domain's authentication failed, one for each domain.
	refusals map[warnedDomain]accounts.AuthRefusal
}

// lockedRow is an emailRow as the lock reads it.
type lockedRow struct {
	emailRow
	Recipients []*recipientRow `bun:"recipients,type:jsonb"`
	TxNow      time.Time       `bun:"tx_now"`
	Wants      []string        `bun:"wants,array"`
	HooksRest  bool            `bun:"hooks_rest"`
	Pauses     bool            `bun:"pauses"`
	Warmups    bool            `bun:"warmups"`
	Sender     *senderIdentity `bun:"sender,type:jsonb"`
	Suppressed []suppressedBy  `bun:"suppressed,type:jsonb"`
}

// findLocked reads e-mails with their recipients, and what endpoints want of them.
var findLocked = pg.Prepare("find_locked(uuid[])", `SELECT `+emailColumns+`, now() AS tx_now,
		(SELECT jsonb_agg(to_jsonb(r) ORDER BY r.position) FROM recipients AS r WHERE r.email_id = e.id) AS recipients,
		h.wants, coalesce(h.rest, false) AS hooks_rest,
		EXISTS (SELECT 1 FROM pauses) AS pauses,
		EXISTS (SELECT 1 FROM domains WHERE warmup_plan IS NOT NULL AND warmup_until > (now() AT TIME ZONE 'UTC')::date) AS warmups,
		`+findSender+` AS sender, `+findSuppressed+` AS suppressed
	FROM emails AS e LEFT JOIN LATERAL (
		SELECT array_agg(DISTINCT w.format || ' ' || t) AS wants, bool_and(coalesce(w.blocked_until > now(), false) OR w.failures > 0 AND coalesce(w.round_until > now(), false)) AS rest
		FROM webhook_endpoints AS w, unnest(w.events) AS t
		WHERE w.customer_id = e.customer_id AND w.disabled_at IS NULL AND (w.kind <> 'callback' OR w.id = e.callback_id)) AS h ON true
	WHERE e.id = ANY ($1) ORDER BY e.id`)

// lockFree locks those of some e-mails that no other transaction has locked.
var lockFree = pg.Prepare("lock_free(uuid[])", "SELECT id FROM emails WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED")

// update locks the e-mails in the order of their ids, lets fn decide, and
// writes its changes. The e-mail of an id that does not exist is missing from emails.
func (s *Store) update(ctx context.Context, ids []string, fn func(*unitOfWork) error) error {
	return s.inUnit(ctx, func(c *unitOfWork) error {
		if err := c.lock(ids); err != nil {
			return err
		}
		if err := fn(c); err != nil {
			return err
		}
		return c.flush()
	})
}

// updateFree is update for those of the e-mails that no other transaction has locked: the others
// are missing from emails. So a transaction with many e-mails never waits for one.
func (s *Store) updateFree(ctx context.Context, ids []string, fn func(*unitOfWork) error) error {
	_, err := s.updateLocked(ctx, func(tx *pg.Tx) *bun.RawQuery { return lockFree.Query(tx, pgdialect.Array(ids)) }, fn)
	return err
}

// freeEmails selects e-mails, which are e in its conditions. It leaves out those that another
// transaction has locked.
type freeEmails struct {
	where   string
	args    []any
	orderBy string
	limit   int
}

// updateFound is updateFree for the e-mails that a selection finds. It returns how many they are.
func (s *Store) updateFound(ctx context.Context, which freeEmails, fn func(*unitOfWork) error) (int, error) {
	return s.updateLocked(ctx, func(tx *pg.Tx) *bun.RawQuery {
		return tx.NewRaw(fmt.Sprintf("SELECT e.id FROM emails AS e WHERE %s ORDER BY %s LIMIT %d FOR UPDATE OF e SKIP LOCKED", which.where, which.orderBy, which.limit), which.args...)
	}, fn)
}

// updateAllFound is updateFound until the selection finds no more. fn must change each e-mail so that
// it is not found again.
func (s *Store) updateAllFound(ctx context.Context, which freeEmails, fn func(*unitOfWork) error) error {
	for {
		n, err := s.updateFound(ctx, which, fn)
		if err != nil || n < which.limit {
			return err
		}
	}
}

// updateLocked is update for the e-mails that a query locks and returns the ids of. It returns how
// many they are; fn is not called for none.
func (s *Store) updateLocked(ctx context.Context, lock func(*pg.Tx) *bun.RawQuery, fn func(*unitOfWork) error) (n int, err error) {
	err = s.inUnit(ctx, func(c *unitOfWork) error {
		if err := c.lockBy(lock(c.tx)); err != nil {
			return err
		}
		if n = len(c.emails); n == 0 {
			return nil
		}
		if err := fn(c); err != nil {
			return err
		}
		return c.flush()
	})
	return n, err
}

// updater is Store.update, or Store.updateFree, which leaves out what is locked.
type updater func(ctx context.Context, ids []string, fn func(*unitOfWork) error) error

// updaterOf is the updater for so many e-mails: a single one is waited for.
func (s *Store) updaterOf(n int) updater {
	if n == 1 {
		return s.update
	}
	return s.updateFree
}

// inUnit runs fn in a transaction. After the commit it passes the events to Options.Observe, keeps what
// is stored for the runs, and warns of domains whose authentication failed.
func (s *Store) inUnit(ctx context.Context, fn func(*unitOfWork) error) error {
	c := &unitOfWork{ctx: ctx, s: s}
	var err error
	if c.addressKeys, err = s.suppressions.Keys(ctx); err != nil {
		return err
	}
	if c.links, err = s.links(ctx); err != nil {
		return err
	}
	err = s.db.InDeferredTx(ctx, func(tx *pg.Tx) error {
		c.tx, c.late = tx, tx.Deferred()
		return fn(c)
	})
	if err != nil {
		return err
	}
	for _, m := range c.emails {
		s.runCache.outdate(m.ID)
	}
	for _, m := range c.stored {
		s.cacheForRun(&m.emailRow, m.recipients, m.content, c.now)
	}
	c.watchCircuits()
	if s.opts.Observe != nil && len(c.written) > 0 {
		s.opts.Observe(events(c.written))
	}
	s.warnOfRefusals(ctx, c)
	return nil
}

// lock takes the e-mails' row locks and reads them with their recipients. The rows it reads may not
// be older than the lock, so it takes two statements. The first waits for a transaction that has a
// lock, and the second sees its changes.
func (c *unitOfWork) lock(ids []string) error {
	c.lockRows("SELECT 1 FROM emails WHERE id IN (?) ORDER BY id", bun.List(ids))
	return c.read(ids)
}

// lockBy reads the e-mails that a query locks and returns the ids of.
func (c *unitOfWork) lockBy(query *bun.RawQuery) error {
	var ids []string
	if err := query.Scan(c.ctx, &ids); err != nil {
		return fmt.Errorf("lock e-mails: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	return c.read(ids)
}

// lockRows locks the rows of a query, which is in the order of ids, before the next
// statement.
func (c *unitOfWork) lockRows(query string, args ...any) {
	c.tx.Prefix("DECLARE locks NO SCROLL CURSOR FOR "+query+" FOR UPDATE", args...)
	c.tx.Prefix("MOVE ALL IN locks")
	c.tx.Prefix("CLOSE locks")
}

// read reads e-mails that are locked.
func (c *unitOfWork) read(ids []string) error {
	var rows []lockedRow
	err := findLocked.Query(c.tx, pgdialect.Array(ids)).Scan(c.ctx, &rows)
	if err != nil {
		return fmt.Errorf("read e-mails: %w", err)
	}
	for i := range rows {
		r := &rows[i]
		m := &lockedEmail{emailRow: r.emailRow, recipients: r.Recipients, subscriptions: r.Wants, hooksRest: r.HooksRest, anyPause: r.Pauses, anyWarmup: r.Warmups, sender: r.Sender, statusBefore: r.Status, recipientsBefore: map[string]email.RecipientStatus{}}
		for _, r := range m.recipients {
			m.recipientsBefore[r.ID] = r.Status
		}
		for _, by := range r.Suppressed {
			m.noteSuppressed(by)
		}
		c.now = r.TxNow
		c.emails = append(c.emails, m)
	}
	return c.addKeys(c.emails)
}

// find gives a locked e-mail, or a not-found Failure.
func (c *unitOfWork) find(id string) (*lockedEmail, error) {
	for _, m := range c.emails {
		if m.ID == id {
			return m, nil
		}
	}
	return nil, pg.NotFound("e-mail")
}

// move takes a recipient to another state, if the table of transitions allows it, without an event.
// A refused move changes nothing.
func (c *unitOfWork) move(m *lockedEmail, r *recipientRow, to email.RecipientStatus, reason email.Detail) bool {
	if !delivery.CanMove(r.Status, to) {
		return false
	}
	r.Status, r.Reason, r.StatusAt = to, reason, c.now
	if !to.Open() {
		r.NextAttemptAt, r.Turn = time.Time{}, nil
	}
	m.dirty = true
	return true
}

// transition moves a recipient to a state and emits the event of that.
func (c *unitOfWork) transition(m *lockedEmail, r *recipientRow, to email.RecipientStatus, reason email.Detail) bool {
	if !c.move(m, r, to, reason) {
		return false
	}
	c.emit(m, eventRow{
		Type: delivery.EventFor(to), RecipientID: r.ID, Attempt: r.Attempt, Reason: reason,
		SMTPCode: r.SMTPCode, Enhanced: r.Enhanced, SMTPText: r.SMTPText,
	})
	return true
}

// endUnsent ends a recipient to whom nothing more is sent, though no server has refused
// it. That the last attempt may have reached it stays its reason.
func (c *unitOfWork) endUnsent(m *lockedEmail, r *recipientRow, to email.RecipientStatus, reason email.Detail) {
	if r.Reason == email.DetailAmbiguous {
		reason = r.Reason
	}
	c.transition(m, r, to, reason)
}

// relayDown notes which relay takes no mail, or that none is configured for it. It
// reports whether that is news.
func (m *lockedEmail) relayDown(o delivery.Obstacle) bool {
	if m.RelayDown == o.RelayDown && m.RelayDownBy == o.Relay && m.NoRelay == o.NoRelay {
		return false
	}
	m.RelayDown, m.RelayDownBy, m.NoRelay, m.RefusedPath = o.RelayDown, o.Relay, o.NoRelay, nil
	return true
}

// noteRelay is relayDown for an e-mail that may wait for something else than a relay now. If its time
// ran out during the outage, it keeps the fault: it is still tried once.
func (c *unitOfWork) noteRelay(m *lockedEmail, o delivery.Obstacle) (news bool) {
	was := delivery.Obstacle{RelayDown: m.RelayDown, Relay: m.RelayDownBy, NoRelay: m.NoRelay}
	news = m.relayDown(o)
	if news && !o.RelayDown && c.expired(m) {
		m.relayDown(was)
		return false
	}
	return news
}

// relayUp forgets that.
func (m *lockedEmail) relayUp() { m.relayDown(delivery.Obstacle{}) }

// deriveStatus derives an e-mail's status from its recipients and says when
// something has to happen next.
func (c *unitOfWork) deriveStatus(m *lockedEmail) {
	facts := delivery.Facts{
		Attempted: m.Attempts > 0, Held: m.Held || m.Paused, RelayDown: m.RelayDown, NoRelay: m.NoRelay,
		Scheduled: m.Attempts == 0 && m.SendAt.After(c.now), Throttled: m.ThrottledUntil.After(c.now),
	}
	var next time.Time
	var by email.ThrottledBy
	for _, r := range m.recipients {
		facts.Recipients = append(facts.Recipients, delivery.RecipientFact{Status: r.Status, Reason: r.Reason})
		facts.Throttled = facts.Throttled || r.Turn.Waits(c.now)
		if !r.NextAttemptAt.IsZero() && (next.IsZero() || r.NextAttemptAt.Before(next)) {
			next, by = r.NextAttemptAt, ""
			if r.Turn.Waits(c.now) {
				by = r.Turn.For
			}
		}
	}
	if !m.ThrottledUntil.After(c.now) {
		m.ThrottledBy = by
	}
	status, detail := delivery.Derive(facts)
	if status != m.Status {
		m.StatusAt = c.now
	}
	m.Status, m.Detail = status, detail
	switch {
	case status.Final():
		m.NextActionAt, m.AttemptOpen, m.CancelRequested = time.Time{}, false, false
		m.relayUp()
		m.AmbiguousRelay = ""
		m.Paused, m.PausedRelay, m.ThrottledUntil, m.ThrottledBy = false, "", time.Time{}, ""
	case m.AttemptOpen:
		m.NextActionAt = c.now.Add(delivery.Lease)
	case m.Held, m.Paused:
		m.NextActionAt = c.deadline(m)
	default:
		m.NextActionAt = next
		if m.ThrottledUntil.After(next) {
			m.NextActionAt = m.ThrottledUntil
		}
		if d := c.deadline(m); !d.IsZero() && d.Before(m.NextActionAt) {
			m.NextActionAt = d
		}
	}
	if status.Final() && !m.statusBefore.Final() {
		m.statusBefore = status // settling twice completes once
		c.emit(m, eventRow{Type: email.EventCompleted, Attempt: m.Attempts, Reason: detail})
	}
}

// flush writes all changes. It keeps to the order of locks: e-mails, recipients, then rows that no
// other transaction waits for.
func (c *unitOfWork) flush() error {
	var dirty []*lockedEmail
	for _, m := range c.emails {
		if m.dirty {
			c.deriveStatus(m)
			dirty = append(dirty, m)
		}
	}
	if len(dirty) > 0 {
		if err := c.writeEmails(dirty); err != nil {
			return err
		}
		if err := c.writeRecipients(dirty); err != nil {
			return err
		}
	}
	if err := c.writeAttempts(); err != nil {
		return err
	}
	if err := c.writeOutbox(); err != nil {
		return err
	}
	if err := c.softFailures(dirty); err != nil {
		return err
	}
	if err := suppressions.Put(c.ctx, c.late, c.suppressions); err != nil {
		return err
	}
	return c.writeEvents(dirty)
}

var (
	recallLeases = pg.Prepare("recall_leases(uuid[], float8)", `UPDATE delivery_attempts AS a SET recalled = true, lease_until = now() + $2 * interval '1 second'
		FROM emails AS e WHERE e.id = ANY ($1) AND a.email_id = e.id AND a.attempt = e.attempts AND a.part = 1`)
	openAttempts = pg.Prepare("open_attempts(jsonb)", pg.InsertOf[openedAttempt]("delivery_attempts"))
	endAttempts  = pg.PrepareRows("end_attempts(jsonb, bigint, uuid[])", pg.Counted(`UPDATE delivery_attempts AS a SET phase = 'done', outcomes = v.outcomes, relay = v.relay, owner = v.owner,
			transcript = coalesce(v.transcript, a.transcript), done_at = now()`+attemptsPatched+` AND a.phase <> 'done'`, "delivery_attempts", "a.email_id"))
)

// writeAttempts inserts the attempts that were opened and ends those that ended.
func (c *unitOfWork) writeAttempts() error {
	if len(c.opened) > 0 {
		text, err := json.Marshal(c.opened)
		if err != nil {
			return fmt.Errorf("encode attempts: %w", err)
		}
		if _, err := openAttempts.Query(c.late, string(text)).Exec(c.ctx); err != nil {
			return fmt.Errorf("open attempts: %w", err)
		}
	}
	if len(c.recalled) > 0 {
		if _, err := recallLeases.Query(c.late, pgdialect.Array(c.recalled), delivery.RecallTime.Seconds()).Exec(c.ctx); err != nil {
			return fmt.Errorf("recall leases: %w", err)
		}
	}
	patches, ids := make([]attemptPatch, len(c.ended)), make([]string, len(c.ended))
	for i, a := range c.ended {
		ids[i] = a.EmailID
		patches[i] = attemptPatch{EmailID: a.EmailID, Attempt: a.Attempt, Owner: a.Owner, Relay: a.Relay, Outcomes: a.Outcomes, Transcript: a.Transcript}
	}
	return c.write(endAttempts, ids, patches)
}

// dropOutbox takes back the orders for runs that are there.
var dropOutbox = pg.Prepare("drop_outbox(uuid[])", "DELETE FROM outbox WHERE email_id = ANY ($1)")

// writeOutbox orders runs, and takes back the orders for those that are there.
func (c *unitOfWork) writeOutbox() error {
	if len(c.outboxDeletes) > 0 {
		if _, err := dropOutbox.Query(c.late, pgdialect.Array(c.outboxDeletes)).Exec(c.ctx); err != nil {
			return fmt.Errorf("delete outbox rows: %w", err)
		}
	}
	if err := insertLate(c, "outbox rows", c.outboxInserts); err != nil {
		return err
	}
	c.outboxDeletes, c.outboxInserts = nil, nil
	return nil
}

// emailPatch is the part of an e-mail's row that changes.
type emailPatch struct {
	ID              string            `json:"id" sql:"uuid"`
	WorkflowID      string            `json:"workflow_id"`
	Status          email.Status      `json:"status"`
	Detail          email.Detail      `json:"status_detail"`
	StatusAt        time.Time         `json:"status_at"`
	Held            bool              `json:"held"`
	HeldByCustomer  bool              `json:"held_by_customer"`
	HeldByOperator  bool              `json:"held_by_operator"`
	Paused          bool              `json:"paused"`
	PausedRelay     string            `json:"paused_relay"`
	RelayDown       bool              `json:"relay_down"`
	RelayDownBy     string            `json:"relay_down_by"`
	NoRelay         bool              `json:"no_relay"`
	RefusedPath     *refusedPath      `json:"refused_path" sql:"jsonb"`
	ThrottledUntil  *time.Time        `json:"throttled_until"`
	ThrottledBy     email.ThrottledBy `json:"throttled_by"`
	CancelRequested bool              `json:"cancel_requested"`
	Attempts        int               `json:"attempts"`
	AttemptOpen     bool              `json:"attempt_open"`
	AmbiguousRelay  string            `json:"ambiguous_relay"`
	DateAt          *time.Time        `json:"date_at"`
	DatedAt         *time.Time        `json:"dated_at"`
	Token           string            `json:"token"`
	BounceHost      string            `json:"bounce_host"`
	DKIMKeys        []string          `json:"dkim_keys" sql:"uuid[]"`
	LinkBase        string            `json:"link_base"`
	SendAt          *time.Time        `json:"send_at"`
	Sequence        int64             `json:"sequence"`
	NextActionAt    *time.Time        `json:"next_action_at"`
	DeletedAt       *time.Time        `json:"deleted_at"`
}

// The LIMIT of writeEmails and writeRecipients tells the planner how many rows to expect;
// their second condition has it look them up by id.
var (
	writeEmails     = pg.PrepareRows("write_emails(jsonb, bigint, uuid[])", pg.Counted(pg.UpdateOf[emailPatch]("emails", "e", "id"), "emails", "e.id"))
	writeRecipients = pg.PrepareRows("write_recipients(jsonb, bigint, uuid[])",
		pg.Counted(pg.UpdateOf[recipientPatch]("recipients", "r", "id", "before")+" AND r.status = v.before", "recipients", "r.id"))

	openedOf         = pg.Copier[attemptRow, openedAttempt]()
	patchOfEmail     = pg.Copier[emailRow, emailPatch]()
	patchOfRecipient = pg.Copier[recipientRow, recipientPatch]("Before", "SuppressedBy")
)

func (c *unitOfWork) writeEmails(mails []*lockedEmail) error {
	patches, ids := make([]emailPatch, len(mails)), make([]string, len(mails))
	for i, m := range mails {
		ids[i], patches[i] = m.ID, patchOfEmail(&m.emailRow)
	}
	return c.write(writeEmails, ids, patches)
}

// recipientPatch is the part of a recipient's row that changes, with the state that it must be in.
type recipientPatch struct {
	ID            string                `json:"id" sql:"uuid"`
	Before        email.RecipientStatus `json:"before"`
	Status        email.RecipientStatus `json:"status"`
	Reason        email.Detail          `json:"reason"`
	StatusAt      time.Time             `json:"status_at"`
	Attempt       int                   `json:"attempt"`
	Attempts      int                   `json:"attempts"`
	Counted       int                   `json:"counted"`
	Ambiguous     int                   `json:"ambiguous"`
	NextAttemptAt *time.Time            `json:"next_attempt_at"`
	SMTPCode      int                   `json:"smtp_code"`
	Enhanced      string                `json:"enhanced_code"`
	SMTPText      string                `json:"smtp_text"`
	AcceptedBy    *email.Acceptance     `json:"accepted_by"`
	Turn          *pacing.Turn          `json:"turn"`
	SuppressedBy  *string               `json:"suppressed_by" sql:"uuid"`
}

// writeRecipients writes back the changed recipients of changed e-mails. The row lock should keep each
// in the state in which it was read. If one is in another state, the statement's condition fails the
// transaction.
func (c *unitOfWork) writeRecipients(mails []*lockedEmail) error {
	var patches []recipientPatch
	var ids []string
	for _, m := range mails {
		for _, r := range m.recipients {
			if !r.changed && !r.StatusAt.Equal(c.now) && m.recipientsBefore[r.ID] == r.Status {
				continue
			}
			ids = append(ids, r.ID)
			p := patchOfRecipient(r)
			p.Before = m.recipientsBefore[r.ID]
			if r.SuppressedBy != "" {
				p.SuppressedBy = &r.SuppressedBy
			}
			patches = append(patches, p)
		}
	}
	return c.write(writeRecipients, ids, patches)
}

// write has a prepared statement write rows, passed as one JSON array, together with
// the commit. Where it does not change that many, nothing is committed.
func (c *unitOfWork) write(statement pg.RowsStatement, ids []string, patches any) error {
	if len(ids) == 0 {
		return nil
	}
	data, err := json.Marshal(patches)
	if err != nil {
		return fmt.Errorf("encode rows: %w", err)
	}
	_, err = statement.Query(c.late, len(ids), string(data), len(ids), pgdialect.Array(ids)).Exec(c.ctx)
	return err
}
