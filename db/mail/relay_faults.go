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
	err := s.db.NewRaw(`SELECT v.at AS tx_now, rs.name, rs.address, rs.failures, rs.since, rs.next_at, rs.shared, rs.reply_code, rs.enhanced, rs.reply_text, rs.mail_from
		FROM (SELECT now() AS at) AS v LEFT JOIN relay_states AS rs ON rs.failures > 0`).Scan(ctx, &states)
	if err != nil {
		return pg.Translate(err)
	}
	now := pg.UTC(states[0].TxNow)
	since, err := s.refusedSince(ctx, rows)
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
			fault := faultOf(r.RelayDownBy, states, now)
			if fault == nil {
				if fault, err = s.faultAt(ctx, r, now); err != nil {
					return err
				}
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
	var ids []string
	for _, r := range rows {
		if r.RelayDown && r.Attempts > 0 {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var found []struct {
		EmailID string
		Since   time.Time
	}
	err := s.db.NewRaw(`SELECT a.email_id, min(a.done_at) AS since FROM delivery_attempts AS a
		WHERE a.email_id IN (?) AND a.phase = 'done' AND a.attempt > coalesce((SELECT max(b.attempt) FROM delivery_attempts AS b
			WHERE b.email_id = a.email_id AND b.phase = 'done' AND NOT b.outcomes @> '[{"relay_fault":true}]'), 0)
		GROUP BY a.email_id`, bun.List(ids)).Scan(ctx, &found)
	if err != nil {
		return nil, pg.Translate(err)
	}
	since := make(map[string]time.Time, len(found))
	for _, f := range found {
		since[f.EmailID] = pg.UTC(f.Since)
	}
	return since, nil
}

// faultOf is what is known of a relay by its name, nil if it does not fail. Of several
// addresses with one name, the one that failed last stands for all: the relay may have left
// the others.
func faultOf(name string, states []*relayStateRow, now time.Time) (fault *email.RelayFault) {
	var last time.Time
	for _, rs := range states {
		if rs.Name != name || rs.Failures == 0 {
			continue
		}
		st := rs.state()
		if at := st.NextProbeAt.Add(-delivery.RelayBackoff(st.Failures)); fault == nil || at.After(last) {
			last = at
			fault = &email.RelayFault{Relay: name, Since: st.Since, Reply: st.Reply, NextAttemptAt: notBefore(now, st.NextProbeAt)}
		}
	}
	return fault
}

// faultAt is what is known where the relay takes other mail: its words at the e-mail's
// last attempt, if that is what it waits for.
func (s *Store) faultAt(ctx context.Context, r *emailRow, now time.Time) (*email.RelayFault, error) {
	fault := &email.RelayFault{Relay: r.RelayDownBy, NextAttemptAt: notBefore(now, pg.UTC(r.NextActionAt)),
		Reply: email.Reply{Text: "the relay takes mail again; this e-mail follows within 5 minutes"}}
	if fault.NextAttemptAt.Sub(now) > delivery.RelayBackoffMost {
		fault.Reply.Text = "the relay takes mail again; this e-mail is tried at next_attempt_at"
	}
	var rows []attemptRow
	err := s.db.NewSelect().Model(&rows).Where("a.email_id = ?", r.ID).Where("a.attempt = ?", r.Attempts).Where("a.part = 1").Where("a.phase = 'done'").Scan(ctx)
	if err != nil {
		return nil, pg.Translate(err)
	}
	for _, row := range rows {
		for _, o := range row.Outcomes {
			if o.RelayFault && row.Relay.Name == r.RelayDownBy {
				fault.Reply = o.Reply
			}
		}
	}
	return fault, nil
}

// notBefore moves a time on that has passed; none stays none.
func notBefore(now, at time.Time) time.Time {
	if at.IsZero() || at.After(now) {
		return at
	}
	return now
}
