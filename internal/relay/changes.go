package relay

import (
	"context"
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
		if st.Name != name {
			continue
		}
		if slices.ContainsFunc(pools, func(p *pool) bool { return p.relay.Name == name && p.relay.Addr() == st.Address }) {
			return false
		}
		left = true
	}
	return left
}
