package smtp

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// TestTheRepliesOfRealServers holds classify to the table of facts, and with it how
// replies are split into code, enhanced code and words.
func TestTheRepliesOfRealServers(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/replies.tsv")
	require.NoError(t, err)
	defer f.Close()
	stages := map[string]Stage{"mail": StageMail, "rcpt": StageRcpt, "data": StageData, "dot": StageFinal}
	accepts := map[string][]email.AcceptMeans{"relay": {email.AcceptsRelay}, "final": {email.AcceptsFinal}, "any": {email.AcceptsRelay, email.AcceptsFinal}}
	rows := 0
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if line := lines.Text(); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		col := strings.Split(lines.Text(), "\t")
		require.Len(t, col, 5, "line %d", n)
		at, ok := stages[col[0]]
		require.True(t, ok, "line %d: stage", n)
		require.Contains(t, accepts, col[1], "line %d", n)
		rep := parseReply(t, col[4])
		for _, means := range accepts[col[1]] {
			rows++
			o, who := classify(at, means, rep)
			if got := verdict(o, who); got != col[2] {
				t.Errorf("line %d, accepts=%s: %s: got %s, want %s: %+v", n, means, col[4], got, col[2], rep)
			}
			if o.Suppress != (col[2] == "hard") {
				t.Errorf("line %d, accepts=%s: %s: suppress is %t: only an address that does not exist is suppressed", n, means, col[4], o.Suppress)
			}
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, rows, 400)
}

// parseReply reads a reply as it stands in the table.
func parseReply(t *testing.T, raw string) email.Reply {
	t.Helper()
	var text []string
	code := 0
	for line := range strings.SplitSeq(raw, `\n`) {
		var err error
		code, err = strconv.Atoi(line[:3])
		require.NoError(t, err, line)
		text = append(text, line[min(4, len(line)):])
	}
	return reply(code, strings.Join(text, "\n"))
}

// verdict names an outcome as the table does.
func verdict(o email.Outcome, who Attribution) string {
	switch {
	case who == OfRelay && o.Status == email.RecipientDeferred && o.Uncounted:
		return "relay"
	case who == OfSender && o.Status == email.RecipientDeferred:
		return "sender-later"
	case who == OfSender && o.Reason == email.DetailSenderRejected && o.Status == email.RecipientFailed:
		return "sender"
	case o.Status == email.RecipientDeferred && o.Uncounted && o.RetryAfter == nextTransaction:
		return "split"
	case o.Status == email.RecipientDeferred && who == OfRecipient && !o.Uncounted:
		return "deferred"
	}
	return string(o.Reason)
}
