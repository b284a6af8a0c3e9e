package advice

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEachSentenceOfTheAdviceHasATest reads the tables of sentences: each names a feature and tests. A test
// of the documents finds names of tests that do not exist.
func TestEachSentenceOfTheAdviceHasATest(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/advice.md")
	require.NoError(t, err)
	sentences := 0
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.ReplaceAll(strings.TrimSpace(line), "\\|", ""), "|"), " | ")
		if len(cells) != 3 || strings.HasPrefix(cells[2], "tests") {
			continue
		}
		sentences++
		require.Greater(t, len(cells[1]), 20, line)
		require.Regexp(t, "`Test[A-Za-z]+`", cells[2], line)
	}
	require.Equal(t, 20, sentences)
}

func TestTheDocumentNamesEveryCheckAndPhrase(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/advice.md")
	require.NoError(t, err)
	var ids []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(raw), -1) {
		ids = append(ids, m[1])
	}
	var want []string
	for _, c := range checks {
		want = append(want, c.id)
	}
	require.Equal(t, want, ids)
	_, list, found := strings.Cut(string(raw), "these are what a sender can change.\n")
	require.True(t, found)
	var phrases []string
	for p := range strings.SplitSeq(list, "·") {
		phrases = append(phrases, strings.Join(strings.Fields(p), " "))
	}
	require.Equal(t, spamPhrases, phrases)
}
