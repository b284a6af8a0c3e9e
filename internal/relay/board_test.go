package relay

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtptest"
)

// board is a Board in memory, without a backoff of its own.
type board struct {
	mu    sync.Mutex
	state delivery.RelayState
	// holder is who probes.
	holder    string
	forgotten []string
	waits     []delivery.RelayWait
	// changed is what waits were changed to.
	changed map[delivery.RelayWait]delivery.Obstacle
	// dueBy is that of the last WakeRelayWait.
	dueBy time.Time
	// changeErr is what fails instead.
	changeErr error
}

func (b *board) RelayWaits(context.Context) ([]delivery.RelayWait, error) { return b.waits, nil }

func (b *board) ChangeRelayWait(_ context.Context, from delivery.RelayWait, to delivery.Obstacle) (int, error) {
	if b.changeErr != nil {
		return 0, b.changeErr
	}
	b.changed[from] = to
	return 1, nil
}

func (b *board) WakeRelayWait(ctx context.Context, w delivery.RelayWait, dueBy time.Time) (int, error) {
	b.dueBy = dueBy
	return b.ChangeRelayWait(ctx, w, delivery.Obstacle{RelayDown: true})
}

func (b *board) RelayFailed(_ context.Context, st delivery.RelayState, _ string) (delivery.RelayState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st.Failures, b.holder = b.state.Failures+1, ""
	st.RetryAfter = delivery.RelayBackoff(st.Failures)
	b.state = st
	return st, nil
}

func (b *board) RelayRecovered(context.Context, string, string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.holder = delivery.RelayState{}, ""
	return nil
}

func (b *board) ClaimProbe(_ context.Context, _, _, owner string, _ time.Duration) (bool, delivery.RelayState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Failures == 0 || b.holder != "" && b.holder != owner {
		st := b.state
		st.RetryAfter = 0
		return false, st, nil
	}
	b.holder = owner
	return true, b.state, nil
}

func (b *board) ReleaseProbe(_ context.Context, _, _, owner string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holder == owner {
		b.holder = ""
	}
	return nil
}

func (b *board) RelayStates(context.Context) ([]delivery.RelayState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Name == "" {
		return nil, nil
	}
	return []delivery.RelayState{b.state}, nil
}

func (b *board) ForgetRelay(_ context.Context, name, address string, _ time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgotten = append(b.forgotten, name+" "+address)
	return nil
}

// TestAnAddressThatARelayHasLeftIsForgotten: what it said there is no reason any more.
func TestAnAddressThatARelayHasLeftIsForgotten(t *testing.T) {
	t.Parallel()
	b := &board{state: delivery.RelayState{Name: "primary", Address: "127.0.0.1:1", Failures: 3, Reply: email.Reply{Text: "connection refused"}}}
	now := time.Now()
	rs := process(t, (&smtptest.Peer{}).Start(t), b, &now)
	require.NoError(t, rs.sync(t.Context()))
	require.Equal(t, []string{"primary 127.0.0.1:1"}, b.forgotten)
	require.Nil(t, rs.Down(delivery.Route{}))

	b.state.Name, b.forgotten = "another", nil
	require.NoError(t, rs.sync(t.Context()))
	require.Empty(t, b.forgotten, "it is not ours")
}

// process is one process's relays on a board.
func process(t *testing.T, p *smtptest.Peer, b Board, now *time.Time) *Relays {
	t.Helper()
	r, err := Parse("smtp://" + p.Addr() + "?tls=none&name=primary")
	require.NoError(t, err)
	rs := New([]Relay{r}, Options{Board: b, Now: func() time.Time { return *now }, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(rs.Close)
	return rs
}

func refuses(line string) string {
	if len(line) > 4 && line[:4] == "MAIL" {
		return "452 4.3.1 Insufficient system storage"
	}
	return ""
}

func sendOne(t *testing.T, rs *Relays) delivery.Outcome {
	t.Helper()
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	defer s.Close()
	return s.Send(t.Context(), delivery.Envelope{From: "a@x.test", Recipients: []delivery.EnvelopeRecipient{{ID: "r", Address: "b@y.test"}}},
		[]byte("Subject: s\r\n\r\nt\r\n"), func(context.Context, []delivery.Outcome) error { return nil }).Outcomes[0]
}

func TestAProcessHearsOfWhatAnotherHasMet(t *testing.T) {
	t.Parallel()
	var full sync.Map
	full.Store("full", true)
	p := (&smtptest.Peer{Answer: func(line string) string {
		if _, ok := full.Load("full"); ok {
			return refuses(line)
		}
		return ""
	}}).Start(t)
	now, b := time.Unix(1000, 0), &board{}
	one, two := process(t, p, b, &now), process(t, p, b, &now)
	require.NoError(t, two.sync(t.Context()))
	full.Delete("full")
	require.Equal(t, email.RecipientDelivered, sendOne(t, two).Status)
	full.Store("full", true)
	require.True(t, sendOne(t, one).RelayFault)
	require.NoError(t, two.sync(t.Context()))
	require.NotNil(t, two.Down(delivery.Route{}), "it is left alone by all")
	require.Equal(t, map[string]bool{"primary": false}, two.Up())

	// One of them probes, and the other waits for what it finds.
	now = now.Add(firstBackoff)
	require.Nil(t, two.Down(delivery.Route{}))
	b.holder = "somebody else"
	_, err := two.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "not tried before")
	b.holder = ""
	now = now.Add(firstBackoff)
	dialed := p.Dialed()
	_, err = two.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "452")
	require.Equal(t, dialed+1, p.Dialed())
	require.NoError(t, one.sync(t.Context()))
	require.Equal(t, 20*time.Second, one.Down(delivery.Route{}).RetryAfter, "the backoff has grown for both")

	full.Delete("full")
	now = now.Add(20 * time.Second)
	require.Equal(t, email.RecipientDelivered, sendOne(t, two).Status)
	require.NoError(t, one.sync(t.Context()))
	require.Nil(t, one.Down(delivery.Route{}), "it is back for all")
	require.Equal(t, map[string]bool{"primary": true}, one.Up())
}

// TestASenderThatIsPutOffInOneProcessHoldsBackNoOtherInAnother: the fault is known to all, and so is
// what brings the relay back. The same holds for a return path of ours that is refused for good, or with words
// about our account. The board's reply has no addresses.
func TestASenderThatIsPutOffInOneProcessHoldsBackNoOtherInAnother(t *testing.T) {
	t.Parallel()
	own := delivery.ReturnPath(delivery.NewToken(), "bounce.odd.test")
	for answer, odd := range map[string]string{
		"451 4.7.1 Service unavailable - try again later":                                    "odd@x.test",
		"550 5.1.8 <" + own + ">: Sender address rejected: Domain not found":                 own,
		"450 4.7.1 <" + own + ">: Sender address rejected: too many messages from you today": own,
	} {
		t.Run(answer, func(t *testing.T) { t.Parallel(); testOneProcessPutsOff(t, odd, answer) })
	}
}

func testOneProcessPutsOff(t *testing.T, odd, answer string) {
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL FROM:<"+odd) {
			return answer
		}
		return ""
	}}).Start(t)
	now, b := time.Unix(1000, 0), &board{}
	one, two := process(t, p, b, &now), process(t, p, b, &now)
	of := func(_ context.Context, route delivery.Route) (string, delivery.MailCommand, error) {
		return route.For, delivery.MailCommand{From: route.For, Bytes: 16}, nil
	}
	one.pools[0].opts.MailOf, two.pools[0].opts.MailOf = of, of
	require.NoError(t, two.sync(t.Context()))
	sendFor := func(rs *Relays, who string) (delivery.Outcome, error) {
		s, err := rs.Session(t.Context(), delivery.Route{For: who})
		if err != nil {
			return delivery.Outcome{}, err
		}
		defer s.Close()
		env := delivery.Envelope{ID: who, From: who, Recipients: []delivery.EnvelopeRecipient{{ID: "r", Address: "b@y.test"}}}
		return s.Send(t.Context(), env, []byte("Subject: s\r\n\r\nt\r\n"), func(context.Context, []delivery.Outcome) error { return nil }).Outcomes[0], nil
	}
	require.Equal(t, email.RecipientDelivered, sendOne(t, two).Status)
	o, err := sendFor(one, odd)
	require.NoError(t, err)
	require.True(t, o.RelayFault)
	require.NoError(t, two.sync(t.Context()))
	require.Equal(t, map[string]bool{"primary": false}, two.Up())
	b.holder = "somebody else"
	dialed := p.Dialed()
	_, err = sendFor(two, odd)
	require.Error(t, err)
	require.Equal(t, dialed, p.Dialed(), "it was refused there")
	o, err = sendFor(two, "good@x.test")
	require.NoError(t, err)
	require.Equal(t, email.RecipientDelivered, o.Status)
	require.NoError(t, one.sync(t.Context()))
	require.Equal(t, map[string]bool{"primary": true}, one.Up())
}

// TestAProcessKnowsThatAReturnPathIsRefusedAlone: another one that has just met the refusal takes it for the relay's.
// A fault with another return path is one.
func TestAProcessKnowsThatAReturnPathIsRefusedAlone(t *testing.T) {
	t.Parallel()
	now, b := time.Unix(1000, 0), &board{}
	rs := process(t, (&smtptest.Peer{}).Start(t), b, &now)
	require.Equal(t, email.RecipientDelivered, sendOne(t, rs).Status)
	mail := func(host string) *delivery.MailCommand {
		return &delivery.MailCommand{From: delivery.ReturnPath(delivery.NewToken(), host), Bytes: 16}
	}
	rs.pools[0].guard.notePathRefused(now, *mail("bounce.odd.test"), delivery.RelayError{}, false)
	for _, host := range []string{"bounce.odd.test", "bounce.mail.test"} {
		b.state = delivery.RelayState{Name: "primary", Address: rs.pools[0].relay.Addr(), Failures: 1, RetryAfter: time.Minute, Shared: true,
			Reply: email.Reply{Code: 550, Enhanced: "5.1.8", Text: "<***>: Sender address rejected: Domain not found"}, Mail: mail(host)}
		require.NoError(t, rs.sync(t.Context()))
		require.Equal(t, map[string]bool{"primary": host == "bounce.odd.test"}, rs.Up())
	}
}

// A worker that was started anew, perhaps with another password, does not wait for the
// backoff of those before it.
func TestANewProcessProbesAtOnce(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: refuses}).Start(t)
	now, b := time.Unix(1000, 0), &board{}
	require.True(t, sendOne(t, process(t, p, b, &now)).RelayFault)
	b.state.Failures, b.state.RetryAfter = 7, 5*time.Minute
	fresh := process(t, p, b, &now)
	require.NoError(t, fresh.sync(t.Context()))
	require.Nil(t, fresh.Down(delivery.Route{}))
	_, err := fresh.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "452", "by the MAIL that was refused, without an attempt")
	require.Equal(t, 5*time.Minute, fresh.Down(delivery.Route{}).RetryAfter)
}

// TestANewProcessWithTheRightPasswordBringsTheRelayBack, whether it signs in or hears of the fault first.
func TestANewProcessWithTheRightPasswordBringsTheRelayBack(t *testing.T) {
	t.Parallel()
	for _, probesFirst := range []bool{true, false} {
		p := (&smtptest.Peer{}).Start(t)
		now, b := time.Unix(1000, 0), &board{}
		fresh := process(t, p, b, &now)
		b.state = delivery.RelayState{Name: "primary", Address: p.Addr(), Shared: true, Failures: 7, RetryAfter: 5 * time.Minute, Reply: email.Reply{Code: 535, Enhanced: "5.7.8"}}
		if probesFirst {
			fresh.pools[0].probe(t.Context())
		}
		require.NoError(t, fresh.sync(t.Context()))
		fresh.pools[0].probe(t.Context())
		require.Nil(t, fresh.Down(delivery.Route{}), "probes first: %v", probesFirst)
		require.Equal(t, map[string]bool{"primary": true}, fresh.Up())
		require.Zero(t, b.state.Failures, "the others hear of it")
	}
}

// TestANewProcessTriesAnotherReturnPath: the setting for return paths may have changed, so a relay that has refused
// a former one is asked anew. With a customer's own address the refused command is said again.
func TestANewProcessTriesAnotherReturnPath(t *testing.T) {
	t.Parallel()
	for from, anew := range map[string]bool{delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test"): true, "a@bounce.mail.test": false} {
		for _, probesFirst := range []bool{true, false} {
			p := (&smtptest.Peer{Answer: func(line string) string {
				if strings.HasPrefix(line, "MAIL FROM:<") && strings.Contains(line, "@bounce.mail.test>") {
					return "451 4.3.0 not now"
				}
				return ""
			}}).Start(t)
			now, b := time.Unix(1000, 0), &board{}
			fresh := process(t, p, b, &now)
			b.state = delivery.RelayState{Name: "primary", Address: p.Addr(), Shared: true, Failures: 7, RetryAfter: 5 * time.Minute,
				Reply: email.Reply{Code: 553, Enhanced: "5.1.8"}, Mail: &delivery.MailCommand{From: from}}
			if probesFirst {
				fresh.pools[0].probe(t.Context())
			}
			require.NoError(t, fresh.sync(t.Context()))
			fresh.pools[0].probe(t.Context())
			require.Equal(t, map[string]bool{"primary": anew}, fresh.Up(), "%s, probes first: %v", from, probesFirst)
			if anew {
				require.Zero(t, b.state.Failures, "the others hear of it")
			}
		}
	}
}

// A connection that fails is its own process's matter: one process without a network stops no
// other.
func TestAFailingConnectionIsNotShared(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Greeting: smtptest.Drop}).Start(t)
	well := (&smtptest.Peer{}).Start(t)
	now, b := time.Unix(1000, 0), &board{}
	_, err := process(t, p, b, &now).Session(t.Context(), delivery.Route{})
	require.Error(t, err)
	require.Equal(t, 1, b.state.Failures, "it is noted")
	other := process(t, well, b, &now)
	b.state.Address = well.Addr()
	require.NoError(t, other.sync(t.Context()))
	require.Nil(t, other.Down(delivery.Route{}))
	require.Equal(t, email.RecipientDelivered, sendOne(t, other).Status)
	require.NoError(t, other.sync(t.Context()))
	require.Zero(t, b.state.Failures, "who sends by it says that it works")
}

// A refusal that may be about the mails alone stops no other process: it is noted.
func TestRefusedRecipientsAreEachProcessesOwnMatter(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "RCPT TO:<bad") {
			return "550 5.7.1 no"
		}
		return ""
	}}).Start(t)
	now, b := time.Unix(1000, 0), &board{}
	one, two := process(t, p, b, &now), process(t, p, b, &now)
	require.Equal(t, email.RecipientDelivered, sendOne(t, two).Status)
	for _, address := range []string{"bad@y.test", "bad@z.test"} {
		s, err := one.Session(t.Context(), delivery.Route{})
		require.NoError(t, err)
		s.Send(t.Context(), delivery.Envelope{ID: address, From: "a@x.test", Recipients: []delivery.EnvelopeRecipient{{ID: "r", Address: address}}}, nil, nil)
		s.Close()
	}
	require.NotNil(t, one.Down(delivery.Route{}))
	require.Equal(t, 1, b.state.Failures, "for those who ask why mail waits")
	require.False(t, b.state.Shared)
	now = now.Add(time.Minute)
	require.NoError(t, two.sync(t.Context()))
	require.Nil(t, two.Down(delivery.Route{}))
}
