package smtp

import (
	"sync"
	"time"
)

// How long a relay's limit of recipients is believed. What it said in words holds
// longer than what a closed connection let us guess.
const (
	saidLimitFor    = time.Hour
	guessedLimitFor = 10 * time.Minute
)

// rcptLimit remembers how many recipients a relay takes in a transaction, and on a
// connection, so that the next mails name no more. It belongs to one process.
type rcptLimit struct {
	mu sync.Mutex
	// transaction and session are the limits; 0 until their times means none.
	transaction, session           int
	transactionUntil, sessionUntil time.Time
	// closed counts the transactions in a row that the relay ended at RCPT.
	closed int
}

// perTransaction is how many recipients a transaction may have; 0 means that no limit is
// known.
func (l *rcptLimit) perTransaction(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.transactionUntil) {
		return l.transaction
	}
	return 0
}

// perSession is how many recipients a connection may have over all its transactions; 0
// means that no limit is known.
func (l *rcptLimit) perSession(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.sessionUntil) {
		return l.session
	}
	return 0
}

// said notes that the relay refused a recipient as one too many, n having been accepted.
func (l *rcptLimit) said(now time.Time, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transaction, l.transactionUntil = max(1, n), now.Add(saidLimitFor)
}

// cut notes that the relay closed the connection at RCPT, n recipients having been
// accepted in the transaction and session of them on the connection. It answers how
// long those wait who had no part in it: longer with each time in a row. Without a
// 421 the recipient may be the reason, so a first time is no limit yet.
func (l *rcptLimit) cut(now time.Time, n, session int, said421 bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	limited := said421 || l.closed > 0
	if n > 0 && limited && (now.After(l.transactionUntil) || n < l.transaction) {
		l.transaction, l.transactionUntil = n, now.Add(guessedLimitFor)
	}
	if session > 0 && limited {
		l.session, l.sessionUntil = session, now.Add(guessedLimitFor)
	}
	wait := min(relayWait<<min(l.closed, 10), lastBackoff)
	l.closed++
	return wait
}

// delivered notes that the relay took a message.
func (l *rcptLimit) delivered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = 0
}
