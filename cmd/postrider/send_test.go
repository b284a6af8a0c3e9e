package main

import (
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

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
)

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

// TestSendAPIAccess: a key goes to the server that it came with.
func TestSendAPIAccess(t *testing.T) {
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

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
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

	out, code = run("", "--to", "good@example.net", "--to", "bounce-send@example.net", "--text", "x")
	require.Equal(s.t, 2, code, out)
	require.Contains(s.t, out, "\nbounce-send@example.net bounced (hard): 550 5.1.1 ")
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

// TestSendPrintsAnErrorOnce, behind the name of the program.
func TestSendPrintsAnErrorOnce(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), binary(t), "send", "--to", "a@x.com", "--text", "x")
	cmd.Env = []string{"POSTRIDER_URL=http://127.0.0.1:1", "POSTRIDER_ACCESSKEY=k"}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, "postrider: --subject: give a subject; it may be empty\n", string(out))
}
