package smtp

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// Bounds of how long a refusal that may be the relay's is held back.
const (
	// guardRecipients is how many recipients a relay refuses alike, with none accepted
	// between, before the refusals are its own; two suffice if their domains differ.
	guardRecipients = 3
	// guardAcceptances is how often the relay has to accept others between two refusals of
	// a recipient before the refusal is the recipient's own. One is not enough: a relay
	// that is mended and breaks again looks the same.
	guardAcceptances = 2
	// guardTries and guardFor are how often and how long a recipient is asked again of
	// whom nothing else is known, as where there is only one recipient at all.
	guardTries = 4
	guardFor   = time.Hour
	// guardEntries bounds what is remembered of one relay.
	guardEntries = 10_000
)

// guardWaits are the waits between the tries of a recipient who is held back.
var guardWaits = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}

// guard holds back the refusals of recipients that a relay may mean for us: Postfix
// and others answer RCPT with what they hold against the client or its login. A refusal
// is the recipient's own if the relay accepts others guardAcceptances times between
// refusals of it. It is the relay's if the relay refuses several alike and accepts none.
//
// It belongs to one process, which forgets it when it ends: then a recipient who was
// held back is asked again as for the first time, so nothing is bounced too early.
type guard struct {
	mu sync.Mutex
	// accepted is when the relay last accepted a recipient, taken when it took a message.
	accepted, taken time.Time
	// refused are the recipients refused, each of one e-mail.
	refused map[guardKey]refusedRecipient
	// emails are those that have met a fault or a refusal that may be the relay's, and when.
	emails map[string]time.Time
	// row are the addresses refused with the reply that rowKey stands for since accepted.
	row    map[string]bool
	rowKey string
}

// guardKey is a recipient of one e-mail; without an address, it is the e-mail. What a relay
// said of an address in another e-mail, perhaps in another outage, does not count.
type guardKey struct{ emailID, address string }

type refusedRecipient struct {
	first, last time.Time
	tries       int
	// acceptances counts the refusals before which the relay had accepted others.
	acceptances int
}

// suspicion is how far a refusal may be about us.
type suspicion int

const (
	// suspicionNone: it says what is wrong with the recipient.
	suspicionNone suspicion = iota
	// suspicionCode: 5.7.x, which is about authorisation (RFC 3463 section 3.8), or a code
	// that says nothing, as 550 without an enhanced one.
	suspicionCode
	// suspicionWords: the very words that Postfix has for clients without a login.
	suspicionWords
)

// suspect judges a reply to RCPT that classify takes for a refusal of the recipient.
func suspect(accepts email.AcceptMeans, o email.Outcome) suspicion {
	if accepts != email.AcceptsRelay || o.Status != email.RecipientBounced || (o.Reason != email.DetailBlock && o.Reason != email.DetailOther) {
		return suspicionNone
	}
	words := plain(o.Text)
	switch {
	case saysByRecipient.in(words):
		return suspicionNone
	case saysAccess.in(words):
		return suspicionWords
	}
	return suspicionCode
}

// ruling is what the guard makes of a refusal.
type ruling struct {
	// final: the refusal stands. Else the recipient is asked again after wait.
	final bool
	wait  time.Duration
	// pattern: it is the relay. tripped: and this refusal was the one that showed it.
	pattern, tripped bool
	// recipients have been refused alike in a row.
	recipients int
	// accepts: the relay has accepted others since the recipient's first refusal.
	accepts bool
}

// accept notes that the relay accepted a recipient, and forgets its earlier refusals.
func (g *guard) accept(now time.Time, k guardKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepted = now
	clear(g.row)
	delete(g.refused, k)
}

// took notes that the relay took a message.
func (g *guard) took(now time.Time, emailID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken = now
	delete(g.refused, guardKey{emailID: emailID})
	delete(g.emails, emailID)
}

// met notes that an e-mail was refused for what may be a fault of the relay.
func (g *guard) met(now time.Time, emailID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.emails == nil {
		g.emails = map[string]time.Time{}
	}
	if _, known := g.emails[emailID]; !known && len(g.emails) >= guardEntries {
		maps.DeleteFunc(g.emails, func(_ string, last time.Time) bool { return now.Sub(last) > guardFor })
		if len(g.emails) >= guardEntries {
			return
		}
	}
	g.emails[emailID] = now
}

// fresh reports whether the relay has not refused an e-mail yet.
func (g *guard) fresh(emailID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, met := g.emails[emailID]
	return !met
}

// own notes that an e-mail, or one of its recipients, has met a fault of the relay. It
// reports whether the fault is its own: the relay has taken other mail between two such
// faults guardAcceptances times.
func (g *guard) own(now time.Time, k guardKey) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.refusedAgain(now, k, g.taken)
	g.remember(now, k, was)
	return was.acceptances >= guardAcceptances
}

// remembers reports whether the relay had a fault at a recipient of an e-mail, or refused it,
// and has not accepted it since.
func (g *guard) remembers(k guardKey) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.refused[k]
	return known
}

// refusedAgain counts a refusal. worked is when the relay last showed that it works.
func (g *guard) refusedAgain(now time.Time, k guardKey, worked time.Time) refusedRecipient {
	was, known := g.refused[k]
	if !known {
		was.first = now
	} else if worked.After(was.last) {
		was.acceptances++
	}
	was.last = now
	was.tries++
	return was
}

// judge rules on the refusal of a recipient.
func (g *guard) judge(now time.Time, k guardKey, r email.Reply, how suspicion) ruling {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := r.Enhanced
	if key == "" {
		key = strconv.Itoa(r.Code)
	}
	if key != g.rowKey || g.row == nil {
		g.row, g.rowKey = map[string]bool{}, key
	}
	before := g.isPattern()
	if len(g.row) < guardEntries {
		g.row[k.address] = true
	}
	rule := ruling{recipients: len(g.row), pattern: g.isPattern()}
	rule.tripped = rule.pattern && !before
	was := g.refusedAgain(now, k, g.accepted)
	rule.accepts = was.acceptances > 0
	switch {
	case rule.pattern:
	case was.acceptances >= guardAcceptances:
		rule.final = true
	case how == suspicionWords:
	case was.tries >= guardTries && now.Sub(was.first) >= guardFor:
		rule.final = true
	}
	if rule.final {
		delete(g.refused, k)
		return rule
	}
	rule.wait = guardWaits[min(was.tries, len(guardWaits))-1]
	if rule.pattern || how == suspicionWords {
		rule.wait = min(rule.wait, lastBackoff)
	}
	g.remember(now, k, was)
	return rule
}

// isPattern reports whether the recipients refused in a row have nothing in common.
func (g *guard) isPattern() bool {
	if len(g.row) >= guardRecipients {
		return true
	}
	domains := map[string]bool{}
	for a := range g.row {
		if domains[a[strings.LastIndexByte(a, '@')+1:]] = true; len(domains) > 1 {
			return true
		}
	}
	return false
}

// remember keeps a recipient's refusal. Where there is no room those go that have not
// been asked again for long, or this one is as new the next time.
func (g *guard) remember(now time.Time, k guardKey, was refusedRecipient) {
	if g.refused == nil {
		g.refused = map[guardKey]refusedRecipient{}
	}
	if _, known := g.refused[k]; !known && len(g.refused) >= guardEntries {
		maps.DeleteFunc(g.refused, func(_ guardKey, r refusedRecipient) bool { return now.Sub(r.last) > guardFor })
		if len(g.refused) >= guardEntries {
			return
		}
	}
	g.refused[k] = was
}

// held is how many recipients are held back now.
func (g *guard) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.row)
}
