package mail

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// groupWithin lets recipients whose retries fall this close together share one
// transaction.
const groupWithin = 5 * time.Second

// throttleLook is how often an e-mail whose turn is far off checks whether the queue has become
// shorter: an operator may have raised the rate.
const throttleLook = 15 * time.Minute

// Open is the gate: the only way to SMTP. It locks the e-mail and checks that a recipient is due
// and that no hold, pause or rate forbids an attempt. Then it marks the recipients as sending and
// opens the attempt in the journal. Asking again for an attempt that exists never opens a second
// one.
//
// An Opening's Verdict and State say why no attempt was opened; that is no error. An e-mail that
// does not exist is a CodeNotFound.
func (s *Store) Open(ctx context.Context, req delivery.OpenRequest) (delivery.Opening, error) {
	o, solo, err := s.opens.Do(ctx, req)
	if solo || err == nil && o.Verdict != "" {
		return o, err
	}
	os, err := s.openMany(ctx, []delivery.OpenRequest{req})
	return os[0], err
}

// openMany opens attempts in one transaction. A single one waits for a lock on its e-mail. Of
// several, e-mails that another transaction has locked, or that do not exist, are left out: their
// openings have no verdict.
func (s *Store) openMany(ctx context.Context, reqs []delivery.OpenRequest) ([]delivery.Opening, error) {
	ids := make([]string, len(reqs))
	for i, r := range reqs {
		ids[i] = r.EmailID
	}
	out := make([]delivery.Opening, len(reqs))
	return out, s.updaterOf(len(reqs))(ctx, ids, func(c *unitOfWork) error {
		if err := c.pace(reqs); err != nil {
			return err
		}
		for i, req := range reqs {
			m, err := c.find(req.EmailID)
			if err != nil && len(reqs) > 1 {
				continue
			}
			if err != nil {
				return err
			}
			if out[i], err = c.openOrReopen(m, req); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *unitOfWork) openOrReopen(m *lockedEmail, req delivery.OpenRequest) (delivery.Opening, error) {
	if req.Attempt == m.Attempts && m.AttemptOpen {
		return c.reopen(m, req)
	}
	return c.open(m, req)
}

// Check runs the gate's checks without opening anything, for a caller that has no relay to send
// with: a nil State means that an attempt is due. The obstacle is remembered, so that the e-mail
// says why nothing happens. Where there is none yet, it takes the slots that Open would take,
// and keeps them for it. An attempt that is open already ends if its owner has abandoned it: that takes
// no relay. An e-mail that does not exist is a CodeNotFound.
func (s *Store) Check(ctx context.Context, emailID string, obstacle delivery.Obstacle) (delivery.Checked, error) {
	var out delivery.Checked
	err := s.update(ctx, []string{emailID}, func(c *unitOfWork) error {
		m, err := c.find(emailID)
		if err != nil {
			return err
		}
		if m.AttemptOpen && obstacle != (delivery.Obstacle{}) {
			out.Open, err = c.withoutRelay(m)
			return err
		}
		if obstacle == (delivery.Obstacle{}) {
			if err := c.pace([]delivery.OpenRequest{{EmailID: m.ID, Attempt: m.Attempts + 1}}); err != nil {
				return err
			}
		} else if !m.Status.Final() && (c.noteObstacle(m, obstacle) || !m.ThrottledUntil.Equal(obstacle.ThrottledUntil)) {
			m.ThrottledUntil, m.ThrottledBy, m.dirty = obstacle.ThrottledUntil, obstacle.ThrottledBy, true
		}
		if m.AttemptOpen {
			return nil
		}
		st, closed := c.checkGate(m)
		if m.RelayDown { // its run is there, and asks again
			c.dropOutbox(m)
		}
		if !closed && obstacle.ThrottledUntil.IsZero() {
			if d := c.deadline(m); m.RelayDown && !d.IsZero() {
				out.ExpiresIn = d.Sub(c.now)
			}
			return nil
		}
		if !closed {
			c.deriveStatus(m)
			st = c.state(m)
		}
		out.State = &st
		if st.Waiting == email.WaitingThrottled {
			c.dropOutbox(m)
		}
		return nil
	})
	return out, err
}

// open opens the next attempt, if the gate is open for it. A caller that opens many calls pace for
// all of them before.
func (c *unitOfWork) open(m *lockedEmail, req delivery.OpenRequest) (delivery.Opening, error) {
	if err := c.pace([]delivery.OpenRequest{req}); err != nil {
		return delivery.Opening{}, err
	}
	if st, closed := c.checkGate(m); closed {
		if m.paced { // it waits for its turn
			c.dropOutbox(m)
		}
		return delivery.Opening{Verdict: delivery.VerdictClosed, State: st}, nil
	}
	if req.Attempt != m.Attempts+1 || m.AttemptOpen {
		return delivery.Opening{Verdict: delivery.VerdictClosed, State: c.state(m)}, nil
	}
	if paused, err := c.paused(m, req.Relay.Name); err != nil {
		return delivery.Opening{}, err
	} else if paused {
		c.pause(m, req.Relay.Name)
		c.dropOutbox(m)
		return delivery.Opening{Verdict: delivery.VerdictClosed, State: c.state(m)}, nil
	}
	m.Paused, m.PausedRelay = false, ""
	again := m.RelayDown
	m.relayUp()
	m.Attempts, m.AttemptOpen, m.ThrottledUntil, m.ThrottledBy = req.Attempt, true, time.Time{}, ""
	c.s.settle(&m.emailRow, m.sender)
	if m.DateAt.IsZero() {
		m.DateAt = c.now
	}
	row := attemptRow{
		EmailID: m.ID, Attempt: req.Attempt, Part: 1, Phase: email.PhaseOpened, Owner: req.Owner,
		LeaseUntil: c.now.Add(delivery.Lease), Relay: req.Relay, OpenedAt: c.now,
	}
	for _, r := range m.recipients {
		reason := email.Detail("")
		if keptReasons[r.Reason] { // a relay's fault gives it back as it was
			reason = r.Reason
		}
		if due(r, c.now) && c.move(m, r, email.RecipientSending, reason) {
			// If a relay's fault ended the last attempt, there is an event for it already.
			again = again && r.Attempts < req.Attempt-1
			r.Attempt, r.NextAttemptAt = req.Attempt, time.Time{}
			r.Attempts++
			r.spendTurn()
			row.RecipientIDs = append(row.RecipientIDs, r.ID)
		}
	}
	if !again {
		c.emit(m, eventRow{Type: email.EventSending, Attempt: req.Attempt})
	}
	c.opened = append(c.opened, openedOf(&row))
	c.dropOutbox(m)
	return c.opening(m), nil
}

// keptReasons are those of a deferral that a recipient keeps while its next attempt is open.
var keptReasons = map[email.Detail]bool{email.DetailAmbiguous: true, email.DetailIPBlocked: true, email.DetailUnauthenticated: true}

// reopen is the gate's answer for an attempt that is open already: this
// execution, or the one before it, did not get to its end.
func (c *unitOfWork) reopen(m *lockedEmail, req delivery.OpenRequest) (delivery.Opening, error) {
	var row attemptRow
	if err := c.tx.NewSelect().Model(&row).Where("a.email_id = ?", m.ID).Where("a.attempt = ?", req.Attempt).
		Where("a.part = 1").For("UPDATE").Scan(c.ctx); err != nil {
		return delivery.Opening{}, fmt.Errorf("read attempt %d: %w", req.Attempt, err)
	}
	if row.Phase != email.PhaseOpened {
		return c.endedOrBusy(&row), nil
	}
	paused, err := c.paused(m, req.Relay.Name)
	if err != nil {
		return delivery.Opening{}, err
	}
	if m.CancelRequested || m.Held || paused || c.expired(m) {
		// It never came to the dot, so nothing was sent: what was opened is
		// given back, and the projection carries out what was asked for.
		c.finish(row, givenBack(row.RecipientIDs), req.Owner)
		return recorded(row, nil), nil
	}
	row.Owner, row.LeaseUntil, row.Relay = req.Owner, c.now.Add(delivery.Lease), req.Relay
	if _, err := c.late.NewUpdate().Model(&row).WherePK().Column("owner", "lease_until", "relay").Exec(c.ctx); err != nil {
		return delivery.Opening{}, fmt.Errorf("take over attempt %d: %w", req.Attempt, err)
	}
	return c.opening(m), nil
}

// withoutRelay is the gate's answer for an attempt that is open already, if the caller has no relay to go
// on with.
func (c *unitOfWork) withoutRelay(m *lockedEmail) (delivery.Opening, error) {
	if err := c.readAttempts(); err != nil {
		return delivery.Opening{}, err
	}
	row := c.journal[m.ID]
	if row == nil {
		return delivery.Opening{Verdict: delivery.VerdictBusy}, nil
	}
	return c.endedOrBusy(row), nil
}

// endedOrBusy is the gate's answer for an attempt that the caller does not go on with.
func (c *unitOfWork) endedOrBusy(row *attemptRow) delivery.Opening {
	if !c.hasEnded(row) {
		return delivery.Opening{Verdict: delivery.VerdictBusy}
	}
	return recorded(*row, row.Outcomes)
}

// recorded is the answer for an attempt that has ended.
func recorded(row attemptRow, outcomes []delivery.Outcome) delivery.Opening {
	o := delivery.Opening{Verdict: delivery.VerdictRecorded, Relay: row.Relay}
	if len(outcomes) > 0 {
		o.Reply = outcomes[0].Reply
	}
	return o
}

// opening describes the attempt that m's sending recipients are part of.
func (c *unitOfWork) opening(m *lockedEmail) delivery.Opening {
	o := delivery.Opening{
		Verdict: delivery.VerdictOpened, From: m.returnPath(),
		Settled: delivery.Settled{EmailID: m.ID, Date: m.date(), Token: m.Token, DKIMKeys: m.DKIMKeys},
	}
	if m.Unsubscribe && m.LinkBase != "" {
		o.UnsubscribeURL = c.links.URL(m.LinkBase, m.ID)
		o.FeedbackID = c.links.FeedbackID(m.Topic, string(m.Stream), m.CustomerID)
	}
	// The relay may have closed the connection at a recipient that was deferred before, and
	// may do so again: it is named after the others.
	recipients := slices.DeleteFunc(slices.Clone(m.recipients), func(r *recipientRow) bool { return !r.Status.Open() })
	slices.SortStableFunc(recipients, func(a, b *recipientRow) int { return cmp.Compare(a.Counted, b.Counted) })
	last := make([]email.Reply, len(recipients))
	for i, r := range recipients {
		last[i] = r.reply()
	}
	groups := delivery.NamingGroups(last)
	for i, r := range recipients {
		if r.Status == email.RecipientSending && r.Attempt == m.Attempts {
			o.Recipients = append(o.Recipients, delivery.EnvelopeRecipient{ID: r.ID, Address: r.Address, Group: groups[i]})
		}
	}
	o.Bounced = bouncedBy(m.recipients)
	return o
}

// bouncedBy lists the replies by which recipients have bounced that give no reason of the
// mailbox: the guard asks for these.
func bouncedBy(recipients []*recipientRow) []delivery.BounceReply {
	var out []delivery.BounceReply
	known := map[delivery.BounceReply]bool{}
	for _, r := range recipients {
		if r.Status != email.RecipientBounced || r.SMTPCode == 0 || r.Reason != email.DetailBlock && r.Reason != email.DetailOther {
			continue
		}
		by := delivery.NewBounceReply(r.Address, email.Reply{Code: r.SMTPCode, Enhanced: r.Enhanced, Text: r.SMTPText})
		if !known[by] {
			known[by] = true
			out = append(out, by)
		}
	}
	return out
}

// finish ends an attempt in the journal, in the name of an owner.
func (c *unitOfWork) finish(row attemptRow, outcomes []delivery.Outcome, owner string) {
	row.Outcomes, row.Owner = outcomes, owner
	c.ended = append(c.ended, row)
}

// givenBack are the outcomes of an attempt that ended before anything was sent.
func givenBack(recipientIDs []string) []delivery.Outcome {
	out := make([]delivery.Outcome, len(recipientIDs))
	for i, id := range recipientIDs {
		out[i] = delivery.Outcome{RecipientID: id, Status: email.RecipientDeferred, Uncounted: true, RetryAfter: time.Second, Reply: email.Reply{Text: "the attempt ended before it sent anything"}}
	}
	return out
}

// checkGate runs the gate's checks while no attempt is open. Recipients whose time has run out end
// here.
func (c *unitOfWork) checkGate(m *lockedEmail) (email.State, bool) {
	if m.Status.Final() {
		return c.state(m), true
	}
	if m.AttemptOpen {
		return email.State{}, false
	}
	if c.expired(m) {
		for _, r := range m.recipients {
			c.endUnsent(m, r, email.RecipientExpired, email.DetailExpired)
		}
		c.deriveStatus(m)
		return c.state(m), true
	}
	if !m.Held {
		c.suppress(m)
	}
	for _, r := range m.recipients {
		if !m.Held && due(r, c.now) {
			return email.State{}, false
		}
	}
	if m.dirty {
		c.deriveStatus(m)
	}
	unlimited := m.Held && m.NextActionAt.IsZero()
	if !unlimited && !m.NextActionAt.After(c.now) { // that was the old deadline; ExpireAfter has been raised since
		m.dirty = true
		c.deriveStatus(m)
	}
	return c.state(m), true
}

func (c *unitOfWork) expired(m *lockedEmail) bool {
	d := c.deadline(m)
	return !d.IsZero() && !c.now.Before(d)
}

// deadline is when an e-mail's attempts end; zero if nothing ends them. While the e-mail
// waits for a relay, only its own expires_at counts, and not ExpireAfter: so it is tried
// once more after an outage, however long that was. deadlineOf says the same in SQL.
func (c *unitOfWork) deadline(m *lockedEmail) time.Time {
	return c.s.deadline(&m.emailRow)
}

func (s *Store) deadline(e *emailRow) time.Time {
	if e.RelayDown {
		return e.ExpiresAt
	}
	return s.opts.Schedule.Deadline(e.ExpiresAt, e.DateAt)
}

func due(r *recipientRow, now time.Time) bool {
	return !r.NextAttemptAt.IsZero() && !r.NextAttemptAt.After(now.Add(groupWithin)) && !r.Turn.Waits(now)
}

// dropOutbox deletes the order for a run: the caller is that run.
func (c *unitOfWork) dropOutbox(m *lockedEmail) {
	if !m.batched() { // a batch's e-mails have no order of their own
		c.outboxDeletes = append(c.outboxDeletes, m.ID)
	}
}

// state tells a workflow where an e-mail stands.
func (c *unitOfWork) state(m *lockedEmail) email.State {
	st := stateOf(&m.emailRow, c.now)
	if st.Waiting == email.WaitingRetry && m.RelayDown && m.fault != (email.Reply{}) {
		st.Last = m.fault
		st.Last.Text = email.MaskText(st.Last.Text)
		if m.RelayDownBy != "" {
			st.Last.Text = "relay " + m.RelayDownBy + ": " + st.Last.Text
		}
	}
	var turn email.Reply // of one that waits for its turn
	for _, r := range m.recipients {
		if r.Status.Open() {
			st.Open++
		}
		if r.Status == email.RecipientQueued && turn == (email.Reply{}) {
			turn = r.lastReply()
		}
		if st.Waiting == email.WaitingRetry && r.Status == email.RecipientDeferred && st.Last == (email.Reply{}) {
			st.Last = r.lastReply()
		}
		if st.Final {
			st.Results = append(st.Results, email.RecipientResult{
				ID: r.ID, Address: email.MaskAddress(r.Address), Status: r.Status, SMTPCode: r.SMTPCode,
				Enhanced: r.Enhanced, Text: email.MaskText(r.SMTPText, r.Address), Attempts: r.Attempts,
			})
		}
	}
	if st.Waiting == email.WaitingRetry && st.Last == (email.Reply{}) {
		st.Last = turn
	}
	return st
}

// lastReply is fit for a history.
func (r *recipientRow) lastReply() email.Reply {
	return email.Reply{Code: r.SMTPCode, Enhanced: r.Enhanced, Text: email.MaskText(r.SMTPText, r.Address)}
}

// stateOf is as much of a State as the e-mail's own row holds.
func stateOf(e *emailRow, now time.Time) email.State {
	st := email.State{Status: e.Status, Detail: e.Detail, Final: e.Status.Final(), NextAttempt: e.Attempts + 1, OnlyRelay: e.AmbiguousRelay}
	if e.RelayDown {
		st.FaultyRelay = e.RelayDownBy
	}
	switch {
	case st.Final:
		st.NextAttempt = 0
	case e.AttemptOpen:
		st.NextAttempt = e.Attempts
	case e.Held:
		st.Waiting, st.HeldBy, st.NextAt = email.WaitingHeld, e.holders(), pg.UTC(e.NextActionAt)
	case e.Paused:
		st.Waiting, st.NextAt = email.WaitingPaused, pg.UTC(e.NextActionAt)
	case e.ThrottledUntil.After(now), e.ThrottledBy != "" && e.NextActionAt.After(now):
		st.Waiting, st.ThrottledBy, st.NextAt = email.WaitingThrottled, e.ThrottledBy, pg.UTC(e.NextActionAt)
		if look := now.Add(throttleLook).UTC(); look.Before(st.NextAt) && !e.ThrottledBy.IsWarmup() {
			st.NextAt = look
		}
	case e.NextActionAt.After(now): // as exactly as the gate judges expiry: a run that need not wait asks at once
		st.NextAt = e.NextActionAt.UTC()
		st.Waiting = email.WaitingRetry
		if e.Attempts == 0 {
			st.Waiting = email.WaitingScheduled
		}
	}
	return st
}
