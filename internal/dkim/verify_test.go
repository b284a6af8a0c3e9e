package dkim_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
)

// at is in the past: dkimpy refuses a time that is more than ten hours ahead.
var at = time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("CET", 3600))

// testKeys are made once: an RSA key takes long. The Ed25519 key comes first, and its field last.
var testKeys = sync.OnceValue(func() []dkim.Key {
	var out []dkim.Key
	for _, a := range []dkim.Algorithm{dkim.Ed25519, dkim.RSA} {
		private, err := dkim.GenerateKey(a)
		if err != nil {
			panic(err)
		}
		out = append(out, dkim.Key{Domain: "example.com", Selector: "pr1-" + string(a), Private: private})
	}
	return out
})

func published(keys []dkim.Key) map[string]string {
	out := map[string]string{}
	for _, k := range keys {
		out[k.RecordName()] = k.Private.Record()
	}
	return out
}

// sign returns the message as SMTP sends it: with its signatures, and with its last line ended.
func sign(t testing.TB, message string) string {
	t.Helper()
	fields, err := dkim.Sign([]byte(message), testKeys(), at)
	require.NoError(t, err)
	if !bytes.HasSuffix([]byte(message), []byte("\r\n")) {
		message += "\r\n"
	}
	return string(fields) + message
}

// both is the verdict on two good signatures.
var both = []string{"good", "good"}

// verifier has signatures verified. Its answer has "good" for each good signature, the topmost
// first, or why one is not.
type verifier struct {
	name   string
	verify func(t testing.TB, message string, dns map[string]string) []string
}

func verifiers(t testing.TB) []verifier {
	return []verifier{{"go-msgauth", verifyMsgauth}, {"dkimpy", startDkimpy(t)}}
}

func verifyMsgauth(t testing.TB, message string, dns map[string]string) []string {
	t.Helper()
	if !bytes.Contains([]byte(message), []byte("\r\n\r\n")) {
		message += "\r\n" // it reads no message without this line
	}
	lookup := func(name string) ([]string, error) {
		if txt, ok := dns[name]; ok {
			return []string{txt}, nil
		}
		return nil, fmt.Errorf("%s has no record", name)
	}
	results, err := msgauth.VerifyWithOptions(bytes.NewReader([]byte(message)), &msgauth.VerifyOptions{LookupTXT: lookup})
	require.NoError(t, err)
	var out []string
	for _, r := range results {
		if r.Err != nil {
			out = append(out, r.Err.Error())
			continue
		}
		out = append(out, "good")
	}
	return out
}

// startDkimpy starts a Python program that verifies one message after the other. The test is
// skipped where its packages are not installed, unless POSTRIDER_TEST_PYTHON is set.
func startDkimpy(t testing.TB) func(testing.TB, string, map[string]string) []string {
	t.Helper()
	// Debian installs for its own Python. The first on PATH may be another.
	pythons := []string{"/usr/bin/python3", "python3"}
	i := slices.IndexFunc(pythons, func(python string) bool {
		return exec.CommandContext(t.Context(), python, "-c", "import dkim, nacl.signing").Run() == nil
	})
	if i < 0 {
		const missing = "Debian's packages python3-dkim and python3-nacl are not installed"
		if os.Getenv("POSTRIDER_TEST_PYTHON") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing + ": signatures are not verified with dkimpy")
	}
	cmd := exec.CommandContext(t.Context(), pythons[i], "testdata/verify.py")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() //nolint:errcheck // its answers have been read
	})
	requests, answers, lock := json.NewEncoder(stdin), bufio.NewReader(stdout), sync.Mutex{}
	return func(t testing.TB, message string, dns map[string]string) (out []string) {
		t.Helper()
		lock.Lock()
		defer lock.Unlock()
		require.NoError(t, requests.Encode(map[string]any{"message": []byte(message), "dns": dns}))
		line, err := answers.ReadBytes('\n')
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(line, &out))
		return out
	}
}
