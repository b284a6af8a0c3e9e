package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// parseSend reads a command line.
func parseSend(t *testing.T, args ...string) *sendFlags {
	t.Helper()
	var f sendFlags
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

func TestSendFlagsMakeAMessage(t *testing.T) {
	t.Parallel()
	html, invoice, logo, empty := write(t, "body.html", "<p>Hi</p>"), write(t, "invoice.pdf", "%PDF"), write(t, "logo=1.png", "PNG"), write(t, "empty.txt", "")
	f := parseSend(t, "--from", `"A \"B\", C" <a@x.com>`, "--to", "b@y.com", "--to", "Müller, Jörg <c@y.com>", "--cc", "<d@y.com>", "--bcc", " e@y.com ", "--reply-to", "r@x.com",
		"--subject", "s", "--text", "-", "--html", "@"+html, "--attach", invoice, "--attach", empty, "--inline", logo+"=logo", "--header", "X-A: b: c", "--header", "X-B:",
		"--tag", "a", "--tag", "b,c", "--metadata", "k=v=w", "--metadata", "e=", "--send-at", "2026-01-02T15:04:05+01:00", "--expires-at", "2026-01-03T15:04:05Z",
		"--stream", "broadcast", "--on-ambiguous", "fail")
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
	}, m)
}

func TestSendFlagsAreRefusedAtOnce(t *testing.T) {
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

// TestSendTakesOneAddressForEachFlag: a list is not read as one address with a strange name.
func TestSendTakesOneAddressForEachFlag(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"a@example.net,b@example.net", "a@example.net; b@example.net", "A <a@example.net>, B <b@example.net>", "a@example.net b@example.net", `"A, B" <a@example.net>,<b@example.net>`} {
		for flag, f := range map[string]sendFlags{"--to": {to: []string{list}}, "--cc": {cc: []string{list}}, "--bcc": {bcc: []string{list}}, "--reply-to": {replyTo: []string{list}}, "--from": {from: list}} {
			f.subjectGiven = true
			_, err := f.message(strings.NewReader(""))
			require.ErrorContains(t, err, flag+" ", list)
			require.ErrorContains(t, err, "there is more than one address; give one", list)
		}
	}
	for _, one := range []string{"a@example.net", "Doe, Jane <jane@example.net>", `"me@home, \"x\"; Inc" <a@example.net>`, " a@example.net "} {
		f := sendFlags{to: []string{one}, subjectGiven: true}
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
		"no verdict":   {err: context.Canceled, id: "1", want: "the e-mail is accepted as 1, but there was no answer about what became of it: context canceled"},
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

// TestSendIsInterrupted: Ctrl-C ends a send that may have been accepted, which is
// no success.
func TestSendIsInterrupted(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body) // its end is what the server watches the connection from
		if err != nil {
			t.Error(err)
		}
		close(asked)
		<-r.Context().Done()
	}))
	t.Cleanup(api.Close)
	var out strings.Builder
	cmd := exec.CommandContext(t.Context(), binary(t), "send", "--to", "a@x.com", "--subject", "s")
	cmd.Env = []string{"POSTRIDER_URL=" + api.URL, "POSTRIDER_ACCESSKEY=k"}
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	<-asked
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, out.String(), "it is not known whether the e-mail was accepted; --idempotency-key ")
}

// TestSendKnowsWhereTo: a key goes to the server that it came with.
func TestSendKnowsWhereTo(t *testing.T) {
	t.Parallel()
	bin := binary(t)
	asked := make(chan string, 10)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"id":"1","status":"queued"}`))
	}))
	t.Cleanup(api.Close)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".postrider"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".postrider", "dev.env"), []byte("POSTRIDER_URL='"+api.URL+"'\nPOSTRIDER_ACCESSKEY='of-dev'\n"), 0o600))
	run := func(in string, env ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), bin, "send", "--to", "a@x.com", "--subject", "", "--text", "x")
		cmd.Dir, cmd.Env = in, env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, tt := range []struct {
		dir string
		env []string
		key string
	}{
		{dir, nil, "of-dev"},
		{t.TempDir(), []string{"POSTRIDER_DEV_DIR=" + filepath.Join(dir, ".postrider")}, "of-dev"},
		{dir, []string{"POSTRIDER_URL=" + api.URL, "POSTRIDER_ACCESSKEY=of-env"}, "of-env"},
	} {
		out, err := run(tt.dir, tt.env...)
		require.NoError(t, err, out)
		require.Equal(t, "1 queued\n", out)
		require.Equal(t, "Bearer "+tt.key, <-asked)
	}
	for want, env := range map[string][]string{
		"POSTRIDER_ACCESSKEY is not set":         {"POSTRIDER_URL=" + api.URL},
		"POSTRIDER_URL is not set":               {"POSTRIDER_ACCESSKEY=of-env"},
		"there is no dev.env":                    {"POSTRIDER_DEV_DIR=/nowhere"},
		"did you mean POSTRIDER_ACCESSKEY":       {"POSTRIDER_ACESSKEY=x"},
		"POSTRIDER_URL or POSTRIDER_ACCESSKEY: ": {"POSTRIDER_URL=mail.example.com", "POSTRIDER_ACCESSKEY=x"},
	} {
		out, err := run(dir, env...)
		require.Error(t, err, want)
		require.Contains(t, out, want)
	}
	require.Empty(t, asked)
}

// unknownMembers are those of a JSON object that a struct has no field for.
func unknownMembers(value any, typ reflect.Type, at string) (out []string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if list, ok := value.([]any); ok {
		for _, v := range list {
			out = append(out, unknownMembers(v, typ, at)...)
		}
		return out
	}
	object, ok := value.(map[string]any)
	if !ok || typ.Kind() != reflect.Struct {
		return nil
	}
	for name, v := range object {
		i := 0
		for i < typ.NumField() {
			if tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); tag == name {
				break
			}
			i++
		}
		if i == typ.NumField() {
			out = append(out, at+"/"+name)
			continue
		}
		out = append(out, unknownMembers(v, typ.Field(i).Type, at+"/"+name)...)
	}
	return out
}

// commandLine sends with postrider send, as a person in the folder of a running
// stack does.
func (s *stack) commandLine(bin string) {
	run := func(stdin string, args ...string) (string, int) {
		s.t.Helper()
		cmd := exec.CommandContext(s.t.Context(), bin, append([]string{"send", "--from", "Demo <demo@example.com>", "--subject", "From a shell", "--wait", "30s"}, args...)...)
		cmd.Env, cmd.Stdin = []string{"POSTRIDER_DEV_DIR=" + s.dir}, strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			require.NoError(s.t, err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	const png = "\x89PNG\r\n\x1a\n"
	file, logo := write(s.t, "notes.txt", "a file\n"), write(s.t, "logo.png", png)
	out, code := run("text from standard input\n", "--to", "shell@example.net", "--text", "-", "--html", `<img src="cid:logo">`, "--attach", file, "--inline", logo+"=logo")
	require.Zero(s.t, code, out)
	require.Regexp(s.t, `^[0-9a-f-]{36} delivered\nshell@example\.net delivered: 250 2\.0\.0 OK: stored as [0-9a-f-]{36}, by the recipient's server 127\.0\.0\.1\n$`, out)
	id, _, _ := strings.Cut(out, " ")
	msgs := s.arrived(id)
	require.Len(s.t, msgs, 1)
	got, err := s.api.Message(s.t.Context(), s.mailbox(), msgs[0].ID)
	require.NoError(s.t, err)
	require.Equal(s.t, "text from standard input", strings.TrimSpace(got.Parsed.Text))
	require.Equal(s.t, []client.Address{{Email: "demo@example.com", Name: "Demo"}}, got.Parsed.From)
	files := map[string]string{}
	for _, part := range got.Parsed.Attachments {
		content, err := s.api.MessageAttachment(s.t.Context(), s.mailbox(), msgs[0].ID, part.Index)
		require.NoError(s.t, err)
		files[part.Filename+" "+part.ContentID] = string(content)
	}
	require.Equal(s.t, map[string]string{"notes.txt ": "a file\n", "logo.png logo": png}, files)

	out, code = run("", "--to", "good@example.net", "--to", "bounce@example.net", "--text", "x")
	require.Equal(s.t, 2, code, out)
	require.Contains(s.t, out, "\nbounce@example.net bounced (hard): 550 5.1.1 ")
	out, code = run("", "--to", "good@example.net", "--text", "x", "--send-at", time.Now().Add(time.Hour).Format(time.RFC3339), "--wait", "50ms")
	require.Equal(s.t, 3, code, out)
	require.Contains(s.t, out, " queued (scheduled)\n")
	out, code = run("", "--to", "good@example.net", "--to", "nobody", "--tag", "a b")
	require.Equal(s.t, 1, code)
	require.Equal(s.t, "postrider: --to \"nobody\": an address looks like local@domain\n--text or --html: give a text, HTML or both; they may not be empty\n"+
		"--tag \"a b\": a tag has 1 to 64 of the characters A-Z a-z 0-9 _ . : -\n", out)

	out, code = run("", "--to", "good@example.net", "--text", "x", "--attach", file, "--json")
	require.Zero(s.t, code, out)
	var answer map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(out), &answer))
	require.Equal(s.t, "delivered", answer["status"])
	require.Empty(s.t, unknownMembers(answer, reflect.TypeFor[client.Email](), ""), "the client knows the whole answer")
}

// A subject is given, as over REST: nobody sends without one by mistake.
func TestSendNeedsASubject(t *testing.T) {
	t.Parallel()
	f := &sendFlags{to: []string{"a@x.com"}, text: "x"}
	_, err := f.message(strings.NewReader(""))
	require.EqualError(t, err, "--subject: give a subject; it may be empty")
	f.subjectGiven = true
	_, err = f.message(strings.NewReader(""))
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary(t), "send", "--to", "a@x.com", "--text", "x")
	cmd.Env = []string{"POSTRIDER_URL=http://127.0.0.1:1", "POSTRIDER_ACCESSKEY=k"}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, "postrider: --subject: give a subject; it may be empty\n", string(out))
}
