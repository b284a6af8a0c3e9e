package relay

import (
	"sync"
	"time"

	"github.com/postrider/postrider/internal/smtp"
)

// How long a relay's limit of recipients is believed. A limit in the relay's words holds longer
// than one that is guessed from a closed connection.
const (
	saidLimitFor    = time.Hour
	guessedLimitFor = 10 * time.Minute
)

// provedLimitTries is after how many transactions that filled a proved limit, and went well,
// a larger one is tried. A limit that is not proved is doubled after each.
const provedLimitTries = 8

// rcptLimit remembers how many recipients a relay takes in a transaction, and on a
// connection, so that the next mails name no more. It belongs to one process.
type rcptLimit struct {
	mu sync.Mutex
	// stated is the limit of a transaction in the relay's words; 0 until statedUntil means none.
	stated      int
	statedUntil time.Time
	// transaction and session are limits that closed connections let us guess.
	transaction, session limitGuess
	// closed counts the rounds in a row in which the relay ended transactions at RCPT. A round lasts
	// until closedUntil: the mails that it meets at once count as one, and wait equally long.
	closed      int
	closedUntil time.Time
}

// limitGuess is a limit of recipients concluded from a connection that the relay closed at
// RCPT. The recipient named there may be the reason instead, so the guess begins at half of
// what was to be named. A second recipient after the same number proves that number. A
// transaction that takes more refutes it.
type limitGuess struct {
	// limit holds until a time; the zero time means that there is none.
	limit int
	until time.Time
	// at is how many recipients had been accepted when the relay closed the connection.
	at int
	// proved: it did so at two recipients after that number.
	proved bool
	// filled counts the transactions that had as many recipients as the limit and went well.
	filled int
}

// closed notes that the relay closed the connection after n recipients, of wanted that were
// to be named. It had refused others for good, which count as named: it may have closed
// because of these, so then nothing is proved. It reports whether that proves the limit n.
func (g *limitGuess) closed(now time.Time, n, refused, wanted int) bool {
	proved := false
	if now.Before(g.until) {
		wanted = min(wanted, g.limit)
		proved = n == g.at && refused == 0
	}
	limit := max(n+refused, wanted/2)
	if proved {
		limit = n
	}
	*g = limitGuess{limit: limit, until: now.Add(guessedLimitFor), at: n, proved: proved}
	return proved
}

// delivered notes that the relay took a message for n recipients.
func (g *limitGuess) delivered(now time.Time, n int) {
	switch {
	case !now.Before(g.until):
	case n > g.at:
		*g = limitGuess{}
	case n >= g.limit:
		if g.filled++; !g.proved || g.filled >= provedLimitTries {
			g.limit, g.filled = 2*g.limit, 0
		}
	}
}

// perTransaction is how many recipients a transaction may have; 0 means that no limit is
// known. said: the relay said so itself.
func (l *rcptLimit) perTransaction(now time.Time) (limit int, said bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.statedUntil) {
		limit, said = l.stated, true
	}
	if now.Before(l.transaction.until) && (limit == 0 || l.transaction.limit < limit) {
		return l.transaction.limit, false
	}
	return limit, said
}

// perSession is how many recipients a connection may have over all its transactions; 0
// means that no limit is known.
func (l *rcptLimit) perSession(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.session.until) {
		return l.session.limit
	}
	return 0
}

// noteStatedLimit notes that the relay refused a recipient as one too many, n having been accepted.
func (l *rcptLimit) noteStatedLimit(now time.Time, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stated, l.statedUntil = max(1, n), now.Add(saidLimitFor)
}

// closedAt notes that the relay closed the connection at RCPT; again: it has failed at this
// recipient before, and has not accepted it since. It answers how long those wait who had no
// part in it, longer with each time in a row, and the cause.
func (l *rcptLimit) closedAt(now time.Time, c smtp.RcptClose, again bool) (wait time.Duration, cause smtp.CloseCause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	earlier := c.OnConnection - c.Accepted
	switch {
	case again: // at another place it is that recipient's, and no limit
		if c.Accepted != l.transaction.at {
			l.transaction = limitGuess{}
		}
		if c.OnConnection != l.session.at {
			l.session = limitGuess{}
		}
	case !c.Said421 && l.closed == 0: // the recipient may be the reason: the first time is no limit yet
	case c.Refused > c.Accepted: // it closes for the number of its refusals: that is no limit
	case earlier > 0 && (c.Accepted != l.transaction.at || !now.Before(l.transaction.until)):
		l.session.closed(now, c.OnConnection, c.Refused, earlier+c.Wanted)
		cause = smtp.CauseConnection
	case c.Accepted > 0 && l.transaction.closed(now, c.Accepted, c.Refused, c.Wanted):
		cause = smtp.CauseTransaction
	}
	if l.closed == 0 || !now.Before(l.closedUntil) {
		l.closed++
		l.closedUntil = now.Add(l.closedWait())
	}
	return l.closedWait(), cause
}

// closedWait is how long the mails of the round under way wait.
func (l *rcptLimit) closedWait() time.Duration {
	return min(firstBackoff<<min(l.closed-1, 10), lastBackoff)
}

// delivered notes that the relay took a message for n recipients, on a connection on which
// it has accepted session. closing: it closes that connection, at one recipient more.
func (l *rcptLimit) delivered(now time.Time, n, session int, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = 0
	if closing {
		return
	}
	l.transaction.delivered(now, n)
	if session > l.session.at {
		l.session = limitGuess{}
	}
}
