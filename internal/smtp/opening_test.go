package smtp_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// The forms in which servers write what comes before MAIL. RFC 5321: keywords in any case
// (section 4.1.1.1), replies without text (section 4.2).
func TestHowServersOpenASession(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	ehlo := func(lines ...string) func(string) string {
		for i := range lines {
			lines[i] = "250-" + lines[i]
		}
		lines[len(lines)-1] = strings.Replace(lines[len(lines)-1], "-", " ", 1)
		return answers(map[string]string{"EHLO": strings.Join(lines, "\r\n")})
	}
	for name, tc := range map[string]struct {
		peer    *smtptest.Peer
		options string
		// said is a command that the peer must have got, by its beginning.
		said string
		tls  bool
	}{
		"a banner without text":                {peer: &smtptest.Peer{Greeting: "220"}},
		"a banner of a code and a space":       {peer: &smtptest.Peer{Greeting: "220 ", Answer: ehlo("")}},
		"a banner whose last line is the code": {peer: &smtptest.Peer{Greeting: "220-peer.test\r\n220"}},
		"a banner of several lines":            {peer: &smtptest.Peer{Greeting: "220-peer.test\r\n220-no spam\r\n220 please"}},
		"a banner that is not UTF-8":           {peer: &smtptest.Peer{Greeting: "220 gr\xfc\xdfe \xc4\xe3"}},
		"a banner that ends in LF":             {peer: &smtptest.Peer{Greeting: "220-peer\n220 peer.test"}},
		"lines that end in CR CR LF":           {peer: &smtptest.Peer{Greeting: "220 peer.test\r", Answer: answers(map[string]string{"EHLO": "250-peer\r\r\n250 SIZE 9999\r"})}, said: "MAIL FROM:<a@x.test> SIZE"},
		"EHLO's answer without text":           {peer: &smtptest.Peer{Answer: answers(map[string]string{"EHLO": "250"})}},
		"EHLO's last line is the code":         {peer: &smtptest.Peer{Answer: answers(map[string]string{"EHLO": "250-peer.test\r\n250-SIZE 1000000\r\n250"})}, said: "MAIL FROM:<a@x.test> SIZE"},
		"no extensions":                        {peer: &smtptest.Peer{Answer: ehlo("peer.test")}},
		"extensions with more spaces":          {peer: &smtptest.Peer{Answer: ehlo("peer.test", "  SIZE   1000000 ", "DSN ")}, said: "MAIL FROM:<a@x.test> SIZE=91 RET=HDRS"},
		"SIZE without a number":                {peer: &smtptest.Peer{Answer: ehlo("peer.test", "SIZE")}, said: "MAIL FROM:<a@x.test> SIZE=91"},
		"SIZE 0":                               {peer: &smtptest.Peer{Answer: ehlo("peer.test", "size 0")}, said: "MAIL FROM:<a@x.test> SIZE=91"},
		"size and dsn":                         {peer: &smtptest.Peer{Answer: ehlo("peer.test", "size 1000000", "Dsn")}, said: "MAIL FROM:<a@x.test> SIZE=91 RET=HDRS"},
		"chunking only":                        {peer: &smtptest.Peer{Answer: ehlo("peer.test", "CHUNKING", "BINARYMIME")}, said: "DATA"},
		"starttls, required":                   {peer: &smtptest.Peer{TLS: server, Answer: ehlo("peer.test", "starttls")}, options: "tls=starttls", tls: true},
		"StartTLS, required":                   {peer: &smtptest.Peer{TLS: server, Answer: ehlo("peer.test", "StartTLS")}, options: "tls=starttls", tls: true},
		"starttls, opportunistic":              {peer: &smtptest.Peer{TLS: server, Answer: ehlo("peer.test", "starttls")}, options: "tls=opportunistic", tls: true},
		"StartTls, verify":                     {peer: &smtptest.Peer{TLS: server, Answer: ehlo("peer.test", "StartTls")}, options: "tls=verify", tls: true},
		"EHLO is not known, HELO is":           {peer: &smtptest.Peer{Answer: answers(map[string]string{"EHLO": "502 5.5.1 no", "HELO": "250 ok"})}, said: "HELO "},
		"EHLO is an error, HELO is known":      {peer: &smtptest.Peer{Answer: answers(map[string]string{"EHLO": "500 what", "HELO": "250"})}, said: "HELO "},
		"every reply without text":             {peer: &smtptest.Peer{Greeting: "220", Answer: answers(map[string]string{"EHLO": "250", "MAIL": "250", "RCPT": "250", "DATA": ""})}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tc.peer.Start(t)
			if tc.options == "" {
				tc.options = "tls=none"
			}
			ex := send(t, relays(t, relay.Options{}, "smtp://"+p.Addr()+"?"+trust+"&"+tc.options), envelope("b@y.test"), noMark)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status, "%+v", ex)
			require.Contains(t, "\n"+strings.Join(p.Lines(), "\n"), "\n"+tc.said)
			require.Equal(t, tc.tls, strings.Contains(fmt.Sprint(ex.Transcript), "{TLS "))
		})
	}
}

func TestAuthInEveryForm(t *testing.T) {
	t.Parallel()
	signedIn := map[string]string{"AUTH": "235"}
	for name, tc := range map[string]struct {
		offer, options string
		answers        map[string]string
		used           string
	}{
		"in lower case":                {"250-peer.test\r\n250 auth login plain", "", nil, "AUTH PLAIN"},
		"with an equals sign":          {"250-peer.test\r\n250 AUTH=LOGIN", "", nil, "AUTH LOGIN"},
		"with an equals sign, several": {"250-peer.test\r\n250-auth=LOGIN PLAIN\r\n250 SIZE", "", nil, "AUTH PLAIN"},
		"with both":                    {"250-peer.test\r\n250-AUTH=LOGIN\r\n250 AUTH PLAIN LOGIN", "auth=login", nil, "AUTH LOGIN"},
		"on two lines":                 {"250-peer.test\r\n250-AUTH LOGIN\r\n250 AUTH CRAM-MD5", "", nil, "AUTH CRAM-MD5"},
		"accepted without text":        {"250-peer.test\r\n250 AUTH PLAIN", "", signedIn, "AUTH PLAIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := map[string]string{"EHLO": tc.offer}
			for k, v := range tc.answers {
				script[k] = v
			}
			p := (&smtptest.Peer{User: "user", Password: "secret", Answer: answers(script)}).Start(t)
			ex := send(t, relays(t, relay.Options{}, "smtp://user:secret@"+p.Addr()+"?tls=none&"+tc.options), envelope("b@y.test"), noMark)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
			require.Contains(t, strings.Join(p.Lines(), "\n"), tc.used)
		})
	}
}

// A session that does not open is the relay's fault, and its error says what happened.
func TestASessionThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		peer    *smtptest.Peer
		userAt  string
		says    string
		code    int
		without string
	}{
		"421 as banner":         {&smtptest.Peer{Greeting: "421 4.3.2 busy"}, "", "421", 421, "EHLO"},
		"554 as banner":         {&smtptest.Peer{Greeting: "554-no\r\n554 5.7.1 no mail\u202e here"}, "", `no mail\u202e here`, 554, "EHLO"},
		"250 as banner":         {&smtptest.Peer{Greeting: "250 ok"}, "", "250", 250, "EHLO"},
		"no reply as banner":    {&smtptest.Peer{Greeting: "hello there"}, "", "not a reply", 0, "EHLO"},
		"421 to EHLO":           {&smtptest.Peer{Answer: answers(map[string]string{"EHLO": "421 4.7.0 later"})}, "", "421", 421, "HELO "},
		"550 to EHLO and HELO":  {&smtptest.Peer{Answer: answers(map[string]string{"EHLO": "550 5.7.1 no", "HELO": "550 no"})}, "", "EHLO was answered 550 5.7.1 no", 550, "MAIL"},
		"closed at EHLO":        {&smtptest.Peer{Answer: answers(map[string]string{"EHLO": smtptest.Drop})}, "", "EHLO", 0, "MAIL"},
		"no AUTH":               {&smtptest.Peer{Extensions: []string{"SIZE 1000", "PIPELINING"}}, "user:secret@", "(PIPELINING, SIZE 1000) nothing may be used", 0, "MAIL"},
		"no usable AUTH":        {&smtptest.Peer{Extensions: []string{"AUTH=NTLM GSSAPI"}}, "user:secret@", "(NTLM GSSAPI) nothing may be used", 0, "MAIL"},
		"AUTH is refused":       {&smtptest.Peer{User: "user", Password: "other"}, "user:secret@", "535", 535, "MAIL"},
		"AUTH needs encryption": {&smtptest.Peer{Extensions: []string{"STARTTLS"}}, "user:secret@", "before STARTTLS, which tls=none does not use", 0, "MAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tc.peer.Start(t)
			_, err := relays(t, relay.Options{}, "smtp://"+tc.userAt+p.Addr()+"?tls=none").Session(t.Context(), delivery.Route{})
			relayErr, ok := errors.AsType[*delivery.RelayError](err)
			require.True(t, ok, "%v", err)
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), "\n")
			require.Equal(t, tc.code, relayErr.Reply.Code)
			for _, line := range p.Lines() {
				require.False(t, strings.HasPrefix(line, tc.without), line)
			}
		})
	}
}

// A server that never ends its reply gets no more of our memory than maxReply.
func TestRepliesBeforeMAILAreBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ first, block string }{
		"one line as banner":   {"220 ", strings.Repeat("x", 1<<16)},
		"many lines as banner": {"", strings.Repeat("220-peer.test\r\n", 1<<12)},
		"one line to EHLO":     {"220 peer.test\r\n250-", strings.Repeat("x", 1<<16)},
		"many lines to EHLO":   {"220 peer.test\r\n", strings.Repeat("250-SIZE 1000\r\n", 1<<12)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			var wrote atomic.Int64
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				if _, err := io.WriteString(conn, tc.first); err != nil {
					return
				}
				for wrote.Load() < 300<<20 {
					n, err := io.WriteString(conn, tc.block)
					wrote.Add(int64(n))
					if err != nil {
						return
					}
				}
			}()
			_, err = relays(t, relay.Options{}, "smtp://"+l.Addr().String()+"?tls=none").Session(t.Context(), delivery.Route{})
			require.ErrorContains(t, err, "more than 65536 bytes")
			<-ended
			require.Less(t, wrote.Load(), int64(64<<20), "what is more than socket buffers hold was not read")
		})
	}
}

func TestASilentServerMayExpectTLS(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	for limit := 30 * time.Millisecond; ; limit *= 2 {
		_, err = relays(t, relay.Options{Timeouts: smtp.Timeouts{Connect: limit}}, "smtp://"+l.Addr().String()+"?tls=none").Session(t.Context(), delivery.Route{})
		require.Error(t, err)
		if !strings.Contains(err.Error(), "dial tcp") && !strings.Contains(err.Error(), "waited for the answer to connect") {
			break
		} // on a busy machine the limit may pass before there is a connection
	}
	require.ErrorContains(t, err, "waited for the greeting")
	require.ErrorContains(t, err, "does the server expect TLS at once?")
}

// A relay that waits for TLS is distinguished from a slow one within seconds, with a good
// certificate and a bad one.
func TestAServerThatExpectsTLSIsFoundOut(t *testing.T) {
	t.Parallel()
	server, _ := smtptest.Certificate(t, "127.0.0.1")
	p := (&smtptest.Peer{TLS: server, Implicit: true}).Start(t)
	for _, mode := range []string{"none", "opportunistic", "starttls"} {
		rs := relays(t, relay.Options{Timeouts: smtp.Timeouts{Silence: time.Millisecond, Greeting: time.Hour, Connect: time.Hour}}, "smtp://"+p.Addr()+"?tls="+mode)
		_, err := rs.Session(t.Context(), delivery.Route{})
		require.ErrorContains(t, err, "does the server expect TLS at once? then write smtps://", mode)
		require.ErrorContains(t, err, "it answered a TLS handshake", mode)
		require.NotContains(t, err.Error(), "\n", mode)
	}
}

func TestASilentServerHasATimeToGreet(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	rs := relays(t, relay.Options{Timeouts: smtp.Timeouts{Greeting: 30 * time.Millisecond, Silence: time.Hour}}, "smtp://"+l.Addr().String()+"?tls=none")
	_, err = rs.Session(t.Context(), delivery.Route{})
	require.ErrorContains(t, err, "no greeting within 30ms: does the server expect TLS at once?")
	require.NotContains(t, err.Error(), "\n")
}

// A server that is slow, and is asked on a second connection whether it wants TLS, is
// waited for.
func TestASlowGreetingIsWaitedFor(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	failed := make(chan error, 1)
	go func() {
		failed <- func() error {
			first, err := l.Accept()
			if err != nil {
				return err
			}
			defer func() { _ = first.Close() }()
			second, err := l.Accept() // the question
			if err != nil {
				return err
			}
			if _, err := second.Write([]byte("220 slow.test\r\n")); err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, second) // until it hangs up, one way or the other
			if _, err := first.Write([]byte("220 slow.test\r\n")); err != nil {
				return err
			}
			lines := bufio.NewReader(first)
			if _, err := lines.ReadString('\n'); err != nil {
				return err
			}
			_, err = first.Write([]byte("250 slow.test\r\n"))
			return errors.Join(err, second.Close())
		}()
	}()
	rs := relays(t, relay.Options{Timeouts: smtp.Timeouts{Greeting: time.Hour, Connect: time.Hour, Silence: time.Millisecond}}, "smtp://"+l.Addr().String()+"?tls=none")
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	s.Close()
	require.NoError(t, <-failed)
}

// Replies that follow the answer to STARTTLS in the clear may come from an attacker
// (CVE-2011-0411).
func TestWhatFollowsSTARTTLSInTheClearIsDropped(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	offered := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		b := make([]byte, 1000)
		for _, s := range []string{"220 peer.test\r\n", "250-peer.test\r\n250 STARTTLS\r\n", "220 go on\r\n250-evil.test\r\n250 SIZE 1\r\n"} {
			if _, err := io.WriteString(conn, s); err != nil {
				return
			}
			if strings.HasPrefix(s, "220 go") {
				break
			}
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
		secure := tls.Server(conn, server)
		for _, s := range []string{"250-peer.test\r\n250 DSN\r\n", "250 ok\r\n"} {
			n, err := secure.Read(b)
			if err != nil {
				return
			}
			if strings.HasPrefix(string(b[:n]), "MAIL") {
				offered <- string(b[:n])
			}
			if _, err := io.WriteString(secure, s); err != nil {
				return
			}
		}
	}()
	s, err := relays(t, relay.Options{}, "smtp://"+l.Addr().String()+"?tls=starttls&"+trust).Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	s.Send(t.Context(), envelope("b@y.test"), []byte(rendered), noMark)
	s.Close()
	require.Equal(t, "MAIL FROM:<a@x.test> RET=HDRS ENVID=e-1\r\n", <-offered)
}
