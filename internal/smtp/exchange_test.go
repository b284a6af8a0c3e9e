package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

func TestWhatARelayCannotTake(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: []string{"SIZE 1000"}}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for name, tc := range map[string]struct {
		env     delivery.Envelope
		message string
		reason  email.Detail
		text    string
	}{
		"over its SIZE":           {envelope("b@y.test"), rendered + strings.Repeat("x", 1000) + "\r\n", email.DetailTooLarge, "the relay takes 1000"},
		"an address not in ASCII": {envelope("jürgen@y.test"), rendered, email.DetailUnsendable, "SMTPUTF8"},
		"a header not in ASCII":   {envelope("b@y.test"), "To: jürgen@y.test\r\n\r\nx\r\n", email.DetailUnsendable, "SMTPUTF8"},
		"a bare LF":               {envelope("b@y.test"), "A: b\r\n\r\nx\ny\r\n", email.DetailUnsendable, "byte 9"},
		"a bare CR":               {envelope("b@y.test"), "A: b\r\n\r\nx\ry\r\n", email.DetailUnsendable, "byte 9"},
	} {
		s, err := rs.Session(t.Context(), delivery.Route{})
		require.NoError(t, err)
		ex := s.Send(t.Context(), tc.env, []byte(tc.message), noMark)
		s.Close()
		require.Equal(t, email.RecipientFailed, ex.Outcomes[0].Status, name)
		require.Equal(t, tc.reason, ex.Outcomes[0].Reason, name)
		require.Contains(t, ex.Outcomes[0].Text, tc.text, name)
	}
	require.Empty(t, p.Messages())
	for _, l := range p.Lines() {
		require.NotContains(t, l, "MAIL")
	}
}

func TestOneAddressThatARelayCannotTakeHoldsBackNobody(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("jürgen@y.test", "b@y.test", "c@y.test> NOTIFY=NEVER"), noMark)
	require.Equal(t, email.RecipientFailed, ex.Outcomes[0].Status)
	require.Equal(t, email.DetailUnsendable, ex.Outcomes[0].Reason)
	require.Contains(t, ex.Outcomes[0].Text, "SMTPUTF8")
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	require.Equal(t, email.DetailUnsendable, ex.Outcomes[2].Reason)
	require.Equal(t, []string{"b@y.test"}, p.Messages()[0].To)
}

func TestParametersAreSentWhereTheyAreNeededAndOffered(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: []string{"8BITMIME", "SMTPUTF8"}}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for _, tc := range []struct{ to, message, want string }{
		{"b@y.test", "A: b\r\n\r\nx\r\n", "MAIL FROM:<a@x.test>"},
		{"b@y.test", "A: b\r\n\r\nü\r\n", "MAIL FROM:<a@x.test> BODY=8BITMIME"},
		{"jürgen@y.test", "A: b\r\n\r\nx\r\n", "MAIL FROM:<a@x.test> SMTPUTF8"},
		{"b@y.test", "A: ü\r\n\r\nx\r\n", "MAIL FROM:<a@x.test> BODY=8BITMIME SMTPUTF8"},
	} {
		s, err := rs.Session(t.Context(), delivery.Route{})
		require.NoError(t, err)
		ex := s.Send(t.Context(), envelope(tc.to), []byte(tc.message), noMark)
		s.Close()
		require.Equal(t, tc.want, transaction(ex)[0].Command)
		require.Contains(t, p.Lines(), tc.want)
		require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status)
	}
}

func TestTheNullReturnPath(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	env := envelope("b@y.test")
	env.From = ""
	send(t, relays(t, relay.Options{}, url(p, "")), env, noMark)
	require.Contains(t, p.Lines(), "MAIL FROM:<>")
}

func TestTooManyRecipients(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fits int
		want []email.RecipientStatus
	}{
		"for one transaction": {2, []email.RecipientStatus{email.RecipientDelivered, email.RecipientDelivered, email.RecipientDeferred, email.RecipientDeferred}},
		"for any transaction": {0, []email.RecipientStatus{email.RecipientDeferred, email.RecipientDeferred, email.RecipientDeferred, email.RecipientDeferred}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			p := (&smtptest.Peer{Answer: func(line string) string {
				if strings.HasPrefix(line, "RCPT") {
					if asked++; asked > tc.fits {
						return "452 4.5.3 too many recipients"
					}
				}
				return ""
			}}).Start(t)
			ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test", "b@y.test", "c@y.test", "d@y.test"), noMark)
			for i, o := range ex.Outcomes {
				require.Equal(t, tc.want[i], o.Status)
				if o.Status == email.RecipientDeferred {
					require.Equal(t, tc.fits > 0, o.Uncounted, "at once only if the next transaction will get further")
					require.Equal(t, tc.fits > 0, o.RetryAfter == time.Second)
				}
			}
			if tc.fits > 0 && !smtptest.OffersPipelining() {
				require.Equal(t, tc.fits+1, asked, "those that do not fit are not tried one by one")
			}
		})
	}
}

func TestAServerThatRefusesTheMessageHalfway(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		status email.RecipientStatus
		reason email.Detail
		fault  bool
	}{
		"too large":   {"552 5.3.4 too big", email.RecipientFailed, email.DetailTooLarge, false},
		"policy":      {"554 5.7.1 not this", email.RecipientBounced, email.DetailBlock, false},
		"closing":     {"421 4.3.2 shutting down", email.RecipientDeferred, "", true},
		"says thanks": {"250 2.0.0 got it", email.RecipientDeferred, "", true}, // it did not
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&smtptest.Peer{Answer: answers(map[string]string{"<data>": smtptest.ThenDrop(tc.answer)})}).Start(t)
			rs := relays(t, relay.Options{}, url(p, ""))
			s, err := rs.Session(t.Context(), delivery.Route{})
			require.NoError(t, err)
			message := rendered + large
			ex := s.Send(t.Context(), envelope("b@y.test"), []byte(message), func(context.Context, []delivery.Outcome) error {
				t.Error("the message is not all written")
				return nil
			})
			require.Equal(t, tc.status, ex.Outcomes[0].Status, "%+v", ex)
			require.Equal(t, tc.reason, ex.Outcomes[0].Reason)
			require.Equal(t, tc.fault, ex.RelayFault)
			s.Close()
			if !tc.fault {
				ex = send(t, rs, envelope("b@y.test"), noMark)
				require.Empty(t, transaction(ex)[0].Error, "a socket with half a message on it is not used again")
			}
		})
	}
}

func TestAServerThatClosesAmidTheRecipients(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Answer: answers(map[string]string{
		"RCPT TO:<gone@": "550 5.1.1 no such user", "RCPT TO:<last@": "421 4.3.2 shutting down",
	})}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("ok@y.test", "gone@y.test", "last@y.test", "unasked@y.test"), noMark)
	require.Equal(t, email.DetailHard, ex.Outcomes[1].Reason, "it keeps its own answer")
	require.Equal(t, 421, ex.Outcomes[2].Code)
	require.False(t, ex.Outcomes[2].Uncounted, "it may be the reason, and waits by its schedule")
	for _, i := range []int{0, 3} {
		require.Equal(t, email.RecipientDeferred, ex.Outcomes[i].Status)
		require.True(t, ex.Outcomes[i].Uncounted)
		require.Zero(t, ex.Outcomes[i].Code, "that answer was not theirs")
		require.Contains(t, ex.Outcomes[i].Text, "another recipient")
		require.Equal(t, 10*time.Second, ex.Outcomes[i].RetryAfter, "they go without it")
	}
	require.True(t, ex.RelayFault)
	require.NotContains(t, p.Lines(), "DATA")
	if !smtptest.OffersPipelining() {
		require.NotContains(t, p.Lines(), "RCPT TO:<unasked@y.test>")
	}
}

func TestUnexpectedReplyCodes(t *testing.T) {
	t.Parallel()
	for command, reason := range map[string]email.Detail{"MAIL": "", "RCPT": "", "DATA": "", ".": email.DetailAmbiguous} {
		for _, code := range []string{"150", "354", "250", "650", "999"} {
			if (code == "354") == (command == "DATA") && code == "354" || code == "250" && command != "DATA" {
				continue // the right answer
			}
			t.Run(command+" "+code, func(t *testing.T) {
				t.Parallel()
				p := (&smtptest.Peer{Answer: func(line string) string {
					if strings.HasPrefix(line, command) {
						return code + " hm"
					}
					return ""
				}}).Start(t)
				ex := send(t, relays(t, relay.Options{}, url(p, "")), envelope("b@y.test"), noMark)
				require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
				require.Equal(t, reason, ex.Outcomes[0].Reason)
				require.True(t, ex.RelayFault)
				p.Await("the socket's end", func() bool { return p.Open() == 0 })
			})
		}
	}
}

func TestOurOwnAbortIsNotTheRelaysFault(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for name, mark := range map[string]func(context.CancelCauseFunc) error{
		"the mark cannot be written":        func(context.CancelCauseFunc) error { return errors.New("Postgres is down") },
		"the attempt is superseded":         func(context.CancelCauseFunc) error { return delivery.ErrSuperseded },
		"it is superseded behind the mark":  func(cut context.CancelCauseFunc) error { cut(delivery.ErrSuperseded); return nil },
		"the process ends while it is made": func(cut context.CancelCauseFunc) error { cut(nil); return nil },
	} {
		s, err := rs.Session(t.Context(), delivery.Route{})
		require.NoError(t, err, name)
		ctx, cut := context.WithCancelCause(t.Context())
		ex := s.Send(ctx, envelope("b@y.test"), []byte(rendered), func(context.Context, []delivery.Outcome) error { return mark(cut) })
		cut(nil)
		s.Close()
		require.False(t, ex.RelayFault, name)
		require.True(t, ex.Outcomes[0].Uncounted, name)
		require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status, name)
		require.True(t, rs.Fast(delivery.Route{}), name)
	}
	p.Await("the sockets' end", func() bool { return p.Open() == 0 })
	require.Empty(t, p.Messages(), "no dot, and nothing that could be taken for one")
	for _, l := range p.Lines() {
		require.NotContains(t, []string{"QUIT", "RSET", "."}, l)
	}
	send(t, rs, envelope("b@y.test"), noMark)
	require.Equal(t, 1, p.Copies("m@x.test", "b@y.test"))
}

func TestTimeoutOfEachCommand(t *testing.T) {
	t.Parallel()
	const short = 30 * time.Millisecond
	for name, tc := range map[string]struct {
		at       string
		timeouts smtp.Timeouts
		reason   email.Detail
	}{
		"MAIL":      {"MAIL", smtp.Timeouts{Command: short}, ""},
		"RCPT":      {"RCPT", smtp.Timeouts{Command: short}, ""},
		"DATA":      {"DATA", smtp.Timeouts{DataInit: short}, ""},
		"the dot":   {".", smtp.Timeouts{Final: short}, email.DetailAmbiguous},
		"the block": {"<data>", smtp.Timeouts{DataBlock: short}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			p := (&smtptest.Peer{Answer: func(line string) string {
				if strings.HasPrefix(line, tc.at) {
					<-ended
				}
				return ""
			}}).Start(t)
			rs := relays(t, relay.Options{Timeouts: tc.timeouts}, url(p, ""))
			s, err := rs.Session(t.Context(), delivery.Route{})
			require.NoError(t, err)
			message := rendered
			if tc.at == "<data>" {
				message += large
			}
			ex := s.Send(t.Context(), envelope("b@y.test"), []byte(message), noMark)
			close(ended)
			s.Close()
			require.Equal(t, email.RecipientDeferred, ex.Outcomes[0].Status)
			require.Equal(t, tc.reason, ex.Outcomes[0].Reason)
			unanswered := map[email.Detail]int64{email.DetailAmbiguous: 1}
			require.Equal(t, unanswered[tc.reason], rs.Unanswered()[s.Relay().Name])
			require.True(t, ex.RelayFault)
			require.Contains(t, fmt.Sprint(ex.Transcript), "timeout")
			_, err = rs.Session(t.Context(), delivery.Route{})
			require.ErrorContains(t, err, "not tried before", "it counts against the relay")
		})
	}
	t.Run("connecting", func(t *testing.T) {
		t.Parallel()
		ended := make(chan struct{})
		p := (&smtptest.Peer{Answer: func(string) string { <-ended; return "" }}).Start(t)
		_, err := relays(t, relay.Options{Timeouts: smtp.Timeouts{Connect: short}}, url(p, "")).Session(t.Context(), delivery.Route{})
		close(ended)
		require.ErrorContains(t, err, "no session within 30ms")
	})
}

func TestCancelWhileConnecting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := (&smtptest.Peer{Answer: func(string) string { cancel(); return "250 peer.test" }}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	_, err := rs.Session(ctx, delivery.Route{})
	if err != nil { // the answer may have been faster
		require.ErrorIs(t, err, context.Canceled)
	}
	require.True(t, rs.Fast(delivery.Route{}), "the relay did nothing wrong")
}
