package webhook_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/nodetest"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/webhook"
)

// snippet is the only block of a language in docs/webhooks.md, as it stands there.
func snippet(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/webhooks.md")
	require.NoError(t, err)
	parts := strings.Split(string(page), "```"+language+"\n")
	require.Len(t, parts, 2, "blocks of %s", language)
	code, _, ended := strings.Cut(parts[1], "```\n")
	require.True(t, ended)
	return code
}

// output is what a program has written.
type output struct{ name string }

func (o output) String() string {
	data, err := os.ReadFile(o.name)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// runReceiver runs a program of the page as a newcomer does, until the test ends.
func runReceiver(t *testing.T, secret endpoint.Secret, dir, name string, args ...string) (url string, out output) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	cmd := exec.Command(name, args...) // ended below
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, file, file
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret.Reveal(), "PORT="+port)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed: that is no news
		require.NoError(t, file.Close())
	})
	out = output{file.Name()}
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		return err == nil && conn.Close() == nil
	}, time.Minute, 20*time.Millisecond, "%v", out)
	return "http://127.0.0.1:" + port + "/mail", out
}

// verifies calls a receiver as we call any: it takes what its secret has signed, before,
// during and after a rotation, and nothing else.
func verifies(t *testing.T, url string, out output, secret endpoint.Secret) {
	t.Helper()
	poster := webhook.NewPoster(safehttp.New(safehttp.Options{AllowHTTP: true, AllowLoopback: true}), "test")
	call := func(poster *webhook.Poster, secrets ...endpoint.Secret) int {
		due := endpoint.Due{
			Endpoint: endpoint.Endpoint{ID: "e", URL: url, Method: "POST", Secrets: secrets},
			Delivery: endpoint.Delivery{ID: "msg_1f25e6c9", Body: []byte(`{"type":"email.delivered","data":{"subject":"Grüße"}}`)},
		}
		res := poster.Post(t.Context(), due, 10*time.Second)
		require.NotZero(t, res.Status, "%s: %v", res.Error, out)
		return res.Status
	}
	other := newSecret(t)
	require.Equal(t, 204, call(poster, secret), "%v", out)
	require.Equal(t, 401, call(poster, other), "%v", out)
	now := time.Now()
	require.Equal(t, 204, call(poster, endpoint.Rotate([]endpoint.Secret{secret}, other, now)...), "replaced: both sign")
	require.Equal(t, 204, call(poster, endpoint.Rotate([]endpoint.Secret{other}, secret, now)...), "the new one")
	over := endpoint.Endpoint{Secrets: endpoint.Rotate([]endpoint.Secret{secret}, other, now)}.LiveSecrets(now.Add(endpoint.RotationOverlap))
	require.Equal(t, 401, call(poster, over...), "a day later it is the new one alone")
	stale := poster.WithClock(func() time.Time { return time.Now().Add(-10 * time.Minute) })
	require.Equal(t, 401, call(stale, secret), "somebody repeats an old call")
	require.Eventually(t, func() bool { return strings.Count(out.String(), "email.delivered msg_1f25e6c9") == 3 }, 10*time.Second, 20*time.Millisecond, "%v", out)
}

func TestTheGoSnippetVerifies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "receiver")
	require.NoError(t, os.WriteFile(source, []byte(snippet(t, "go")), 0o600))
	// Here, so that go.mod says which version of the library.
	build, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput()
	require.NoError(t, err, string(build))
	secret := newSecret(t)
	url, out := runReceiver(t, secret, dir, program)
	verifies(t, url, out, secret)
}

// TestTheTypeScriptSnippetVerifies installs the npm packages that
// testdata/typescript pins, checks the snippet's types, and runs it.
func TestTheTypeScriptSnippetVerifies(t *testing.T) {
	t.Parallel()
	dir := nodetest.Build(t, "testdata/typescript", map[string]string{"receiver.ts": snippet(t, "typescript")})
	secret := newSecret(t)
	url, out := runReceiver(t, secret, dir, "node", "out/receiver.js")
	verifies(t, url, out, secret)
}
