package mail

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// addRelayFaults says of e-mails that wait for a relay which one it is, since when and
// why. Their next attempt is not in the past afterwards: what is due is due now, or when
// its relay is probed next. Of other e-mails, what is overdue is due now.
func (s *Store) addRelayFaults(ctx context.Context, rows []*emailRow, out []email.Email) error {
	open := false
	for _, r := range rows {
		open = open || !r.Status.Final()
	}
	if !open {
		return nil
	}
	// One row at the least: the time.
	var states []*relayStateRow
	err := s.db.NewRaw(`SELECT v.at AS tx_now, rs.name, rs.address, rs.failures, rs.since, rs.next_at, rs.changed_at, rs.shared, rs.reply_code, rs.enhanced, rs.reply_text, rs.mail_from
		FROM (SELECT now() AS at) AS v LEFT JOIN relay_states AS rs ON true`).Scan(ctx, &states)
	if err != nil {
		return pg.Translate(err)
	}
	now := pg.UTC(states[0].TxNow)
	since, err := s.refusedSince(ctx, rows)
	if err != nil {
		return err
	}
	refusals, err := s.lastRefusals(ctx, rows)
	if err != nil {
		return err
	}
	paths, err := s.refusedPaths(ctx, rows)
	if err != nil {
		return err
	}
	for i, r := range rows {
		e, due := &out[i], now
		switch {
		case r.Status.Final():
			continue
		case e.Detail == email.DetailNoRelay:
			route := r.route()
			e.RelayFault = &email.RelayFault{Reply: email.Reply{Text: fmt.Sprintf(
				"no relay takes %s mail from %s: the operator's POSTRIDER_SMTP_URLS limit relays with streams= and domains=", route.Stream, route.SenderDomain)}}
		case e.Detail == email.DetailRelayDown:
			fault, seenAt, began := faultOf(r.RelayDownBy, states, now)
			own := refusals[r.ID]
			if p := paths[r.ID]; p.isNewerThan(fault, seenAt) {
				fault = p.fault(own, now)
			} else if fault == nil || own.isNewerThan(fault, seenAt) {
				fault = ownFault(r, own, now)
			}
			if own == nil && fault.Since.IsZero() {
				fault.Since = began
			}
			if at := since[r.ID]; !at.IsZero() && (fault.Since.IsZero() || at.Before(fault.Since)) {
				fault.Since = at
			}
			due = fault.NextAttemptAt
			if e.NextAttemptAt.After(due) { // other mail probes the relay earlier
				fault.NextAttemptAt = e.NextAttemptAt
			}
			e.RelayFault = fault
		}
		e.NextAttemptAt = notBefore(due, e.NextAttemptAt)
		for j := range e.Recipients {
			r := &e.Recipients[j]
			r.NextAttemptAt = notBefore(due, r.NextAttemptAt)
		}
	}
	return nil
}

// refusedSince is when relays began to refuse e-mails that wait for one, by e-mail: the end
// of the first of the latest attempts in a row that ended in a relay's fault. relay_states
// does not know that of a relay that takes other mail meanwhile.
func (s *Store) refusedSince(ctx context.Context, rows []*emailRow) (map[string]time.Time, error) {
	last, _ := lastAttempts(rows)
	if len(last) == 0 {
		return nil, nil
	}
	var found []struct {
		EmailID string
		Since   time.Time
	}
	err := s.db.NewRaw(`SELECT a.email_id, min(a.done_at) AS since FROM delivery_attempts AS l JOIN delivery_attempts AS a ON a.email_id = l.email_id AND a.attempt <= l.attempt
		WHERE (l.email_id, l.attempt) IN ? AND l.part = 1 AND a.phase = 'done' AND a.attempt > coalesce((SELECT max(b.attempt) FROM delivery_attempts AS b
			WHERE b.email_id = a.email_id AND b.attempt <= l.attempt AND b.phase = 'done' AND NOT b.outcomes @> '[{"relay_fault":true}]'), 0)
		GROUP BY a.email_id`, bun.Tuple(last)).Scan(ctx, &found)
	if err != nil {
		return nil, pg.Translate(err)
	}
	since := make(map[string]time.Time, len(found))
	for _, f := range found {
		since[f.EmailID] = pg.UTC(f.Since)
	}
	return since, nil
}

// lastAttempts pairs the ids of e-mails that wait for a relay with their latest attempts. by has their
// rows.
func lastAttempts(rows []*emailRow) (last [][]any, by map[string]*emailRow) {
	by = map[string]*emailRow{}
	for _, r := range rows {
		if r.RelayDown && r.Attempts > 0 {
			by[r.ID] = r
			last = append(last, []any{r.ID, r.Attempts})
		}
	}
	return last, by
}

// refusal is a relay's fault that ended the latest attempt of an e-mail that waits for this relay.
type refusal struct {
	reply    email.Reply
	openedAt time.Time
	// unasked: the relay was not spoken to.
	unasked bool
}

// isNewerThan reports whether the relay has refused the e-mail with other words, in an attempt that
// began after the fault was seen last: the relay has moved, or refuses this e-mail only.
func (f *refusal) isNewerThan(fault *email.RelayFault, seenAt time.Time) bool {
	return f != nil && !f.unasked && f.openedAt.After(seenAt) && f.reply != fault.Reply
}

// lastRefusals are the relays' faults that ended the latest attempts of e-mails that wait for a
// relay, by e-mail.
func (s *Store) lastRefusals(ctx context.Context, rows []*emailRow) (map[string]*refusal, error) {
	last, by := lastAttempts(rows)
	if len(last) == 0 {
		return nil, nil
	}
	var attempts []attemptRow
	err := s.db.NewSelect().Model(&attempts).Column("email_id", "relay", "outcomes", "opened_at").
		Where("(a.email_id, a.attempt) IN ?", bun.Tuple(last)).Where("a.part = 1").Where("a.phase = 'done'").Scan(ctx)
	if err != nil {
		return nil, pg.Translate(err)
	}
	out := make(map[string]*refusal, len(attempts))
	for _, a := range attempts {
		if o := delivery.ShowingFault(a.Outcomes); o != nil && a.Relay.Name == by[a.EmailID].RelayDownBy {
			out[a.EmailID] = &refusal{reply: o.Reply, openedAt: pg.UTC(a.OpenedAt), unasked: o.Unasked}
		}
	}
	return out, nil
}

// faultOf is what is known of a relay by its name, and when that was seen; nil if the relay does
// not fail. began is when it last began to fail, also if it works again. Of several addresses with one
// name, the one that failed or recovered last stands for all: the relay may have left the others.
func faultOf(name string, states []*relayStateRow, now time.Time) (fault *email.RelayFault, seenAt, began time.Time) {
	for _, rs := range states {
		if rs.Name != name {
			continue
		}
		st := rs.state()
		at := pg.UTC(rs.ChangedAt)
		if st.Failures > 0 {
			at = st.NextProbeAt.Add(-delivery.RelayBackoff(st.Failures))
		}
		if !seenAt.IsZero() && !at.After(seenAt) {
			continue
		}
		fault, seenAt, began = nil, at, st.Since
		if st.Failures > 0 {
			fault = &email.RelayFault{Relay: name, Since: st.Since, Reply: st.Reply, NextAttemptAt: notBefore(now, st.NextProbeAt)}
		}
	}
	return fault, seenAt, began
}

// ownFault is what is known where the relay takes other mail: its words at the e-mail's last
// attempt, if that is what it waits for.
func ownFault(r *emailRow, own *refusal, now time.Time) *email.RelayFault {
	fault := &email.RelayFault{Relay: r.RelayDownBy, NextAttemptAt: notBefore(now, pg.UTC(r.NextActionAt))}
	switch {
	case own != nil:
		fault.Reply = own.reply
	case r.RelayDownBy == "":
		fault.Reply.Text = "a relay works again, or the operator changed the relays; this e-mail follows within 5 minutes"
	case fault.NextAttemptAt.Sub(now) > delivery.RelayBackoffMost:
		fault.Reply.Text = "the relay takes mail again; this e-mail is tried at next_attempt_at"
	default:
		fault.Reply.Text = "the relay takes mail again; this e-mail follows within 5 minutes"
	}
	return fault
}

// notBefore moves a time on that has passed; none stays none.
func notBefore(now, at time.Time) time.Time {
	if at.IsZero() || at.After(now) {
		return at
	}
	return now
}
