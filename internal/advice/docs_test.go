package advice

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
