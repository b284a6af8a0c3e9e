package relay_test

import (
	"fmt"
	"math/rand/v2"
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

// sayNothing are permanent refusals of MAIL that do not say of whom.
var sayNothing = []string{"550 5.5.0 Service unavailable", "550 5.7.1 Command rejected", "554 5.7.1 Denied by policy", "550 Service unavailable", "550"}

// TestAPermanentRefusalOfEverybodysMAILIsTheRelays: a Postfix may be set to reject mail while its
// milter is away. No mail ends, and the next relay gets it.
func TestAPermanentRefusalOfEverybodysMAILIsTheRelays(t *testing.T) {
	t.Parallel()
	for _, answer := range sayNothing {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			first := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL": answer})}).Start(t)
			second := (&smtptest.Peer{}).Start(t)
			both := relays(t, relay.Options{}, url(first, "name=first"), url(second, "name=second"))
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
		rs := relays(t, relay.Options{}, url((&smtptest.Peer{Answer: answers(map[string]string{where: "550 5.5.0 Service unavailable"})}).Start(t), "name=first"))
		requireHeld(t, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0])
	}
}

// TestAProbeNamesTheSizeOfTheWholeMessage, which encoding makes larger than what was accepted.
func TestAProbeNamesTheSizeOfTheWholeMessage(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	p := fullFor(t, limit)
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
	both := relays(t, relay.Options{}, url(first, "name=first"), url(second, "name=second"))
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

// TestAPermanentRefusalOfOneMailsDATABouncesIt: the relay takes other mail before and after, for
// ten minutes. Then the refusal by policy is the mail's own. Each earlier one, and every one that
// is temporary or speaks of a service, leaves the recipients open.
func TestAPermanentRefusalOfOneMailsDATABouncesIt(t *testing.T) {
	t.Parallel()
	const ends, defers = 6, 3 // after ten minutes; once other mail was taken twice between
	for _, tt := range []struct {
		where, answer string
		// tries is how often it is refused until the refusal is its own.
		tries int
	}{
		{"DATA", "554 5.7.1 <DATA>: Data command rejected: Access denied", ends},
		{"DATA", "554 5.7.1 <DATA>: Data command rejected: Service unavailable", ends},
		{".", "554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: Access denied", ends},
		{".", "554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: Policy rejection; Message cumulative size quota exceeded", ends},
		{"DATA", "450 4.7.1 <DATA>: Data command rejected: Access denied", defers},
		{".", "450 4.7.1 <END-OF-MESSAGE>: End-of-data rejected: Access denied", defers},
		{"DATA", "550 5.5.0 Service unavailable", defers},
		{".", "550 5.5.0 Service unavailable", defers},
	} {
		t.Run(tt.where+" "+tt.answer, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			rs := relays(t, relay.Options{Now: c.now}, url(failsFor(t, tt.where, tt.answer), "name=primary"))
			good := func() {
				t.Helper()
				c.move(time.Minute)
				require.Equal(t, email.RecipientDelivered, send(t, rs, to("good", "good@y.test"), noMark).Outcomes[0].Status)
				c.move(time.Minute)
			}
			good()
			var own []delivery.Outcome
			for try := 1; own == nil; try++ {
				ex := send(t, rs, to("odd", "a@x.test", "bad@y.test"), noMark)
				require.Len(t, ex.Outcomes, 2)
				if try == tt.tries {
					own = ex.Outcomes
					break
				}
				for _, o := range ex.Outcomes {
					requireHeld(t, o)
				}
				good()
			}
			for _, o := range own {
				require.Equal(t, tt.answer, strings.Join(strings.Fields(fmt.Sprint(o.Code, " ", o.Enhanced, " ", o.Text)), " "))
				require.False(t, o.RelayFault || o.Uncounted || o.Elsewhere || o.Suppress, "%+v", o)
				if tt.tries == ends {
					require.Equal(t, []any{email.RecipientBounced, email.DetailBlock}, []any{o.Status, o.Reason})
				} else {
					require.Equal(t, []any{email.RecipientDeferred, email.Detail("")}, []any{o.Status, o.Reason})
				}
			}
			good()
			require.Equal(t, map[string]bool{"primary": true}, rs.Up(), "other mail goes on")
		})
	}
}
