package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const virtualDay = 24 * time.Hour

// While a relay takes no mail, for any reason, no event says that an e-mail has ended.
// Afterwards each recipient gets it once.
func TestVirtualOutages(t *testing.T) {
	t.Parallel()
	// A relay at fault is asked every 5 minutes.
	const relayAsked = 6 * time.Minute
	for name, tt := range map[string]struct {
		lasts  time.Duration
		user   string
		verb   string
		answer string
		// within is how long after the outage the last mail may be delivered.
		within time.Duration
		// quiet: no recipient is deferred.
		quiet bool
	}{
		// The attempts at about 0, 30, 60, 90 and 120 minutes; the one after an hour more.
		"452 mailbox full":        {lasts: 2 * time.Hour, verb: "RCPT", answer: "452 4.2.2 mailbox full", within: 66 * time.Minute},
		"452 out of memory":       {lasts: 2 * time.Hour, verb: "MAIL", answer: "452 4.3.1 out of memory", within: relayAsked},
		"452 no space left":       {lasts: 2 * time.Hour, verb: ".", answer: "452 4.3.1 no space left", within: relayAsked},
		"535 wrong credentials":   {lasts: time.Hour, user: "shop", verb: "AUTH", answer: "535 5.7.8 wrong credentials", within: relayAsked},
		"550 relaying denied":     {lasts: time.Hour, verb: "RCPT", answer: "550 5.7.1 Relaying denied", within: relayAsked},
		"554 access denied":       {lasts: time.Hour, verb: "RCPT", answer: "554 5.7.1 <b@y.test>: Recipient address rejected: Access denied", within: relayAsked},
		"554 client rejected":     {lasts: time.Hour, verb: "RCPT", answer: "554 5.7.1 <box[192.0.2.1]>: Client host rejected: Access denied", within: relayAsked},
		"550 refused for no word": {lasts: time.Hour, verb: "RCPT", answer: "550 5.7.1 no", within: relayAsked},
		"550 quota":               {lasts: time.Hour, verb: "RCPT", answer: "550 5.4.5 Daily user sending limit exceeded", within: 36 * time.Minute},
		"421 to all recipients":   {lasts: time.Hour, verb: "RCPT", answer: "421 4.3.2 shutting down", within: relayAsked, quiet: true},
		"closed at RCPT":          {lasts: time.Hour, verb: "RCPT", answer: smtptest.Drop, within: relayAsked, quiet: true},
		"521 to all recipients":   {lasts: time.Hour, verb: "RCPT", answer: smtptest.ThenDrop("521 5.7.1 go away"), within: relayAsked, quiet: true},
		"closed after a greeting": {lasts: virtualDay, verb: "EHLO", answer: smtptest.Drop, within: relayAsked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			v.listen(nil, tt.user, until(tt.lasts, tt.verb, tt.answer))
			v.connect(tt.user, v.peer.Addr())
			ids := []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@y.test", "c@z.test"), v.accept(time.Time{}, "d@x.test")}
			v.send(ids...)
			require.Contains(t, v.received(tt.verb), time.Duration(0), "it was refused first")
			for _, id := range ids {
				require.LessOrEqual(t, v.email(id).Attempts, 2*int(tt.lasts/(5*time.Minute)), "nobody is asked all the time")
				if tt.quiet {
					require.Empty(t, v.happened(id, email.EventDeferred))
				}
			}
			v.requireDelivered(tt.lasts, tt.lasts+tt.within, ids...)
		})
	}
}

// closedPort is an address that refuses connections until it is opened, and that no other
// process can use.
func closedPort(t *testing.T) (addr string, open func() net.Listener) {
	t.Helper()
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	require.NoError(t, err)
	socket := os.NewFile(uintptr(fd), "closed port")
	t.Cleanup(func() { require.NoError(t, socket.Close()) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	bound, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port), func() net.Listener {
		require.NoError(t, syscall.Listen(fd, 16))
		l, err := net.FileListener(socket)
		require.NoError(t, err)
		return l
	}
}

func TestVirtualRelayUnreachableForADay(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	addr, open := closedPort(t)
	v.connect("", addr)
	ids := []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@y.test", "c@z.test"), v.accept(time.Time{}, "d@x.test")}
	v.RegisterDelayedCallback(func() {
		for _, id := range ids {
			e := v.email(id)
			require.Equal(t, email.StatusQueued, e.Status)
			require.Equal(t, email.DetailRelayDown, e.Detail)
			require.Zero(t, e.Attempts, "no recipient is touched")
		}
		v.listen(open(), "", until(0, "", ""))
	}, virtualDay)
	v.send(ids...)
	v.requireDelivered(virtualDay, virtualDay+6*time.Minute, ids...)
}

// A relay that takes connections and credentials and refuses MAIL is no recipient's
// matter: the attempt that met it first stays in the journal, and from then on only the
// relay is probed.
func TestVirtualRelayRefusesMAIL(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"disk full": "452 4.3.1 Insufficient system storage", "wants TLS": "530 5.7.0 Must issue a STARTTLS command first",
		"closing": "421 4.3.2 shutting down", "cut": smtptest.Drop, "milter away": "451 4.7.1 Service unavailable - try again later", "spool full": "452 Space shortage, please try later",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lasts = 2 * time.Hour
			v := newVirtual(t)
			v.listen(nil, "", until(lasts, "MAIL", answer))
			v.connect("", v.peer.Addr())
			ids := []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@y.test", "c@z.test"), v.accept(time.Time{}, "d@x.test")}
			v.RegisterDelayedCallback(func() {
				for _, id := range ids {
					e := v.email(id)
					require.Equal(t, email.DetailRelayDown, e.Detail, "%+v", e)
					require.LessOrEqual(t, e.Attempts, 1, "one is kept as evidence")
					for _, r := range e.Recipients {
						require.Equal(t, email.RecipientQueued, r.Status)
						require.Zero(t, r.Attempts)
						require.Empty(t, r.Reply)
					}
				}
			}, lasts-time.Minute)
			v.send(ids...)
			for _, id := range ids {
				require.Empty(t, v.happened(id, email.EventDeferred))
				require.Len(t, v.happened(id, email.EventSending), 1)
				require.LessOrEqual(t, v.email(id).Attempts, 2)
			}
			// The probes are 10, 20, 40 … 300 s apart, for any number of waiting e-mails.
			probes := v.received("MAIL")
			require.Less(t, len(probes), 40)
			last := 0
			for i := range probes {
				if probes[i] < lasts {
					last = i
				}
			}
			require.GreaterOrEqual(t, probes[last]-probes[last-1], 5*time.Minute, "the backoff grows to five minutes")
			v.requireDelivered(lasts, lasts+6*time.Minute, ids...)
		})
	}
}

// A message that the first relay does not support, as its EHLO reply says, goes to the next
// relay. If that one is down, the message waits for it.
func TestVirtualUnsupportedMessageUsesTheNextRelay(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.listen(nil, "", until(time.Hour, "MAIL", "452 4.3.1 Insufficient system storage"))
	small := (&smtptest.Peer{Extensions: []string{"SIZE 100"}}).Start(t)
	var list []relay.Relay
	for _, u := range []string{small.Addr() + "?tls=none&name=small", v.peer.Addr() + "?tls=none&name=large"} {
		r, err := relay.Parse("smtp://" + u)
		require.NoError(t, err)
		list = append(list, r)
	}
	relays := relay.New(list, relay.Options{Now: v.Now, Board: v.store.Mail, MailOf: v.store.Mail.MailOf})
	t.Cleanup(relays.Close)
	v.work(relaySessions{relays})
	ids := []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@y.test", "c@z.test")}
	v.send(ids...)
	v.requireDelivered(time.Hour, 2*time.Hour, ids...)
	for _, id := range ids {
		require.Empty(t, v.happened(id, email.EventDeferred), "a relay that is not there defers nobody")
		attempts, _, err := v.store.Mail.Attempts(t.Context(), v.customer, id, 0)
		require.NoError(t, err)
		require.Equal(t, "large", attempts[len(attempts)-1].Relay.Name)
	}
	require.Empty(t, small.Messages())
}

// twoProcesses are the relays of two workers, asked in turns.
type twoProcesses struct {
	of [2]relaySessions
	n  atomic.Int64
}

func (p *twoProcesses) next() relaySessions { return p.of[p.n.Add(1)%2] }

func (p *twoProcesses) Session(ctx context.Context, route delivery.Route) (activities.Session, error) {
	return p.next().Session(ctx, route)
}
func (p *twoProcesses) Fitting(ctx context.Context, route delivery.Route, s activities.Session, env delivery.Envelope, message []byte) (activities.Session, error) {
	return p.of[0].Fitting(ctx, route, s, env, message)
}
func (p *twoProcesses) Fast(route delivery.Route) bool        { return p.of[p.n.Load()%2].Fast(route) }
func (p *twoProcesses) Pace(delivery.Route) time.Duration     { return 0 }
func (p *twoProcesses) Lot(delivery.Route, time.Duration) int { return 1 }
func (p *twoProcesses) Down(route delivery.Route) *delivery.RelayError {
	return p.of[p.n.Load()%2].Down(route)
}

// TestVirtualRefusedMailDelaysNoOther: twelve recipients are refused for an hour, as by an
// access table, and others are accepted.
func TestVirtualRefusedMailDelaysNoOther(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	const lasts = time.Hour
	v.listen(nil, "", until(lasts, "RCPT TO:<bad", "554 5.7.1 <bad@y.test>: Recipient address rejected: Access denied"))
	v.connect("", v.peer.Addr())
	var bad, good []string
	for n := range 12 {
		bad = append(bad, v.accept(time.Time{}, fmt.Sprintf("bad%d@d%d.test", n, n)))
	}
	starts := []time.Duration{0, 20 * time.Second, 90 * time.Second, 6 * time.Minute, 20 * time.Minute}
	for _, after := range starts {
		at := time.Time{}
		if after > 0 {
			at = virtualStart.Add(after)
		}
		good = append(good, v.accept(at, "good@y.test"))
	}
	v.send(append(slices.Clone(bad), good...)...)
	for i, after := range starts {
		delivered := v.happened(good[i], email.EventDelivered)
		require.Len(t, delivered, 1)
		require.GreaterOrEqual(t, delivered[0], after)
		require.LessOrEqual(t, delivered[0], after+15*time.Second, "the %d. good one", i+1)
	}
	for _, id := range bad {
		e := v.email(id)
		require.True(t, e.Status.Final())
		require.LessOrEqual(t, e.Attempts, 24, "nobody is asked all the time")
	}
}

// TestVirtualAFaultAtOneRecipientIsADeferralSoon: other mail goes all the time. A fault that passes
// delays the mail by seconds. One that lasts is the recipient's own after the third try.
func TestVirtualAFaultAtOneRecipientIsADeferralSoon(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"451 4.3.0 trouble with this mailbox", "450 4.3.2 Service currently unavailable"} {
		for name, lasts := range map[string]time.Duration{"it passes": 5 * time.Second, "it lasts": time.Hour} {
			t.Run(answer+", "+name, func(t *testing.T) {
				t.Parallel()
				v := newVirtual(t)
				v.listen(nil, "", until(lasts, "RCPT TO:<bad", answer))
				v.connect("", v.peer.Addr())
				bad, ids := v.accept(time.Time{}, "bad@y.test"), []string{}
				for n := range 30 {
					ids = append(ids, v.accept(virtualStart.Add(time.Duration(n)*4*time.Second+time.Second), "good@y.test"))
				}
				v.send(append(ids, bad)...)
				for _, id := range ids {
					require.Len(t, v.happened(id, email.EventDelivered), 1)
				}
				deferred, delivered := v.happened(bad, email.EventDeferred), v.happened(bad, email.EventDelivered)
				if name == "it passes" {
					require.Empty(t, deferred)
					require.Len(t, delivered, 1)
					require.LessOrEqual(t, delivered[0], 30*time.Second)
					return
				}
				require.NotEmpty(t, deferred)
				require.LessOrEqual(t, deferred[0], 2*time.Minute)
			})
		}
	}
}

func TestVirtualWorkersShareARelaysBackoff(t *testing.T) {
	t.Parallel()
	const lasts = 2 * time.Hour
	v := newVirtual(t)
	v.listen(nil, "", until(lasts, "MAIL", "452 4.3.1 Insufficient system storage"))
	peer, err := relay.Parse("smtp://" + v.peer.Addr() + "?tls=none&name=peer")
	require.NoError(t, err)
	var two twoProcesses
	for i := range two.of {
		two.of[i] = relaySessions{relay.New([]relay.Relay{peer}, relay.Options{Now: v.Now, Board: v.store.Mail, MailOf: v.store.Mail.MailOf})}
		t.Cleanup(two.of[i].Close)
	}
	v.work(&two)
	ids := []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@y.test", "c@z.test"), v.accept(time.Time{}, "d@x.test")}
	v.send(ids...)
	for _, id := range ids {
		require.Empty(t, v.happened(id, email.EventDeferred))
		require.LessOrEqual(t, v.email(id).Attempts, 3, "one for each process that did not know yet, and the last")
	}
	require.Less(t, len(v.received("MAIL")), 40, "two backoffs that do not grow would be some hundred")
	v.requireDelivered(lasts, lasts+6*time.Minute, ids...)
}

func TestVirtualOutcomePerRecipient(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.listen(nil, "", func(at time.Duration, line string) string {
		switch {
		case line == "RCPT TO:<slow@x.test>" && at < slack:
			return "450 4.7.1 greylisted"
		case line == "RCPT TO:<gone@x.test>":
			return "550 5.1.1 no such user"
		}
		return ""
	})
	v.connect("", v.peer.Addr())
	id := v.accept(time.Time{}, "good@x.test", "slow@x.test", "gone@x.test")
	v.send(id)

	e := v.email(id)
	require.Equal(t, email.StatusDelivered, e.Status)
	require.Equal(t, email.DetailPartial, e.Detail)
	type end struct {
		status           email.RecipientStatus
		attempts, copies int
	}
	got := map[string]end{}
	for _, r := range e.Recipients {
		got[r.Address.Email] = end{r.Status, r.Attempts, v.copies(id, r.Address.Email)}
	}
	require.Equal(t, map[string]end{
		"good@x.test": {email.RecipientDelivered, 1, 1},
		"slow@x.test": {email.RecipientDelivered, 2, 1},
		"gone@x.test": {email.RecipientBounced, 1, 0},
	}, got)
	require.Equal(t, 1, v.dead())
	// There is one more transaction, for that recipient only.
	require.Len(t, v.received("MAIL"), 2)
	require.Len(t, v.received("RCPT"), 4)
	retried := v.received("RCPT TO:<slow@x.test>")
	require.Len(t, retried, 2)
	requireAbout(t, time.Minute, retried[1])
	require.Equal(t, []time.Duration{retried[1]}, v.happened(id, email.EventCompleted))
}

// requireAbout allows for the spread of retries, ±10 %.
func requireAbout(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.InDelta(t, want.Seconds(), got.Seconds(), want.Seconds()/10+slack.Seconds())
}

func TestVirtualDeferredExpires(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.listen(nil, "", until(math.MaxInt64, "RCPT", "450 4.2.0 not now"))
	v.connect("", v.peer.Addr())
	id := v.accept(time.Time{}, "never@x.test")
	v.send(id)

	attempts := v.received("RCPT")
	require.Zero(t, attempts[0])
	waits := []time.Duration{
		time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour,
	}
	for i := range attempts[1:] {
		requireAbout(t, waits[min(i, len(waits)-1)], attempts[i+1]-attempts[i])
	}
	const limit = 72 * time.Hour
	last := attempts[len(attempts)-1]
	require.Less(t, last, limit)
	require.Greater(t, last+12*time.Hour*11/10, limit, "it goes on until the end")
	require.Equal(t, attempts, v.happened(id, email.EventDeferred))
	require.Equal(t, []time.Duration{limit, limit}, v.happened(id, email.EventExpired, email.EventCompleted))

	e := v.email(id)
	require.Equal(t, email.StatusFailed, e.Status)
	require.Equal(t, email.DetailExpired, e.Detail)
	require.Equal(t, email.AmbiguousRetry, e.OnAmbiguous)
	r := e.Recipients[0]
	require.Equal(t, email.RecipientExpired, r.Status)
	require.Equal(t, email.DetailExpired, r.Reason)
	require.Equal(t, email.Reply{Code: 450, Enhanced: "4.2.0", Text: "not now"}, r.Reply)
	require.Equal(t, len(attempts), r.Attempts)
	require.Empty(t, v.peer.Messages())
}

// TestVirtualUnreadableAnswers: a relay never gives a readable reply after the final dot. It
// gets five copies in 72 hours, each after a longer wait. Then the e-mail has the detail
// ambiguous.
func TestVirtualUnreadableAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"a close without a word": smtptest.Drop,
		"a code from nowhere":    "199 what now",
		"no reply":               "thanks for the message",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			v.listen(nil, "", until(math.MaxInt64, ".", answer))
			v.connect("", v.peer.Addr())
			id := v.accept(time.Time{}, "a@x.test")
			v.send(id)

			copies := v.received(".")
			require.Len(t, copies, delivery.MaxCopies)
			for n := range copies[1:] {
				requireAbout(t, delivery.AmbiguousWait(n+1), copies[n+1]-copies[n])
			}
			require.Equal(t, copies, v.happened(id, email.EventAmbiguous))
			e := v.email(id)
			require.Equal(t, []any{email.StatusFailed, email.DetailAmbiguous}, []any{e.Status, e.Detail})
			require.Contains(t, e.Recipients[0].Text, "relay peer", "the reply names the relay for the operator")
		})
	}
}

func TestVirtualScheduledAYearAhead(t *testing.T) {
	t.Parallel()
	const year = 365 * virtualDay
	v := newVirtual(t)
	v.listen(nil, "", until(0, "", ""))
	v.connect("", v.peer.Addr())
	id := v.accept(virtualStart.Add(year), "later@x.test")
	dialed := -1
	v.RegisterDelayedCallback(func() {
		dialed = v.peer.Dialed()
		require.Equal(t, email.DetailScheduled, v.email(id).Detail)
	}, year-time.Second)
	v.send(id)
	require.Zero(t, dialed)
	require.Equal(t, []time.Duration{year}, v.received("MAIL"))
	v.requireDelivered(year, year+slack, id)
	require.Contains(t, v.peer.Messages()[0].Data, "Date: Fri, 01 Jan 2027 12:00:00 +0000\r\n")
}
