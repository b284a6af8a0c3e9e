package smtp_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// A reply that no command asked for would be taken for the answer to the next command, and every
// verdict for the next recipient's.
func TestAnIdleSessionWithAnUnsolicitedReplyIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	bad := answers(map[string]string{"RCPT TO:<bad@": "550 5.1.1 nobody"})
	for name, tc := range map[string]struct {
		peer *smtptest.Peer
		tls  string
		late string
		// rested: the session has been idle for so long that it is asked for a sign of life.
		rested bool
	}{
		"250 in the clear":      {&smtptest.Peer{Answer: bad}, "none", "250 late", false},
		"421 in the clear":      {&smtptest.Peer{Answer: bad}, "none", "421 4.4.2 timeout", false},
		"250 after a long rest": {&smtptest.Peer{Answer: bad}, "none", "250 late", true},
		"250 over TLS":          {&smtptest.Peer{Answer: bad, TLS: server}, "starttls", "250 late", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tc.peer.Start(t)
			now := time.Now()
			rs := relays(t, relay.Options{Now: func() time.Time { return now }}, "smtp://"+p.Addr()+"?"+trust+"&tls="+tc.tls)
			send(t, rs, envelope("a@y.test"), noMark)
			p.Say(tc.late)
			if tc.rested {
				now = now.Add(30 * time.Second)
			}
			ex := send(t, rs, envelope("a@y.test", "bad@y.test", "b@y.test"), noMark)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
			require.Equal(t, email.RecipientBounced, ex.Outcomes[1].Status)
			require.Equal(t, email.RecipientDelivered, ex.Outcomes[2].Status)
			require.Equal(t, 2, p.Dialed())
			require.Equal(t, []string{"a@y.test", "b@y.test"}, p.Messages()[1].To)
		})
	}
}

// One segment of TCP can carry two records of TLS.
func TestAReplyBehindTheAnswerToTheDot(t *testing.T) {
	t.Parallel()
	server, trust := trusted(t)
	for _, options := range []string{"tls=none", "tls=starttls"} {
		p := (&smtptest.Peer{TLS: server, Answer: answers(map[string]string{".": "250 ok\r\n250 late"})}).Start(t)
		rs := relays(t, relay.Options{}, "smtp://"+p.Addr()+"?"+trust+"&"+options)
		for range 2 {
			require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Status)
		}
		require.Equal(t, 2, p.Dialed())
	}
}

// A late reply that comes while the transaction is under way is noticed at DATA.
func TestRepliesOutOfStepCountForNoRecipient(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL": "250 late\r\n250 ok", "RCPT TO:<bad@": "550 5.1.1 nobody"})}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("bad@y.test", "a@y.test", "b@y.test"), noMark)
	for _, o := range ex.Outcomes {
		require.Equal(t, email.RecipientDeferred, o.Status, "%+v", o)
		require.True(t, o.Uncounted)
	}
	require.Empty(t, p.Messages())
	p.Await("the socket's end", func() bool { return p.Open() == 0 })
}

func TestARefusalThatIsAboutTheSession(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"503 5.5.1 need MAIL command", "503 MAIL first (#5.5.1)", "500 5.5.2 bad syntax", "502 what", "501 5.5.2 syntax"} {
		t.Run("RCPT "+answer, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<b@": answer})}).Start(t)
			ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test", "b@y.test", "c@y.test"), noMark)
			require.Empty(t, p.Messages())
			for i, o := range ex.Outcomes {
				require.Equal(t, email.RecipientDeferred, o.Status)
				require.Equal(t, i != 1, o.Uncounted, "the one that was answered so may be the reason")
			}
			require.Equal(t, answer[:3], strconv.Itoa(ex.Outcomes[1].Code))
			p.Await("the socket's end", func() bool { return p.Open() == 0 })
		})
	}
	for answer, reason := range map[string]email.Detail{"501 5.1.3 bad address": email.DetailHard, "550 5.1.1 nobody": email.DetailHard} {
		p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT": answer})}).Start(t)
		o := send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test"), noMark).Outcomes[0]
		require.Equal(t, reason, o.Reason, "this one is about the address")
	}
}

func TestAServerThatWantsEHLOAtMAILIsDialledAgain(t *testing.T) {
	t.Parallel()
	mails := 0
	p := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL") {
			if mails++; mails == 1 {
				return "503 5.5.1 send HELO/EHLO first"
			}
		}
		return ""
	}}).Start(t)
	require.Equal(t, email.RecipientDelivered, send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test"), noMark).Outcomes[0].Status)
	require.Equal(t, 2, p.Dialed())

	always := (&smtptest.Peer{Answer: answers(map[string]string{"MAIL": "503 5.5.1 send HELO/EHLO first"})}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(always, "")), envelope("a@y.test"), noMark)
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
	require.True(t, ex.Outcomes[0].Uncounted)
	require.True(t, ex.RelayFault)
	require.Equal(t, 2, always.Dialed(), "once, not without end")
}
