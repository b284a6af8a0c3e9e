// Package dkimtest has DKIM signatures verified by programs that are not ours.
package dkimtest

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/require"
)

// Verifier has the signatures of a message verified; dns has the TXT records by name. The answer has "good" for each
// good signature, the topmost first, or why one is not.
type Verifier struct {
	Name   string
	Verify func(t testing.TB, message string, dns map[string]string) []string
}

// Verifiers are go-msgauth and dkimpy. The test is skipped where the latter is not installed, unless
// POSTRIDER_TEST_PYTHON is set.
func Verifiers(t testing.TB) []Verifier {
	t.Helper()
	return []Verifier{{"go-msgauth", VerifyMsgauth}, {"dkimpy", startDkimpy(t)}}
}

// VerifyMsgauth verifies with go-msgauth.
func VerifyMsgauth(t testing.TB, message string, dns map[string]string) []string {
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

//go:embed verify.py
var program string

// startDkimpy starts a Python program that verifies one message after the other.
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
	cmd := exec.Command(pythons[i], "-c", program) // ended below
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
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
