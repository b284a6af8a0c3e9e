package inbound

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/nodetest"
)

var update = flag.Bool("update", false, "write testdata/reference/differences.json anew")

const differencesFile = "testdata/reference/differences.json"

// TestReferences reads the corpus and its mutations with mailparser and with Python's email package
// beside Parse. differences.json lists what they read otherwise, by reader, field and
// message; TestCorpus and TestMutationsMeanTheSame say what is right there.
// A mutation is listed where its message is read alike. A difference that is not
// listed fails the test, and so does a listed one that has gone.
func TestReferences(t *testing.T) {
	t.Parallel()
	for _, ref := range []struct {
		name string
		read func(testing.TB, []byte) []byte
		// cannot are mutations that it reads in no message.
		cannot []string
	}{
		{"mailparser", mailparser, []string{"white space before colons", "line ends of CR"}},
		{"python", pythonEmail, []string{"white space before colons"}},
	} {
		t.Run(ref.name, func(t *testing.T) {
			if !*update { // both write one file
				t.Parallel()
			}
			all := referenceMessages(t, ref.cannot)
			var in bytes.Buffer
			for _, m := range all {
				in.WriteString(base64.StdEncoding.EncodeToString(m.raw) + "\n")
			}
			lines := bytes.Split(bytes.TrimSpace(ref.read(t, in.Bytes())), []byte("\n"))
			require.Len(t, lines, len(all))
			got, original := map[string][]string{}, []string(nil)
			for i, m := range all {
				found := differing(t, read(t, m.raw), lines[i])
				if m.same == nil {
					original = found
				}
				for _, field := range found {
					if m.same == nil || slices.Contains(m.same, field) && !slices.Contains(original, field) && !slices.Contains(original, "error") {
						got[field] = append(got[field], m.name)
					}
				}
			}
			known := differences(t)
			if *update {
				known[ref.name] = got
				text, err := json.MarshalIndent(known, "", "  ")
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(differencesFile, append(text, '\n'), 0o600))
			}
			require.Equal(t, known[ref.name], got)
		})
	}
}

// referenceMessage is a message of the corpus, or, where same is set, a mutation
// of the one before.
type referenceMessage struct {
	name string
	raw  []byte
	same []string
}

func referenceMessages(t testing.TB, without []string) (all []referenceMessage) {
	t.Helper()
	for _, s := range corpus(t) {
		raw := s.message()
		all = append(all, referenceMessage{name: s.area + ": " + s.Name, raw: raw})
		if !isMutable(raw) {
			continue
		}
		for _, m := range mutations {
			if slices.Contains(without, m.name) {
				continue
			}
			if other := m.mutate(raw); other != nil {
				all = append(all, referenceMessage{name: s.area + ": " + s.Name + ": " + m.name, raw: other, same: m.same})
			}
		}
	}
	return all
}

func differences(t testing.TB) map[string]map[string][]string {
	t.Helper()
	known := map[string]map[string][]string{}
	text, err := os.ReadFile(differencesFile)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &known))
	}
	return known
}

// differing names the fields that a reference reads otherwise. Of addresses the
// names are left aside, of text the kind of line ends and white space at the ends.
func differing(t testing.TB, ours reading, line []byte) []string {
	t.Helper()
	var theirs struct {
		Error       string
		Text, HTML  string
		Subject     string
		Date        *time.Time
		From, To    [][2]string
		Attachments []attachment
	}
	require.NoError(t, json.Unmarshal(line, &theirs), string(line))
	if theirs.Error != "" {
		return []string{"error"}
	}
	emails := func(list [][2]string) (out []string) {
		for _, a := range list {
			if strings.Contains(a[1], "@") {
				out = append(out, a[1])
			}
		}
		return out
	}
	files := func(list []attachment) (out []string) {
		for _, a := range list {
			size := fmt.Sprint(a.Size)
			if strings.HasPrefix(a.Type, "message/") {
				size = "-" // Python has it taken apart
			}
			out = append(out, strings.Join([]string{a.Filename, a.Type, size}, " "))
		}
		return out
	}
	text := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	date := func(at *time.Time) string {
		if at == nil {
			return ""
		}
		return at.UTC().Format(time.RFC3339)
	}
	var ourDate string
	if ours.Date != nil {
		ourDate = *ours.Date
	}
	found := map[string]bool{
		"text": text(ours.Text) != text(theirs.Text), "html": text(ours.HTML) != text(theirs.HTML), "subject": text(ours.Subject) != text(theirs.Subject),
		"date": ourDate != date(theirs.Date), "from": !slices.Equal(emails(ours.From), emails(theirs.From)), "to": !slices.Equal(emails(ours.To), emails(theirs.To)),
		"attachments": !slices.Equal(files(ours.Attachments), files(theirs.Attachments)),
	}
	maps.DeleteFunc(found, func(_ string, differs bool) bool { return !differs })
	return slices.Sorted(maps.Keys(found))
}

func mailparser(t testing.TB, in []byte) []byte {
	t.Helper()
	dir := nodetest.Install(t, "testdata/reference", nil)
	return run(t, in, "node", filepath.Join(dir, "reference.js"))
}

// pythonEmail needs no more than Python 3.11: the package is in its library.
func pythonEmail(t testing.TB, in []byte) []byte {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("POSTRIDER_TEST_PYTHON") != "" {
			t.Fatal("python3 is required and is not on PATH")
		}
		t.Skip("python3 is not on PATH: the reading of mail is not compared with Python's")
	}
	return run(t, in, "python3", "testdata/reference/reference.py")
}

func run(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return out
}
