package relay

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/postrider/postrider/internal/delivery"
)

// applyAgainAfter is when a process applies its relays to waiting mail for the second and last time.
// A process with the old relays that stops within that time may have tried the mail meanwhile.
const applyAgainAfter = time.Minute

// applyChanges applies the relays of this process to mail that waits: at once, and once more after
// applyAgainAfter. It does so no more often, because another process may have other relays for
// good: the two would wake the mail in a loop.
func (rs *Relays) applyChanges(ctx context.Context) {
	for _, wait := range []time.Duration{0, applyAgainAfter} {
		for sleep(ctx, wait) {
			err := rs.applyToWaiting(ctx)
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				rs.opts.Log.WarnContext(ctx, "relay.changed", "error", err)
			}
			wait = syncEvery
		}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// applyToWaiting finds mail that waits for what this process's relays are not: for a relay that does
// not take it any more or has moved, or for none although one takes it now. Such mail says so at once,
// and its runs are woken.
func (rs *Relays) applyToWaiting(ctx context.Context) error {
	waits, err := rs.opts.Board.RelayWaits(ctx)
	if err != nil || len(waits) == 0 {
		return err
	}
	states, err := rs.opts.Board.RelayStates(ctx)
	if err != nil {
		return err
	}
	for _, w := range waits {
		to, changed := rs.judge(w, states)
		if !changed {
			continue
		}
		n, err := rs.opts.Board.ChangeRelayWait(ctx, w, to)
		if err != nil {
			return err
		}
		rs.opts.Log.InfoContext(ctx, "relay.changed", "relay", w.Relay, "stream", w.Stream, "sender_domain", w.SenderDomain, "no_relay", to.NoRelay, "emails", n)
	}
	return nil
}

// judge says what such mail waits for by the relays of this process, if that is something else. An
// obstacle that names no relay lasts until the e-mail's next try.
func (rs *Relays) judge(w delivery.RelayWait, states []delivery.RelayState) (to delivery.Obstacle, changed bool) {
	pools := rs.takes(delivery.Route{Stream: w.Stream, SenderDomain: w.SenderDomain})
	switch {
	case len(pools) == 0:
		return delivery.Obstacle{RelayDown: true, NoRelay: true}, !w.NoRelay
	case w.NoRelay:
		return delivery.Obstacle{RelayDown: true}, true
	case w.Relay == "":
		return delivery.Obstacle{}, false
	}
	known := slices.ContainsFunc(pools, func(p *pool) bool { return p.relay.Name == w.Relay })
	return delivery.Obstacle{RelayDown: true}, !known || moved(pools, w.Relay, states)
}

// moved reports whether a relay fails at an address that is not in this process's settings, and not
// at one that is.
func moved(pools []*pool, name string, states []delivery.RelayState) bool {
	left := false
	for _, st := range states {
		if st.Name != name || st.Failures == 0 {
			continue
		}
		if slices.ContainsFunc(pools, func(p *pool) bool { return p.relay.Name == name && p.relay.Addr() == st.Address }) {
			return false
		}
		left = true
	}
	return left
}

// recoveryAge is how long ago a relay may have recovered for a new process to wake the mail that
// waits for it. The sweep for overdue e-mails finds what is older.
const recoveryAge = 10 * time.Minute

// recovery is a relay that works again.
type recovery struct {
	// at is when it recovered, by the database's clock.
	at time.Time
	// again is when the mail that waits is woken for the second time; zero if that is done.
	again time.Time
}

// watched reports whether mail for these relays is woken as soon as one of them works.
func watched(pools []*pool) bool {
	return !slices.ContainsFunc(pools, func(p *pool) bool {
		return p.opts.Board == nil || p.opts.ProbeEvery <= 0 || p.isClosed() || !p.breaker.isProbed()
	})
}

// wakeRecovered wakes the mail that is due and waits for a relay which works again: as soon as this
// process hears of it, and once more after applyAgainAfter, for attempts that met the fault and
// noted that later. It does so no more often: another process may not reach the relay, and the two
// would wake the mail in a loop. Mail that the relay has refused is tried when it is due: the relay
// may recover with each other mail that it takes, and refuse that one still. It may wait for the
// relay itself if it was due before the recovery. A process that had not heard of the recovery may
// have tried it later. known are the recoveries that this process has heard of, by relay.
func (rs *Relays) wakeRecovered(ctx context.Context, known map[string]recovery) error {
	states, err := rs.opts.Board.RelayStates(ctx)
	if err != nil {
		return err
	}
	now := rs.now()
	next := map[string]recovery{}
	dueBy := map[*pool]time.Time{} // of the relays whose mail is woken
	for _, p := range rs.pools {
		for _, st := range states {
			if st.Failures > 0 || st.Name != p.relay.Name || st.Address != p.relay.Addr() || st.SinceChange > recoveryAge {
				continue
			}
			switch r := known[st.Name]; {
			case !r.at.Equal(st.ChangedAt):
				next[st.Name] = recovery{at: st.ChangedAt, again: now.Add(applyAgainAfter)}
				dueBy[p] = st.ChangedAt
				p.breaker.retryNow(now) // another process reaches it
				p.lookAgain()
			case !r.again.IsZero() && !now.Before(r.again):
				next[st.Name] = recovery{at: st.ChangedAt}
				dueBy[p] = st.ChangedAt.Add(applyAgainAfter)
			}
		}
	}
	if len(dueBy) == 0 {
		return nil
	}
	waits, err := rs.opts.Board.RelayWaits(ctx)
	if err != nil {
		return err
	}
	for _, w := range waits {
		if w.NoRelay || w.Relay == "" {
			continue
		}
		var latest time.Time
		for _, p := range rs.takes(delivery.Route{Stream: w.Stream, SenderDomain: w.SenderDomain}) {
			if dueBy[p].After(latest) {
				latest = dueBy[p]
			}
		}
		if latest.IsZero() {
			continue
		}
		n, err := rs.opts.Board.WakeRelayWait(ctx, w, latest)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		rs.opts.Log.InfoContext(ctx, "relay.wake", "relay", w.Relay, "stream", w.Stream, "sender_domain", w.SenderDomain, "emails", n)
	}
	maps.Copy(known, next)
	return nil
}
