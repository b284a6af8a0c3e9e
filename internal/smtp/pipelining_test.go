package smtp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtp"
	"github.com/postrider/postrider/internal/smtptest"
)

// pipelining is what a peer offers that takes commands in groups.
var pipelining = []string{"SIZE 1000000", "PIPELINING"}

// TestMailAndRecipientsGoInOneGroup: the server answers after it has read MAIL and all RCPT, and
// DATA comes after the last reply.
func TestMailAndRecipientsGoInOneGroup(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		served <- answerInGroups(conn)
	}()
	rs := relays(t, relay.Options{}, "smtp://"+l.Addr().String()+"?tls=none")
	ex := send(t, rs, envelope("a@y.test", "b@y.test", "c@y.test"), noMark)
	require.NoError(t, <-served)
	for i, status := range []email.RecipientStatus{email.RecipientDelivered, email.RecipientBounced, email.RecipientDelivered} {
		require.Equal(t, status, ex.Outcomes[i].Status)
	}
	var said []string
	for _, st := range transaction(ex) {
		said = append(said, fmt.Sprintf("%s -> %d", st.Command, st.Code))
	}
	require.Equal(t, []string{
		"MAIL FROM:<a@x.test> -> 250", "RCPT TO:<a@y.test> -> 250", "RCPT TO:<b@y.test> -> 550", "RCPT TO:<c@y.test> -> 250",
		"DATA -> 354", "message of 91 bytes -> 0", ". -> 250",
	}, said, "each reply is at its command")
}

// answerInGroups serves one transaction of three recipients.
func answerInGroups(conn net.Conn) error {
	defer func() { _ = conn.Close() }() // the test has what it needs by then
	r := bufio.NewReader(conn)
	read := func(want ...string) error {
		for _, prefix := range want {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, prefix) {
				return fmt.Errorf("read %q, want %s: %w", line, prefix, err)
			}
		}
		if r.Buffered() > 0 {
			return errors.New("the client did not wait for the replies")
		}
		return nil
	}
	for _, step := range []struct {
		want []string
		say  string
	}{
		{nil, "220 peer.test\r\n"},
		{[]string{"EHLO"}, "250-peer.test\r\n250 PIPELINING\r\n"},
		{[]string{"MAIL", "RCPT TO:<a@", "RCPT TO:<b@", "RCPT TO:<c@"}, "250 ok\r\n250 ok\r\n550 5.1.1 nobody\r\n250 ok\r\n"},
		{[]string{"DATA"}, "354 go on\r\n"},
	} {
		if err := read(step.want...); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, step.say); err != nil {
			return err
		}
	}
	for line := ""; line != ".\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			return err
		}
	}
	_, err := io.WriteString(conn, "250 queued\r\n")
	return err
}

// TestRepliesBehindARefusedMAILCountForNoRecipient: the recipients that went with MAIL get 503, and
// the session is good for the next transaction.
func TestRepliesBehindARefusedMAILCountForNoRecipient(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]string{"503": "503 5.5.1 need MAIL command", "550": "550 5.1.1 nobody", "250": "250 ok"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var refuse atomic.Bool
			refuse.Store(true)
			p := (&smtptest.Peer{Extensions: pipelining, Answer: func(line string) string {
				switch {
				case !refuse.Load():
				case strings.HasPrefix(line, "MAIL"):
					return "550 5.1.8 bad sender"
				case strings.HasPrefix(line, "RCPT"):
					return behind
				}
				return ""
			}}).Start(t)
			rs := relays(t, relay.Options{}, url(p, "name=primary"))
			ex := send(t, rs, envelope("a@y.test", "b@y.test"), noMark)
			for _, o := range ex.Outcomes {
				require.Equal(t, email.RecipientFailed, o.Status)
				require.Equal(t, email.DetailSenderRejected, o.Reason)
				require.Equal(t, email.Reply{Code: 550, Enhanced: "5.1.8", Text: "bad sender"}, o.Reply)
			}
			require.False(t, ex.RelayFault)
			require.Len(t, transaction(ex), 3, "the transcript has what was said")
			refuse.Store(false)
			for _, o := range send(t, rs, envelope("a@y.test", "b@y.test"), noMark).Outcomes {
				require.Equal(t, email.RecipientDelivered, o.Status)
			}
			require.Equal(t, 1, p.Dialed())
			require.NotContains(t, p.Lines()[:5], "DATA")
		})
	}
}

// TestRefusedParametersWithRecipientsInFlight: MAIL goes again without them, and so do the
// recipients.
func TestRefusedParametersWithRecipientsInFlight(t *testing.T) {
	t.Parallel()
	var taken atomic.Bool
	p := (&smtptest.Peer{Extensions: append([]string{"DSN"}, pipelining...), Answer: func(line string) string {
		switch {
		case strings.HasPrefix(line, "MAIL") && strings.Contains(line, "RET="):
			return "555 5.5.4 RET is not known"
		case strings.HasPrefix(line, "MAIL"):
			taken.Store(true)
		case strings.HasPrefix(line, "RCPT") && !taken.Load():
			return "503 5.5.1 need MAIL command"
		}
		return ""
	}}).Start(t)
	for _, o := range send(t, relays(t, relay.Options{}, url(p, "")), envelope("a@y.test", "b@y.test"), noMark).Outcomes {
		require.Equal(t, email.RecipientDelivered, o.Status)
	}
	require.Equal(t, []string{"a@y.test", "b@y.test"}, p.Messages()[0].To)
	require.Equal(t, 1, p.Dialed())
}

// TestRecipientsInFlightBehindOneTooMany: a recipient that the server accepts all the same gets
// the message, once. The others wait for the next transaction, which has no more than the limit.
func TestRecipientsInFlightBehindOneTooMany(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: pipelining, Answer: answers(map[string]string{
		"RCPT TO:<b@": "452 4.5.3 too many recipients", "RCPT TO:<d@": "550 5.1.1 nobody",
	})}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	ex := send(t, rs, envelope("a@y.test", "b@y.test", "c@y.test", "d@y.test"), noMark)
	for i, status := range []email.RecipientStatus{email.RecipientDelivered, email.RecipientDeferred, email.RecipientDelivered, email.RecipientDeferred} {
		require.Equal(t, status, ex.Outcomes[i].Status)
		if status == email.RecipientDeferred {
			require.True(t, ex.Outcomes[i].Uncounted)
			require.True(t, ex.Outcomes[i].Unasked)
			require.Equal(t, time.Second, ex.Outcomes[i].RetryAfter)
		}
	}
	require.Equal(t, []string{"a@y.test", "c@y.test"}, p.Messages()[0].To)
	ex = send(t, rs, envelope("d@y.test", "e@y.test", "f@y.test"), noMark)
	require.Equal(t, email.DetailHard, ex.Outcomes[0].Reason)
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[1].Status)
	require.True(t, ex.Outcomes[2].Unasked, "the limit is one")
	require.NotContains(t, p.Lines(), "RCPT TO:<f@y.test>")
}

// TestAServerThatDoesNotHoldPipelining gets the same transaction one command at a time, at once,
// and the next ones too.
func TestAServerThatDoesNotHoldPipelining(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		peer *smtptest.Peer
		// answer is the reply to the first RCPT that comes in a group.
		answer string
	}{
		"drops what is behind a command":    {&smtptest.Peer{DropsInput: true}, ""},
		"closes the connection at RCPT":     {&smtptest.Peer{}, smtptest.Drop},
		"answers out of step at RCPT":       {&smtptest.Peer{}, "503 5.5.1 bad sequence"},
		"answers with no reply to RCPT":     {&smtptest.Peer{}, "what?"},
		"answers RCPT with a reply to DATA": {&smtptest.Peer{}, "354 go on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tc.peer
			var grouped atomic.Bool
			if tc.answer != "" { // on its first connection alone, where it gets groups
				grouped.Store(true)
			}
			p.Answer = func(line string) string {
				if strings.HasPrefix(line, "RCPT") && grouped.CompareAndSwap(true, false) {
					return tc.answer
				}
				return ""
			}
			p.Extensions = pipelining
			p.Start(t)
			now := time.Now()
			rs := relays(t, relay.Options{Now: func() time.Time { return now }, Timeouts: smtp.Timeouts{Command: 2 * time.Second}}, url(p, "name=primary"))
			for n := range 2 {
				ex := send(t, rs, envelope("a@y.test", "b@y.test"), noMark)
				for _, o := range ex.Outcomes {
					require.Equal(t, email.RecipientDelivered, o.Status, "%+v", o)
				}
				require.False(t, ex.RelayFault)
				require.Equal(t, 2+n, p.Dialed(), "the second mail has a new connection, and no group on it")
				now = now.Add(2 * time.Minute)
			}
			require.Len(t, p.Messages(), 2)
			require.True(t, rs.Up()["primary"])
			if tc.answer == "" {
				return
			}
			p.Await("the end of the connections that are not in use", func() bool { return p.Open() <= 1 })
			grouped.Store(true)
			now = now.Add(25 * time.Hour)
			send(t, rs, envelope("a@y.test", "b@y.test"), noMark)
			require.Equal(t, 5, p.Dialed(), "it gets a group again after a day")
		})
	}
	t.Run("closes the connection at MAIL", func(t *testing.T) {
		t.Parallel()
		var grouped atomic.Bool
		grouped.Store(true)
		p := (&smtptest.Peer{Extensions: pipelining, Answer: func(line string) string {
			if strings.HasPrefix(line, "MAIL") && grouped.CompareAndSwap(true, false) {
				return smtptest.Drop
			}
			return ""
		}}).Start(t)
		rs := relays(t, relay.Options{}, url(p, "name=primary"))
		require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("a@y.test"), noMark).Outcomes[0].Status)
		require.Equal(t, 2, p.Dialed())
	})
}

// TestARelayThatClosesInBothWaysKeepsItsGroups: groups are not the reason.
func TestARelayThatClosesInBothWaysKeepsItsGroups(t *testing.T) {
	t.Parallel()
	var closes atomic.Int64
	p := (&smtptest.Peer{Extensions: pipelining, Answer: func(line string) string {
		if strings.HasPrefix(line, "RCPT") && closes.Add(-1) >= 0 {
			return smtptest.Drop
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	closes.Store(2)
	o := send(t, rs, envelope("a@y.test"), noMark).Outcomes[0]
	require.Equal(t, email.RecipientDeferred, o.Status)
	require.True(t, o.RelayFault)
	require.Equal(t, 2, p.Dialed())
	closes.Store(1)
	require.Equal(t, email.RecipientDelivered, send(t, rs, envelope("b@y.test"), noMark).Outcomes[0].Status)
	require.Equal(t, 4, p.Dialed(), "it got a group, and no group then")
}

// TestAConnectionClosedBehindRefusedParametersIsReplaced, and serves the next transaction.
func TestAConnectionClosedBehindRefusedParametersIsReplaced(t *testing.T) {
	t.Parallel()
	var refuses atomic.Bool
	refuses.Store(true)
	p := (&smtptest.Peer{Extensions: pipelining, Answer: func(line string) string {
		switch {
		case !refuses.Load():
		case strings.HasPrefix(line, "MAIL"):
			return "555 5.5.4 SIZE is not known"
		case strings.HasPrefix(line, "RCPT"):
			refuses.Store(false)
			return smtptest.Drop
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{}, url(p, ""))
	for range 2 {
		for _, o := range send(t, rs, envelope("a@y.test", "b@y.test"), noMark).Outcomes {
			require.Equal(t, email.RecipientDelivered, o.Status)
		}
		require.Equal(t, 2, p.Dialed())
	}
}

// TestRepliesBeforeAResetCount: a server that closes with commands unread resets the connection.
// Its replies before that are read all the same.
func TestRepliesBeforeAResetCount(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = resetBehindReplies(conn.(*net.TCPConn))
		}
		served <- err
	}()
	ex := send(t, relays(t, relay.Options{}, "smtp://"+l.Addr().String()+"?tls=none"), envelope("a@y.test", "b@y.test", "c@y.test", "d@y.test"), noMark)
	require.NoError(t, <-served)
	require.NotContains(t, fmt.Sprint(transaction(ex)), "DATA")
	require.Equal(t, email.DetailHard, ex.Outcomes[1].Reason)
	require.Equal(t, 421, ex.Outcomes[2].Code)
	for _, i := range []int{0, 3} {
		require.Equal(t, email.RecipientDeferred, ex.Outcomes[i].Status)
		require.True(t, ex.Outcomes[i].Uncounted)
		require.Zero(t, ex.Outcomes[i].Code)
	}
}

// resetBehindReplies reads a group up to the third recipient of four, answers that, and resets
// the connection.
func resetBehindReplies(conn *net.TCPConn) error {
	defer func() { _ = conn.Close() }() // without linger, it is a reset
	if err := conn.SetLinger(0); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "220 peer.test\r\n"); err != nil {
		return err
	}
	for _, step := range []struct{ lastLine, say string }{
		{"EHLO", "250-peer.test\r\n250 PIPELINING\r\n"},
		{"RCPT TO:<c@", "250 ok\r\n250 ok\r\n550 5.1.1 nobody\r\n421 4.7.0 too many errors\r\n"},
	} {
		var b [1]byte
		for line := ""; !strings.HasPrefix(line, step.lastLine) || !strings.HasSuffix(line, "\n"); line += string(b[:]) {
			if strings.HasSuffix(line, "\n") {
				line = ""
			}
			if _, err := conn.Read(b[:]); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(conn, step.say); err != nil {
			return err
		}
	}
	return nil
}

// TestARelayThatIsSilentInBothWaysIsDown, after a second connection.
func TestARelayThatIsSilentInBothWaysIsDown(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	var silent atomic.Bool
	silent.Store(true)
	p := (&smtptest.Peer{Extensions: pipelining, Answer: func(line string) string {
		if strings.HasPrefix(line, "RCPT") && silent.Load() {
			<-ended
		}
		return ""
	}}).Start(t)
	now := time.Now()
	rs := relays(t, relay.Options{Now: func() time.Time { return now }, Timeouts: smtp.Timeouts{Command: 30 * time.Millisecond}}, url(p, "name=primary"))
	for _, o := range send(t, rs, envelope("a@y.test", "b@y.test"), noMark).Outcomes {
		require.Equal(t, email.RecipientDeferred, o.Status)
		require.True(t, o.Uncounted)
		require.True(t, o.RelayFault)
	}
	require.False(t, rs.Up()["primary"])
	silent.Store(false)
	close(ended)
	require.Equal(t, 2, p.Dialed())
}

// TestPipeliningCanBeTurnedOff: with pipelining=no each command waits for the reply before it.
func TestPipeliningCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	p := (&smtptest.Peer{Extensions: pipelining, DropsInput: true}).Start(t)
	ex := send(t, relays(t, relay.Options{}, url(p, "pipelining=no")), envelope("a@y.test", "b@y.test"), noMark)
	for _, o := range ex.Outcomes {
		require.Equal(t, email.RecipientDelivered, o.Status)
	}
	require.Equal(t, 1, p.Dialed())
}

// TestCancelInAGroup touches no recipient, not even one that was accepted.
func TestCancelInAGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	p := (&smtptest.Peer{Extensions: pipelining, Answer: func(line string) string {
		if strings.HasPrefix(line, "RCPT TO:<b@") {
			cancel(delivery.ErrSuperseded)
			<-ctx.Done()
		}
		return ""
	}}).Start(t)
	rs := relays(t, relay.Options{}, url(p, "name=primary"))
	s, err := rs.Session(ctx, delivery.Route{})
	require.NoError(t, err)
	ex := s.Send(ctx, envelope("a@y.test", "b@y.test", "c@y.test"), []byte(rendered), noMark)
	s.Close()
	for _, o := range ex.Outcomes {
		require.Equal(t, email.RecipientDeferred, o.Status)
		require.True(t, o.Uncounted)
		require.True(t, o.Unasked)
		require.False(t, o.RelayFault)
	}
	require.False(t, ex.RelayFault)
	require.Equal(t, 1, p.Dialed(), "it is no reason for another connection")
	require.NotContains(t, p.Lines(), "DATA")
}

// unheard is a context whose end has closed no socket yet.
type unheard struct{ context.Context }

func (unheard) Done() <-chan struct{} { return make(chan struct{}) }

// TestNoCommandFollowsTheEndOfTheContext, also where the reply came before the socket was closed.
func TestNoCommandFollowsTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	for at, next := range map[string]string{"MAIL": "RCPT", "RCPT TO:<c@": "DATA", "DATA": "<data>", "<data>": "."} {
		for _, extensions := range [][]string{nil, pipelining} {
			t.Run(fmt.Sprint(at, extensions), func(t *testing.T) {
				t.Parallel()
				next := next
				if at == "MAIL" && extensions != nil {
					next = "DATA" // RCPT is written already
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				p := (&smtptest.Peer{Extensions: extensions, NoPipelining: extensions == nil, Answer: func(line string) string {
					if strings.HasPrefix(line, at) {
						cancel(delivery.ErrSuperseded)
					}
					return ""
				}}).Start(t)
				rs := relays(t, relay.Options{}, url(p, "name=primary"))
				s, err := rs.Session(ctx, delivery.Route{})
				require.NoError(t, err)
				mark := noMark
				if at == "<data>" { // it ends while the message is written, or at the latest here
					mark = func(context.Context, []delivery.Outcome) error { cancel(delivery.ErrSuperseded); return nil }
				}
				ex := s.Send(unheard{ctx}, envelope("a@y.test", "b@y.test", "c@y.test"), []byte(rendered), mark)
				s.Close()
				for _, o := range ex.Outcomes {
					require.Equal(t, email.RecipientDeferred, o.Status)
					require.True(t, o.Uncounted)
					require.True(t, o.Unasked)
					require.False(t, o.RelayFault)
				}
				require.False(t, ex.RelayFault)
				for _, st := range ex.Transcript {
					require.False(t, strings.HasPrefix(st.Command, next), "%q", st.Command)
					require.False(t, next == "<data>" && strings.HasPrefix(st.Command, "message"), "%q", st.Command)
				}
				require.Empty(t, p.Messages())
			})
		}
	}
}

// script is what a server says in one transaction.
type script struct {
	mail, data, dot string
	// rcpt are the replies to the recipients; stays: it keeps the connection open behind a 421.
	rcpt  []string
	stays bool
	final bool
}

var (
	mailReplies = []string{"", "", "", "", "", "250 ok", "451 4.3.0 no disk", "550 5.1.8 bad sender", "550 5.5.0 no", "421 4.3.2 bye", "555 5.5.4 SIZE is not known", "503 5.5.1 EHLO first", "what?", smtptest.Drop}
	rcptReplies = []string{
		"", "", "", "", "", "", "251 2.1.5 will forward", "550 5.1.1 nobody", "550 5.7.1 no", "550", "554 5.7.1 relaying denied", "450 4.2.1 later", "451 4.3.0 no disk",
		"452 4.5.3 too many recipients", "552 too many recipients", "452 4.2.2 full", "421 4.3.2 bye", "421 4.7.0 too many", smtptest.ThenDrop("421 4.3.2 bye"), "521 5.7.1 go away", smtptest.ThenDrop("521 5.7.1 go away"),
		"550 5.4.5 Daily user sending limit exceeded", "450 4.7.1 sending rate limit exceeded", "530 5.7.0 authentication required", "503 5.5.1 bad sequence", "354 go on", "what?", smtptest.Drop,
		"250-2.1.5 several\r\n250 2.1.5 lines", "550-5.1.1 several\r\n550 5.1.1 lines",
	}
	dataReplies = []string{"", "", "", "", "451 4.3.0 no disk", "554 5.7.1 policy", "421 4.3.2 bye", "250 ok", smtptest.Drop}
	dotReplies  = []string{"", "", "", "", "451 4.7.1 greylisted", "550 5.7.1 spam", "421 4.3.2 bye", smtptest.Drop}
)

// scriptOf makes a script of any bytes.
func scriptOf(b []byte) script {
	next := func() (n int) {
		if len(b) > 0 {
			n, b = int(b[0]), b[1:]
		}
		return n
	}
	pick := func(list []string) string { return list[next()%len(list)] }
	s := script{mail: pick(mailReplies), data: pick(dataReplies), dot: pick(dotReplies)}
	flags := next()
	s.stays, s.final = flags&1 != 0, flags&2 != 0
	for range min(1+len(b), 12) {
		s.rcpt = append(s.rcpt, pick(rcptReplies))
	}
	return s
}

// peer is a server that follows the script. Replies depend on the command, and on whether there
// is a transaction, but not on how commands arrive.
func (s script) peer(pipelines bool) *smtptest.Peer {
	p := &smtptest.Peer{NoPipelining: !pipelines, Extensions: []string{"SIZE 1000000"}, Stays: s.stays}
	if pipelines {
		p.Extensions = pipelining
	}
	var begun atomic.Bool
	p.Answer = func(line string) string {
		switch {
		case strings.HasPrefix(line, "EHLO"):
			begun.Store(false)
		case strings.HasPrefix(line, "MAIL"):
			if strings.HasPrefix(s.mail, "555") && !strings.Contains(line, "SIZE=") {
				begun.Store(true)
				return ""
			}
			begun.Store(s.mail == "" || s.mail[0] == '2')
			return s.mail
		case strings.HasPrefix(line, "RCPT") && !begun.Load():
			return "503 5.5.1 need MAIL command"
		case strings.HasPrefix(line, "RCPT"):
			var i int
			if _, err := fmt.Sscanf(line, "RCPT TO:<r%d@", &i); err != nil {
				return "500 " + err.Error()
			}
			return s.rcpt[i]
		case line == "DATA":
			return s.data
		case line == ".":
			return s.dot
		}
		return ""
	}
	return p
}

// outcomes are what one transaction came to, and whom the server delivered to.
func (s script) outcomes(t *testing.T, pipelines bool) (ex delivery.Exchange, up bool, copies []string) {
	t.Helper()
	p := s.peer(pipelines).Start(t)
	defer p.Close()
	options := "name=primary"
	if s.final {
		options += "&accepts=final"
	}
	now := time.Now()
	rs := relays(t, relay.Options{Now: func() time.Time { return now }}, url(p, options))
	defer rs.Close()
	var addresses []string
	for i := range s.rcpt {
		addresses = append(addresses, fmt.Sprintf("r%d@%c.test", i, 'a'+i%3))
	}
	ex = send(t, rs, envelope(addresses...), noMark)
	for _, m := range p.Messages() {
		copies = append(copies, m.To...)
	}
	return ex, rs.Up()["primary"], copies
}

// ends reports whether a reply to RCPT closes the connection, or leaves what follows without a
// meaning.
func ends(answer string) bool {
	for _, prefix := range []string{smtptest.Drop, "421", "521", "354", "what?"} {
		if strings.HasPrefix(answer, prefix) {
			return true
		}
	}
	return false
}

// FuzzPipelinedOutcomes: for any replies, each recipient has the outcome that it has without
// PIPELINING, with two exceptions. A recipient that no RCPT would have named may be accepted, or
// refused, which only its text says.
// Where the server closes the connection at such a recipient, and takes no message then, those
// accepted before it wait for the next transaction.
func FuzzPipelinedOutcomes(f *testing.F) {
	for n := range 400 { // not random: a failure comes again
		var b []byte
		for state := uint32(n)*2654435761 + 1; len(b) < 4+n%12; {
			state = state*1664525 + 1013904223
			b = append(b, byte(state>>24))
		}
		if n%2 == 0 {
			b[0], b[1], b[2] = 0, 0, 0
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scriptOf(b)
		single, upSingle, _ := s.outcomes(t, false)
		grouped, upGrouped, copies := s.outcomes(t, true)
		also, ended := false, false
		for i, o := range single.Outcomes {
			ended = ended || o.Unasked && ends(s.rcpt[i])
		}
		if ended && strings.HasPrefix(s.data, "250") {
			return // whether DATA is tried decides whether all replies are out of step
		}
		for i, want := range single.Outcomes {
			got := grouped.Outcomes[i]
			accepted := s.rcpt[i] == "" || s.rcpt[i][0] == '2'
			if want.Unasked && accepted && !got.Unasked {
				also = true
				continue
			}
			if ended && accepted && got.Unasked {
				require.Equal(t, email.RecipientDeferred, got.Status)
				require.True(t, got.Uncounted)
				also = true
				continue
			}
			if strings.HasPrefix(want.Text, "not tried yet: ") {
				require.NotEqual(t, email.RecipientDelivered, got.Status)
				want.Reply, got.Reply = email.Reply{}, email.Reply{}
			}
			require.Equal(t, want, got, "recipient %d of %+q\none by one: %v\ngrouped: %v", i, s, single.Transcript, grouped.Transcript)
		}
		if !also {
			require.Equal(t, single.RelayFault, grouped.RelayFault, "%+q", s)
			require.Equal(t, upSingle, upGrouped, "%+q", s)
		}
		for i, o := range grouped.Outcomes {
			address := fmt.Sprintf("r%d@%c.test", i, 'a'+i%3)
			got := slices.Contains(copies, address)
			switch {
			case s.rcpt[i] != "": // the peer notes only whom it accepts by itself
			case o.Status == email.RecipientDelivered:
				require.True(t, got, "%s: %q", address, s)
			default:
				require.False(t, got, "%s: %q", address, s)
			}
		}
	})
}
