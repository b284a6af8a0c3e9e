package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/devstack"
)

// patience is how long a test waits for something that has to happen. A machine
// ten times slower, or busy with other tests, is patient too.
const patience = 8 * time.Minute

// stack is a running `postrider dev`: the real binary, as a newcomer starts it.
type stack struct {
	t   *testing.T
	cmd *exec.Cmd
	printed
	dir string
	env map[string]string
	// api acts for the demo customer.
	api    *client.Client
	ended  chan struct{}
	waited error
	// ports by setting, kept over a restart.
	ports map[string]string
}

// binary builds postrider once for all tests of the package.
func binary(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postrider")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// temporalOnPath returns a directory that holds a `temporal`, so that a stack in
// a new folder does not build its own.
func temporalOnPath(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	cli, err := devstack.TemporalCLI(t.Context(), filepath.Join(root, "tools", "temporal"), filepath.Join(root, ".postrider", "tools"), os.Stderr)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(cli, filepath.Join(dir, "temporal")))
	return dir
}

func freePorts(t *testing.T) map[string]string {
	t.Helper()
	ports := map[string]string{}
	for _, name := range []string{"POSTRIDER_LISTEN", "POSTRIDER_INBOUND_LISTEN", "POSTRIDER_DEV_POSTGRES_PORT", "POSTRIDER_DEV_TEMPORAL_PORT", "POSTRIDER_DEV_TEMPORAL_UI_PORT"} {
		p, err := devstack.FreePort()
		require.NoError(t, err)
		ports[name] = strconv.Itoa(p)
		if strings.HasSuffix(name, "LISTEN") {
			ports[name] = "127.0.0.1:" + ports[name]
		}
	}
	return ports
}

// devCommandLine prepares a `postrider dev` with an environment of its own.
func devCommandLine(t *testing.T, bin, path, dir string, ports map[string]string, extra ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(bin, "dev") // ended by its test, with a signal
	cmd.Dir = "../.."
	cmd.Env = []string{"PATH=" + path + ":" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "POSTRIDER_DEV_DIR=" + dir,
		"POSTRIDER_RETRY_SCHEDULE=1s", "POSTRIDER_WEBHOOK_SCHEDULE=0s,1s,1s,1s,1s"}
	for name, value := range ports {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, extra...)
	return cmd
}

// startStack starts a stack and waits until it says that it runs.
func startStack(t *testing.T, bin, path, dir string, ports map[string]string, settings ...string) *stack {
	t.Helper()
	s := &stack{t: t, dir: dir, ports: ports, ended: make(chan struct{})}
	s.cmd = devCommandLine(t, bin, path, dir, ports, settings...)
	stdout, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.cmd.Stderr = s.cmd.Stdout
	require.NoError(t, s.cmd.Start())
	ready := make(chan struct{})
	go func() {
		defer close(s.ended)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			fmt.Fprintln(s, lines.Text())
			if strings.HasPrefix(lines.Text(), "Ctrl-C stops everything") {
				close(ready)
			}
		}
		s.waited = s.cmd.Wait()
	}()
	t.Cleanup(func() { s.stop() })
	select {
	case <-ready:
	case <-s.ended:
		require.FailNow(t, "postrider dev ended", s.output())
	case <-time.After(2 * patience):
		require.FailNow(t, "postrider dev is not ready", s.output())
	}
	s.env = readEnv(filepath.Join(dir, "dev.env"))
	s.api, err = client.New(s.env["POSTRIDER_URL"], s.env["POSTRIDER_ACCESSKEY"], checked(t, s.env["POSTRIDER_URL"]))
	require.NoError(t, err)
	// The address is printed before the last listener answers.
	require.Eventually(t, func() bool {
		res, err := http.Get(s.env["POSTRIDER_URL"] + "/readyz")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond)
	return s
}

// stop ends the stack as Ctrl-C does. It may be called again.
func (s *stack) stop() {
	select {
	case <-s.ended:
		return
	default:
	}
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGINT))
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Errorf("postrider dev did not stop: %s", s.output())
		require.NoError(s.t, s.cmd.Process.Kill())
		<-s.ended
	}
}

// call sends a request with the demo customer's key.
func (s *stack) call(method, path string, body string) (int, []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.env["POSTRIDER_URL"]+path, strings.NewReader(body))
	require.NoError(s.t, err)
	req.Header.Set("Authorization", "Bearer "+s.env["POSTRIDER_ACCESSKEY"])
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	data, err := io.ReadAll(res.Body)
	require.NoError(s.t, errors.Join(err, res.Body.Close()))
	check(s.t, s.env["POSTRIDER_URL"], []byte(body), res, data)
	return res.StatusCode, data
}

// post sends a literal body to POST /v1.0/emails, for the examples of VoIPBIN's e-mail API.
func (s *stack) post(body string) client.Email {
	s.t.Helper()
	status, data := s.call("POST", "/v1.0/emails", body)
	require.Equal(s.t, http.StatusAccepted, status, string(data))
	var m client.Email
	require.NoError(s.t, json.Unmarshal(data, &m))
	require.Equal(s.t, email.StatusQueued, m.Status)
	return m
}

// mailTo is from the demo customer to some recipients at example.net.
func mailTo(to ...string) client.Message {
	m := client.Message{From: client.Address{Email: "demo@example.com"}, Subject: to[0], Content: client.Content{Text: "x"}}
	for _, local := range to {
		m.To = append(m.To, client.Address{Email: local + "@example.net"})
	}
	return m
}

func (s *stack) send(m client.Message) client.Email {
	s.t.Helper()
	sent, err := s.api.Send(s.t.Context(), m)
	require.NoError(s.t, err)
	require.Equal(s.t, email.StatusQueued, sent.Status)
	return sent.Email
}

func (s *stack) get(id string) client.Email {
	s.t.Helper()
	m, err := s.api.Get(s.t.Context(), id)
	require.NoError(s.t, err)
	return m
}

// await waits until an e-mail has a status.
func (s *stack) await(id string, status email.Status) client.Email {
	s.t.Helper()
	var m client.Email
	require.Eventually(s.t, func() bool {
		m = s.get(id)
		return m.Status == status
	}, patience, 20*time.Millisecond, "e-mail %s is not %s: %s", id, status, s.logTail())
	return m
}

func (s *stack) logTail() string {
	data, err := os.ReadFile(filepath.Join(s.dir, "postrider.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-3000):])
}

func (s *stack) mailbox() string { return s.env["POSTRIDER_MAILBOX_ID"] }

// arrived finds the messages with an e-mail's Message-ID.
func (s *stack) arrived(id string) (out []client.Received) {
	s.t.Helper()
	for m, err := range s.api.Messages(s.t.Context(), s.mailbox()) {
		require.NoError(s.t, err)
		if strings.Contains(m.MessageID, id) {
			out = append(out, m)
		}
	}
	return out
}

// raw is a message's bytes as they arrived.
func (s *stack) raw(messageID string) string {
	s.t.Helper()
	raw, err := s.api.RawMessage(s.t.Context(), s.mailbox(), messageID)
	require.NoError(s.t, err)
	return string(raw)
}

// attachment is the content of a message's first attachment.
func (s *stack) attachment(messageID string) string {
	s.t.Helper()
	content, err := s.api.MessageAttachment(s.t.Context(), s.mailbox(), messageID, 0)
	require.NoError(s.t, err)
	return string(content)
}

// closed reports that nothing listens on any of the stack's ports.
func (s *stack) closed() error {
	addrs := []string{s.ports["POSTRIDER_LISTEN"], s.ports["POSTRIDER_INBOUND_LISTEN"]}
	for _, name := range []string{"POSTRIDER_DEV_POSTGRES_PORT", "POSTRIDER_DEV_TEMPORAL_PORT", "POSTRIDER_DEV_TEMPORAL_UI_PORT"} {
		addrs = append(addrs, "127.0.0.1:"+s.ports[name])
	}
	for _, addr := range addrs {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return errors.Join(fmt.Errorf("%s still answers", addr), conn.Close())
		}
	}
	return nil
}

// processes lists the commands of processes that mention the stack's folder.
func (s *stack) processes() []string {
	s.t.Helper()
	var out []string
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(s.t, err)
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it ended meanwhile
		}
		if text := strings.ReplaceAll(string(line), "\x00", " "); strings.Contains(text, s.dir) {
			out = append(out, text)
		}
	}
	return out
}
