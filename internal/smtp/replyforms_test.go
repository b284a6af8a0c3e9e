package smtp_test

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// The forms in which servers write replies within a transaction (RFC 5321 section 4.2).
func TestTheFormsOfReplies(t *testing.T) {
	t.Parallel()
	const (
		done, late = email.RecipientDelivered, email.RecipientDeferred
		bounced    = email.RecipientBounced
	)
	for name, tc := range map[string]struct {
		answers  map[string]string
		statuses []email.RecipientStatus // of a@ and b@
		says     string
	}{
		"several lines with codes": {map[string]string{"MAIL": "250-2.1.0 a\r\n250 2.1.0 b", "RCPT": "250-2.1.5 a\r\n250 2.1.5 b", ".": "250-2.0.0 queued\r\n250 2.0.0 as 1"},
			[]email.RecipientStatus{done, done}, "queued as 1"},
		"without text":              {map[string]string{"MAIL": "250", "RCPT": "250", ".": "250"}, []email.RecipientStatus{done, done}, ""},
		"a bare last line":          {map[string]string{"MAIL": "250-ok\r\n250", "RCPT": "250-ok\r\n250", ".": "250-ok\r\n250"}, []email.RecipientStatus{done, done}, "ok"},
		"a space and no text":       {map[string]string{"MAIL": "250 ", "RCPT": "250 ", ".": "250 "}, []email.RecipientStatus{done, done}, ""},
		"lines that end in LF":      {map[string]string{"RCPT TO:<b@": "550-5.1.1 no\n550 5.1.1 body"}, []email.RecipientStatus{done, bounced}, ""},
		"lines that end in CR CR":   {map[string]string{"MAIL": "250 ok\r", "RCPT": "250 ok\r", ".": "250 ok\r"}, []email.RecipientStatus{done, done}, "ok"},
		"the code on the last line": {map[string]string{"RCPT TO:<b@": "550-we know\r\n550 5.1.1 nobody"}, []email.RecipientStatus{done, bounced}, ""},
		"bytes that are no UTF-8":   {map[string]string{"RCPT TO:<b@": "550 5.1.1 gr\xfc\xdfe", ".": "250 " + strings.Repeat("\xff", 600)}, []email.RecipientStatus{done, bounced}, "\ufffd"},
		"marks of direction":        {map[string]string{".": "250 ok \u202eexe"}, []email.RecipientStatus{done, done}, `ok \u202eexe`},
		"a line of 512 bytes":       {map[string]string{".": "250 " + strings.Repeat("x", 506)}, []email.RecipientStatus{done, done}, "xxx"},
		"two codes in one reply":    {map[string]string{"RCPT TO:<b@": "250-ok\r\n251 ok"}, []email.RecipientStatus{late, late}, ""},
		"no code":                   {map[string]string{"RCPT TO:<b@": "25A what"}, []email.RecipientStatus{late, late}, ""},
		"354 to RCPT":               {map[string]string{"RCPT TO:<b@": "354 go on"}, []email.RecipientStatus{late, late}, ""},
		"250 to DATA":               {map[string]string{"DATA": "250 ok"}, []email.RecipientStatus{late, late}, ""},
		"RSET refused":              {map[string]string{"RCPT": "550 5.1.1 nobody", "RSET": "502 no"}, []email.RecipientStatus{bounced, bounced}, ""},
		"an endless reply to MAIL":  {map[string]string{"MAIL": "250 " + strings.Repeat("x", 10<<20)}, []email.RecipientStatus{late, late}, ""},
		"an endless reply to RCPT":  {map[string]string{"RCPT TO:<b@": "250 " + strings.Repeat("x", 10<<20)}, []email.RecipientStatus{late, late}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(tc.answers)}).Start(t)
			ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test", "b@y.test"), noMark)
			for i, o := range ex.Outcomes {
				require.Equal(t, tc.statuses[i], o.Status, "%+v", o)
				require.Equal(t, strings.ToValidUTF8(o.Text, ""), o.Text)
			}
			require.Contains(t, ex.Outcomes[0].Text, tc.says)
		})
	}
}

// Replies arrive in pieces of any size.
func TestRepliesInPieces(t *testing.T) {
	t.Parallel()
	peer := (&smtptest.Peer{Extensions: []string{"SIZE 1000000"}}).Start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() { // a proxy that hands the server's replies on byte by byte
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = client.Close() }()
		server, err := net.Dial("tcp", peer.Addr())
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		go func() {
			b := make([]byte, 4096)
			for {
				n, err := client.Read(b)
				if err != nil {
					_ = server.Close()
					return
				}
				if _, err := server.Write(b[:n]); err != nil {
					return
				}
			}
		}()
		b := make([]byte, 1)
		for {
			if _, err := server.Read(b); err != nil {
				return
			}
			if _, err := client.Write(b); err != nil {
				return
			}
		}
	}()
	rs := relays(t, relay.Options{}, "smtp://"+l.Addr().String()+"?tls=none")
	require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Status)
	require.Len(t, peer.Messages(), 1)
}
