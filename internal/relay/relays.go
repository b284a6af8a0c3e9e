package relay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Options of Relays.
type Options struct {
	Timeouts smtp.Timeouts
	Log      *slog.Logger
	// Now is the clock of backoffs and limits. Defaults to time.Now.
	Now func() time.Time
	// Board shares faults and probes among processes. nil: each process finds out by itself.
	Board Board
	// MailOf tells what MAIL will say of a route's e-mail, or of the next one of its batch. A
	// relay that refused MAIL is asked with it before an attempt is opened; nil: with the
	// command that it refused. emailID is empty where there is none.
	MailOf func(ctx context.Context, route delivery.Route) (emailID string, m delivery.MailCommand, err error)
	// ProbeEvery is how often Run probes a relay that has no mail; 0 is never.
	ProbeEvery time.Duration
	// Ledger is asked by relays with a rate, and required for those.
	Ledger Ledger
	// MaxIdle is how long an unused session is kept. Defaults to 60 s.
	MaxIdle time.Duration
}

// Relays are the servers that take our mail, in order of preference. It is safe
// for concurrent use.
type Relays struct {
	now   func() time.Time
	opts  Options
	pools []*pool
}

// New makes Relays. Nothing is dialled before there is mail.
func New(relays []Relay, opts Options) *Relays {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxIdle == 0 {
		opts.MaxIdle = defaultMaxIdle
	}
	rs := &Relays{now: opts.Now, opts: opts}
	for _, r := range relays {
		rs.pools = append(rs.pools, newPool(r, opts))
	}
	return rs
}

// Session takes a session with the first relay for the route that answers. A relay that fails
// (DNS, dial, TLS, greeting, EHLO, AUTH) or is in its backoff is passed over for the next.
//
// The error is a *delivery.RelayError with the time after which to try again, a
// *delivery.Throttled with a turn, or ctx's. A relay with a rate gives turns. One that is far
// off is no reason to go to the next relay: the operator has set the rate on purpose.
func (rs *Relays) Session(ctx context.Context, route delivery.Route) (*Session, error) {
	pools := rs.takes(route)
	if len(pools) == 0 {
		return nil, noRelay()
	}
	patient := anyUp(pools)
	var failed *delivery.RelayError
	for _, p := range pools {
		s, err := p.session(ctx, route, patient)
		if err == nil {
			s.alternative = len(pools) > 1
			return s, nil
		}
		e, ok := errors.AsType[*delivery.RelayError](err)
		if !ok {
			return nil, err
		}
		if failed != nil {
			e.RetryAfter = min(e.RetryAfter, failed.RetryAfter)
		}
		failed = e
	}
	failed.Watched = watched(pools)
	return nil, failed
}

// noRelay is the error of mail that no relay is configured for.
func noRelay() *delivery.RelayError {
	return &delivery.RelayError{RetryAfter: lastBackoff, Err: delivery.ErrNoRelay}
}

// anyUp reports whether a relay works. Then mail waits for the backoff of one that does not,
// however fresh it is.
func anyUp(pools []*pool) bool {
	return slices.ContainsFunc(pools, func(p *pool) bool { return p.breaker.up() })
}

func (rs *Relays) takes(route delivery.Route) []*pool {
	var pools []*pool
	for _, p := range rs.pools {
		if p.relay.takes(route) {
			pools = append(pools, p)
		}
	}
	only := func(p *pool) bool { return p.relay.Name == route.Relay }
	if slices.ContainsFunc(pools, only) {
		pools = slices.DeleteFunc(pools, func(p *pool) bool { return !only(p) })
	}
	if route.Avoid != "" {
		last := func(p *pool) int {
			switch {
			case p.relay.Name == route.Avoid:
				return 2
			case !p.breaker.up():
				return 1
			}
			return 0
		}
		slices.SortStableFunc(pools, func(a, b *pool) int { return cmp.Compare(last(a), last(b)) })
	}
	return pools
}

// Unanswered counts, by relay, the messages whose final dot this process has written and
// whose answer it could not read.
func (rs *Relays) Unanswered() map[string]int64 {
	counts := make(map[string]int64, len(rs.pools))
	for _, p := range rs.pools {
		counts[p.relay.Name] += p.unread.Load()
	}
	return counts
}

// Fast reports whether the route's first relay that is not down has answered
// within 2 s in 95 of 100 recent exchanges. One without recent history counts as
// fast; one that is to be probed, or has a rate, does not.
func (rs *Relays) Fast(route delivery.Route) bool {
	now := rs.now()
	for _, p := range rs.takes(route) {
		if p.breaker.down(now, false) == nil {
			return p.relay.Pace == 0 && p.breaker.up() && p.fast(now)
		}
	}
	return false
}

// Lot is how many transactions with the route's first relay that is not down its rate
// lets begin within a time; at least 1, and as many as one likes without a rate. It is 1
// where the route names a relay that is down: the caller has the session that probes it.
func (rs *Relays) Lot(route delivery.Route, within time.Duration) int {
	now := rs.now()
	for _, p := range rs.takes(route) {
		if p.relay.Name == route.Relay && !p.breaker.up() {
			return 1
		}
		if p.breaker.down(now, false) != nil {
			continue
		}
		if p.relay.Pace > 0 {
			return max(1, int(within/p.relay.Pace))
		}
		break
	}
	return math.MaxInt
}

// Serves reports whether a relay is configured for mail of that route, whether or not it
// works at the moment.
func (rs *Relays) Serves(route delivery.Route) bool { return len(rs.takes(route)) > 0 }

// Down says why no relay of the route would be tried now; nil if one would. It opens no
// connection.
func (rs *Relays) Down(route delivery.Route) *delivery.RelayError {
	pools := rs.takes(route)
	if len(pools) == 0 {
		return noRelay()
	}
	patient := anyUp(pools)
	var down *delivery.RelayError
	for _, p := range pools {
		if down = p.down(route, patient); down == nil {
			return nil
		}
	}
	return down
}

// Pace is the time from one slot to the next of the route's first relay that is not down; 0 where
// that has no rate.
func (rs *Relays) Pace(route delivery.Route) time.Duration {
	pools := rs.takes(route)
	patient := anyUp(pools)
	for _, p := range pools {
		if p.down(route, patient) == nil {
			return p.relay.Pace
		}
	}
	return 0
}

// Up tells of each relay, by name, whether it answered when it was tried last. A relay
// that this process has not tried yet is left out.
func (rs *Relays) Up() map[string]bool {
	up := make(map[string]bool, len(rs.pools))
	for _, p := range rs.pools {
		if p.tried.Load() {
			up[p.relay.Name] = up[p.relay.Name] || p.breaker.up()
		}
	}
	return up
}

// Close says goodbye on every idle session and waits until that is said.
// Sessions in use close when they are given back.
func (rs *Relays) Close() {
	var wg sync.WaitGroup
	for _, p := range rs.pools {
		wg.Go(p.close)
	}
	wg.Wait()
}

// Held is how many recipients each relay, by name, has refused in a row. Their refusals are held
// back, because they may be meant for us.
func (rs *Relays) Held() map[string]int {
	held := make(map[string]int, len(rs.pools))
	for _, p := range rs.pools {
		held[p.relay.Name] += p.guard.streakLength()
	}
	return held
}
