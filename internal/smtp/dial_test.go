package smtp_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// trusted makes a TLS server and the options of a relay that trusts it.
func trusted(t *testing.T) (server *tls.Config, options string) {
	t.Helper()
	server, authority := smtptest.Certificate(t, "127.0.0.1")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, authority, 0o600))
	return server, "tls_ca=" + ca
}

func TestAuth(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	for _, tc := range []struct {
		mechanism, offered, used string
		implicit                 bool
	}{
		{"plain", "PLAIN LOGIN", "PLAIN", false},
		{"login", "PLAIN LOGIN", "LOGIN", false},
		{"cram-md5", "PLAIN CRAM-MD5", "CRAM-MD5", false},
		{"scram-sha-1", "SCRAM-SHA-1 PLAIN", "SCRAM-SHA-1", false},
		{"scram-sha-256", "SCRAM-SHA-256 PLAIN", "SCRAM-SHA-256", false},
		{"xoauth2", "XOAUTH2 PLAIN", "XOAUTH2", false},
		{"auto", "LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 NTLM", "SCRAM-SHA-256", false},
		{"auto", "NTLM LOGIN", "LOGIN", false},
		{"auto", "PLAIN", "PLAIN", true},
		{"login", "LOGIN", "LOGIN", true},
	} {
		t.Run(fmt.Sprintf("%s of %s, implicit %t", tc.mechanism, tc.offered, tc.implicit), func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{TLS: server, Implicit: tc.implicit, User: "user", Password: "p:w/d", Mechanisms: tc.offered}).Start(t)
			scheme := map[bool]string{false: "smtp", true: "smtps"}[tc.implicit]
			link := func(password string) string {
				return scheme + "://user:" + password + "@" + p.Addr() + "?auth=" + tc.mechanism + "&" + trust + map[bool]string{false: "&tls=starttls"}[tc.implicit]
			}
			ex := send(t, relays(t, relay.Options{}, link("p%3Aw%2Fd")), envelope("b@y.test"), noMark)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
			require.Equal(t, "user", p.Messages()[0].User)
			i := slices.IndexFunc(p.Lines(), func(l string) bool { return strings.HasPrefix(l, "AUTH") })
			require.Equal(t, tc.used, strings.Fields(p.Lines()[i])[1])
			transcript := fmt.Sprintf("%+v", ex.Transcript)
			require.Contains(t, transcript, "AUTH "+tc.used+" [redacted]")
			for _, secret := range append([]string{"p:w/d", "user"}, credentials(p.Lines()[i:])...) {
				require.NotContains(t, transcript, secret, "credentials stay out of the transcript")
			}

			var log bytes.Buffer
			_, err := relays(t, relay.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))}, link("mistaken")).Session(t.Context(), delivery.Route{})
			relayErr, ok := errors.AsType[*delivery.RelayError](err)
			require.True(t, ok)
			require.Equal(t, email.Reply{Code: 535, Enhanced: "5.7.8", Text: "wrong credentials"}, relayErr.Reply, "%v", err)
			require.Contains(t, log.String(), "relay.down")
			require.NotContains(t, err.Error()+log.String(), "mistaken")
		})
	}
}

// credentials are what was said from AUTH to MAIL, but for the mechanism's name.
func credentials(lines []string) (said []string) {
	for i, line := range lines {
		switch words := strings.Fields(line); {
		case strings.HasPrefix(line, "MAIL"):
			return said
		case i == 0 && len(words) > 2:
			said = append(said, words[2])
		case i > 0 && line != "":
			said = append(said, line)
		}
	}
	return said
}

func TestTheTranscriptBeginsWithTheSession(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	mails := 0
	p := (&smtptest.Peer{TLS: server, User: "user", Password: "secret", Mechanisms: "LOGIN", Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL") {
			if mails++; mails == 3 {
				return smtptest.Drop
			}
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{}, "smtp://user:secret@"+p.Addr()+"?tls=starttls&helo=us.test&"+trust)
	said := func() (out []string) {
		for _, s := range send(t, rs, envelope("b@y.test"), noMark).Transcript {
			out = append(out, fmt.Sprintf("%s -> %d", s.Command, s.Code))
		}
		return out
	}
	mail := "MAIL FROM:<a@x.test> -> 250"
	require.Equal(t, []string{
		"connect " + p.Addr() + " -> 0", "EHLO us.test -> 250", "STARTTLS -> 220", "TLS -> 0", "EHLO us.test -> 250",
		"AUTH LOGIN [redacted] -> 334", "AUTH LOGIN [redacted] -> 334", "AUTH LOGIN [redacted] -> 235", mail,
	}, said()[:9])
	require.Equal(t, mail, said()[0], "the second message goes over the same session")

	again := said()
	require.Equal(t, "MAIL FROM:<a@x.test> -> 0", again[0], "on the old session")
	require.Equal(t, "connect "+p.Addr()+" -> 0", again[1])
	require.Equal(t, mail, again[9])
}

func TestAuthThatIsNotOffered(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{User: "user", Password: "secret", Mechanisms: "PLAIN"}).Start(t)
	_, err := relays(t, relay.Options{}, "smtp://user:secret@"+p.Addr()+"?auth=cram-md5").Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "the relay offers (PLAIN), not CRAM-MD5")
	plain := (&smtptest.Peer{}).Start(t)
	_, err = relays(t, relay.Options{}, "smtp://user:secret@"+plain.Addr()).Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "nothing may be used")
}

// LOCALHOST is this machine too, but not by a spelling that is taken for it: here
// it stands for a host somewhere else.
func TestNoPasswordGoesInTheClear(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mechanism, offered, tls string
		ok                      bool
	}{
		{"auto", "PLAIN LOGIN", "opportunistic", false},
		{"plain", "PLAIN", "opportunistic", false},
		{"login", "LOGIN", "opportunistic", false},
		{"xoauth2", "XOAUTH2", "opportunistic", false},
		{"auto", "PLAIN CRAM-MD5", "opportunistic", true},
		{"plain", "PLAIN", "none", true}, // the operator has said so
	} {
		t.Run(tc.mechanism+" with tls="+tc.tls+" of "+tc.offered, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{User: "user", Password: "secret", Mechanisms: tc.offered}).Start(t)
			_, port, err := net.SplitHostPort(p.Addr())
			require.NoError(t, err)
			s, err := relays(t, relay.Options{}, "smtp://user:secret@LOCALHOST:"+port+"?tls="+tc.tls+"&auth="+tc.mechanism).Session(t.Context(), delivery.Route{})
			if tc.ok {
				require.NoError(t, err)
				s.Close()
				return
			}
			require.ErrorContains(t, err, "without TLS")
			for _, l := range p.Lines() {
				require.NotContains(t, l, "AUTH")
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	otherName, otherTrust := smtptest.Certificate(t, "relay.test")
	other := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, os.WriteFile(other, otherTrust, 0o600))
	foreign, _ := smtptest.Certificate(t, "127.0.0.1")
	old := server.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
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
		"opportunistic, from a stranger":  {&smtptest.Peer{TLS: foreign}, "tls=opportunistic", "smtp", true},
		"opportunistic, another name":     {&smtptest.Peer{TLS: otherName}, "tls=opportunistic", "smtp", true},
		"opportunistic, refused":          {&smtptest.Peer{TLS: server, Answer: answers(map[string]string{"STARTTLS": "454 4.7.0 not now"})}, "tls=opportunistic", "smtp", false},
		"opportunistic, broken off":       {&smtptest.Peer{TLS: server, Answer: answers(map[string]string{"STARTTLS": smtptest.ThenDrop("220 go ahead")})}, "tls=opportunistic", "smtp", false},
		"opportunistic, garbage":          {&smtptest.Peer{TLS: server, Answer: answers(map[string]string{"STARTTLS": "220 go ahead\r\nthis is no TLS record"})}, "tls=opportunistic", "smtp", false},
		"opportunistic, old TLS":          {&smtptest.Peer{TLS: old}, "tls=opportunistic", "smtp", true},
		"verify, offered":                 {&smtptest.Peer{TLS: server}, "tls=verify", "smtp", true},
		"verify, not offered":             {&smtptest.Peer{}, "tls=verify", "smtp", true},
		"verify, from a stranger":         {&smtptest.Peer{TLS: foreign}, "tls=verify", "smtp", false},
		"verify, for another name":        {&smtptest.Peer{TLS: otherName}, "tls=verify", "smtp", false},
		"verify, old TLS":                 {&smtptest.Peer{TLS: old}, "tls=verify", "smtp", false},
		"implicit":                        {&smtptest.Peer{TLS: server, Implicit: true}, "", "smtps", true},
		"implicit, from a stranger":       {&smtptest.Peer{TLS: foreign, Implicit: true}, "", "smtps", false},
		"required, for another name":      {&smtptest.Peer{TLS: otherName}, "tls=starttls", "smtp", false},
		"implicit, to a plain server":     {&smtptest.Peer{}, "", "smtps", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tc.peer.Start(t)
			rs := relays(t, relay.Options{Timeouts: smtp.Timeouts{Connect: 3 * time.Second}}, tc.scheme+"://"+p.Addr()+"?"+map[bool]string{true: "tls_ca=" + other, false: trust}[tc.peer.TLS == otherName]+"&"+tc.options)
			s, err := rs.Session(t.Context(), delivery.Route{})
			if !tc.ok {
				_, isRelay := errors.AsType[*delivery.RelayError](err)
				require.True(t, isRelay, "%v", err)
				for _, l := range p.Lines() {
					require.NotContains(t, l, "MAIL", "nothing is sent in the clear")
				}
				p.Await("the socket's end", func() bool { return p.Open() == 0 })
				return
			}
			require.NoError(t, err)
			ex := s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark)
			s.Close()
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
			i := slices.IndexFunc(ex.Transcript, func(s email.Step) bool { return s.Command == "TLS" })
			require.Equal(t, tc.peer.TLS != nil, i >= 0, "encrypted wherever it is offered")
			if i >= 0 {
				trusted := tc.peer.TLS != foreign && tc.peer.TLS != otherName
				require.Equal(t, trusted, !strings.Contains(ex.Transcript[i].Text, "not verified: x509: "), "%s", ex.Transcript[i].Text)
			}
		})
	}
}

// Opportunistic TLS takes any certificate, so an attacker on the way reads what is sent.
func TestNoPasswordGoesToAnUnverifiedServer(t *testing.T) {
	t.Parallel()
	foreign, _ := smtptest.Certificate(t, "localhost")
	p := (&smtptest.Peer{TLS: foreign, User: "user", Password: "secret", Mechanisms: "PLAIN LOGIN"}).Start(t)
	_, port, err := net.SplitHostPort(p.Addr())
	require.NoError(t, err)
	_, err = relays(t, relay.Options{}, "smtp://user:secret@LOCALHOST:"+port+"?tls=opportunistic").Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "without TLS to a verified server")
	require.ErrorContains(t, err, "tls_ca=")
	require.NotContains(t, strings.Join(p.Lines(), " "), "AUTH")
	// A connection on this machine has no attacker on the way.
	send(t, relays(t, relay.Options{}, "smtp://user:secret@127.0.0.1:"+port+"?tls=opportunistic"), envelope("b@y.test"), noMark)
	require.Len(t, p.Messages(), 1)
}

// TestARelayThatRepeatsThePassword: some say what they were given when they refuse it. The
// reply that is kept, the error and the log do not have it, cut off in the middle neither.
func TestARelayThatRepeatsThePassword(t *testing.T) {
	t.Parallel()
	for _, padding := range []int{0, email.MaxReplyText - 6} {
		p := (&smtptest.Peer{User: "user", Password: "other", Answer: func(line string) string {
			initial, ok := strings.CutPrefix(line, "AUTH PLAIN ")
			if !ok {
				return ""
			}
			plain, err := base64.StdEncoding.DecodeString(initial)
			if err != nil {
				return "500 no base64"
			}
			return "535-5.7.8 " + strings.Repeat("x", padding) + strings.ReplaceAll(string(plain), "\x00", " ") + "\r\n535 5.7.8 " + initial
		}}).Start(t)
		var log bytes.Buffer
		_, err := relays(t, relay.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))}, "smtp://user:mistaken@"+p.Addr()+"?tls=none&auth=plain").Session(t.Context(), delivery.Route{})
		relayErr, ok := errors.AsType[*delivery.RelayError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, 535, relayErr.Reply.Code)
		if padding == 0 {
			require.Equal(t, "user [redacted] [redacted]", relayErr.Reply.Text)
		}
		for _, text := range []string{relayErr.Reply.Text, err.Error(), log.String()} {
			require.NotContains(t, text, "mist")
			require.NotContains(t, text, base64.StdEncoding.EncodeToString([]byte("\x00user\x00mistaken")))
		}
	}
}
