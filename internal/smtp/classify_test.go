package smtp

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	const (
		deferred = email.RecipientDeferred
		bounced  = email.RecipientBounced
		failed   = email.RecipientFailed
	)
	for _, tc := range []struct {
		at       Stage
		reply    email.Reply
		status   email.RecipientStatus
		reason   email.Detail
		who      Attribution
		suppress bool
		wait     time.Duration
		counted  bool
	}{
		// Relay faults, wherever they come.
		{StageSession, email.Reply{Code: 554}, deferred, "", OfRelay, false, relayWait, false},
		{StageMail, email.Reply{Code: 421}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 421, Enhanced: "4.7.0"}, deferred, "", OfRelay, false, relayWait, false},
		{StageMail, email.Reply{Code: 530, Enhanced: "5.7.0"}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 535}, deferred, "", OfRelay, false, relayWait, false},
		{StageMail, email.Reply{Code: 538}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.7.8"}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.7.9"}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 452, Enhanced: "4.3.1"}, deferred, "", OfRelay, false, relayWait, false},
		{StageFinal, email.Reply{Code: 451, Enhanced: "4.3.0"}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 554, Enhanced: "5.7.1", Text: "Relay access denied"}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 550, Text: "relaying denied"}, deferred, "", OfRelay, false, relayWait, false},
		{StageRcpt, email.Reply{Code: 550, Text: "we do not relay"}, deferred, "", OfRelay, false, relayWait, false},
		{StageMail, email.Reply{Code: 421, Text: "too busy, try again in 5 minutes"}, deferred, "", OfRelay, false, 5 * time.Minute, false},
		{StageMail, email.Reply{Code: 450}, deferred, "", OfRelay, false, relayWait, false},
		{StageMail, email.Reply{Code: 451, Enhanced: "4.7.1", Text: "try again in 2 hours"}, deferred, "", OfRelay, false, 2 * time.Hour, false},
		// 421 after the dot is about the message: the connection was good enough to take it.
		{StageFinal, email.Reply{Code: 421, Enhanced: "4.7.0"}, deferred, "", OfRelay, false, relayWait, false},
		// The sender.
		{StageMail, email.Reply{Code: 451, Enhanced: "4.7.1", Text: "sender rejected, try again in 2 hours"}, deferred, email.DetailSenderRejected, OfSender, false, 2 * time.Hour, true},
		{StageMail, email.Reply{Code: 550, Text: "banned for 2 hours"}, failed, email.DetailSenderRejected, OfSender, false, 0, true},
		{StageMail, email.Reply{Code: 450, Enhanced: "4.1.8"}, deferred, email.DetailSenderRejected, OfSender, false, 0, true},
		{StageMail, email.Reply{Code: 550}, failed, email.DetailSenderRejected, OfSender, false, 0, true},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.1.8"}, failed, email.DetailSenderRejected, OfSender, false, 0, true},
		{StageFinal, email.Reply{Code: 550, Enhanced: "5.1.7"}, failed, email.DetailSenderRejected, OfSender, false, 0, true},
		// One recipient, for now.
		{StageRcpt, email.Reply{Code: 450, Enhanced: "4.2.0"}, deferred, "", OfRecipient, false, 0, true},
		{StageRcpt, email.Reply{Code: 452, Enhanced: "4.2.2"}, deferred, "", OfRecipient, false, 30 * time.Minute, true},
		{StageRcpt, email.Reply{Code: 452}, deferred, "", OfRecipient, false, 30 * time.Minute, true},
		{StageRcpt, email.Reply{Code: 452, Enhanced: "4.5.3"}, deferred, "", OfRecipient, false, nextTransaction, false},
		{StageRcpt, email.Reply{Code: 452, Text: "Too many recipients"}, deferred, "", OfRecipient, false, nextTransaction, false},
		{StageRcpt, email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted, try again in 300 seconds"}, deferred, "", OfRecipient, false, 5 * time.Minute, true},
		{StageFinal, email.Reply{Code: 451, Text: "please wait 15 minutes"}, deferred, "", OfRecipient, false, 15 * time.Minute, true},
		{StageRcpt, email.Reply{Code: 450, Text: "wait 1 second"}, deferred, "", OfRecipient, false, 10 * time.Second, true},
		{StageRcpt, email.Reply{Code: 450, Text: "come back in 99 hours"}, deferred, "", OfRecipient, false, 12 * time.Hour, true},
		// The enhanced code wins.
		{StageRcpt, email.Reply{Code: 550, Enhanced: "4.2.2"}, deferred, "", OfRecipient, false, 30 * time.Minute, true},
		{StageRcpt, email.Reply{Code: 450, Enhanced: "5.1.1"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "2.1.5"}, bounced, email.DetailOther, OfRecipient, false, 0, true},
		// Addresses that do not exist.
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.1.1"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.1.2"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 553, Enhanced: "5.1.3"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 551, Enhanced: "5.1.6"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 556, Enhanced: "5.1.10"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.2.1"}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 550}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 551}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 553}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		{StageRcpt, email.Reply{Code: 556}, bounced, email.DetailHard, OfRecipient, true, 0, true},
		// Mailboxes that are full for good.
		{StageRcpt, email.Reply{Code: 552, Enhanced: "5.2.2"}, bounced, email.DetailSoft, OfRecipient, false, 0, true},
		{StageRcpt, email.Reply{Code: 552}, bounced, email.DetailSoft, OfRecipient, false, 0, true},
		{StageFinal, email.Reply{Code: 552, Enhanced: "5.2.2"}, bounced, email.DetailSoft, OfRecipient, false, 0, true},
		// Policy.
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.7.1"}, bounced, email.DetailBlock, OfRecipient, false, 0, true},
		{StageFinal, email.Reply{Code: 554}, bounced, email.DetailBlock, OfRecipient, false, 0, true},
		{StageRcpt, email.Reply{Code: 521}, bounced, email.DetailBlock, OfRecipient, false, 0, true},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.5.0"}, bounced, email.DetailOther, OfRecipient, false, 0, true},
		// Too large.
		{StageMail, email.Reply{Code: 552}, failed, email.DetailTooLarge, OfSender, false, 0, true},
		{StageFinal, email.Reply{Code: 552}, failed, email.DetailTooLarge, OfSender, false, 0, true},
		{StageRcpt, email.Reply{Code: 552, Enhanced: "5.3.4"}, failed, email.DetailTooLarge, OfSender, false, 0, true},
		{StageFinal, email.Reply{Code: 552, Enhanced: "5.3.0"}, failed, email.DetailTooLarge, OfSender, false, 0, true},
		{StageFinal, email.Reply{Code: 552, Enhanced: "5.7.0", Text: "a blocked attachment"}, bounced, email.DetailBlock, OfRecipient, false, 0, true},
		{StageFinal, email.Reply{Code: 552, Enhanced: "4.2.2"}, deferred, "", OfRecipient, false, 30 * time.Minute, true},
		{StageRcpt, email.Reply{Code: 550, Enhanced: "5.2.3"}, failed, email.DetailTooLarge, OfSender, false, 0, true},
		{StageData, email.Reply{Code: 451}, deferred, "", OfRecipient, false, 0, true},
	} {
		o, who := classify(tc.at, email.AcceptsRelay, tc.reply)
		name := func(what string) string {
			return what + " of " + tc.reply.Enhanced + " " + tc.reply.Text
		}
		require.Equal(t, tc.status, o.Status, "%s, %d", name("status"), tc.reply.Code)
		require.Equal(t, tc.reason, o.Reason, "%s, %d", name("reason"), tc.reply.Code)
		require.Equal(t, tc.who, who, "%s, %d", name("blame"), tc.reply.Code)
		require.Equal(t, tc.suppress, o.Suppress, "%s, %d", name("suppress"), tc.reply.Code)
		require.Equal(t, tc.wait, o.RetryAfter, "%s, %d", name("wait"), tc.reply.Code)
		require.Equal(t, tc.counted, !o.Uncounted, "%s, %d", name("counted"), tc.reply.Code)
	}
}

func TestReplySplitsEnhancedCodes(t *testing.T) {
	t.Parallel()
	require.Equal(t, email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user see https://x.test"}, reply(550, "5.1.1 no such user\n5.1.1 see https://x.test"))
	require.Equal(t, email.Reply{Code: 250, Text: "ok 2.0.0"}, reply(250, "ok 2.0.0"))
	require.Equal(t, email.Reply{Code: 250, Enhanced: "2.0.0"}, reply(250, "2.0.0"))
	require.Len(t, reply(550, strings.Repeat("x", 5000)).Text, email.MaxReplyText)
}

func TestReplyTextIsPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"caf\xe9 closed\x00here":    "caf\uFFFD closed\\x00here",
		"a\tb \u00a0 c\r":           "a b   c",
		"\x1b[2Jcleared":            `\x1b[2Jcleared`,
		"exe.\u202etxt\u2066\u200f": `exe.\u202etxt\u2066\u200f`,
		"a\u200bb\ufeff\U000e0041":  `a\u200bb\ufeff\ue0041`,
		"line\u2028line\u0085line":  "line line line",
		"Grüße, 用户 😀":               "Grüße, 用户 😀",
	} {
		require.Equal(t, want, reply(550, in).Text, "%q", in)
	}
}

func TestFaultCounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at    Stage
		reply email.Reply
		all   bool
	}{
		{StageSession, email.Reply{Code: 554}, true},
		{StageMail, email.Reply{Code: 451, Enhanced: "4.3.0"}, true},
		{StageRcpt, email.Reply{Code: 421}, false},
		{StageRcpt, email.Reply{Code: 530}, true},
		{StageFinal, email.Reply{Code: 550, Enhanced: "5.7.8"}, true},
		{StageRcpt, email.Reply{Code: 554, Enhanced: "5.7.1", Text: "Relay access denied"}, false},
		{StageRcpt, email.Reply{Code: 451, Enhanced: "4.3.0", Text: "temporary lookup failure"}, false},
		{StageFinal, email.Reply{Code: 451, Enhanced: "4.3.0"}, false},
	} {
		require.Equal(t, tc.all, faultCounts(tc.at, tc.reply), "%+v", tc)
	}
}
