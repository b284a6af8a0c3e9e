package smtp

import (
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// Backoff of a relay that does not answer: doubling from the first to the last.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// refusalsInARow is how many exchanges, without one that went well between, a
// relay has to refuse before it is passed over: one recipient or one message
// that it never takes is not to hold back all the others.
const refusalsInARow = 3

// fault says what was wrong with an exchange.
type fault int

const (
	faultNone fault = iota
	// faultOurs: we broke it off, and know nothing about the relay.
	faultOurs
	// faultRefused: the relay refused what may be its whole business with us, or
	// this mail alone.
	faultRefused
	// faultDown: the relay is not there, or has no use for us.
	faultDown
)

// breaker keeps mail away from a relay that does not take it. While it is down
// one caller at a time, once its backoff is over, probes it.
type breaker struct {
	mu sync.Mutex
	// failures in a row; 0 means that the relay is up.
	failures int
	until    time.Time
	probing  bool
	// inTransaction: a mere connection does not show that it is up again.
	inTransaction bool
	refusals      int
	last          email.RelayError
}

// down tells why the relay is not tried now; nil if it is.
func (b *breaker) down(now time.Time) *email.RelayError {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blocked(now)
}

func (b *breaker) blocked(now time.Time) *email.RelayError {
	if b.failures == 0 || (!now.Before(b.until) && !b.probing) {
		return nil
	}
	e := b.last
	e.RetryAfter = max(b.until.Sub(now), time.Second)
	if b.probing {
		e.RetryAfter = max(b.until.Sub(now), firstBackoff)
	}
	e.Err = fmt.Errorf("not tried before %s: %w", now.Add(e.RetryAfter).UTC().Format(time.TimeOnly), b.last.Err)
	return &e
}

// admit lets a caller through; probe says that it is the one who finds out.
func (b *breaker) admit(now time.Time) (probe bool, down *email.RelayError) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.blocked(now); e != nil {
		return false, e
	}
	b.probing = b.failures > 0
	return b.probing, nil
}

// abstain ends a probe that found nothing out.
func (b *breaker) abstain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// connected notes that there is a session. It reports whether that brought the
// relay back.
func (b *breaker) connected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 || b.inTransaction {
		return false
	}
	b.failures, b.probing = 0, false
	return true
}

// succeeded notes an exchange that says nothing against the relay. It reports
// whether that brought it back.
func (b *breaker) succeeded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	back := b.failures > 0
	b.failures, b.refusals, b.probing = 0, 0, false
	return back
}

// refused notes a refusal that may be about one mail only. It reports whether
// the relay is down for it. The backoff does not grow: what is refused may be
// the only mail there is.
func (b *breaker) refused(now time.Time, e *email.RelayError) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusals++
	if b.refusals < refusalsInARow && b.failures == 0 {
		return false
	}
	b.failures, b.inTransaction, b.probing, b.last = 1, true, false, *e
	b.until = now.Add(firstBackoff)
	return true
}

// failed notes that the relay is not there. Those who were already talking to it
// when it went away count as one.
func (b *breaker) failed(now time.Time, e *email.RelayError, inTransaction, probe bool) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = *e
	if b.failures > 0 && !probe {
		return max(b.until.Sub(now), 0)
	}
	b.probing = false
	b.failures++
	b.inTransaction = inTransaction
	wait := min(firstBackoff<<min(b.failures-1, 10), lastBackoff)
	b.until = now.Add(wait)
	return wait
}

// up reports whether nothing is known against the relay.
func (b *breaker) up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0
}
