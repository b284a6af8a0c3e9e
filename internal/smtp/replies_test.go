package smtp

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtptest"
)

// replyRow is a row of testdata/replies.tsv for one kind of server.
type replyRow struct {
	line    int
	at      Stage
	accepts email.AcceptMeans
	want    string
	source  string
	raw     string
}

// replyRows reads the table. A row for any kind of server is one for each kind.
func replyRows(t *testing.T) (rows []replyRow) {
	t.Helper()
	f, err := os.Open("testdata/replies.tsv")
	require.NoError(t, err)
	defer f.Close()
	stages := map[string]Stage{"mail": StageMail, "rcpt": StageRcpt, "data": StageData, "dot": StageFinal}
	accepts := map[string][]email.AcceptMeans{"relay": {email.AcceptsRelay}, "final": {email.AcceptsFinal}, "any": {email.AcceptsRelay, email.AcceptsFinal}}
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
		for _, means := range accepts[col[1]] {
			rows = append(rows, replyRow{n, at, means, col[2], col[3], col[4]})
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, len(rows), 400)
	return rows
}

// TestTheRepliesOfRealServers holds classify to the table of facts, and with it how
// replies are split into code, enhanced code and words.
func TestTheRepliesOfRealServers(t *testing.T) {
	t.Parallel()
	for _, row := range replyRows(t) {
		rep := parseReply(t, row.raw)
		o, who := classify(row.at, row.accepts, rep)
		if got := verdict(o, who); got != row.want {
			t.Errorf("line %d, accepts=%s: %s: got %s, want %s: %+v", row.line, row.accepts, row.raw, got, row.want, rep)
		}
		if o.Suppress != (row.want == "hard") {
			t.Errorf("line %d, accepts=%s: %s: suppress is %t: only an address that does not exist is suppressed", row.line, row.accepts, row.raw, o.Suppress)
		}
	}
}

// TestAFooterInUsualWordsChangesNoVerdict: operators append a text to all refusals (Postfix's
// smtpd_reject_footer; the first one is postconf(5)'s example), also where the reason is the
// operator's own. footer_test.go has Postfix's own reasons.
func TestAFooterInUsualWordsChangesNoVerdict(t *testing.T) {
	t.Parallel()
	if smtptest.OffersPipelining() {
		t.Skip("has no connection: once is enough")
	}
	// These only Postfix's form tells from the reason.
	anything := []string{`\n%d - service unavailable? call us; too many connections? see https://example.com/`, " (see our blocklist policy)", " - We require SPF, DKIM and DMARC", " - our sending limits",
		" | Sending limits: https://example.com/", " [blocklist info: https://example.com/]", ", see our blocklists at https://example.com/", " see https://example.com/ for our SPF, DKIM and DMARC rules"}
	footers := []string{
		`\n%d For assistance, call 800-555-0101. Please provide the following information in your problem report: time (Nov 29 20:35:45), client (192.0.2.1) and server (mx.example.org).`,
		". For assistance, call 800-555-0101. Please provide the following information in your problem report: time (Nov 29 20:35:45), client (192.0.2.1) and server (mx.example.org).",
		"; contact postmaster@example.com if this is an error",
		". See https://example.com/help",
		". Blocklists: see https://example.com/", ". Our spam policy: see https://example.com/", ". Our spam policy and blocklists: see https://example.com/",
		". For authentication help call us", ". login help: call us", ". Please give client 192.0.2.1.", ". Client: 192.0.2.1, see https://example.com/policy",
		". If your client address 192.0.2.1 is on a blocklist, see https://example.com/",
		`\n%d For authentication problems call us`, `\n%d time: Nov 30 08:00:00 client: 192.0.2.1`,
		`\n%d Our spam policy: https://example.com/`, `\n%d Please give client 192.0.2.1\n%d Our policy and blocklists: see https://example.com/`,
		`\n%d Is your server's IP address listed? See https://example.com/`,
		". We require SPF, DKIM and DMARC, see https://example.com/", `\n%d We require SPF, DKIM and DMARC, see https://example.com/`,
		". See our sending limits at https://example.com/", ". Rate limits: https://example.com/", `\n%d Learn more about our sending limits at https://example.com/`,
		". We use DNSBLs: see https://example.com/", `\n%d Check your IP reputation at https://example.com/`, ". If you were blocked in error, call us",
		". We reject spam.", `\n%d See our policy at https://example.com/`, ". quota help: call us", ". Your IP address is 192.0.2.1",
		`\n%d Login or authentication help: call us`,
	}
	footers = append(footers, anything...)
	for n, footer := range footers {
		for _, row := range replyRows(t) {
			plainReply := parseReply(t, row.raw)
			if strings.TrimSpace(plainReply.Text) == "" || strings.Contains(row.raw, `\n`) || ownReasonEnd(plainReply) >= 0 {
				continue
			}
			if ofPostfix := strings.Contains(row.raw, " rejected: ") || strings.Contains(row.raw, "ervice unavailable"); !ofPostfix && row.line%len(footers) != n {
				continue // some of the others
			}
			if slices.Contains(anything, footer) && !rejection.MatchString(wordsOf(plainReply)) {
				continue
			}
			raw := strings.TrimSuffix(row.raw, ".") + strings.ReplaceAll(footer, "%d", row.raw[:3]+" "+plainReply.Enhanced)
			o, who := classify(row.at, row.accepts, parseReply(t, raw))
			if got := verdict(o, who); got != row.want {
				t.Errorf("line %d, accepts=%s: %s: got %s, want %s", row.line, row.accepts, raw, got, row.want)
			}
		}
	}
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
func verdict(o delivery.Outcome, who Attribution) string {
	switch {
	case who == OfRelay && o.Status == email.RecipientDeferred && o.Uncounted:
		return "relay"
	case o.Reason == email.DetailIPBlocked || o.Reason == email.DetailUnauthenticated:
		return string(o.Reason)
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
