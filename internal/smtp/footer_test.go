package smtp

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtptest"
)

// footerMarks begin a footer behind a reply (Postfix's smtpd_reject_footer with or without "\c"). %d is the code.
var footerMarks = []string{
	". ", "! ", " - ", " -- ", " — ", " – ", "— ", "; ", ": ", " : ", ", ", ", see ", "| ", " | ", "|", " / ", "/ ", " * ", " # ", " + ", " ! ", " ~ ", " > ",
	" (", "(", " [", "[", " {", " <", "...", "... ", "!", "? ", " \"", "' ", "=> ", " ", "  ", " see ", "-", `\n%d `, `.\n%d `, `\n%d \n%d `,
}

// footerWords are what operators append. Each names things that are the reason of other refusals.
var footerWords = []string{
	"For assistance, call 800-555-0101. Please provide the following information in your problem report: time (Nov 29 20:35:45), client (192.0.2.1) and server (mx.example.org).",
	"Blocked by a blocklist? See https://example.com/unblock.",
	"SPF, DKIM and DMARC are required: https://example.com/", "SPF and DKIM required", "We require SPF and DKIM", "If SPF or DKIM fails, call 555-0100",
	"Questions about our SPF policy or limits? Call 555-0100", "Need help? SPF and DKIM are described at https://example.com/",
	"our blocklist and SPF policy: https://example.com/", "sending limits and SPF rules: https://example.com/",
	"sending limits: https://example.com/limits)", "quota and policy: https://example.com/q]", "rate limit info https://example.com/",
	`Mailbox quota exceeded? See https://example.com/\n%d Your IP may be on a blocklist\n%d Too many recipients? Too many connections? Relay access? See above`,
	"contact postmaster@example.com for spam or reputation issues", "authentication required? use port 587", "please authenticate; relaying denied",
	"Temporarily deferred? We use greylisting: try again in 5 minutes", "https://example.com/blocked?192.0.2.1>", "https://www.spamhaus.org/query/ip/192.0.2.1",
	"Mailbox disabled? No such user? Ask helpdesk@example.com", "user unknown", "mailbox full, over quota", "mailbox is disabled",
	`See https://example.com/ for our sending limits\n%d blocklists and SPF policy`, "spam? virus? https://example.com/", "message looks like spam", "a virus was found",
	"Your IP address is listed, poor reputation", "too many recipients", "too many messages per hour, daily limit", "sender address rejected: not owned by user",
	"Client host rejected: blocked using zen.spamhaus.org", "Service unavailable", "message too large, size limit", "blocked by the recipient", "error 4.3.2: system not accepting messages",
	"TLS is required", "Your account is suspended", "sender verification failed", "the content filter is down, server error",
}

// freeReasons are words in the table's source column for reasons that Postfix does not write itself: those of
// access tables with a text, of policy services and of filters.
var freeReasons = []string{"policy service", "policy_service", "check_client_access", "check_helo_access", "check_recipient_access", "header_checks with", "header_checks, words", "URIBL", "VDA", "postgrey", "through Postfix", "closing connection"}

// judgement is all that a reply decides.
type judgement struct {
	outcome                                      delivery.Outcome
	who                                          Attribution
	suspicion                                    Suspicion
	oneSender, meansUs, oneMail, account, counts bool
}

func judge(at Stage, accepts email.AcceptMeans, r email.Reply) (j judgement) {
	j.outcome, j.who = classify(at, accepts, r)
	j.suspicion = suspicionOf(accepts, j.outcome)
	j.oneSender, j.meansUs, j.oneMail, j.account = MayBeOfOneSender("", r), mayMeanUs(accepts, r), mayBeOfOneMail(at, r), isAccountFault(r)
	j.counts = faultCounts(at, r)
	j.outcome.Reply = email.Reply{Code: r.Code, Enhanced: r.Enhanced}
	return j
}

// TestAFooterChangesNoVerdict: behind the reasons that Postfix writes itself an operator may append any text, after
// any mark. The whole matrix compares the words that are judged. The judgements are compared for some of each row's.
func TestAFooterChangesNoVerdict(t *testing.T) {
	t.Parallel()
	if smtptest.OffersPipelining() {
		t.Skip("has no connection: once is enough")
	}
	withFooter := func(raw string, plain email.Reply, mark, words string) email.Reply {
		if footer := mark + words; strings.Contains(footer, "%d") {
			return parseReply(t, raw+strings.ReplaceAll(footer, "%d", strings.TrimSpace(raw[:3]+" "+plain.Enhanced)))
		}
		plain.Text += mark + words
		return plain
	}
	rows, before := 0, 0
	for _, row := range replyRows(t) {
		if !strings.Contains(row.source, "Postfix") || strings.Contains(row.raw, `\n`) || len(row.raw) == 3 {
			continue
		}
		plain := parseReply(t, row.raw)
		if ownReasonEnd(plain) < 0 {
			isFree := slices.ContainsFunc(freeReasons, func(s string) bool { return strings.Contains(row.source, s) })
			assert.True(t, isFree, "line %d: no reason of Postfix's own: %s", row.line, row.raw)
			continue
		}
		rows++
		said, want := saidByServer(plain), judge(row.at, row.accepts, plain)
		for i, mark := range footerMarks {
			if i%14 == row.line%14 {
				r := withFooter(row.raw, plain, mark, footerWords[(i+row.line)%len(footerWords)])
				require.Equal(t, want, judge(row.at, row.accepts, r), "line %d, accepts=%s: %s", row.line, row.accepts, r.Text)
			}
			for _, words := range footerWords {
				if row.line == before { // the same reply, from another kind of server
					break
				}
				r := withFooter(row.raw, plain, mark, words)
				if got := saidByServer(r); got != said {
					t.Errorf("line %d: %s: judged by %q, not by %q", row.line, r.Text, got, said)
				}
			}
		}
		before = row.line
	}
	require.Greater(t, rows, 100)
}

// TestPostfixOwnReasons: each reason of the tables ends where a footer begins.
func TestPostfixOwnReasons(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{postfixReasons, postfixReplies} {
		for _, s := range list {
			s = strings.ReplaceAll(s, "%s", "x.example.net")
			raw := "550 5.7.1 <b@y.test>: Recipient address rejected: " + s
			switch {
			case s[0] >= '0' && s[0] <= '9':
				raw = s
			case len(list) == len(postfixReplies):
				raw = "450 4.7.1 " + s
			}
			plain := parseReply(t, raw)
			require.Equal(t, plain.Text, saidByServer(plain))
			for _, footer := range []string{" Spam? Call us", "; our SPF policy", "— SPF", `\n` + raw[:3] + " " + plain.Enhanced + " SPF"} {
				require.Equal(t, plain.Text, saidByServer(parseReply(t, raw+footer)), raw+footer)
			}
		}
	}
}

// TestAReasonThatGoesOnIsNotPostfixs: a longer word, or another server's form, is no reason of Postfix's own.
func TestAReasonThatGoesOnIsNotPostfixs(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"550 5.1.1 <b@y.test>: Recipient address rejected: User unknowns: spam",
		"550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP.",
		"550 5.7.1 Access denied, spam", "451 4.7.1 Service temporarily unavailable: greylisting in action",
		"450 4.7.1 Service currently unavailable: greylisting in action",
		"450 4.7.1 <b@y.test>: Recipient address rejected: Greylisted, try again in 300 seconds",
	} {
		r := parseReply(t, raw)
		require.Equal(t, r.Text, saidByServer(r))
	}
	o, _ := classify(StageRcpt, email.AcceptsRelay, parseReply(t, "450 4.7.1 <b@y.test>: Recipient address rejected: Greylisted, try again in 300 seconds"))
	require.Equal(t, 5*time.Minute, o.RetryAfter)
}
