package smtp

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// TestBlocklistsAndAuthenticationNeverBounce: also with the other class of code, and at the other commands behind RCPT.
func TestBlocklistsAndAuthenticationNeverBounce(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, row := range replyRows(t) {
		if row.want != string(email.DetailIPBlocked) && row.want != string(email.DetailUnauthenticated) {
			continue
		}
		seen[row.want]++
		rep := parseReply(t, row.raw)
		swapped := rep
		swapped.Code = map[int]int{4: 5, 5: 4}[rep.Code/100]*100 + rep.Code%100
		if rep.Enhanced != "" {
			swapped.Enhanced = map[string]string{"4": "5", "5": "4"}[rep.Enhanced[:1]] + rep.Enhanced[1:]
		}
		for _, r := range []email.Reply{rep, swapped} {
			o, _ := classify(row.at, row.accepts, r)
			require.Equal(t, email.RecipientDeferred, o.Status, "line %d: %+v", row.line, r)
			require.False(t, o.Suppress)
		}
		o, who := classify(row.at, row.accepts, rep)
		require.NotEqual(t, OfRelay, who, "line %d", row.line)
		require.False(t, o.Uncounted, "line %d: it keeps its place on the schedule", row.line)
		require.True(t, o.AtLeast, "line %d: a wait is a floor of the schedule", row.line)
		switch {
		case row.want == string(email.DetailIPBlocked):
			require.Empty(t, o.Auth)
		case rep.Code/100 == 5 && !isTemporary(rep):
			require.Equal(t, 48*time.Hour, o.RetryAfter, "line %d", row.line)
			require.NotEmpty(t, o.Auth, "line %d", row.line)
		default:
			require.GreaterOrEqual(t, o.RetryAfter, time.Hour, "line %d", row.line)
		}
	}
	require.Greater(t, seen[string(email.DetailIPBlocked)], 60)
	require.Greater(t, seen[string(email.DetailUnauthenticated)], 50)
}

// TestWhatTheAuthenticationLacks: the remedy depends on it.
func TestWhatTheAuthenticationLacks(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]delivery.AuthFault{
		"550 5.7.27 blocked because SPF authentication didn't pass":                                                                                                                           delivery.AuthSPF,
		"550 5.7.23 The message was rejected because of Sender Policy Framework violation":                                                                                                    delivery.AuthSPF,
		"550 5.7.24 SPF validation error":                                                                                                                                                     delivery.AuthSPF,
		"550 5.7.30 blocked because DKIM authentication didn't pass":                                                                                                                          delivery.AuthDKIM,
		"550 5.7.20 No passing DKIM signature found":                                                                                                                                          delivery.AuthDKIM,
		"550 5.7.40 blocked because the sending domain does not have a DMARC record":                                                                                                          delivery.AuthDMARC,
		"550 5.7.509 Access denied, sending domain x.test does not pass DMARC verification and has a DMARC policy of reject.":                                                                 delivery.AuthDMARC,
		"550 5.7.26 Unauthenticated email from x.test is not accepted due to domain's DMARC policy":                                                                                           delivery.AuthDMARC,
		"550 5.7.32 blocked because the From: header isn't aligned with either the authenticated SPF or DKIM organizational domain":                                                           delivery.AuthAlignment,
		"550 5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.":                                    delivery.AuthAny,
		"550 5.7.515 Access denied, sending domain x.test does not meet the required authentication level.":                                                                                   delivery.AuthAny,
		"550 5.7.26 The MAIL FROM domain [x.test] has an SPF record with a hard fail policy (-all) but it fails to pass SPF checks with the ip: [192.0.2.1]. To protect users it is blocked.": delivery.AuthSPF,
	} {
		o, _ := classify(StageFinal, email.AcceptsFinal, parseReply(t, raw))
		require.Equal(t, email.DetailUnauthenticated, o.Reason, raw)
		require.Equal(t, want, o.Auth, raw)
		require.Contains(t, o.Auth.Remedy("x.test", ""), "x.test")
	}
}

// TestSPFOfOurOwnReturnPath: the relay refuses the installation's host, which is no fault of the sender's domain. DKIM and
// DMARC are the sender's.
func TestSPFOfOurOwnReturnPath(t *testing.T) {
	t.Parallel()
	own := delivery.ReturnPath(delivery.NewToken(), "bounce.mail.test")
	for _, tt := range []struct {
		at      Stage
		accepts email.AcceptMeans
		reply   string
		relay   bool
	}{
		{StageMail, email.AcceptsRelay, "550 5.7.23 SPF validation failed", true},
		{StageMail, email.AcceptsFinal, "550 5.7.23 SPF validation failed", true},
		{StageRcpt, email.AcceptsRelay, "550 5.7.23 <b@y.test>: Recipient address rejected: SPF fail - not authorized", true},
		{StageRcpt, email.AcceptsFinal, "550 5.7.23 <b@y.test>: Recipient address rejected: SPF fail - not authorized", false},
		{StageFinal, email.AcceptsRelay, "550 5.7.27 blocked because SPF authentication didn't pass", false},
		{StageFinal, email.AcceptsRelay, "550 5.7.23 SPF fail for %", true},
		{StageFinal, email.AcceptsRelay, "550 5.7.20 No passing DKIM signature found", false},
	} {
		rep := parseReply(t, strings.ReplaceAll(tt.reply, "%", own))
		o, who := classifyFor(own, tt.at, tt.accepts, rep)
		require.Equal(t, tt.relay, who == OfRelay, "%+v", tt)
		require.Equal(t, email.RecipientDeferred, o.Status, "%+v", tt)
		require.Equal(t, tt.relay, o.Uncounted, "%+v", tt)
		o, who = classifyFor("a@x.test", tt.at, tt.accepts, rep)
		require.NotEqual(t, OfRelay, who, "%+v", tt)
		require.Equal(t, email.DetailUnauthenticated, o.Reason, "%+v", tt)
	}
}
