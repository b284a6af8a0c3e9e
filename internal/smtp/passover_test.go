package smtp_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestARecipientThatWaitsSaysHowFarItCame: of one whose RCPT was answered no text says that it was
// not tried.
func TestARecipientThatWaitsSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	const closed = "the relay closed the connection at another recipient: 421 closing"
	const accepted = "accepted by the relay, but the transaction ended before the message: "
	for name, tc := range map[string]struct {
		answers map[string]string
		// single and grouped are the replies of a, b, c and d, without PIPELINING and with it. One
		// that is delivered, or has another reply of its own, is empty.
		single, grouped [4]email.Reply
	}{
		"421 that ends the connection": {
			map[string]string{"RCPT TO:<b@": smtptest.ThenDrop("421 4.3.2 closing")},
			[4]email.Reply{{Text: accepted + closed}, {}, {Text: "not tried yet: " + closed}, {Text: "not tried yet: " + closed}},
			[4]email.Reply{{Text: accepted + closed}, {}, {Text: "no reply yet: " + closed}, {Text: "no reply yet: " + closed}},
		},
		"421 at the first": {
			map[string]string{"RCPT TO:<a@": smtptest.ThenDrop("421 4.3.2 closing")},
			[4]email.Reply{{}, {Text: "not tried yet: " + closed}, {Text: "not tried yet: " + closed}, {Text: "not tried yet: " + closed}},
			[4]email.Reply{{}, {Text: "no reply yet: " + closed}, {Text: "no reply yet: " + closed}, {Text: "no reply yet: " + closed}},
		},
		"no reply": {
			map[string]string{"RCPT TO:<b@": smtptest.Drop},
			[4]email.Reply{{Text: accepted + "the connection ended at RCPT TO: unexpected EOF, at another recipient"}, {},
				{Text: "not tried yet: the connection ended at RCPT TO: unexpected EOF, at another recipient"}, {Text: "not tried yet: the connection ended at RCPT TO: unexpected EOF, at another recipient"}},
			[4]email.Reply{{Text: accepted + "the connection ended at RCPT TO: unexpected EOF, at another recipient"}, {},
				{Text: "not tried yet: the connection ended at RCPT TO: unexpected EOF, at another recipient"}, {Text: "not tried yet: the connection ended at RCPT TO: unexpected EOF, at another recipient"}},
		},
		"a reply out of step": {
			map[string]string{"RCPT TO:<b@": "503 5.5.1 bad sequence"},
			[4]email.Reply{{Text: accepted + "the relay answered out of step at another recipient: 503 bad sequence"}, {},
				{Text: "not tried yet: the relay answered out of step at another recipient: 503 bad sequence"}, {Text: "not tried yet: the relay answered out of step at another recipient: 503 bad sequence"}},
			[4]email.Reply{{Text: accepted + "the relay answered out of step at another recipient: 503 bad sequence"}, {},
				{Text: "not tried yet: the relay answered out of step at another recipient: 503 bad sequence"}, {Text: "not tried yet: the relay answered out of step at another recipient: 503 bad sequence"}},
		},
		"one too many": {
			map[string]string{"RCPT TO:<b@": "452 4.5.3 too many recipients", "RCPT TO:<c@": "452 4.5.3 too many", "RCPT TO:<d@": "550 5.1.1 nobody"},
			[4]email.Reply{{}, {}, {Text: "not tried yet: the relay takes 1 recipient at a time"}, {Text: "not tried yet: the relay takes 1 recipient at a time"}},
			[4]email.Reply{{}, {}, {Code: 452, Enhanced: "4.5.3", Text: "too many"},
				{Text: "to be asked again, because its reply, 550 nobody, does not count: the relay takes 1 recipient at a time"}},
		},
		"two fit": {
			map[string]string{"RCPT TO:<c@": "452 4.5.3 too many recipients", "RCPT TO:<d@": "452 4.5.3 too many"},
			[4]email.Reply{{}, {}, {}, {Text: "not tried yet: the relay takes 2 recipients at a time"}},
			[4]email.Reply{{}, {}, {}, {Code: 452, Enhanced: "4.5.3", Text: "too many"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ex := send(t, relays(t, relay.Options{}, url((&smtptest.Peer{Answer: answers(tc.answers)}).Start(t), "")), envelope("a@y.test", "b@y.test", "c@y.test", "d@y.test"), noMark)
			want := tc.single
			if smtptest.OffersPipelining() {
				want = tc.grouped
			}
			for i, o := range ex.Outcomes {
				if want[i] != (email.Reply{}) {
					require.True(t, o.Unasked || o.RelayFault, "%+v", o)
					require.Equal(t, want[i], o.Reply, "recipient %d", i)
				}
			}
		})
	}
	t.Run("a limit that a closed connection let us guess", func(t *testing.T) {
		t.Parallel()
		p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<b@": smtptest.ThenDrop("421 4.3.2 closing")})}).Start(t)
		rs := relays(t, relay.Options{}, url(p, ""))
		send(t, rs, envelope("a@y.test", "b@y.test", "c@y.test"), noMark)
		ex := send(t, rs, envelope("a@y.test", "c@y.test"), noMark)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
		require.Equal(t, "not tried yet: the relay gets 1 recipient at a time for now, because it closed a connection at a recipient", ex.Outcomes[1].Text)
	})
	t.Run("of a later group", func(t *testing.T) {
		t.Parallel()
		p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<b@": "550 5.1.1 nobody"})}).Start(t)
		rs := relays(t, relay.Options{}, url(p, ""))
		env := envelope("a@y.test", "b@y.test", "c@y.test")
		env.Recipients[0].Group, env.Recipients[2].Group = 2, 1
		ex := send(t, rs, env, noMark)
		require.True(t, ex.Outcomes[0].Unasked)
		require.Equal(t, "not tried yet: the message goes first to recipients at which the relay does not close the connection", ex.Outcomes[0].Text)
		require.Equal(t, email.RecipientBounced, ex.Outcomes[1].Status, "the relay accepted nobody of the first group")
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[2].Status)
		for _, l := range p.Lines() {
			require.False(t, strings.HasPrefix(l, "RCPT TO:<a@"))
		}
	})
}

// TestA421ThatNamesUsIsOneRecipients: the recipient's own server names our address or the sender's domain. That is no
// fault of the server and no limit: the recipient waits on its schedule, and the others go without it.
func TestA421ThatNamesUsIsOneRecipients(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]struct {
		reason email.Detail
		least  time.Duration
	}{
		"421-4.7.26 Your email has been rate limited because it is unauthenticated. Gmail\r\n421 4.7.26 requires all senders to authenticate with either SPF or DKIM.": {email.DetailUnauthenticated, time.Hour},
		"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints":                                                   {email.DetailIPBlocked, 0},
		"421-4.7.0 [192.0.2.1 15] Our system has detected an unusual rate of\r\n421 4.7.0 unsolicited mail originating from your IP address.":                          {email.DetailIPBlocked, 0},
	} {
		p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<b@": smtptest.ThenDrop(reply)})}).Start(t)
		rs := relays(t, relay.Options{}, url(p, "accepts=final"))
		require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("x@y.test"), noMark).Outcomes[0].Status)
		for _, to := range [][]string{{"b@y.test", "c@y.test"}, {"a@y.test", "b@y.test"}} {
			at := slices.Index(to, "b@y.test")
			ex := send(t, rs, envelope(to...), noMark)
			require.False(t, ex.RelayFault, reply)
			blocked, other := ex.Outcomes[at], ex.Outcomes[1-at]
			require.Equal(t, want.reason, blocked.Reason, reply)
			require.Equal(t, 421, blocked.Code)
			require.False(t, blocked.Uncounted || blocked.RelayFault, reply)
			require.Equal(t, want.least, blocked.RetryAfter)
			require.Equal(t, email.RecipientDeferred, other.Status)
			require.True(t, other.Uncounted)
			require.False(t, other.RelayFault)
			require.Equal(t, time.Second, other.RetryAfter, "it goes without the other")
		}
		ex := send(t, rs, envelope("a@y.test", "c@y.test", "d@y.test"), noMark)
		for _, o := range ex.Outcomes {
			require.Equal(t, email.RecipientDelivered, o.Status, "it taught no limit of recipients")
		}
	}
}
