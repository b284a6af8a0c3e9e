package relay

import (
	"fmt"
	"maps"
	"math/bits"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
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
	// guardTries and guardFor are how often and how long a recipient is asked again where
	// nothing else shows whose the refusal is. An e-mail to one recipient is such a case.
	guardTries = 4
	guardFor   = time.Hour
	// guardPermanent is for how long a permanent refusal that blames neither side has to last, over
	// guardTries tries, before it ends an e-mail: a relay with one dead node refuses at random.
	// A refusal in the words for clients without a login has to last over guardWordsTries.
	guardPermanent  = 10 * time.Minute
	guardWordsTries = 6
	// mailRefusedFor is how long a MAIL command that a relay refused stands for all e-mails
	// that say the same. It is longer than the longest backoff.
	mailRefusedFor = lastBackoff + time.Minute
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
	// emails are those that have met a fault or a refusal that may be the relay's.
	emails map[string]metFault
	// mails are the MAIL commands refused, and when.
	mails map[mailKey]time.Time
	// paths are those of them whose return path, one of our own, is refused while other mail is taken.
	paths map[mailKey]*refusedPath
	// streak are the addresses refused since accepted, all with the code streakKey.
	streak    map[string]bool
	streakKey string
}

// guardKey is a recipient of one e-mail; without an address, it is the e-mail; without an
// e-mail, the address is a mailKey. A reply about the same address in another e-mail, perhaps in
// another outage, does not count.
type guardKey struct{ emailID, address string }

// metFault is when an e-mail met a relay's fault, and at which MAIL command; nil if at another.
type metFault struct {
	at   time.Time
	mail *delivery.MailCommand
}

// mailKey stands for MAIL commands that a relay treats alike: those of one return-path whose
// sizes, in units of mailUnit, have the same power of two.
type mailKey string

// mailUnit is less than any limit of a relay's: what a header and an encoding add to a small
// message makes no difference.
const mailUnit = 4096

func keyOfMail(m delivery.MailCommand) mailKey {
	return mailKey(fmt.Sprintf("MAIL FROM:<%s> SIZE<%d*2^%d", delivery.LikeReturnPath(m.From), mailUnit, bits.Len64(uint64(max(m.Bytes, 0)/mailUnit))))
}

type refusedRecipient struct {
	first, last time.Time
	tries       int
	// acceptances counts the refusals before which the relay had accepted others.
	acceptances int
}

// ruling is what the guard makes of a refusal.
type ruling struct {
	smtp.Ruling
	// tripped: this refusal was the one that showed a pattern.
	tripped bool
	// recipients have been refused alike in a row.
	recipients int
}

// noteAccepted notes that the relay accepted a recipient, and forgets its earlier refusals.
func (g *guard) noteAccepted(now time.Time, k guardKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepted = now
	clear(g.streak)
	delete(g.refused, k)
}

// noteDelivered notes that the relay took a message.
func (g *guard) noteDelivered(now time.Time, emailID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken = now
	delete(g.refused, guardKey{emailID: emailID})
	delete(g.emails, emailID)
}

// noteFault notes that an e-mail was refused for what may be a fault of the relay; mail is nil
// where it was not the MAIL command that was refused. again: the relay had refused that e-mail
// before, and has taken other mail since.
func (g *guard) noteFault(now time.Time, emailID string, mail *delivery.MailCommand) (again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, met := g.emails[emailID]
	again = met && g.taken.After(before.at)
	if g.emails == nil {
		g.emails, g.mails = map[string]metFault{}, map[mailKey]time.Time{}
	}
	if emailID != "" && makeRoom(g.emails, emailID, func(f metFault) bool { return now.Sub(f.at) > guardFor }) {
		g.emails[emailID] = metFault{now, mail}
	}
	if mail == nil {
		return again
	}
	if k := keyOfMail(*mail); makeRoom(g.mails, k, func(last time.Time) bool { return now.Sub(last) > guardFor }) {
		g.mails[k] = now
	}
	return again
}

// fresh reports whether the relay has not refused an e-mail yet: where the MAIL command was
// refused, none like it for mailRefusedFor.
func (g *guard) fresh(now time.Time, emailID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	fault, met := g.emails[emailID]
	return !met || fault.mail != nil && !g.refusedOfLate(now, keyOfMail(*fault.mail))
}

// hasRefused reports whether an e-mail was refused for what may be a fault of the relay, and not
// taken since.
func (g *guard) hasRefused(emailID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, met := g.emails[emailID]
	return met
}

// mailOf is the MAIL command of an e-mail that the relay refused; nil if it did not.
func (g *guard) mailOf(emailID string) *delivery.MailCommand {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.emails[emailID].mail
}

func (g *guard) refusedOfLate(now time.Time, m mailKey) bool {
	last, refused := g.mails[m]
	return refused && now.Sub(last) < mailRefusedFor
}

// refusesMail reports whether the relay refused such a MAIL command less than mailRefusedFor ago.
func (g *guard) refusesMail(now time.Time, m delivery.MailCommand) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refusedOfLate(now, keyOfMail(m))
}

// tookMail notes that the relay took a MAIL command, and forgets that it refused such.
func (g *guard) tookMail(m delivery.MailCommand) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := keyOfMail(m)
	delete(g.mails, k)
	delete(g.paths, k)
	delete(g.refused, guardKey{address: string(k)})
}

// isOwnFault notes that an e-mail, one of its recipients or a MAIL command has met a fault of the
// relay. It reports whether the fault is its own: the relay has taken other mail between two
// such faults guardAcceptances times. One that would end the e-mail (permanent) has to last,
// besides: see guardPermanent.
func (g *guard) isOwnFault(now time.Time, k guardKey, permanent bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.refusedAgain(now, k, g.taken)
	g.remember(now, k, was)
	lasts := was.tries >= guardTries && now.Sub(was.first) >= guardPermanent
	return was.acceptances >= guardAcceptances && (!permanent || lasts)
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
func (g *guard) judge(now time.Time, k guardKey, r email.Reply, how smtp.Suspicion) ruling {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := r.Enhanced
	if key == "" {
		key = strconv.Itoa(r.Code)
	}
	if key != g.streakKey || g.streak == nil {
		g.streak, g.streakKey = map[string]bool{}, key
	}
	before := g.isPattern()
	if len(g.streak) < guardEntries {
		g.streak[k.address] = true
	}
	rule := ruling{recipients: len(g.streak), Ruling: smtp.Ruling{Pattern: g.isPattern()}}
	rule.tripped = rule.Pattern && !before
	was := g.refusedAgain(now, k, g.accepted)
	rule.Accepts = was.acceptances > 0
	switch {
	case rule.Pattern:
	case was.acceptances >= guardAcceptances:
		lasts := was.tries >= guardWordsTries && now.Sub(was.first) >= guardPermanent
		rule.Final = how != smtp.SuspicionWords || lasts
	case how == smtp.SuspicionWords:
	case was.tries >= guardTries && now.Sub(was.first) >= guardFor:
		rule.Final = true
	}
	if rule.Final {
		delete(g.refused, k)
		return rule
	}
	rule.Wait = guardWaits[min(was.tries, len(guardWaits))-1]
	if rule.Pattern || how == smtp.SuspicionWords {
		rule.Wait = min(rule.Wait, lastBackoff)
	}
	g.remember(now, k, was)
	return rule
}

// isPattern reports whether the recipients refused in a row have nothing in common.
func (g *guard) isPattern() bool {
	if len(g.streak) >= guardRecipients {
		return true
	}
	domains := map[string]bool{}
	for a := range g.streak {
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
	if makeRoom(g.refused, k, func(r refusedRecipient) bool { return now.Sub(r.last) > guardFor }) {
		g.refused[k] = was
	}
}

// makeRoom reports whether a map may hold what k stands for: it does already, or has fewer than
// guardEntries once the old ones are gone.
func makeRoom[K comparable, V any](m map[K]V, k K, old func(V) bool) bool {
	if _, known := m[k]; known || len(m) < guardEntries {
		return true
	}
	maps.DeleteFunc(m, func(_ K, v V) bool { return old(v) })
	return len(m) < guardEntries
}

// streakLength is how many recipients in a row the relay has refused alike.
func (g *guard) streakLength() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.streak)
}
