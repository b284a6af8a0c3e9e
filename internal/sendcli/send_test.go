package sendcli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// parseSend reads a command line.
func parseSend(t *testing.T, args ...string) *flags {
	t.Helper()
	var f flags
	cmd := &cobra.Command{}
	f.define(cmd)
	require.NoError(t, cmd.ParseFlags(args))
	return &f
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestSendFlagsMessage(t *testing.T) {
	t.Parallel()
	html, invoice, logo, empty := write(t, "body.html", "<p>Hi</p>"), write(t, "invoice.pdf", "%PDF"), write(t, "logo=1.png", "PNG"), write(t, "empty.txt", "")
	f := parseSend(t, "--from", `"A \"B\", C" <a@x.com>`, "--to", "b@y.com", "--to", "Müller, Jörg <c@y.com>", "--cc", "<d@y.com>", "--bcc", " e@y.com ", "--reply-to", "r@x.com",
		"--subject", "s", "--text", "-", "--html", "@"+html, "--attach", invoice, "--attach", empty, "--inline", logo+"=logo", "--header", "X-A: b: c", "--header", "X-B:",
		"--tag", "a", "--tag", "b,c", "--metadata", "k=v=w", "--metadata", "e=", "--send-at", "2026-01-02T15:04:05+01:00", "--expires-at", "2026-01-03T15:04:05Z",
		"--stream", "broadcast", "--on-ambiguous", "fail", "--unsubscribe", "news")
	m, err := f.message(strings.NewReader("from standard input\n"))
	require.NoError(t, err)
	require.True(t, m.SendAt.Equal(time.Date(2026, 1, 2, 14, 4, 5, 0, time.UTC)))
	m.SendAt = time.Time{}
	require.Equal(t, client.Message{
		From: client.Address{Email: "a@x.com", Name: `A "B", C`}, To: []client.Address{{Email: "b@y.com"}, {Email: "c@y.com", Name: "Müller, Jörg"}},
		Cc: []client.Address{{Email: "d@y.com"}}, Bcc: []client.Address{{Email: "e@y.com"}}, ReplyTo: []client.Address{{Email: "r@x.com"}},
		Subject: "s", Content: client.Content{Text: "from standard input\n", HTML: "<p>Hi</p>"},
		Attachments: []client.Attachment{{Filename: "invoice.pdf", Content: []byte("%PDF")}, {Filename: "empty.txt", Content: []byte{}}, {Filename: "logo=1.png", Content: []byte("PNG"), ContentID: "logo"}},
		Headers:     client.Headers{{Name: "X-A", Value: "b: c"}, {Name: "X-B"}}, Tags: []string{"a", "b,c"}, Metadata: map[string]string{"k": "v=w", "e": ""},
		ExpiresAt: time.Date(2026, 1, 3, 15, 4, 5, 0, time.UTC), Stream: email.StreamBroadcast, OnAmbiguous: email.AmbiguousFail,
		Unsubscribe: &client.Unsubscribe{Topic: "news"},
	}, m)
	for value, want := range map[string]*client.Unsubscribe{"true": {}, "false": {Off: true}} {
		m, err := parseSend(t, "--from", "a@x.com", "--to", "b@y.com", "--subject", "s", "--text", "t", "--unsubscribe", value).message(strings.NewReader(""))
		require.NoError(t, err)
		require.Equal(t, want, m.Unsubscribe)
	}
}

func TestSendFlagsRefusals(t *testing.T) {
	t.Parallel()
	f := parseSend(t, "--text", "-", "--html", "-", "--attach", "nofile", "--inline", "logo.png", "--inline", "nologo=x", "--header", "x", "--metadata", "y",
		"--metadata", "a=1", "--metadata", "a=2", "--send-at", "soon", "--expires-at", "2026-01-02", "--wait", "61s")
	_, err := f.message(strings.NewReader(""))
	var starts []string
	for line := range strings.Lines(err.Error()) {
		start, _, _ := strings.Cut(line, ":")
		starts = append(starts, start)
	}
	require.Equal(t, []string{"--html", "--attach", `--inline "logo.png"`, "--inline", `--header "x"`, `--metadata "y"`, `--metadata "a=2"`, `--send-at "soon"`, `--expires-at "2026-01-02"`, "--subject", "--wait 1m1s"}, starts)
}

// TestSendFlagsOneAddressEach: a list is not read as one address with a long name.
func TestSendFlagsOneAddressEach(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"a@example.net,b@example.net", "a@example.net; b@example.net", "A <a@example.net>, B <b@example.net>", "a@example.net b@example.net", `"A, B" <a@example.net>,<b@example.net>`} {
		for flag, f := range map[string]flags{"--to": {to: []string{list}}, "--cc": {cc: []string{list}}, "--bcc": {bcc: []string{list}}, "--reply-to": {replyTo: []string{list}}, "--from": {from: list}} {
			f.subjectGiven = true
			_, err := f.message(strings.NewReader(""))
			require.ErrorContains(t, err, flag+" ", list)
			require.ErrorContains(t, err, "there is more than one address; give one", list)
		}
	}
	for _, one := range []string{"a@example.net", "Doe, Jane <jane@example.net>", `"me@home, \"x\"; Inc" <a@example.net>`, " a@example.net "} {
		f := flags{to: []string{one}, subjectGiven: true}
		_, err := f.message(strings.NewReader(""))
		require.NoError(t, err, one)
	}
}

func TestSendExplainsRefusals(t *testing.T) {
	t.Parallel()
	f := parseSend(t, "--to", "a@x", "--to", "b", "--reply-to", "r", "--attach", "f.exe", "--inline", "l.png=logo", "--tag", "t 1", "--idempotency-key", "k")
	for pointer, want := range map[string]string{
		"/from": "--from", "/from/email": "--from", "/to": "--to", "/to/1/email": `--to "b"`, "/to/7": "--to", "/reply_to/0/email": `--reply-to "r"`,
		"/subject": "--subject", "/content": "--text or --html", "/content/text": "--text", "/content/html": "--html",
		"/attachments": "--attach or --inline", "/attachments/0/filename": `--attach "f.exe"`, "/attachments/1/content_id": `--inline "l.png=logo"`,
		"/headers": "--header", "/headers/X~1A~0": `--header "X/A~"`, "/metadata/k": `--metadata "k"`, "/tags/0": `--tag "t 1"`,
		"/send_at": "--send-at", "/expires_at": "--expires-at", "/on_ambiguous": "--on-ambiguous", "/stream": "--stream",
		"wait": "--wait", "Idempotency-Key": "--idempotency-key",
	} {
		require.Equal(t, want, f.flag(pointer), pointer)
	}
	fields := func(code string) []email.FieldError {
		return []email.FieldError{{Pointer: "/from", Code: code, Detail: "bad"}, {Pointer: "/to/0/email", Code: "x", Detail: "worse"}}
	}
	for name, tt := range map[string]struct {
		err  error
		id   string
		want string
	}{
		"places":       {err: &client.Error{Status: 400, Code: email.CodeInvalidRequest, Fields: fields("x")}, want: "--from: bad\n--to \"a@x\": worse"},
		"missing":      {err: &client.Error{Status: 400, Code: email.CodeInvalidRequest, Fields: fields("missing")}, want: "--from: give the sender; this customer has no default source\n--to \"a@x\": worse"},
		"a key":        {err: &client.Error{Status: 401, Code: email.CodeUnauthorized, Detail: "unknown"}, want: "POSTRIDER_ACCESSKEY: unknown"},
		"a conflict":   {err: &client.Error{Status: 409, Code: email.CodeIdempotencyConflict, Detail: "other"}, want: "--idempotency-key: other"},
		"size":         {err: &client.Error{Status: 413, Code: email.CodeTooLarge, Detail: "much"}, want: "--text, --html, --attach, --inline: much"},
		"our fault":    {err: &client.Error{Status: 500, Code: "internal", Detail: "sorry", RequestID: "r"}, want: "sorry (request r)"},
		"another host": {err: &client.Error{Status: 404, Detail: "Not Found"}, want: "POSTRIDER_URL: http://x answers 404 Not Found: is that a Postrider?"},
		"no answer":    {err: context.Canceled, want: "no answer from http://x: context canceled\nit is not known whether the e-mail was accepted; --idempotency-key k makes it safe to send again"},
		"no verdict":   {err: context.Canceled, id: "1", want: "the e-mail is accepted as 1, but the request for its status failed: context canceled"},
	} {
		err := f.explain("http://x", tt.id, tt.err)
		require.EqualError(t, err, tt.want, name)
		require.NotErrorIs(t, err, context.Canceled, "main takes that for a wish to stop")
	}
}

func TestSendVerdicts(t *testing.T) {
	t.Parallel()
	for status, want := range map[email.RecipientStatus]error{
		email.RecipientDelivered: nil, email.RecipientQueued: exitStillOpen, email.RecipientSending: exitStillOpen, email.RecipientDeferred: exitStillOpen,
		email.RecipientBounced: exitNotDelivered, email.RecipientFailed: exitNotDelivered, email.RecipientCanceled: exitNotDelivered,
		email.RecipientExpired: exitNotDelivered, email.RecipientSuppressed: exitNotDelivered, email.RecipientComplained: exitNotDelivered,
	} {
		require.Equal(t, want, verdict([]client.Recipient{{Status: email.RecipientDelivered}, {Status: status}}), status)
		require.Equal(t, exitNotDelivered, verdict([]client.Recipient{{Status: status}, {Status: email.RecipientBounced}}), status)
	}
	require.Equal(t, "bounced (hard): 550 5.1.1 no?[31m such user", recipientLine(client.Recipient{Status: email.RecipientBounced, Reason: email.DetailHard, SMTPCode: 550, EnhancedCode: "5.1.1", Text: "no\x1b[31m such user"}))
	require.Equal(t, "delivered: 250 OK, by the relay r, which passes it on", recipientLine(client.Recipient{Status: email.RecipientDelivered, SMTPCode: 250, Text: "OK",
		AcceptedBy: &client.Acceptance{Host: "r", Means: email.AcceptsRelay}}))
}

// A subject is required, as over REST, so that it is not left out by mistake.
func TestSendRequiresASubject(t *testing.T) {
	t.Parallel()
	f := &flags{to: []string{"a@x.com"}, text: "x"}
	_, err := f.message(strings.NewReader(""))
	require.EqualError(t, err, "--subject: give a subject; it may be empty")
	f.subjectGiven = true
	_, err = f.message(strings.NewReader(""))
	require.NoError(t, err)
}
