package smtp_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/relaytest"
	"github.com/postrider/postrider/internal/smtptest"
)

// Helpers that these tests share with those of internal/relay.
const rendered = relaytest.Rendered

var (
	relays      = relaytest.New
	url         = relaytest.URL
	envelope    = relaytest.Envelope
	noMark      = relaytest.NoMark
	send        = relaytest.Send
	transaction = relaytest.Transaction
	answers     = relaytest.Answers
)

// large is more text than the buffers of two sockets hold.
var large = strings.Repeat(strings.Repeat("x", 70)+"\r\n", 120_000)

func TestAMessageArrivesByteForByte(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: []string{"SIZE 1000000", "8BITMIME", "DSN", "SMTPUTF8"}}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("b@y.test", "c@y.test"), noMark)
	require.Equal(t, []smtptest.Message{{From: "a@x.test", To: []string{"b@y.test", "c@y.test"}, Data: rendered}}, p.Messages())
	for _, o := range ex.Outcomes {
		require.Equal(t, email.RecipientDelivered, o.Status)
		require.Equal(t, email.Reply{Code: 250, Enhanced: "2.0.0", Text: "queued as 1"}, o.Reply)
	}
	require.Contains(t, p.Lines(), fmt.Sprintf("MAIL FROM:<a@x.test> SIZE=%d RET=HDRS ENVID=e-1", len(rendered)), "nothing about 8 bits or UTF-8 that is not needed")
	require.Equal(t, "MAIL FROM:<a@x.test> SIZE=91 RET=HDRS ENVID=e-1", transaction(ex)[0].Command)
	require.Equal(t, 250, ex.Transcript[len(ex.Transcript)-1].Code)
}

func TestOneBadRecipientHoldsBackNobody(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{
		"RCPT TO:<gone@": "550 5.1.1 no such user", "RCPT TO:<later@": "450 4.2.0 try later",
	})}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("gone@y.test", "ok@y.test", "later@y.test"), noMark)
	require.Equal(t, email.RecipientBounced, ex.Outcomes[0].Status)
	require.Equal(t, email.DetailHard, ex.Outcomes[0].Reason)
	require.True(t, ex.Outcomes[0].Suppress)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[2].Status)
	require.Equal(t, 450, ex.Outcomes[2].Code)
	require.Equal(t, []string{"ok@y.test"}, p.Messages()[0].To)
	require.False(t, ex.RelayFault)
}

func TestNobodyAcceptedMeansNoData(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT": "550 5.1.1 no such user"})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	send(t, rs, envelope("gone@y.test"), func(context.Context, []delivery.Outcome) error {
		require.Fail(t, "there is no dot to mark")
		return nil
	})
	require.NotContains(t, p.Lines(), "DATA")
	send(t, rs, envelope("gone@y.test"), noMark)
	require.Equal(t, 1, p.Dialed(), "the session is good for the next")
}

func TestRefusalsOfTheWholeTransaction(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers map[string]string
		status  email.RecipientStatus
		reason  email.Detail
		fault   bool
		counted bool
	}{
		"sender for good":      {map[string]string{"MAIL": "550 5.1.8 bad sender"}, email.RecipientFailed, email.DetailSenderRejected, false, true},
		"sender for now":       {map[string]string{"MAIL": "451 4.1.8 try later"}, email.RecipientDeferred, email.DetailSenderRejected, false, true},
		"too large":            {map[string]string{"MAIL": "552 5.3.4 too big"}, email.RecipientFailed, email.DetailTooLarge, false, true},
		"relay at MAIL":        {map[string]string{"MAIL": "530 5.7.0 authentication required"}, email.RecipientDeferred, "", true, false},
		"closing at MAIL":      {map[string]string{"MAIL": "421 4.3.2 shutting down"}, email.RecipientDeferred, "", true, false},
		"closing at RCPT":      {map[string]string{"RCPT": "421 4.3.2 shutting down"}, email.RecipientDeferred, "", true, false},
		"relaying denied":      {map[string]string{"RCPT": "554 5.7.1 relaying denied"}, email.RecipientDeferred, "", true, false},
		"DATA for now":         {map[string]string{"DATA": "451 4.3.0 no disk"}, email.RecipientDeferred, "", true, false},
		"DATA for good":        {map[string]string{"DATA": "554 5.7.1 policy"}, email.RecipientBounced, email.DetailBlock, false, true},
		"dot for now":          {map[string]string{".": "451 4.7.1 greylisted"}, email.RecipientDeferred, "", false, true},
		"dot for good":         {map[string]string{".": "550 5.7.1 spam"}, email.RecipientBounced, email.DetailBlock, false, true},
		"dot too large":        {map[string]string{".": "552 5.3.4 too big"}, email.RecipientFailed, email.DetailTooLarge, false, true},
		"cut after MAIL":       {map[string]string{"MAIL": smtptest.Drop}, email.RecipientDeferred, "", true, false},
		"cut after RCPT":       {map[string]string{"RCPT": smtptest.Drop}, email.RecipientDeferred, "", true, false},
		"cut after the dot":    {map[string]string{".": smtptest.Drop}, email.RecipientDeferred, email.DetailAmbiguous, true, true},
		"nonsense at the dot":  {map[string]string{".": "what?"}, email.RecipientDeferred, email.DetailAmbiguous, true, true},
		"nonsense at RCPT":     {map[string]string{"RCPT": "what?"}, email.RecipientDeferred, "", true, false},
		"dot says it closes":   {map[string]string{".": "421 4.7.0 too many errors"}, email.RecipientDeferred, "", true, false},
		"RCPT accepted as 251": {map[string]string{"RCPT": "251 2.1.5 will forward"}, email.RecipientDelivered, "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(tc.answers)}).Start(t)
			ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("b@y.test", "c@y.test"), noMark)
			for _, o := range ex.Outcomes {
				require.Equal(t, tc.status, o.Status)
				require.Equal(t, tc.reason, o.Reason)
				require.Equal(t, tc.counted, !o.Uncounted)
			}
			require.Equal(t, tc.fault, ex.RelayFault)
			if tc.status != email.RecipientDelivered {
				require.Empty(t, p.Messages())
			}
		})
	}
}

func TestACutInsideTheMessageSendsNothing(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"<data>": smtptest.Drop})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	s, err := rs.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	defer s.Close()
	message := rendered + large
	ex := s.Send(t.Context(), envelope("b@y.test"), []byte(message), func(context.Context, []delivery.Outcome) error {
		require.Fail(t, "the message is not all written")
		return nil
	})
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
	require.Equal(t, email.Detail(""), ex.Outcomes[0].Reason)
	require.True(t, ex.RelayFault)
}

func TestTheMarkIsBeforeTheDot(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{"RCPT TO:<gone@": "550 5.1.1 no such user"})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	var marked []delivery.Outcome
	send(t, rs, envelope("gone@y.test", "ok@y.test"), func(_ context.Context, ifSilent []delivery.Outcome) error {
		require.Empty(t, p.Messages())
		marked = ifSilent
		return nil
	})
	require.Equal(t, email.DetailHard, marked[0].Reason)
	require.Equal(t, email.DetailAmbiguous, marked[1].Reason)
	require.Contains(t, marked[1].Text, "its answer never came")
	require.Len(t, p.Messages(), 1)

	ex := send(t, rs, envelope("ok@y.test"), func(context.Context, []delivery.Outcome) error { return delivery.ErrSuperseded })
	require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
	require.True(t, ex.Outcomes[0].Uncounted)
	require.False(t, ex.RelayFault, "the relay did nothing wrong")
	send(t, rs, envelope("ok@y.test"), noMark)
	require.Len(t, p.Messages(), 2, "without its mark a message is not delivered, not even by what follows on the socket")
	require.Equal(t, 2, p.Dialed())
}

func TestCancelSend(t *testing.T) {
	t.Parallel()
	t.Run("before the dot cuts the connection", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p := (&smtptest.Peer{Answer: func(line string) string {
			if line == "DATA" {
				cancel()
				<-ctx.Done()
			}
			return ""
		}}).Start(t)
		rs := relays(t, relay.Options{}, url(p, ""))
		s, err := rs.Session(ctx, delivery.Route{})
		require.NoError(t, err)
		ex := s.Send(ctx, envelope("b@y.test"), []byte(rendered), noMark)
		s.Close()
		require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
		require.True(t, ex.Outcomes[0].Uncounted)
		require.False(t, ex.RelayFault, "the relay did nothing wrong")
		p.Close()
		require.Empty(t, p.Messages())
	})
	t.Run("after the mark is ignored", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p := (&smtptest.Peer{Answer: func(line string) string {
			if line == "." {
				cancel()
			}
			return ""
		}}).Start(t)
		rs := relays(t, relay.Options{}, url(p, ""))
		s, err := rs.Session(ctx, delivery.Route{})
		require.NoError(t, err)
		ex := s.Send(ctx, envelope("b@y.test"), []byte(rendered), noMark)
		s.Close()
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	})
}
