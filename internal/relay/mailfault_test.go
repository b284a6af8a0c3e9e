package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
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
			rs := relays(t, relay.Options{Now: c.now}, url(first, "name=first"), url(second, "name=second"))
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
			alone := relays(t, relay.Options{Now: c.now}, url(first, "name=first"))
			require.True(t, send(t, alone, envelope("a@y.test"), noMark).RelayFault)
			for _, wait := range []time.Duration{20 * time.Second, 40 * time.Second} {
				c.move(wait)
				_, err := alone.Session(t.Context(), delivery.Route{})
				require.ErrorContains(t, err, "refused")
				require.Equal(t, wait, alone.Down(delivery.Route{}).RetryAfter)
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
	sends map[string]delivery.Envelope
	bytes map[string]int
	// accepted are the sizes that are known before a message is made, where they differ.
	accepted map[string]int
	clock    *clock
	relays   *relay.Relays
}

func newMailbag(t *testing.T, p *smtptest.Peer) *mailbag {
	t.Helper()
	m := &mailbag{sends: map[string]delivery.Envelope{}, bytes: map[string]int{}, clock: newClock()}
	m.relays = relays(t, relay.Options{Now: m.clock.now, MailOf: m.mailOf}, url(p, "name=primary"))
	return m
}

func (m *mailbag) mailOf(_ context.Context, route delivery.Route) (string, delivery.MailCommand, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size, ok := m.accepted[route.For]
	if !ok {
		size = m.bytes[route.For]
	}
	return route.For, delivery.MailCommand{From: m.sends[route.For].From, Bytes: int64(size)}, nil
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
func (m *mailbag) send(t *testing.T, id string) (delivery.Outcome, bool) {
	t.Helper()
	s, err := m.relays.Session(t.Context(), delivery.Route{For: id})
	if err != nil {
		_, ok := errors.AsType[*delivery.RelayError](err)
		require.True(t, ok, "%v", err)
		return delivery.Outcome{}, false
	}
	defer s.Close()
	return s.Send(t.Context(), m.sends[id], bytes.Repeat([]byte("0123456789abcd\r\n"), (m.bytes[id]+15)/16), noMark).Outcomes[0], true
}

// TestASenderWhomTheRelayPutsOffHoldsBackNobody holds for any words. Mail of others that goes
// twice between refusals shows that the refusals are about the sender.
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
			var outcomes []delivery.Outcome
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

// fullFor is a relay that puts off messages of more than limit bytes.
func fullFor(t *testing.T, limit int) *smtptest.Peer {
	t.Helper()
	return (&smtptest.Peer{Extensions: []string{"SIZE 1000000"}, Answer: func(line string) string {
		_, size, _ := strings.Cut(line, " SIZE=")
		if n, err := strconv.Atoi(strings.Fields(size + " 0")[0]); strings.HasPrefix(line, "MAIL") && err == nil && n > limit {
			return "452 4.3.1 Insufficient system storage"
		}
		return ""
	}}).Start(t)
}

// TestASizeThatTheRelayPutsOffHoldsBackNothingSmaller.
func TestASizeThatTheRelayPutsOffHoldsBackNothingSmaller(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	p := fullFor(t, limit)
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
			rs := relays(t, relay.Options{}, url(first, "name=first"), url(second, "name=second"))
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
		m.relays = relays(t, relay.Options{Now: m.clock.now, MailOf: m.mailOf}, url(first, "name=first"), url(second, "name=second"))
		id := m.mail("odd@x.test", 100)
		deferred, attempts, avoid := 0, 0, ""
		for range 200 {
			s, err := m.relays.Session(t.Context(), delivery.Route{For: id, Avoid: avoid})
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
				s, err := m.relays.Session(t.Context(), delivery.Route{For: good, Relay: relay})
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
