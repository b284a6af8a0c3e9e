package mail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Record projects the outcomes of an attempt into recipients, e-mail, events and webhook
// deliveries, in one transaction. Doing it again changes nothing. An e-mail that does not exist is
// a CodeNotFound. An attempt without outcomes, in the journal and in rec, is an error.
func (s *Store) Record(ctx context.Context, rec delivery.RecordStatusInput) (delivery.Recorded, error) {
	out, solo, err := s.records.Do(ctx, rec)
	if !solo && (err != nil || out == nil) {
		var recs []*delivery.Recorded
		recs, err = s.recordMany(ctx, []delivery.RecordStatusInput{rec})
		out = recs[0]
	}
	if out == nil {
		return delivery.Recorded{}, err
	}
	return *out, err
}

// recordMany records attempts in one transaction. A single one waits for a lock on its e-mail. Of
// several, e-mails that another transaction has locked, or that do not exist, are left out: their
// answers are nil.
func (s *Store) recordMany(ctx context.Context, recs []delivery.RecordStatusInput) ([]*delivery.Recorded, error) {
	ids := make([]string, len(recs))
	for i, r := range recs {
		ids[i] = r.EmailID
	}
	out := make([]*delivery.Recorded, len(recs))
	hooked := map[string]*delivery.Recorded{}
	err := s.updaterOf(len(recs))(ctx, ids, func(c *unitOfWork) error {
		if len(recs) > 1 { // a single attempt is read when it turns out to be open
			if err := c.readAttempts(); err != nil {
				return err
			}
		}
		for i, rec := range recs {
			m, err := c.find(rec.EmailID)
			if err != nil && len(recs) > 1 {
				continue
			}
			if err != nil {
				return err
			}
			st, err := c.record(m, rec)
			if err != nil {
				return err
			}
			out[i] = &delivery.Recorded{State: st}
			if m.mayHaveDeliveries() {
				hooked[m.ID] = out[i]
			}
		}
		return nil
	})
	if err != nil || len(hooked) == 0 {
		return out, err
	}
	return out, s.countDeliveries(ctx, hooked)
}

func (c *unitOfWork) record(m *lockedEmail, rec delivery.RecordStatusInput) (email.State, error) {
	switch {
	case rec.Problem != "":
		c.failAttachment(m, rec.Problem)
	case m.AttemptOpen && rec.Attempt == m.Attempts:
		if err := c.recordAttempt(m, rec); err != nil {
			return email.State{}, err
		}
	}
	if m.dirty {
		c.deriveStatus(m)
	}
	return c.state(m), nil
}

// findAttempts reads the open attempts of e-mails, findAttempt one attempt of an e-mail.
var findAttempts = pg.Prepare("find_attempts(uuid[])", `SELECT `+attemptColumns+` FROM delivery_attempts AS a
	JOIN emails AS e ON e.id = a.email_id AND e.attempts = a.attempt WHERE a.email_id = ANY ($1) AND a.part = 1 FOR UPDATE OF a`)
var findAttempt = pg.Prepare("find_attempt(uuid, integer)", `SELECT `+attemptColumns+` FROM delivery_attempts AS a
	WHERE a.email_id = $1 AND a.attempt = $2 AND a.part = 1 FOR UPDATE`)

// readAttempts reads the open attempts of all e-mails of the unit.
func (c *unitOfWork) readAttempts() error {
	ids := make([]string, len(c.emails))
	for i, m := range c.emails {
		ids[i] = m.ID
	}
	var rows []*attemptRow
	if err := findAttempts.Query(c.tx, pgdialect.Array(ids)).Scan(c.ctx, &rows); err != nil {
		return fmt.Errorf("read attempts: %w", err)
	}
	c.journal = make(map[string]*attemptRow, len(rows))
	for _, r := range rows {
		c.journal[r.EmailID] = r
	}
	return nil
}

// recordAttempt ends the open attempt: its outcomes come from the journal, or, if that
// could not be written, from the caller, and then the journal gets them now.
func (c *unitOfWork) recordAttempt(m *lockedEmail, rec delivery.RecordStatusInput) error {
	var row attemptRow
	if known := c.journal[m.ID]; known != nil && known.Attempt == rec.Attempt {
		row = *known
	} else if err := findAttempt.Query(c.tx, m.ID, rec.Attempt).Scan(c.ctx, &row); err != nil {
		return fmt.Errorf("read attempt %d: %w", rec.Attempt, err)
	}
	if row.Phase != email.PhaseDone {
		if len(rec.Unrecorded) == 0 {
			return fmt.Errorf("attempt %d is still %s: it has no outcomes yet", rec.Attempt, row.Phase)
		}
		row.Relay, row.Outcomes = rec.Relay, cleanOutcomes(rec.Unrecorded)
		c.finish(row, row.Outcomes, row.Owner)
	}
	c.projectAttempt(m, row)
	return nil
}

// projectAttempt ends the open attempt with the outcomes that the journal has, or gets in
// this change.
func (c *unitOfWork) projectAttempt(m *lockedEmail, row attemptRow) {
	byID := make(map[string]*recipientRow, len(m.recipients))
	for _, r := range m.recipients {
		byID[r.ID] = r
	}
	m.AttemptOpen, m.dirty = false, true
	faults := true
	if o := delivery.ShowingFault(row.Outcomes); o != nil {
		m.fault = o.Reply
	}
	for _, o := range row.Outcomes {
		r := byID[o.RecipientID]
		if r == nil || r.Status != email.RecipientSending || r.Attempt != row.Attempt {
			continue
		}
		faults = faults && o.RelayFault
		switch {
		case o.RelayFault:
			c.giveBack(m, r, o, row.Relay)
			continue
		case o.Unasked && o.Status == email.RecipientDeferred:
			c.passOver(m, r, o)
			continue
		}
		c.project(m, r, o, row.Relay)
	}
	untried := !slices.ContainsFunc(m.recipients, func(r *recipientRow) bool { return r.Attempts > 0 })
	if untried && row.sent() { // its bytes stay the same, although its time until expiry may begin anew
		m.DatedAt = m.date()
	}
	if untried && faults { // the time until expiry begins with the first attempt that is not the relay's fault
		m.DateAt = time.Time{}
	}
	m.pinRelay(row)
}

// giveBack undoes what opening an attempt made of a recipient, because the relay was at
// fault. There is no event. The e-mail waits for the relay; the wait grows with the
// attempts that ended so, for a relay that takes other mail meanwhile. The relay's reply to this
// recipient's RCPT is kept. A recipient that the relay accepted says so, and what came then. Two keep what they
// have: one that a server has deferred, and the only one of an e-mail that has no text, because relay_fault says
// it all.
func (c *unitOfWork) giveBack(m *lockedEmail, r *recipientRow, o delivery.Outcome, relay email.Relay) {
	c.unopen(m, r)
	switch {
	case o.AtRcpt:
		r.setReply(o.Reply)
	case o.Accepted && r.Attempts == 0 && (len(m.recipients) > 1 || r.reply() != (email.Reply{})):
		r.setReply(delivery.AcceptedInVainBy(o.Reply))
	}
	m.relayDown(delivery.Obstacle{RelayDown: true, Relay: relay.Name})
	c.waitUntouched(m, r, faultWait(o, m.faults(r)))
}

// passOver undoes what opening an attempt made of a recipient that did not fit into the
// transaction, or was not named in it. There is no event: it waits for its turn, and says so
// where no server has said anything of it yet, or the relay has accepted it. A reply that
// delivery.NamingGroups needs stays.
func (c *unitOfWork) passOver(m *lockedEmail, r *recipientRow, o delivery.Outcome) {
	c.unopen(m, r)
	if delivery.WasAccepted(o.Reply) || r.Attempts == 0 && (o.Code != 0 || !delivery.SaysMore(r.reply())) {
		r.setReply(o.Reply)
	}
	c.waitUntouched(m, r, c.s.opts.Schedule.Wait(r.Counted, o, rand.Float64()))
}

// unopen takes back the attempt that has opened at a recipient.
func (c *unitOfWork) unopen(m *lockedEmail, r *recipientRow) {
	r.Attempts--
	to := email.RecipientQueued
	if r.Attempts > 0 {
		to = email.RecipientDeferred
	}
	c.move(m, r, to, r.Reason)
}

// waitUntouched has a recipient whose attempt was taken back wait. A cancel or the end of time
// that came while the attempt was open is carried out.
func (c *unitOfWork) waitUntouched(m *lockedEmail, r *recipientRow, wait time.Duration) {
	switch {
	case m.CancelRequested:
		c.endUnsent(m, r, email.RecipientCanceled, "")
	case c.expired(m):
		c.endUnsent(m, r, email.RecipientExpired, email.DetailExpired)
	default:
		r.NextAttemptAt = c.now.Add(wait)
	}
}

// faults is how many attempts at a recipient have ended in a relay's fault since the e-mail
// last came to something: an attempt of its own that counts, or one that ended another
// recipient.
func (m *lockedEmail) faults(r *recipientRow) int {
	since := r.Attempts
	for _, other := range m.recipients {
		if !other.Status.Open() && other.Attempt < m.Attempts {
			since = max(since, other.Attempt)
		}
	}
	return m.Attempts - since
}

// faultWait is how long a recipient waits after so many attempts that ended in a relay's
// fault. Where another relay takes the e-mail it goes there next, so the first wait is
// short.
func faultWait(o delivery.Outcome, faults int) time.Duration {
	switch {
	case o.Unasked:
		return o.RetryAfter
	case o.Elsewhere && faults <= 1:
		return time.Second
	case o.Elsewhere:
		return delivery.RelayBackoff(faults - 1)
	}
	return max(o.RetryAfter, delivery.RelayBackoff(faults))
}

// project makes one outcome a recipient's state. A cancel or the end of time
// that came while the attempt was open is carried out on what is deferred.
func (c *unitOfWork) project(m *lockedEmail, r *recipientRow, o delivery.Outcome, relay email.Relay) {
	r.setReply(o.Reply)
	if !o.Uncounted {
		r.Counted++
	}
	if o.Reason == email.DetailAmbiguous {
		c.emit(m, eventRow{Type: email.EventAmbiguous, RecipientID: r.ID, Attempt: r.Attempt, Reason: o.Reason, SMTPText: r.SMTPText})
		r.Ambiguous++
		if m.OnAmbiguous == email.AmbiguousFail || r.Ambiguous >= delivery.MaxCopies {
			o.Status = email.RecipientFailed
		}
	}
	if o.Reason == email.DetailUnauthenticated {
		c.noteAuthRefusal(m, o, r.reply())
	}
	switch o.Status {
	case email.RecipientDelivered:
		r.AcceptedBy = &email.Acceptance{Host: relay.Host, Reply: email.Reply{Code: o.Code, Enhanced: o.Enhanced, Text: r.SMTPText}, At: c.now.UTC(), Means: relay.Accepts}
		c.transition(m, r, email.RecipientDelivered, "")
	case email.RecipientDeferred:
		wait := c.s.opts.Schedule.Wait(r.Counted, o, rand.Float64())
		if o.Reason == email.DetailAmbiguous {
			wait = delivery.AmbiguousWait(r.Ambiguous)
		}
		r.NextAttemptAt = c.now.Add(wait)
		switch {
		case m.CancelRequested:
			c.move(m, r, email.RecipientDeferred, o.Reason)
			c.endUnsent(m, r, email.RecipientCanceled, "")
		case c.expired(m):
			c.move(m, r, email.RecipientDeferred, o.Reason)
			c.endUnsent(m, r, email.RecipientExpired, email.DetailExpired)
		default:
			c.transition(m, r, email.RecipientDeferred, o.Reason)
		}
	default:
		if c.transition(m, r, o.Status, o.Reason) && o.Suppress && o.Status == email.RecipientBounced {
			c.bounced(m, r)
		}
	}
}

// pinRelay keeps a message whose fate is unknown at the relay of the attempt, because another
// relay could not recognise a second copy as one. It ends that when no recipient waits for
// that reason any more.
func (m *lockedEmail) pinRelay(row attemptRow) {
	waiting := slices.ContainsFunc(m.recipients, func(r *recipientRow) bool { return r.Status.Open() && r.Reason == email.DetailAmbiguous })
	switch {
	case !waiting:
		m.AmbiguousRelay = ""
	case slices.ContainsFunc(row.Outcomes, func(o delivery.Outcome) bool { return o.Reason == email.DetailAmbiguous }):
		m.AmbiguousRelay = row.Relay.Name
	}
}

// failAttachment ends an e-mail that must not go without its attachment.
func (c *unitOfWork) failAttachment(m *lockedEmail, problem string) {
	for _, r := range m.recipients {
		if r.Status == email.RecipientQueued || r.Status == email.RecipientDeferred {
			r.setReply(email.Reply{Text: problem})
			c.transition(m, r, email.RecipientFailed, email.DetailAttachment)
		}
	}
}

// findPlan reads what a plan needs of an e-mail.
var findPlan = pg.Prepare("find_plan(uuid)", `SELECT `+emailColumns+`, now() AS tx_now,
		(SELECT array_agg(DISTINCT lower(split_part(r.address, '@', -1))) FROM recipients AS r WHERE r.email_id = e.id) AS domains,
		(SELECT count(*) FROM recipients AS r WHERE r.email_id = e.id AND r.status IN ('queued', 'sending', 'deferred')) AS open
	FROM emails AS e WHERE e.id = $1`)

// Plan reads the state of an e-mail and the attachments that it still lacks. An e-mail that waits,
// and whose time has run out, ends: a hold does not keep it from that. If the e-mail waits or has
// ended, Plan deletes its outbox row: the caller is its run, so none has to be started. An
// e-mail that does not exist is a CodeNotFound.
func (s *Store) Plan(ctx context.Context, emailID string) (delivery.Plan, error) {
	if p, ok := s.runCache.takePlan(emailID); ok {
		return p, nil
	}
	if _, err := uuid.Parse(emailID); err != nil { // the id of a run that an outside program starts may be anything
		return delivery.Plan{}, pg.NotFound("e-mail")
	}
	var row struct {
		emailRow
		TxNow   time.Time `bun:"tx_now"`
		Domains []string  `bun:"domains,array"`
		Open    int       `bun:"open"`
	}
	err := findPlan.Query(s.db, emailID).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return delivery.Plan{}, pg.NotFound("e-mail")
	}
	if err != nil {
		return delivery.Plan{}, pg.Translate(err)
	}
	p := s.planOf(&row.emailRow, row.TxNow)
	p.RecipientDomains, p.State.Open = row.Domains, row.Open
	passed := func(t time.Time) bool { return !t.IsZero() && !t.After(row.TxNow) }
	if p.State.Waiting != "" && (passed(s.deadline(&row.emailRow)) || passed(row.NextActionAt)) {
		// It ends, or waits for a later time than its row says.
		if p.State, err = s.stateUnderLock(ctx, emailID, (*unitOfWork).settle); err != nil {
			return p, err
		}
	}
	switch {
	case p.State.Final:
		// The results are the recipients', and the run is about to return them.
		if p.State, err = s.stateUnderLock(ctx, emailID, (*unitOfWork).state); err != nil {
			return p, err
		}
		return p, s.started(ctx, emailID)
	case p.State.Waiting != "":
		return p, s.started(ctx, emailID)
	case p.Attachments == 0:
		return p, nil
	}
	var as []*attachmentRow
	if err := s.db.NewSelect().Model(&as).Where("at.email_id = ?", emailID).Where("at.blob_id IS NULL").Where("at.problem = ''").
		Order("at.position").Scan(ctx); err != nil {
		return p, pg.Translate(err)
	}
	for _, a := range as {
		p.Unresolved = append(p.Unresolved, a.attachment())
	}
	return p, nil
}

// planOf is what an e-mail's row says of its plan.
func (s *Store) planOf(e *emailRow, now time.Time) delivery.Plan {
	return delivery.Plan{
		State: stateOf(e, now), Route: e.route(), CustomerID: e.CustomerID, Attachments: e.Attachments,
		BytesLeft: max(0, s.opts.MaxMessageBytes-e.SizeBytes), ExpiresAt: e.ExpiresAt, Now: now,
	}
}

// started takes an e-mail's outbox row away: it has a run.
func (s *Store) started(ctx context.Context, emailID string) error {
	_, err := s.db.NewRaw("DELETE FROM outbox WHERE email_id = ?", emailID).Exec(ctx)
	return pg.Translate(err)
}

// settle is the gate's answer for an e-mail that its row says waits: one that has expired ends, and
// the others get the time that they wait for.
func (c *unitOfWork) settle(m *lockedEmail) email.State {
	st, closed := c.checkGate(m)
	if !closed {
		m.dirty = true
		c.deriveStatus(m)
		st = c.state(m)
	}
	return st
}

func (s *Store) stateUnderLock(ctx context.Context, emailID string, state func(*unitOfWork, *lockedEmail) email.State) (email.State, error) {
	var st email.State
	err := s.update(ctx, []string{emailID}, func(c *unitOfWork) error {
		m, err := c.find(emailID)
		if err != nil {
			return err
		}
		st = state(c, m)
		return nil
	})
	return st, err
}
