package smtp

import (
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// Backoff of a relay that does not answer: doubling from the first to the last.
const (
	firstBackoff = email.RelayBackoffFirst
	lastBackoff  = email.RelayBackoffMost
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
	// mailFrom is the return-path of the MAIL command that the relay refused; nil where
	// something else failed. A probe repeats the command before an attempt is opened.
	mailFrom *string
	// shared: other processes know of the fault, and one of all probes.
	shared   bool
	refusals int
	// since is when the relay began to fail.
	since time.Time
	last  email.RelayError
}

// broken describes a failure.
type broken struct {
	// inTransaction: a connection alone does not show that the relay works again.
	inTransaction bool
	// mailFrom is the return-path of the refused MAIL command; nil if it was not MAIL.
	mailFrom *string
	// perhaps: it may have been about the mails alone that were refused.
	perhaps bool
	// probe: the caller was the one to find out.
	probe bool
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
	e.Err = fmt.Errorf("%w (not tried before %s)", b.last.Err, now.Add(e.RetryAfter).UTC().Format(time.TimeOnly))
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
	b.clear()
	return true
}

// clear notes that the relay works.
func (b *breaker) clear() {
	b.failures, b.probing, b.inTransaction, b.mailFrom, b.shared = 0, false, false, nil, false
}

// succeeded notes an exchange that says nothing against the relay. It reports
// whether that brought it back.
func (b *breaker) succeeded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	back := b.failures > 0
	b.clear()
	b.refusals = 0
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
	if b.failures == 0 {
		b.since = now
	}
	b.failures, b.inTransaction, b.mailFrom, b.probing, b.last = 1, true, nil, false, *e
	b.until = now.Add(firstBackoff)
	return true
}

// failed notes that the relay is not there. Those who were already talking to it
// when it went away count as one: first is false for them, and nobody needs to be told.
func (b *breaker) failed(now time.Time, e *email.RelayError, how broken) (wait time.Duration, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = *e
	if b.failures > 0 && !how.probe {
		return max(b.until.Sub(now), 0), false
	}
	if b.failures == 0 {
		b.since = now
	}
	b.probing = false
	b.failures++
	b.inTransaction, b.mailFrom = how.inTransaction, how.mailFrom
	wait = email.RelayBackoff(b.failures)
	b.until = now.Add(wait)
	return wait, true
}

// mailProbe is the return-path that a probe has to try, if the relay refused MAIL.
func (b *breaker) mailProbe() (from string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 || b.mailFrom == nil {
		return "", false
	}
	return *b.mailFrom, true
}

// adopt takes over what all processes know of the relay: the fault, or that it works
// again. What only this process has met, it keeps. It reports whether the relay went
// down or came back for this process.
func (b *breaker) adopt(now time.Time, relay email.Relay, st email.RelayState) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.Failures == 0 {
		if !b.shared || b.probing {
			return false
		}
		b.clear()
		return true
	}
	if !st.Shared || b.probing {
		return false
	}
	changed = b.failures == 0
	if changed {
		b.since = now
	}
	b.failures, b.inTransaction, b.mailFrom, b.shared = st.Failures, true, st.MailFrom, true
	b.until = now.Add(st.RetryAfter)
	b.last = email.RelayError{Relay: relay, Reply: st.Reply, Err: errFault}
	return changed
}

// own makes a fault this process's own: it probes without asking the others.
func (b *breaker) own() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shared = false
}

// isShared reports whether other processes know of the fault.
func (b *breaker) isShared() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures > 0 && b.shared
}

// up reports whether nothing is known against the relay.
func (b *breaker) up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0
}
