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
		at       stage
		reply    email.Reply
		status   email.RecipientStatus
		reason   email.Detail
		who      blame
		suppress bool
		wait     time.Duration
		counted  bool
	}{
		// Relay faults, wherever they come.
		{stageSession, email.Reply{Code: 554}, deferred, "", blameRelay, false, relayWait, false},
		{stageMail, email.Reply{Code: 421}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 421, Enhanced: "4.7.0"}, deferred, "", blameRelay, false, relayWait, false},
		{stageMail, email.Reply{Code: 530, Enhanced: "5.7.0"}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 535}, deferred, "", blameRelay, false, relayWait, false},
		{stageMail, email.Reply{Code: 538}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.7.8"}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.7.9"}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 452, Enhanced: "4.3.1"}, deferred, "", blameRelay, false, relayWait, false},
		{stageFinal, email.Reply{Code: 451, Enhanced: "4.3.0"}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 554, Enhanced: "5.7.1", Text: "Relay access denied"}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 550, Text: "relaying denied"}, deferred, "", blameRelay, false, relayWait, false},
		{stageRcpt, email.Reply{Code: 550, Text: "we do not relay"}, deferred, "", blameRelay, false, relayWait, false},
		{stageMail, email.Reply{Code: 421, Text: "too busy, try again in 5 minutes"}, deferred, "", blameRelay, false, 5 * time.Minute, false},
		{stageMail, email.Reply{Code: 450}, deferred, "", blameRelay, false, relayWait, false},
		{stageMail, email.Reply{Code: 451, Enhanced: "4.7.1", Text: "try again in 2 hours"}, deferred, "", blameRelay, false, 2 * time.Hour, false},
		// 421 after the dot is about the message: the connection was good enough to take it.
		{stageFinal, email.Reply{Code: 421, Enhanced: "4.7.0"}, deferred, "", blameRecipient, false, 0, true},
		// The sender.
		{stageMail, email.Reply{Code: 451, Enhanced: "4.7.1", Text: "sender rejected, try again in 2 hours"}, deferred, email.DetailSenderRejected, blameSender, false, 2 * time.Hour, true},
		{stageMail, email.Reply{Code: 550, Text: "banned for 2 hours"}, failed, email.DetailSenderRejected, blameSender, false, 0, true},
		{stageMail, email.Reply{Code: 450, Enhanced: "4.1.8"}, deferred, email.DetailSenderRejected, blameSender, false, 0, true},
		{stageMail, email.Reply{Code: 550}, failed, email.DetailSenderRejected, blameSender, false, 0, true},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.1.8"}, failed, email.DetailSenderRejected, blameSender, false, 0, true},
		{stageFinal, email.Reply{Code: 550, Enhanced: "5.1.7"}, failed, email.DetailSenderRejected, blameSender, false, 0, true},
		// One recipient, for now.
		{stageRcpt, email.Reply{Code: 450, Enhanced: "4.2.0"}, deferred, "", blameRecipient, false, 0, true},
		{stageRcpt, email.Reply{Code: 452, Enhanced: "4.2.2"}, deferred, "", blameRecipient, false, 30 * time.Minute, true},
		{stageRcpt, email.Reply{Code: 452}, deferred, "", blameRecipient, false, 30 * time.Minute, true},
		{stageRcpt, email.Reply{Code: 452, Enhanced: "4.5.3"}, deferred, "", blameRecipient, false, nextTransaction, false},
		{stageRcpt, email.Reply{Code: 452, Text: "Too many recipients"}, deferred, "", blameRecipient, false, nextTransaction, false},
		{stageRcpt, email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted, try again in 300 seconds"}, deferred, "", blameRecipient, false, 5 * time.Minute, true},
		{stageFinal, email.Reply{Code: 451, Text: "please wait 15 minutes"}, deferred, "", blameRecipient, false, 15 * time.Minute, true},
		{stageRcpt, email.Reply{Code: 450, Text: "wait 1 second"}, deferred, "", blameRecipient, false, 10 * time.Second, true},
		{stageRcpt, email.Reply{Code: 450, Text: "come back in 99 hours"}, deferred, "", blameRecipient, false, 12 * time.Hour, true},
		// The enhanced code wins.
		{stageRcpt, email.Reply{Code: 550, Enhanced: "4.2.2"}, deferred, "", blameRecipient, false, 30 * time.Minute, true},
		{stageRcpt, email.Reply{Code: 450, Enhanced: "5.1.1"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "2.1.5"}, bounced, email.DetailOther, blameRecipient, false, 0, true},
		// Addresses that do not exist.
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.1.1"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.1.2"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 553, Enhanced: "5.1.3"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 551, Enhanced: "5.1.6"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 556, Enhanced: "5.1.10"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.2.1"}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 550}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 551}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 553}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		{stageRcpt, email.Reply{Code: 556}, bounced, email.DetailHard, blameRecipient, true, 0, true},
		// Mailboxes that are full for good.
		{stageRcpt, email.Reply{Code: 552, Enhanced: "5.2.2"}, bounced, email.DetailSoft, blameRecipient, false, 0, true},
		{stageRcpt, email.Reply{Code: 552}, bounced, email.DetailSoft, blameRecipient, false, 0, true},
		{stageFinal, email.Reply{Code: 552, Enhanced: "5.2.2"}, bounced, email.DetailSoft, blameRecipient, false, 0, true},
		// Policy.
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.7.1"}, bounced, email.DetailBlock, blameRecipient, false, 0, true},
		{stageFinal, email.Reply{Code: 554}, bounced, email.DetailBlock, blameRecipient, false, 0, true},
		{stageRcpt, email.Reply{Code: 521}, bounced, email.DetailBlock, blameRecipient, false, 0, true},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.5.0"}, bounced, email.DetailOther, blameRecipient, false, 0, true},
		// Too large.
		{stageMail, email.Reply{Code: 552}, failed, email.DetailTooLarge, blameSender, false, 0, true},
		{stageFinal, email.Reply{Code: 552}, failed, email.DetailTooLarge, blameSender, false, 0, true},
		{stageRcpt, email.Reply{Code: 552, Enhanced: "5.3.4"}, failed, email.DetailTooLarge, blameSender, false, 0, true},
		{stageFinal, email.Reply{Code: 552, Enhanced: "5.3.0"}, failed, email.DetailTooLarge, blameSender, false, 0, true},
		{stageFinal, email.Reply{Code: 552, Enhanced: "5.7.0", Text: "a blocked attachment"}, bounced, email.DetailBlock, blameRecipient, false, 0, true},
		{stageFinal, email.Reply{Code: 552, Enhanced: "4.2.2"}, deferred, "", blameRecipient, false, 30 * time.Minute, true},
		{stageRcpt, email.Reply{Code: 550, Enhanced: "5.2.3"}, failed, email.DetailTooLarge, blameSender, false, 0, true},
		{stageData, email.Reply{Code: 451}, deferred, "", blameRecipient, false, 0, true},
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

func TestAReplysTextIsFitToBeStored(t *testing.T) {
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

func TestWhichFaultsCloseARelayForAllMail(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at    stage
		reply email.Reply
		all   bool
	}{
		{stageSession, email.Reply{Code: 554}, true},
		{stageMail, email.Reply{Code: 451, Enhanced: "4.3.0"}, true},
		{stageRcpt, email.Reply{Code: 421}, false},
		{stageRcpt, email.Reply{Code: 530}, true},
		{stageFinal, email.Reply{Code: 550, Enhanced: "5.7.8"}, true},
		{stageRcpt, email.Reply{Code: 554, Enhanced: "5.7.1", Text: "Relay access denied"}, false},
		{stageRcpt, email.Reply{Code: 451, Enhanced: "4.3.0", Text: "temporary lookup failure"}, false},
		{stageFinal, email.Reply{Code: 451, Enhanced: "4.3.0"}, false},
	} {
		require.Equal(t, tc.all, faultCounts(tc.at, tc.reply), "%+v", tc)
	}
}
