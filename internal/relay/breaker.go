package relay

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Backoff of a relay that does not answer: doubling from the first to the last.
const (
	firstBackoff = delivery.RelayBackoffFirst
	lastBackoff  = delivery.RelayBackoffMost
)

// refusalsInARow is how many exchanges, without one that went well between, a
// relay has to refuse before it is passed over: one recipient or one message
// that it never takes is not to hold back all the others.
const refusalsInARow = 3

// Mail that a relay has not refused yet, while the relay is down because it refused other
// mail, is let through one after the other.
const (
	// freshAtOnce are let through without a pause. The relay that refuses more than that in
	// a row does so to everybody: the pause doubles from freshPause to longestPause.
	freshAtOnce  = 50
	freshPause   = time.Second
	longestPause = 15 * time.Second
	// freshWait is how long the others wait while one is under way. Each of them comes
	// freshEvery later than the one before, so that many do not ask all the time.
	freshWait  = time.Second
	freshEvery = 50 * time.Millisecond
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
	// turnedAway: the relay did not greet, or refused the connection. It may have no room for this
	// process's connection.
	turnedAway bool
	// mail is the MAIL command that the relay refused; nil where something else failed. A
	// probe says MAIL before an attempt is opened.
	mail *delivery.MailCommand
	// doubtful: what the relay refused may be about those mails alone. Mail that it has not
	// refused yet (fresh) is let through as a probe from freshAt on, however long the others
	// wait. freshRefused counts those that were refused as well, freshNext is when the last
	// that had to wait comes again.
	doubtful     bool
	freshAt      time.Time
	freshNext    time.Time
	freshRefused int
	// shared: other processes know of the fault, and one of all probes.
	shared   bool
	refusals int
	// since is when the relay began to fail.
	since time.Time
	last  delivery.RelayError
}

// failure says in what way a relay failed.
type failure struct {
	// inTransaction: a connection alone does not show that the relay works again.
	inTransaction bool
	// mail is the refused MAIL command; nil if it was not MAIL.
	mail *delivery.MailCommand
	// perhaps: it may have been about the mails alone that were refused. Mail that the relay
	// has not refused yet need not wait.
	perhaps bool
	// again: the relay had refused this mail before, and has taken other mail since.
	again bool
	// turnedAway: the relay did not greet, or refused the connection by 421.
	turnedAway bool
	// probe: the caller was the one to find out, fresh: and was let through with mail that had
	// not been refused.
	probe, fresh bool
}

// down returns why the relay is not tried now; nil if it is. fresh: the relay has not refused
// this mail yet. While the fault is doubtful, each call that blocks such mail takes the next
// time to try again (freshNext). So one comes after the other.
func (b *breaker) down(now time.Time, fresh bool) *delivery.RelayError {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blocked(now, fresh)
}

func (b *breaker) blocked(now time.Time, fresh bool) *delivery.RelayError {
	fresh = fresh && b.doubtful
	at := b.until
	if fresh {
		at = b.freshAt
	}
	if b.failures == 0 || (!now.Before(at) && !b.probing) {
		return nil
	}
	e := b.last
	e.RetryAfter = max(at.Sub(now), time.Second)
	switch {
	case fresh:
		b.freshNext = b.freshNext.Add(freshEvery)
		if first := now.Add(freshWait); b.freshNext.Before(first) {
			b.freshNext = first
		}
		e.RetryAfter = max(e.RetryAfter, min(b.freshNext.Sub(now), lastBackoff))
	case b.probing:
		e.RetryAfter = max(at.Sub(now), firstBackoff)
	}
	e.Err = fmt.Errorf("%w (not tried before %s)", b.last.Err, now.Add(e.RetryAfter).UTC().Format(time.TimeOnly))
	return &e
}

// admit lets a caller through; probe says that it is the one who finds out.
func (b *breaker) admit(now time.Time, fresh bool) (probe bool, down *delivery.RelayError) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.blocked(now, fresh); e != nil {
		return false, e
	}
	b.probing = b.failures > 0
	return b.probing, nil
}

// releaseProbe ends a probe that found nothing out.
func (b *breaker) releaseProbe() {
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
	b.failures, b.probing, b.inTransaction, b.mail, b.shared = 0, false, false, nil, false
	b.doubtful, b.freshAt, b.freshNext, b.freshRefused = false, time.Time{}, time.Time{}, 0
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

// refused notes a refusal that may be about one mail only. It reports whether the relay is
// down for it, and how long it is left alone. A refusal of mail that the relay has refused before,
// and has taken other mail since, shows nothing new: it does not count while the relay is up.
func (b *breaker) refused(now time.Time, e *delivery.RelayError, how failure) (wait time.Duration, down bool) {
	b.mu.Lock()
	if !how.again {
		b.refusals++
	}
	few := b.failures == 0 && (how.again || b.refusals < refusalsInARow)
	b.mu.Unlock()
	if few {
		return 0, false
	}
	return b.failed(now, e, how)
}

// failed notes that the relay cannot be reached, or does not take mail. Transactions that were
// under way when it failed count as one failure: first is false for the later ones, which other
// processes need not know of.
func (b *breaker) failed(now time.Time, e *delivery.RelayError, how failure) (wait time.Duration, first bool) {
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
	b.inTransaction, b.mail, b.turnedAway = how.inTransaction, how.mail, how.turnedAway
	was := b.doubtful
	b.doubtful = how.perhaps
	switch {
	case !how.perhaps:
		b.freshAt, b.freshRefused = time.Time{}, 0
	case how.fresh && was: // the others' wait is their own
		if n := b.freshRefused - freshAtOnce; n >= 0 {
			wait = min(freshPause<<min(n, 10), longestPause)
		}
		b.freshRefused++
		b.freshAt = now.Add(wait)
		return wait, true
	}
	b.failures++
	wait = delivery.RelayBackoff(b.failures)
	b.until = now.Add(wait)
	return wait, true
}

// refusedMail is the MAIL command that the relay refused, if that is why it is down.
func (b *breaker) refusedMail() (m delivery.MailCommand, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 || b.mail == nil {
		return delivery.MailCommand{}, false
	}
	return *b.mail, true
}

// adopt takes over what all processes know of the relay: the fault, or that it works again. It
// keeps a fault that only this process has met. It ends the backoff of a relay that did not greet
// this process, or refused its connection, and answers others. It reports whether the relay went
// down or came back for this process. byConnection: a connection is enough to show that the relay works.
func (b *breaker) adopt(now time.Time, relay email.Relay, st delivery.RelayState, byConnection bool) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.Failures == 0 {
		if b.failures > 0 && b.turnedAway && !b.shared && !b.probing { // the relay answers others
			b.failures, b.until = 1, now
		}
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
	b.failures, b.inTransaction, b.mail, b.shared = st.Failures, !byConnection, st.Mail, true
	b.doubtful = st.Mail != nil && smtp.MayBeOfOneSender(st.Mail.From, st.Reply)
	b.until = now.Add(st.RetryAfter)
	b.last = delivery.RelayError{Relay: relay, Reply: st.Reply, Err: causeOf(st)}
	return changed
}

// causeOf is why a relay fails, as the process said that met it. An older version says no cause
// beside a reply.
func causeOf(st delivery.RelayState) error {
	switch {
	case st.Cause != "":
		return errors.New(st.Cause)
	case st.Reply.Code == 0:
		return errors.New(st.Reply.Text)
	}
	return errors.New("it refused another worker")
}

// keepLocal makes a fault this process's own: it probes without asking the others.
func (b *breaker) keepLocal() {
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

// retryNow ends the backoff.
func (b *breaker) retryNow(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.After(now) {
		b.until = now
	}
}

// isProbed reports whether the relay is down, and a probe without an e-mail finds out when it works
// again, for all mail.
func (b *breaker) isProbed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures > 0 && !b.doubtful && (!b.inTransaction || b.mail != nil)
}

// isDoubtful reports whether what the relay refused may be about those mails alone.
func (b *breaker) isDoubtful() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.doubtful
}

// isReachable reports whether nothing is known against connections to the relay: what it refuses, it
// refuses in transactions.
func (b *breaker) isReachable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0 || b.inTransaction
}

// up reports whether nothing is known against the relay.
func (b *breaker) up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0
}
