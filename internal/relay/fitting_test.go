package relay_test

import (
	"context"
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

// sendFitting is what a worker does: take a session, then the one that fits, then send.
func sendFitting(t *testing.T, rs *relay.Relays, route delivery.Route, env delivery.Envelope, message string) (delivery.Exchange, string) {
	t.Helper()
	s, err := rs.Session(t.Context(), route)
	require.NoError(t, err)
	s, err = rs.Fitting(t.Context(), route, s, env, []byte(message))
	require.NoError(t, err)
	defer s.Close()
	return s.Send(t.Context(), env, []byte(message), noMark), s.Relay().Name
}

func TestAMessageGoesToTheFirstRelayThatCanTakeIt(t *testing.T) {
	t.Parallel()
	const (
		ascii, utf8 = "a@y.test", "用户@y.test"
		done, late  = email.RecipientDelivered, email.RecipientDeferred
		ended       = email.RecipientFailed
	)
	nonASCII := strings.Replace(rendered, "From: a@", "From: \xc3\xa4@", 1)
	eight := strings.Replace(rendered, "end", "gr\xc3\xbc\xc3\x9fe", 1)
	for name, tc := range map[string]struct {
		first, second, third []string // what each offers; nil: there is no such relay, "down": it is not there
		to                   []string
		message              string
		relay                string
		statuses             []email.RecipientStatus
	}{
		"the first takes it":               {[]string{"SMTPUTF8"}, []string{"SMTPUTF8"}, nil, []string{utf8}, rendered, "r1", []email.RecipientStatus{done}},
		"an address that is not ASCII":     {[]string{"SIZE"}, []string{"SMTPUTF8"}, nil, []string{utf8}, rendered, "r2", []email.RecipientStatus{done}},
		"one of two addresses is not":      {[]string{"SIZE"}, []string{"SMTPUTF8"}, nil, []string{ascii, utf8}, rendered, "r2", []email.RecipientStatus{done, done}},
		"a header that is not ASCII":       {[]string{"SIZE"}, []string{"SMTPUTF8"}, nil, []string{ascii}, nonASCII, "r2", []email.RecipientStatus{done}},
		"a message that is too large":      {[]string{"SIZE 50"}, []string{"SIZE 1000"}, nil, []string{ascii}, rendered, "r2", []email.RecipientStatus{done}},
		"eight bits":                       {[]string{"SIZE"}, []string{"8BITMIME"}, nil, []string{ascii}, eight, "r2", []email.RecipientStatus{done}},
		"eight bits that nobody offers":    {[]string{"SIZE"}, []string{"SIZE"}, nil, []string{ascii}, eight, "r1", []email.RecipientStatus{done}},
		"the third takes it":               {[]string{"SIZE 50"}, []string{"SIZE 60"}, []string{"SIZE"}, []string{ascii}, rendered, "r3", []email.RecipientStatus{done}},
		"the first is down":                {[]string{"down"}, []string{"SIZE 50"}, []string{"SIZE"}, []string{ascii}, rendered, "r3", []email.RecipientStatus{done}},
		"nobody takes it":                  {[]string{"SIZE 50"}, []string{"SIZE 60"}, nil, []string{ascii}, rendered, "r1", []email.RecipientStatus{ended}},
		"each takes some":                  {[]string{"SIZE 50"}, []string{"SIZE"}, []string{"SMTPUTF8", "SIZE 50"}, []string{ascii, utf8}, rendered, "r2", []email.RecipientStatus{done, ended}},
		"the one that may is down, 8 bits": {[]string{"SIZE"}, []string{"down"}, nil, []string{ascii}, eight, "r1", []email.RecipientStatus{late}},
		"the one that may is down, some":   {[]string{"SIZE"}, []string{"down"}, nil, []string{ascii, utf8}, rendered, "r1", []email.RecipientStatus{done, late}},
		"there is one relay":               {[]string{"SIZE 50"}, nil, nil, []string{ascii}, rendered, "r1", []email.RecipientStatus{ended}},
		"what is down would take no more":  {[]string{"SIZE"}, []string{"down"}, nil, []string{ascii}, rendered, "r1", []email.RecipientStatus{done}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			for i, offer := range [][]string{tc.first, tc.second, tc.third} {
				if offer == nil {
					continue
				}
				p := &smtptest.Peer{Extensions: offer}
				if offer[0] == "down" { // it keeps its port, which another test could get
					p.Greeting = smtptest.Drop
				}
				p.Start(t)
				urls = append(urls, url(p, "max_conns=1&name=r"+string(rune('1'+i))))
			}
			rs := relays(t, relay.Options{}, urls...)
			for range 2 { // every connection was given back
				ex, relay := sendFitting(t, rs, delivery.Route{}, envelope(tc.to...), tc.message)
				require.Equal(t, tc.relay, relay)
				for i, o := range ex.Outcomes {
					require.Equal(t, tc.statuses[i], o.Status, "%+v", o)
					require.Equal(t, o.Status == late, o.Uncounted)
					if o.Status == late {
						require.GreaterOrEqual(t, o.RetryAfter, time.Second)
						require.Contains(t, o.Text, "another relay")
					}
				}
			}
		})
	}
}

// A message that no working relay takes goes to none of them, and waits for the one that is down.
func TestAMessageWaitsForTheRelayThatMayTakeIt(t *testing.T) {
	t.Parallel()
	small := (&smtptest.Peer{Extensions: []string{"SIZE 50"}}).Start(t)
	refuses := (&smtptest.Peer{Answer: answers(map[string]string{".": "552 5.3.4 too big"})}).Start(t)
	var works atomic.Bool
	large := (&smtptest.Peer{Answer: func(string) string {
		if works.Load() {
			return ""
		}
		return smtptest.Drop
	}}).Start(t)
	now := newClock()
	rs := relays(t, relay.Options{Now: now.now}, url(small, "name=small"), url(refuses, "name=refuses"), url(large, "name=large"))
	ex, name := sendFitting(t, rs, delivery.Route{}, envelope("a@y.test"), rendered)
	require.Equal(t, "refuses", name)
	require.True(t, ex.Outcomes[0].RelayFault && ex.Outcomes[0].Uncounted, "%+v", ex)
	for _, avoid := range []string{"", "small", "refuses", "large"} {
		s, err := rs.Session(t.Context(), delivery.Route{Avoid: avoid})
		require.NoError(t, err)
		_, err = rs.Fitting(t.Context(), delivery.Route{Avoid: avoid}, s, envelope("a@y.test"), []byte(rendered))
		var down *delivery.RelayError
		require.ErrorAs(t, err, &down)
		require.Equal(t, "large", down.Relay.Name)
		require.GreaterOrEqual(t, down.RetryAfter, time.Second)
	}
	works.Store(true)
	now.move(delivery.RelayBackoffMost)
	ex, name = sendFitting(t, rs, delivery.Route{Avoid: "large"}, envelope("a@y.test"), rendered)
	require.Equal(t, "large", name)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	require.Empty(t, small.Messages())
	require.Empty(t, refuses.Messages())
}

// All relays refuse the message, one after the other. Then it fails, although each may have been
// the last to be tried.
func TestAMessageThatAllRelaysRefuseFails(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"MAIL", "RCPT", "DATA", "."} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			var urls []string
			for _, name := range []string{"a", "b", "c"} {
				p := (&smtptest.Peer{Answer: answers(map[string]string{verb: "552 5.3.4 too big"})}).Start(t)
				urls = append(urls, url(p, "name="+name))
			}
			rs := relays(t, relay.Options{}, urls...)
			var asked []string
			route := delivery.Route{}
			for range 3 {
				ex, name := sendFitting(t, rs, route, envelope("a@y.test"), rendered)
				require.True(t, ex.Outcomes[0].RelayFault && ex.Outcomes[0].Uncounted, "%+v", ex)
				route.Avoid = name
				asked = append(asked, name)
			}
			require.ElementsMatch(t, []string{"a", "b", "c"}, asked)
			ex, _ := sendFitting(t, rs, route, envelope("a@y.test"), rendered)
			require.Equal(t, email.RecipientFailed, ex.Outcomes[0].Status, "%+v", ex)
			require.Equal(t, email.DetailTooLarge, ex.Outcomes[0].Reason)
		})
	}
}

// A relay that accepts other recipients of the same message takes its size: the refusal is one
// recipient's.
func TestARecipientThatIsRefusedForTheSizeAlone(t *testing.T) {
	t.Parallel()
	first := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<small@y.test>": "552 5.3.4 too big"})}).Start(t)
	second := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(first, "name=first"), url(second, "name=second"))
	for range 2 { // nothing was learned of the relay
		ex, name := sendFitting(t, rs, delivery.Route{}, envelope("small@y.test", "a@y.test"), rendered)
		require.Equal(t, "first", name)
		require.Equal(t, email.DetailTooLarge, ex.Outcomes[0].Reason)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	}
}

func TestAMessageStaysWithTheOnlyRelayItMayGoTo(t *testing.T) {
	t.Parallel()
	small := (&smtptest.Peer{Extensions: []string{"SIZE 50"}}).Start(t)
	large := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(small, "name=small"), url(large, "name=large"))
	ex, relay := sendFitting(t, rs, delivery.Route{Relay: "small"}, envelope("a@y.test"), rendered)
	require.Equal(t, "small", relay)
	require.Equal(t, email.DetailTooLarge, ex.Outcomes[0].Reason)
	require.Empty(t, large.Messages())
}

func TestCancelEndsTheSearchForARelay(t *testing.T) {
	t.Parallel()
	small := (&smtptest.Peer{Extensions: []string{"SIZE 50"}}).Start(t)
	large := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(small, "name=small&max_conns=1"), url(large, "name=large&max_conns=1"))
	held, err := rs.Session(t.Context(), delivery.Route{Relay: "large"})
	require.NoError(t, err)
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = rs.Fitting(ctx, delivery.Route{}, s, envelope("a@y.test"), []byte(rendered))
	require.ErrorIs(t, err, context.Canceled)
	held.Close()
	s, err = rs.Session(t.Context(), delivery.Route{Relay: "small"})
	require.NoError(t, err, "its connection was given back")
	s.Close()
}

// Some relays say what they do not take only when it comes.
func TestWhatARelayRefusesUnannouncedGoesElsewhereNextTime(t *testing.T) {
	t.Parallel()
	header := strings.Replace(rendered, "From: a@", "From: \xc3\xa4@", 1)
	for name, tc := range map[string]struct {
		answers map[string]string
		offer   []string
		second  []string
		message string
		reason  email.Detail // where the second does not take it either
	}{
		"too large at MAIL":            {map[string]string{"MAIL": "552 5.3.4 message size exceeds fixed limit"}, []string{"SIZE"}, nil, rendered, ""},
		"too large at the dot":         {map[string]string{".": "552 too big"}, nil, nil, rendered, ""},
		"SMTPUTF8":                     {map[string]string{"MAIL": "555 5.5.4 Unsupported option: SMTPUTF8"}, []string{"SMTPUTF8"}, []string{"SMTPUTF8"}, header, ""},
		"SMTPUTF8, not named":          {map[string]string{"MAIL": "555 what is this?"}, []string{"SMTPUTF8"}, []string{"SMTPUTF8"}, header, ""},
		"too large for both":           {map[string]string{"MAIL": "552 5.3.4 too big"}, []string{"SIZE"}, []string{"SIZE 60"}, rendered, email.DetailTooLarge},
		"SMTPUTF8, which no one takes": {map[string]string{"MAIL": "555 5.5.4 SMTPUTF8"}, []string{"SMTPUTF8"}, []string{"SIZE"}, header, email.DetailUnsendable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := (&smtptest.Peer{Extensions: tc.offer, Answer: answers(tc.answers)}).Start(t)
			second := (&smtptest.Peer{Extensions: tc.second}).Start(t)
			rs := relays(t, relay.Options{}, url(first, "name=first"), url(second, "name=second"))
			ex, relay := sendFitting(t, rs, delivery.Route{}, envelope("a@y.test"), tc.message)
			require.Equal(t, "first", relay)
			require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status, "%+v", ex)
			require.True(t, ex.Outcomes[0].Uncounted)
			require.Equal(t, time.Second, ex.Outcomes[0].RetryAfter)
			ex, relay = sendFitting(t, rs, delivery.Route{}, envelope("a@y.test"), tc.message)
			if tc.reason != "" {
				require.Equal(t, email.RecipientFailed, ex.Outcomes[0].Status, "once, not without end: %+v", ex)
				require.Equal(t, tc.reason, ex.Outcomes[0].Reason)
				return
			}
			require.Equal(t, "second", relay)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
		})
	}
	t.Run("only who needs SMTPUTF8", func(t *testing.T) {
		t.Parallel()
		p := (&smtptest.Peer{Extensions: []string{"SMTPUTF8"}, Answer: answers(map[string]string{"MAIL FROM:<a@x.test> SMTPUTF8": "555 5.5.4 SMTPUTF8"})}).Start(t)
		ex, _ := sendFitting(t, relays(t, relay.Options{}, url(p, "")), delivery.Route{}, envelope("用户@y.test", "a@y.test"), rendered)
		require.Equal(t, email.DetailUnsendable, ex.Outcomes[0].Reason)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	})
}
