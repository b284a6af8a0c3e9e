package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

const rendered = "From: a@x.test\r\nTo: b@y.test\r\nMessage-ID: <m@x.test>\r\n\r\n.a line with a dot\r\n..two\r\n.\r\nend\r\n"

func relays(t *testing.T, opts smtp.Options, urls ...string) *smtp.Relays {
	t.Helper()
	var list []smtp.Relay
	for _, u := range urls {
		r, err := smtp.ParseRelay(u)
		require.NoError(t, err)
		list = append(list, r)
	}
	rs := smtp.New(list, opts)
	t.Cleanup(rs.Close)
	return rs
}

func url(p *smtptest.Peer, options string) string {
	return "smtp://" + p.Addr() + "?tls=none&" + options
}

func envelope(to ...string) email.Envelope {
	env := email.Envelope{ID: "e-1", From: "a@x.test"}
	for i, a := range to {
		env.Recipients = append(env.Recipients, email.EnvelopeRecipient{ID: fmt.Sprintf("r%d", i+1), Address: a})
	}
	return env
}

func noMark(context.Context, []email.Outcome) error { return nil }

// send takes a session and runs one transaction.
func send(t *testing.T, rs *smtp.Relays, env email.Envelope, mark func(context.Context, []email.Outcome) error) email.Exchange {
	t.Helper()
	s, err := rs.Session(t.Context(), email.Route{Stream: email.StreamTransactional, SenderDomain: "x.test"})
	require.NoError(t, err)
	defer s.Close()
	ex := s.Send(t.Context(), env, []byte(rendered), mark)
	require.Len(t, ex.Outcomes, len(env.Recipients))
	for i, o := range ex.Outcomes {
		require.Equal(t, env.Recipients[i].ID, o.RecipientID)
		require.NotEmpty(t, o.Status)
	}
	return ex
}

func answers(m map[string]string) func(string) string {
	return func(line string) string {
		for prefix, a := range m {
			if strings.HasPrefix(line, prefix) {
				return a
			}
		}
		return ""
	}
}

func TestAMessageArrivesByteForByte(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: []string{"SIZE 1000000", "8BITMIME", "DSN", "SMTPUTF8"}}).Start(t)
	ex := send(t, relays(t, smtp.Options{}, url(p, "")), envelope("b@y.test", "c@y.test"), noMark)
	require.Equal(t, []smtptest.Message{{From: "a@x.test", To: []string{"b@y.test", "c@y.test"}, Data: rendered}}, p.Messages())
	for _, o := range ex.Outcomes {
		require.Equal(t, email.RecipientDelivered, o.Status)
		require.Equal(t, email.Reply{Code: 250, Enhanced: "2.0.0", Text: "queued as 1"}, o.Reply)
	}
	require.Contains(t, p.Lines(), fmt.Sprintf("MAIL FROM:<a@x.test> SIZE=%d RET=HDRS ENVID=e-1", len(rendered)), "nothing about 8 bits or UTF-8 that is not needed")
	require.Equal(t, "MAIL FROM:<a@x.test> SIZE=91 RET=HDRS ENVID=e-1", ex.Transcript[0].Command)
	require.Equal(t, 250, ex.Transcript[len(ex.Transcript)-1].Code)
}

func TestOneBadRecipientHoldsBackNobody(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{
		"RCPT TO:<gone@": "550 5.1.1 no such user", "RCPT TO:<later@": "450 4.2.0 try later",
	})}).Start(t)
	ex := send(t, relays(t, smtp.Options{}, url(p, "")), envelope("gone@y.test", "ok@y.test", "later@y.test"), noMark)
	require.Equal(t, email.RecipientBounced, ex.Outcomes[0].Status)
	require.Equal(t, email.DetailHard, ex.Outcomes[0].Reason)
	require.True(t, ex.Outcomes[0].Suppress)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[2].Status)
	require.Equal(t, 450, ex.Outcomes[2].Code)
	require.Equal(t, []string{"ok@y.test"}, p.Messages()[0].To)
	require.False(t, ex.RelayFault)
}

func TestNobodyAcceptedMeansNoData(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT": "550 5.1.1 no such user"})}).Start(t)
	rs := relays(t, smtp.Options{}, url(p, ""))
	send(t, rs, envelope("gone@y.test"), func(context.Context, []email.Outcome) error {
		require.Fail(t, "there is no dot to mark")
		return nil
	})
	require.NotContains(t, p.Lines(), "DATA")
	send(t, rs, envelope("gone@y.test"), noMark)
	require.Equal(t, 1, p.Dialed(), "the session is good for the next")
}

func TestRefusalsOfTheWholeTransaction(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers map[string]string
		status  email.RecipientStatus
		reason  email.Detail
		fault   bool
		counted bool
	}{
		"sender for good":      {map[string]string{"MAIL": "550 5.1.8 bad sender"}, email.RecipientFailed, email.DetailSenderRejected, false, true},
		"sender for now":       {map[string]string{"MAIL": "451 4.1.8 try later"}, email.RecipientDeferred, email.DetailSenderRejected, false, true},
		"too large":            {map[string]string{"MAIL": "552 5.3.4 too big"}, email.RecipientFailed, email.DetailTooLarge, false, true},
		"relay at MAIL":        {map[string]string{"MAIL": "530 5.7.0 authentication required"}, email.RecipientDeferred, "", true, false},
		"closing at MAIL":      {map[string]string{"MAIL": "421 4.3.2 shutting down"}, email.RecipientDeferred, "", true, false},
		"closing at RCPT":      {map[string]string{"RCPT": "421 4.3.2 shutting down"}, email.RecipientDeferred, "", true, false},
		"relaying denied":      {map[string]string{"RCPT": "554 5.7.1 relaying denied"}, email.RecipientDeferred, "", true, false},
		"DATA for now":         {map[string]string{"DATA": "451 4.3.0 no disk"}, email.RecipientDeferred, "", true, false},
		"DATA for good":        {map[string]string{"DATA": "554 5.7.1 policy"}, email.RecipientBounced, email.DetailBlock, false, true},
		"dot for now":          {map[string]string{".": "451 4.7.1 greylisted"}, email.RecipientDeferred, "", false, true},
		"dot for good":         {map[string]string{".": "550 5.7.1 spam"}, email.RecipientBounced, email.DetailBlock, false, true},
		"dot too large":        {map[string]string{".": "552 5.3.4 too big"}, email.RecipientFailed, email.DetailTooLarge, false, true},
		"cut after MAIL":       {map[string]string{"MAIL": smtptest.Drop}, email.RecipientDeferred, "", true, false},
		"cut after RCPT":       {map[string]string{"RCPT": smtptest.Drop}, email.RecipientDeferred, "", true, false},
		"cut after the dot":    {map[string]string{".": smtptest.Drop}, email.RecipientDeferred, email.DetailAmbiguous, true, true},
		"nonsense at the dot":  {map[string]string{".": "what?"}, email.RecipientDeferred, email.DetailAmbiguous, true, true},
		"nonsense at RCPT":     {map[string]string{"RCPT": "what?"}, email.RecipientDeferred, "", true, false},
		"dot says it closes":   {map[string]string{".": "421 4.7.0 too many errors"}, email.RecipientDeferred, "", false, true},
		"RCPT accepted as 251": {map[string]string{"RCPT": "251 2.1.5 will forward"}, email.RecipientDelivered, "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(tc.answers)}).Start(t)
			ex := send(t, relays(t, smtp.Options{}, url(p, "")), envelope("b@y.test", "c@y.test"), noMark)
			for _, o := range ex.Outcomes {
				require.Equal(t, tc.status, o.Status)
				require.Equal(t, tc.reason, o.Reason)
				require.Equal(t, tc.counted, !o.Uncounted)
			}
			require.Equal(t, tc.fault, ex.RelayFault)
			if tc.status != email.RecipientDelivered {
				require.Empty(t, p.Messages())
			}
		})
	}
}

func TestACutInsideTheMessageSendsNothing(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"<data>": smtptest.Drop})}).Start(t)
	rs := relays(t, smtp.Options{}, url(p, ""))
	s, err := rs.Session(t.Context(), email.Route{})
	require.NoError(t, err)
	defer s.Close()
	large := rendered + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 500_000) // more than socket buffers hold
	ex := s.Send(t.Context(), envelope("b@y.test"), []byte(large), func(context.Context, []email.Outcome) error {
		require.Fail(t, "the message is not all written")
		return nil
	})
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
	require.Equal(t, email.Detail(""), ex.Outcomes[0].Reason)
	require.True(t, ex.RelayFault)
}

func TestTheMarkIsBeforeTheDot(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<gone@": "550 5.1.1 no such user"})}).Start(t)
	rs := relays(t, smtp.Options{}, url(p, ""))
	var marked []email.Outcome
	send(t, rs, envelope("gone@y.test", "ok@y.test"), func(_ context.Context, ifSilent []email.Outcome) error {
		require.Empty(t, p.Messages())
		marked = ifSilent
		return nil
	})
	require.Equal(t, email.DetailHard, marked[0].Reason)
	require.Equal(t, email.DetailAmbiguous, marked[1].Reason)
	require.Equal(t, time.Minute, marked[1].RetryAfter)
	require.Len(t, p.Messages(), 1)

	ex := send(t, rs, envelope("ok@y.test"), func(context.Context, []email.Outcome) error { return email.ErrSuperseded })
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
	require.True(t, ex.Outcomes[0].Uncounted)
	require.False(t, ex.RelayFault, "the relay did nothing wrong")
	send(t, rs, envelope("ok@y.test"), noMark)
	require.Len(t, p.Messages(), 2, "without its mark a message is not delivered, not even by what follows on the socket")
	require.Equal(t, 2, p.Dialed())
}

func TestTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	t.Run("before the dot cuts the connection", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p := (&smtptest.Peer{Answer: func(line string) string {
			if line == "DATA" {
				cancel()
				<-ctx.Done()
			}
			return ""
		}}).Start(t)
		rs := relays(t, smtp.Options{}, url(p, ""))
		s, err := rs.Session(ctx, email.Route{})
		require.NoError(t, err)
		ex := s.Send(ctx, envelope("b@y.test"), []byte(rendered), noMark)
		s.Close()
		require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
		require.True(t, ex.Outcomes[0].Uncounted)
		p.Close()
		require.Empty(t, p.Messages())
	})
	t.Run("after the mark is ignored", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p := (&smtptest.Peer{Answer: func(line string) string {
			if line == "." {
				cancel()
			}
			return ""
		}}).Start(t)
		rs := relays(t, smtp.Options{}, url(p, ""))
		s, err := rs.Session(ctx, email.Route{})
		require.NoError(t, err)
		ex := s.Send(ctx, envelope("b@y.test"), []byte(rendered), noMark)
		s.Close()
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	})
}

func TestWhatARelayCannotTake(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: []string{"SIZE 1000"}}).Start(t)
	rs := relays(t, smtp.Options{}, url(p, ""))
	for name, tc := range map[string]struct {
		env     email.Envelope
		message string
		reason  email.Detail
		text    string
	}{
		"over its SIZE":           {envelope("b@y.test"), rendered + strings.Repeat("x", 1000) + "\r\n", email.DetailTooLarge, "the relay takes 1000"},
		"an address not in ASCII": {envelope("jürgen@y.test"), rendered, email.DetailUnsendable, "SMTPUTF8"},
		"a header not in ASCII":   {envelope("b@y.test"), "To: jürgen@y.test\r\n\r\nx\r\n", email.DetailUnsendable, "SMTPUTF8"},
		"a bare LF":               {envelope("b@y.test"), "A: b\r\n\r\nx\ny\r\n", email.DetailUnsendable, "byte 9"},
		"a bare CR":               {envelope("b@y.test"), "A: b\r\n\r\nx\ry\r\n", email.DetailUnsendable, "byte 9"},
	} {
		s, err := rs.Session(t.Context(), email.Route{})
		require.NoError(t, err)
		ex := s.Send(t.Context(), tc.env, []byte(tc.message), noMark)
		s.Close()
		require.Equal(t, email.RecipientFailed, ex.Outcomes[0].Status, name)
		require.Equal(t, tc.reason, ex.Outcomes[0].Reason, name)
		require.Contains(t, ex.Outcomes[0].Text, tc.text, name)
	}
	require.Empty(t, p.Messages())
	for _, l := range p.Lines() {
		require.NotContains(t, l, "MAIL")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server, authority := smtptest.Certificate(t, "127.0.0.1")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, authority, 0o600))
	foreign, _ := smtptest.Certificate(t, "127.0.0.1")
	for name, tc := range map[string]struct {
		peer    *smtptest.Peer
		options string
		scheme  string
		ok      bool
	}{
		"required":                        {&smtptest.Peer{TLS: server}, "tls=starttls", "smtp", true},
		"required, not offered":           {&smtptest.Peer{}, "tls=starttls", "smtp", false},
		"required, from a stranger":       {&smtptest.Peer{TLS: foreign}, "tls=starttls", "smtp", false},
		"required, refused by the server": {&smtptest.Peer{TLS: server, Answer: answers(map[string]string{"STARTTLS": "454 4.7.0 not now"})}, "tls=starttls", "smtp", false},
		"opportunistic, offered":          {&smtptest.Peer{TLS: server}, "tls=opportunistic", "smtp", true},
		"opportunistic, not offered":      {&smtptest.Peer{}, "tls=opportunistic", "smtp", true},
		"opportunistic, from a stranger":  {&smtptest.Peer{TLS: foreign}, "tls=opportunistic", "smtp", false},
		"implicit":                        {&smtptest.Peer{TLS: server, Implicit: true}, "", "smtps", true},
		"implicit, from a stranger":       {&smtptest.Peer{TLS: foreign, Implicit: true}, "", "smtps", false},
		"implicit, to a plain server":     {&smtptest.Peer{}, "", "smtps", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tc.peer.Start(t)
			rs := relays(t, smtp.Options{Timeouts: smtp.Timeouts{Connect: 3 * time.Second}}, tc.scheme+"://"+p.Addr()+"?tls_ca="+ca+"&"+tc.options)
			s, err := rs.Session(t.Context(), email.Route{})
			if !tc.ok {
				_, isRelay := errors.AsType[*email.RelayError](err)
				require.True(t, isRelay, "%v", err)
				for _, l := range p.Lines() {
					require.NotContains(t, l, "MAIL", "nothing is sent in the clear")
				}
				return
			}
			require.NoError(t, err)
			require.Equal(t, email.RecipientDelivered, s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark).Outcomes[0].Status)
			s.Close()
		})
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	server, authority := smtptest.Certificate(t, "127.0.0.1")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, authority, 0o600))
	for _, mechanism := range []string{"auto", "plain", "login"} {
		p := (&smtptest.Peer{TLS: server, User: "user", Password: "p:w/d"}).Start(t)
		rs := relays(t, smtp.Options{}, "smtp://user:p%3Aw%2Fd@"+p.Addr()+"?tls=starttls&tls_ca="+ca+"&auth="+mechanism)
		ex := send(t, rs, envelope("b@y.test"), noMark)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status, mechanism)
		require.Equal(t, "user", p.Messages()[0].User, mechanism)

		rs = relays(t, smtp.Options{}, "smtp://user:wrong@"+p.Addr()+"?tls=starttls&tls_ca="+ca+"&auth="+mechanism)
		_, err := rs.Session(t.Context(), email.Route{})
		relay, ok := errors.AsType[*email.RelayError](err)
		require.True(t, ok)
		require.Equal(t, 535, relay.Reply.Code, "%s: %v", mechanism, err)
		require.NotContains(t, err.Error(), "wrong@")
	}
}

func TestSessionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, smtp.Options{}, url(p, "max_conns=3"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				ex := send(t, rs, envelope(fmt.Sprintf("u%d-%d@y.test", i, j)), noMark)
				if ex.Outcomes[0].Status != email.RecipientDelivered {
					t.Errorf("%+v", ex)
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, p.Dialed(), 3)
	got := map[string]int{}
	for _, m := range p.Messages() {
		require.Len(t, m.To, 1, "no recipient of one message leaks into another")
		got[m.To[0]]++
	}
	require.Len(t, got, 80)
}

func TestAStaleSessionIsReplacedSilently(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, smtp.Options{}, url(p, ""))
	send(t, rs, envelope("one@y.test"), noMark)
	p.Hangup()
	ex := send(t, rs, envelope("two@y.test"), noMark)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	require.Len(t, p.Messages(), 2)
	require.Equal(t, 2, p.Dialed())
}

func TestRelaysTakeOverFromEachOther(t *testing.T) {
	t.Parallel()
	now := time.Now()
	clock := func() time.Time { return now }
	down := (&smtptest.Peer{Greeting: "421 4.3.2 overloaded"}).Start(t)
	up := (&smtptest.Peer{}).Start(t)
	rs := relays(t, smtp.Options{Now: clock}, url(down, "name=first"), url(up, "name=second"))
	for range 3 {
		send(t, rs, envelope("b@y.test"), noMark)
	}
	require.Len(t, up.Messages(), 3)
	require.Equal(t, 1, down.Dialed(), "one that does not answer is left alone for a while")
	now = now.Add(11 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 2, down.Dialed(), "and then probed")
	now = now.Add(11 * time.Second)
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 2, down.Dialed(), "the backoff doubles")

	up.Close()
	var err error
	for err == nil { // an idle session is found dead when it is used
		var s *smtp.Session
		if s, err = rs.Session(t.Context(), email.Route{}); err == nil {
			ex := s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark)
			require.True(t, ex.RelayFault)
			s.Close()
		}
	}
	relay, ok := errors.AsType[*email.RelayError](err)
	require.True(t, ok, "%v", err)
	require.Greater(t, relay.RetryAfter, time.Duration(0))
	require.LessOrEqual(t, relay.RetryAfter, 20*time.Second)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	bulk, special, rest := (&smtptest.Peer{}).Start(t), (&smtptest.Peer{}).Start(t), (&smtptest.Peer{}).Start(t)
	rs := relays(t, smtp.Options{}, url(bulk, "name=bulk&streams=broadcast"), url(special, "name=special&domains=x.test,y.test"), url(rest, "name=rest&streams=transactional&accepts=final"))
	for _, tc := range []struct {
		route email.Route
		want  string
	}{
		{email.Route{Stream: email.StreamBroadcast, SenderDomain: "x.test"}, "bulk"},
		{email.Route{Stream: email.StreamTransactional, SenderDomain: "y.test"}, "special"},
		{email.Route{Stream: email.StreamTransactional, SenderDomain: "z.test"}, "rest"},
	} {
		s, err := rs.Session(t.Context(), tc.route)
		require.NoError(t, err)
		require.Equal(t, tc.want, s.Relay().Name)
		s.Close()
		require.True(t, rs.Fast(tc.route))
	}
	only := relays(t, smtp.Options{}, url(bulk, "streams=broadcast"))
	_, err := only.Session(t.Context(), email.Route{Stream: email.StreamTransactional})
	require.ErrorContains(t, err, "no relay takes this mail")
}

func TestParseRelay(t *testing.T) {
	t.Parallel()
	r, err := smtp.ParseRelay("smtp://user:secret@mail.example.com?name=primary&max_conns=3&accepts=final&streams=transactional,broadcast&domains=X.com&local_addr=127.0.0.1")
	require.NoError(t, err)
	require.Equal(t, 587, r.Port)
	require.Equal(t, smtp.TLSRequired, r.TLS)
	require.Equal(t, []string{"x.com"}, r.Domains)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", r, r, r), "secret")
	r, err = smtp.ParseRelay("smtps://[::1]")
	require.NoError(t, err)
	require.Equal(t, 465, r.Port)
	require.Equal(t, smtp.TLSImplicit, r.TLS)
	r, err = smtp.ParseRelay("smtp://localhost:2525")
	require.NoError(t, err)
	require.Equal(t, smtp.TLSOpportunistic, r.TLS)
	for raw, want := range map[string]string{
		"mail.example.com":                "expected smtp://",
		"http://mail.example.com":         "expected smtp://",
		"smtp://":                         "expected smtp://",
		"smtp://h:99999":                  "65535",
		"smtp://u:secret@h?tls=maybe":     "tls",
		"smtp://u:secret@h?colour=red":    "there is no option colour",
		"smtp://h?max_conns=0":            "max_conns",
		"smtp://h?accepts=maybe":          "accepts",
		"smtp://h?streams=x":              "streams",
		"smtp://h?auth=magic":             "auth",
		"smtp://h?local_addr=x":           "local_addr",
		"smtp://h?tls_ca=/does/not/exist": "tls_ca",
		"smtp://h?rate=50/s":              "rate",
		"smtps://h?tls=none":              "tls=implicit",
		"smtp://u:secret@h/path":          "expected smtp://",
	} {
		_, err := smtp.ParseRelay(raw)
		require.ErrorContains(t, err, want, raw)
		require.NotContains(t, err.Error(), "secret", raw)
	}
}
