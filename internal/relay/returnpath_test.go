package relay_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// pathRefusals are refusals of MAIL that a relay may give to one return path of our own. % is that.
var pathRefusals = []string{
	"550 5.1.8 <%>: Sender address rejected: Domain not found", "554 5.7.1 <%>: Sender address rejected: not our domain", "553 5.7.1 <%>: Sender address rejected: not logged in",
	"450 4.1.8 <%>: Sender address rejected: Domain not found", "450 4.7.1 <%>: Sender address rejected: too many messages from you today",
	"550 5.7.1 Command rejected", "451 4.7.1 Service unavailable - try again later", "501 5.1.7 Bad sender address syntax", "550 5.7.1 not here", "451 4.3.0 Temporary lookup failure", "421 4.3.2 closing",
}

// refusesHost is a relay that refuses MAIL with return paths of one host, while refuses is true. asked counts
// those.
func refusesHost(t *testing.T, host, answer string) (p *smtptest.Peer, refuses *atomic.Bool, asked *atomic.Int64) {
	t.Helper()
	refuses, asked = &atomic.Bool{}, &atomic.Int64{}
	refuses.Store(true)
	p = (&smtptest.Peer{Answer: func(line string) string {
		if !refuses.Load() || !strings.HasPrefix(line, "MAIL FROM:<") || !strings.Contains(line, "@"+host+">") {
			return ""
		}
		asked.Add(1)
		from, _, _ := strings.Cut(strings.TrimPrefix(line, "MAIL FROM:<"), ">")
		return strings.Replace(answer, "%", from, 1)
	}}).Start(t)
	return p, refuses, asked
}

// TestARefusalOfOneReturnPathHoldsBackNoOther: of one host at one relay, for good or for now, in any words. Its
// mail waits uncounted, and is asked for by MAIL alone, less and less often. When the relay takes it, all goes.
func TestARefusalOfOneReturnPathHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	const customer, installation = "bounce.customer.test", "bounce.mail.test"
	for _, hosts := range [][2]string{{customer, installation}, {installation, customer}} {
		for _, answer := range pathRefusals {
			t.Run(hosts[0]+" "+answer, func(t *testing.T) {
				t.Parallel()
				p, refuses, asked := refusesHost(t, hosts[0], answer)
				m := newMailbag(t, p)
				path := func(host string) string { return m.mail(delivery.ReturnPath(delivery.NewToken(), host), 100) }
				held := []string{path(hosts[0]), path(hosts[0]), path(hosts[0])}
				attempts := 0
				tryHeld := func() (delivered int) {
					for _, id := range held {
						o, ok := m.send(t, id)
						switch {
						case !ok:
						case o.Status == email.RecipientDelivered:
							delivered++
						default:
							attempts++
							requireHeld(t, o)
							require.NotZero(t, o.Code, "it has the reply")
						}
					}
					return delivered
				}
				for range 450 { // half an hour
					require.Zero(t, tryHeld())
					m.clock.move(time.Second)
					o, ok := m.send(t, path(hosts[1]))
					require.True(t, ok, "others do not wait")
					require.Equal(t, email.RecipientDelivered, o.Status)
					require.Equal(t, map[string]bool{"primary": true}, m.relays.Up())
					m.clock.move(3 * time.Second)
				}
				require.LessOrEqual(t, attempts, 5, "each mail once, and two before it is known whose the refusal is")
				require.LessOrEqual(t, asked.Load(), int64(17), "after 10, 20, 40 ... 300 s")
				require.Greater(t, asked.Load(), int64(8))

				refuses.Store(false)
				m.clock.move(5 * time.Minute)
				require.Equal(t, len(held), tryHeld())
			})
		}
	}
}

// TestAReturnPathThatIsTheOnlyOneIsTheRelaysFault: nothing shows that the relay takes other mail. Mail of a
// sender's own address, of a process without a host of return paths, goes.
func TestAReturnPathThatIsTheOnlyOneIsTheRelaysFault(t *testing.T) {
	t.Parallel()
	p, refuses, asked := refusesHost(t, "bounce.mail.test", "550 5.1.8 <%>: Sender address rejected: Domain not found")
	m := newMailbag(t, p)
	opened := 0
	var waits []string
	for range 600 { // ten minutes
		waits = append(waits, m.mail(delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test"), 100))
		for _, id := range waits {
			if o, ok := m.send(t, id); ok {
				requireHeld(t, o)
				opened++
			}
		}
		m.clock.move(time.Second)
	}
	require.Equal(t, 1, opened, "then only the relay is asked")
	require.Less(t, asked.Load(), int64(10))
	require.Equal(t, map[string]bool{"primary": false}, m.relays.Up())
	o, ok := m.send(t, m.mail("a@x.test", 100))
	require.True(t, ok)
	require.Equal(t, email.RecipientDelivered, o.Status)

	refuses.Store(false)
	m.clock.move(5 * time.Minute)
	for _, id := range waits {
		o, ok := m.send(t, id)
		require.True(t, ok)
		require.Equal(t, email.RecipientDelivered, o.Status)
	}
}

// TestASizeThatTheRelayPutsOffIsNotOfTheReturnPath: it is the message's own, as with a sender's address.
func TestASizeThatTheRelayPutsOffIsNotOfTheReturnPath(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	m := newMailbag(t, fullFor(t, limit))
	path := func(bytes int) string {
		return m.mail(delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test"), bytes)
	}
	large := path(3 * limit)
	for n := range 4 {
		o, ok := m.send(t, large)
		require.True(t, ok)
		require.Equal(t, email.RecipientDeferred, o.Status)
		require.Equal(t, n < 2, o.RelayFault, "small ones were taken between")
		m.clock.move(time.Minute)
		o, ok = m.send(t, path(limit/10))
		require.True(t, ok, "a small one does not wait")
		require.Equal(t, email.RecipientDelivered, o.Status)
		m.clock.move(time.Minute)
	}
}

// TestAReturnPathThatOneRelayRefusesGoesToTheNext.
func TestAReturnPathThatOneRelayRefusesGoesToTheNext(t *testing.T) {
	t.Parallel()
	first, _, asked := refusesHost(t, "bounce.customer.test", "550 5.7.1 <%>: Sender address rejected: not our domain")
	second := (&smtptest.Peer{}).Start(t)
	m := newMailbag(t, first)
	m.relays = relays(t, relay.Options{Now: m.clock.now, MailOf: m.mailOf}, url(first, "name=first"), url(second, "name=second"))
	for range 20 {
		id, avoid := m.mail(delivery.ReturnPath(delivery.NewToken(), "bounce.customer.test"), 100), ""
		for tries := 0; ; tries++ {
			require.Less(t, tries, 2)
			s, err := m.relays.Session(t.Context(), delivery.Route{For: id, Avoid: avoid})
			require.NoError(t, err)
			o := s.Send(t.Context(), m.sends[id], []byte("\r\n"), noMark).Outcomes[0]
			avoid = s.Relay().Name
			s.Close()
			if o.Status == email.RecipientDelivered {
				break
			}
			requireHeld(t, o)
			require.True(t, o.Elsewhere)
		}
		good, ok := m.send(t, m.mail(delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test"), 100))
		require.True(t, ok)
		require.Equal(t, email.RecipientDelivered, good.Status)
		m.clock.move(time.Minute)
	}
	require.GreaterOrEqual(t, len(second.Messages()), 20)
	require.NotZero(t, asked.Load())
}
