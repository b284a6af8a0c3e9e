package smtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// putOff are temporary refusals of MAIL that do not name the sender.
var putOff = []string{
	"451 4.7.1 Service unavailable - try again later", "452 Space shortage, please try later", "450", "451 4.7.1 try again later", "454 4.7.0 not now", "452 4.4.5 Insufficient disk space; try again later",
}

// TestATemporaryRefusalOfMAILIsTheRelays: the recipients are as they were, and the next
// relay gets the mail.
func TestATemporaryRefusalOfMAILIsTheRelays(t *testing.T) {
	t.Parallel()
	for _, answer := range putOff {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var broken atomic.Bool
			broken.Store(true)
			first := (&smtptest.Peer{Answer: func(line string) string {
				if broken.Load() && strings.HasPrefix(line, "MAIL") {
					return answer
				}
				return ""
			}}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			rs := relays(t, smtp.Options{Now: c.now}, url(first, "name=first"), url(second, "name=second"))
			ex := send(t, rs, envelope("a@y.test", "b@z.test"), noMark)
			require.True(t, ex.RelayFault)
			for _, o := range ex.Outcomes {
				requireHeld(t, o)
				require.Empty(t, o.Reason)
				require.True(t, o.Elsewhere)
			}
			send(t, rs, envelope("a@y.test", "b@z.test"), noMark)
			require.Len(t, second.Messages(), 1)

			// Alone, it is probed with MAIL, less and less often.
			alone := relays(t, smtp.Options{Now: c.now}, url(first, "name=first"))
			require.True(t, send(t, alone, envelope("a@y.test"), noMark).RelayFault)
			for _, wait := range []time.Duration{20 * time.Second, 40 * time.Second} {
				c.move(wait)
				_, err := alone.Session(t.Context(), email.Route{})
				require.ErrorContains(t, err, "refused")
				require.Equal(t, wait, alone.Down(email.Route{}).RetryAfter)
			}
			broken.Store(false)
			c.move(time.Minute)
			require.Equal(t, email.RecipientDelivered, send(t, alone, envelope("a@y.test"), noMark).Outcomes[0].Status)
		})
	}
}

// mailbag are e-mails that wait, by their ids: what a relay is asked with.
type mailbag struct {
	mu    sync.Mutex
	sends map[string]email.Envelope
	bytes map[string]int
	// accepted are the sizes that are known before a message is made, where they differ.
	accepted map[string]int
	clock    *clock
	relays   *smtp.Relays
}

func newMailbag(t *testing.T, p *smtptest.Peer) *mailbag {
	t.Helper()
	m := &mailbag{sends: map[string]email.Envelope{}, bytes: map[string]int{}, clock: newClock()}
	m.relays = relays(t, smtp.Options{Now: m.clock.now, MailOf: m.mailOf}, url(p, "name=primary"))
	return m
}

func (m *mailbag) mailOf(_ context.Context, route email.Route) (string, email.MailCommand, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size, ok := m.accepted[route.For]
	if !ok {
		size = m.bytes[route.For]
	}
	return route.For, email.MailCommand{From: m.sends[route.For].From, Bytes: int64(size)}, nil
}

// mail is one more e-mail, of about so many bytes.
func (m *mailbag) mail(from string, bytes int) (id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id = fmt.Sprintf("%d of %s", len(m.sends), from)
	env := to(id, "a@y.test")
	env.From = from
	m.sends[id], m.bytes[id] = env, bytes
	return id
}

// send tries an e-mail; false if the relay is not there for it.
func (m *mailbag) send(t *testing.T, id string) (email.Outcome, bool) {
	t.Helper()
	s, err := m.relays.Session(t.Context(), email.Route{For: id})
	if err != nil {
		_, ok := errors.AsType[*email.RelayError](err)
		require.True(t, ok, "%v", err)
		return email.Outcome{}, false
	}
	defer s.Close()
	return s.Send(t.Context(), m.sends[id], bytes.Repeat([]byte("0123456789abcd\r\n"), (m.bytes[id]+15)/16), noMark).Outcomes[0], true
}

// TestASenderWhomTheRelayPutsOffHoldsBackNobody, in whatever words. That others' mail goes, twice
// between refusals, shows that the refusals are the sender's.
func TestASenderWhomTheRelayPutsOffHoldsBackNobody(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"451 4.7.1 try again later", "451 4.7.1 Service unavailable - try again later", "451 4.3.0 queue file write error", "452 4.3.1 Insufficient system storage",
		"451 space shortage, please try later", "421 4.3.2 closing", smtptest.Drop,
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			// The empty return-path is put off, too: it shows nothing.
			p := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL FROM:<odd@": answer, "MAIL FROM:<>": answer})}).Start(t)
			m := newMailbag(t, p)
			odd := m.mail("odd@x.test", 100)
			var outcomes []email.Outcome
			for range 5 {
				if o, ok := m.send(t, odd); ok {
					outcomes = append(outcomes, o)
				}
				for range 3 {
					m.clock.move(time.Second)
					o, ok := m.send(t, m.mail("good@x.test", 100))
					require.True(t, ok, "others do not wait")
					require.Equal(t, email.RecipientDelivered, o.Status)
				}
				require.Equal(t, map[string]bool{"primary": true}, m.relays.Up())
				m.clock.move(10 * time.Minute)
			}
			require.Len(t, outcomes, 5)
			for _, o := range outcomes[:2] {
				requireHeld(t, o)
			}
			for _, o := range outcomes[2:] {
				require.Equal(t, email.RecipientDeferred, o.Status)
				require.False(t, o.RelayFault || o.Uncounted, "%+v", o)
			}
		})
	}
}

// TestATemporaryRefusalOfMAILThatNamesTheSender is the sender's at once.
func TestATemporaryRefusalOfMAILThatNamesTheSender(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"450 4.1.8 Domain not found", "450 <odd@x.test>: Sender address rejected: Domain not found"} {
		p := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL FROM:<odd@": answer})}).Start(t)
		m := newMailbag(t, p)
		o, ok := m.send(t, m.mail("odd@x.test", 100))
		require.True(t, ok)
		require.Equal(t, email.RecipientDeferred, o.Status)
		require.Equal(t, email.DetailSenderRejected, o.Reason)
		require.False(t, o.RelayFault || o.Uncounted, "%+v", o)
	}
}

// TestASizeThatTheRelayPutsOffHoldsBackNothingSmaller.
func TestASizeThatTheRelayPutsOffHoldsBackNothingSmaller(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	p := (&smtptest.Peer{Extensions: []string{"SIZE 1000000"}, Answer: func(line string) string {
		_, size, _ := strings.Cut(line, " SIZE=")
		if n, err := strconv.Atoi(strings.Fields(size + " 0")[0]); strings.HasPrefix(line, "MAIL") && err == nil && n > limit {
			return "452 4.3.1 Insufficient system storage"
		}
		return ""
	}}).Start(t)
	m := newMailbag(t, p)
	large := m.mail("shop@x.test", 3*limit)
	opened := 0
	for range 60 { // alone, for ten minutes
		if o, ok := m.send(t, large); ok {
			requireHeld(t, o)
			opened++
		}
		m.clock.move(10 * time.Second)
	}
	require.Equal(t, 1, opened, "no attempt is opened while the relay refuses its size")
	require.False(t, m.relays.Up()["primary"])
	for n := range 3 {
		o, ok := m.send(t, m.mail("shop@x.test", limit/10))
		require.True(t, ok, "a small one does not wait")
		require.Equal(t, email.RecipientDelivered, o.Status)
		m.clock.move(time.Minute)
		o, ok = m.send(t, large)
		require.True(t, ok, "the relay is up")
		require.Equal(t, email.RecipientDeferred, o.Status)
		require.Equal(t, n < 1, o.RelayFault, "small ones were taken between")
		m.clock.move(time.Minute)
	}
}

// TestSendersWhomTheRelayStillPutsOffAfterAnOutage do not keep the relay down for the others.
func TestSendersWhomTheRelayStillPutsOffAfterAnOutage(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL") && (!works.Load() || strings.Contains(line, "odd")) {
			return "451 4.7.1 try again later"
		}
		return ""
	}}).Start(t)
	m := newMailbag(t, p)
	var odd []string
	for n := range 20 {
		odd = append(odd, m.mail(fmt.Sprintf("odd%d@x.test", n%3), 100))
	}
	good := m.mail("good@x.test", 100)
	waits := append(slices.Clone(odd), good)
	for range 200 { // ten minutes of an outage
		for _, id := range waits {
			if o, ok := m.send(t, id); ok {
				requireHeld(t, o)
			}
		}
		m.clock.move(3 * time.Second)
	}
	works.Store(true)
	delivered := false
	for n := 0; n < 200 && !delivered; n++ {
		for _, id := range waits {
			if o, ok := m.send(t, id); ok && id == good {
				require.Equal(t, email.RecipientDelivered, o.Status)
				delivered = true
			}
		}
		m.clock.move(3 * time.Second)
	}
	require.True(t, delivered, "within ten minutes")
}

// TestARelayThatTakesNoMAILOfAnybodyIsAskedLessAndLess, however many senders wait.
func TestARelayThatTakesNoMAILOfAnybodyIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL") {
			asked.Add(1)
			return "452 4.3.1 Insufficient system storage"
		}
		return ""
	}}).Start(t)
	m := newMailbag(t, p)
	var waits []string
	for n := range 6 {
		waits = append(waits, m.mail(fmt.Sprintf("s%d@x.test", n%2), 100))
	}
	opened := 0
	for range 3600 {
		for _, id := range waits {
			if o, ok := m.send(t, id); ok {
				requireHeld(t, o)
				opened++
			}
		}
		m.clock.move(time.Second)
	}
	require.Equal(t, 1, opened, "the first is evidence, then only the relay is asked")
	require.Less(t, asked.Load(), int64(40), "for an hour")
	require.Greater(t, asked.Load(), int64(12))
	require.Equal(t, map[string]bool{"primary": false}, m.relays.Up())
}

// TestARelayThatSaysInWordsThatItHasAFault at DATA or the final dot gives the mail back, as
// with 4.3.x.
func TestARelayThatSaysInWordsThatItHasAFault(t *testing.T) {
	t.Parallel()
	for where, answer := range map[string]string{"RCPT": "452 space shortage", "DATA": "452 Insufficient system storage", ".": "451 4.7.1 Service unavailable - try again later"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			first := (&smtptest.Peer{Answer: answers(map[string]string{where: answer})}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			rs := relays(t, smtp.Options{}, url(first, "name=first"), url(second, "name=second"))
			o := send(t, rs, envelope("a@y.test"), noMark).Outcomes[0]
			requireHeld(t, o)
			require.True(t, o.Elsewhere)
		})
	}
}

// TestASenderWhomAllRelaysPutOffIsDeferred, though each says that it is out of service, and the
// other may be down: an e-mail is not handed to and fro without end.
func TestASenderWhomAllRelaysPutOffIsDeferred(t *testing.T) {
	t.Parallel()
	for _, secondWorks := range []bool{true, false} {
		var works atomic.Bool
		works.Store(secondWorks)
		odd := "451 4.7.1 Service unavailable - try again later"
		first := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL FROM:<odd@": odd})}).Start(t)
		second := (&smtptest.Peer{Answer: func(line string) string {
			if strings.HasPrefix(line, "MAIL FROM:<odd@") || strings.HasPrefix(line, "MAIL") && !works.Load() {
				return odd
			}
			return ""
		}}).Start(t)
		m := newMailbag(t, first)
		m.relays = relays(t, smtp.Options{Now: m.clock.now, MailOf: m.mailOf}, url(first, "name=first"), url(second, "name=second"))
		id := m.mail("odd@x.test", 100)
		deferred, attempts, avoid := 0, 0, ""
		for range 200 {
			s, err := m.relays.Session(t.Context(), email.Route{For: id, Avoid: avoid})
			if err == nil {
				attempts++
				o := s.Send(t.Context(), m.sends[id], []byte("\r\n"), noMark).Outcomes[0]
				avoid = ""
				if o.RelayFault {
					avoid = s.Relay().Name
				} else {
					require.False(t, o.Uncounted)
					deferred++
				}
				s.Close()
			}
			m.clock.move(time.Second)
			for _, relay := range []string{"first", "second"} { // others keep both busy
				good := m.mail("good@x.test", 100)
				s, err := m.relays.Session(t.Context(), email.Route{For: good, Relay: relay})
				if err == nil {
					s.Send(t.Context(), m.sends[good], []byte("\r\n"), noMark)
					s.Close()
				}
			}
			m.clock.move(time.Minute)
		}
		require.Greater(t, deferred, 50, "second works: %v, of %d attempts", secondWorks, attempts)
	}
}

// sayNothing are permanent refusals of MAIL that do not say of whom.
var sayNothing = []string{"550 5.5.0 Service unavailable", "550 5.7.1 Command rejected", "554 5.7.1 Denied by policy", "550 Service unavailable", "550"}

// TestAPermanentRefusalOfEverybodysMAILIsTheRelays, as of a Postfix whose milter is away and that
// is told to reject then: nobody's mail ends, and the next relay gets it.
func TestAPermanentRefusalOfEverybodysMAILIsTheRelays(t *testing.T) {
	t.Parallel()
	for _, answer := range sayNothing {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			first := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL": answer})}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			both := relays(t, smtp.Options{}, url(first, "name=first"), url(second, "name=second"))
			o := send(t, both, envelope("a@y.test"), noMark).Outcomes[0]
			requireHeld(t, o)
			require.True(t, o.Elsewhere)
			require.Equal(t, email.RecipientDelivered, send(t, both, envelope("a@y.test"), noMark).Outcomes[0].Status)

			m := newMailbag(t, first)
			opened := 0
			var waits []string
			for n := range 4 {
				waits = append(waits, m.mail(fmt.Sprintf("s%d@x.test", n), 100))
			}
			for range 60 {
				for _, id := range waits {
					if o, ok := m.send(t, id); ok {
						requireHeld(t, o)
						opened++
					}
				}
				m.clock.move(time.Minute)
			}
			require.Equal(t, 1, opened)
		})
	}
}

// TestAPermanentRefusalOfOneSendersMAILEndsItsMail once others were taken for ten minutes; at once
// where the reply names the sender.
func TestAPermanentRefusalOfOneSendersMAILEndsItsMail(t *testing.T) {
	t.Parallel()
	for answer, tries := range map[string]int{
		sayNothing[0]: 6, sayNothing[1]: 6, sayNothing[2]: 6, sayNothing[3]: 6, sayNothing[4]: 6, // after ten minutes
		"553 5.7.1 <odd@x.test>: Sender address rejected: not owned by user u": 1, "550 banned": 1, "501 5.1.7 Bad sender address syntax": 1, "550 5.1.8 no such domain": 1,
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL FROM:<odd@": answer})}).Start(t)
			m := newMailbag(t, p)
			odd := m.mail("odd@x.test", 100)
			for n := 1; ; n++ {
				o, ok := m.send(t, odd)
				require.True(t, ok)
				if n == tries {
					require.Equal(t, email.RecipientFailed, o.Status)
					require.Equal(t, email.DetailSenderRejected, o.Reason)
					require.False(t, o.RelayFault || o.Uncounted)
					return
				}
				requireHeld(t, o)
				m.clock.move(time.Minute)
				good, ok := m.send(t, m.mail("good@x.test", 100))
				require.True(t, ok)
				require.Equal(t, email.RecipientDelivered, good.Status)
				m.clock.move(time.Minute)
			}
		})
	}
}

// TestAPermanentServiceUnavailableIsTheServersWherever it is said.
func TestAPermanentServiceUnavailableIsTheServersWhereverItIsSaid(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"RCPT", "DATA", "."} {
		rs := relays(t, smtp.Options{}, url((&smtptest.Peer{Answer: answers(map[string]string{where: "550 5.5.0 Service unavailable"})}).Start(t), "name=first"))
		requireHeld(t, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0])
	}
}

// TestAProbeNamesTheSizeOfTheWholeMessage, which encoding makes larger than what was accepted.
func TestAProbeNamesTheSizeOfTheWholeMessage(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	p := (&smtptest.Peer{Extensions: []string{"SIZE 1000000"}, Answer: func(line string) string {
		_, size, _ := strings.Cut(line, " SIZE=")
		if n, err := strconv.Atoi(strings.Fields(size + " 0")[0]); strings.HasPrefix(line, "MAIL") && err == nil && n > limit {
			return "452 4.3.1 Insufficient system storage"
		}
		return ""
	}}).Start(t)
	m := newMailbag(t, p)
	id := m.mail("shop@x.test", limit+1000)
	m.accepted = map[string]int{id: limit - 1000}
	opened := 0
	for range 60 {
		if _, ok := m.send(t, id); ok {
			opened++
		}
		m.clock.move(10 * time.Second)
	}
	require.Equal(t, 1, opened)
}

// TestARelayThatRefusedMAILAndWasAwayIsAskedWithMAIL: that it can be reached again says nothing.
func TestARelayThatRefusedMAILAndWasAwayIsAskedWithMAIL(t *testing.T) {
	t.Parallel()
	var greets atomic.Bool
	greets.Store(true)
	p := (&smtptest.Peer{Answer: func(line string) string {
		switch {
		case strings.HasPrefix(line, "EHLO") && !greets.Load():
			return smtptest.Drop
		case strings.HasPrefix(line, "MAIL"):
			return "550 5.7.1 Command rejected"
		}
		return ""
	}}).Start(t)
	m := newMailbag(t, p)
	id := m.mail("a@x.test", 100)
	o, ok := m.send(t, id)
	require.True(t, ok)
	requireHeld(t, o)
	for n := range 20 {
		greets.Store(n%2 == 0)
		m.clock.move(10 * time.Minute)
		_, ok := m.send(t, id)
		require.False(t, ok, "no attempt is opened")
		require.Equal(t, map[string]bool{"primary": false}, m.relays.Up())
	}
}

// TestARelayOfWhichOneNodeRefusesEndsNobodysMail: what it refuses at random goes at another try.
func TestARelayOfWhichOneNodeRefusesEndsNobodysMail(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"MAIL", "DATA"} {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(1, 2))
		p := (&smtptest.Peer{Answer: func(line string) string {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(line, where) && random.IntN(10) < 4 {
				return "550 5.5.0 Service unavailable"
			}
			return ""
		}}).Start(t)
		m := newMailbag(t, p)
		var waits []string
		for n := range 150 {
			waits = append(waits, m.mail(fmt.Sprintf("s%d@x.test", n%3), 100))
		}
		for n := 0; n < 10_000 && len(waits) > 0; n++ {
			id := waits[0]
			waits = waits[1:]
			o, ok := m.send(t, id)
			if ok && o.Status == email.RecipientDelivered {
				continue
			}
			if ok && o.RelayFault {
				requireHeld(t, o)
			}
			require.NotEqual(t, email.RecipientFailed, o.Status, "at %s", where)
			require.NotEqual(t, email.RecipientBounced, o.Status, "at %s", where)
			waits = append(waits, id)
			m.clock.move(time.Second)
		}
		require.Empty(t, waits, "all went, at %s", where)
	}
}

// TestARefusalOfDATAForEverybodyIsTheRelays: nothing was said of the message yet.
func TestARefusalOfDATAForEverybodyIsTheRelays(t *testing.T) {
	t.Parallel()
	const answer = "554 5.7.1 <DATA>: Data command rejected: Access denied"
	first := (&smtptest.Peer{Answer: answers(map[string]string{"DATA": answer})}).Start(t)
	second := (&smtptest.Peer{}).Start(t)
	both := relays(t, smtp.Options{}, url(first, "name=first"), url(second, "name=second"))
	o := send(t, both, envelope("a@y.test"), noMark).Outcomes[0]
	requireHeld(t, o)
	require.True(t, o.Elsewhere)
	m := newMailbag(t, first)
	for n := range 20 {
		if o, ok := m.send(t, m.mail(fmt.Sprintf("s%d@x.test", n), 100)); ok {
			requireHeld(t, o)
		}
		m.clock.move(time.Minute)
	}
}
