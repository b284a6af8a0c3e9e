package inbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSteer(t *testing.T) {
	t.Parallel()
	t.Run("refusals concern their recipient alone", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{Steer: true})
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		for to, want := range map[string]string{
			"bounce": "550 5.1.1 ", "bounce+7": "550 5.1.1 ", "Bounce-x": "550 5.1.1 ",
			"452": "452 4.2.2 ", "554": "554 5.7.1 ", "451+a": "451 4.7.1 ", "599": "599 5.0.0 ", "400-b": "400 4.0.0 ",
			"399": "250", "600": "250", "250": "250", "+55": "250", "bouncer": "250", "4521": "250", "55a": "250",
		} {
			c.cmd("RCPT TO:<"+to+"@dev.test>", want)
		}
		c.cmd("DATA", "354")
		c.send(note + ".\r\n")
		c.expect("250")
		require.Len(t, b.store.all()[0].EnvelopeTo, 7)
	})
	t.Run("421 ends the connection", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{Steer: true})
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<421@dev.test>", "421 4.3.2 ")
		c.closed()
		b.hello()
	})
	t.Run("without Steer they are names like any other", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{SlowFor: time.Hour})
		c := b.hello()
		c.envelope("a@x.test", "bounce@dev.test", "defer@dev.test", "554@dev.test", "slow@dev.test", "drop@dev.test")
		c.send(note + ".\r\n")
		c.expect("250")
	})
	t.Run("slow@ stores, waits, answers", func(t *testing.T) {
		t.Parallel()
		const wait = 300 * time.Millisecond
		b := setup(t, Config{Steer: true, SlowFor: wait})
		c := b.hello()
		c.envelope("a@x.test", "slow+1@dev.test")
		start := time.Now()
		c.send(note + ".\r\n")
		receive(t, b.store.stored)
		c.expect("250")
		require.GreaterOrEqual(t, time.Since(start), wait)
		c.cmd("NOOP", "250")
	})
	t.Run("drop@ stores and resets the connection", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{Steer: true})
		for _, data := range []string{"DATA\r\n" + note + ".\r\n", fmt.Sprintf("BDAT %d LAST\r\n%s", len(note), note)} {
			c := b.hello()
			c.cmd("MAIL FROM:<a@x.test>", "250")
			c.cmd("RCPT TO:<drop-me@dev.test>", "250")
			c.send(data)
			require.Equal(t, note, string(receive(t, b.store.stored).Raw))
			rest, err := io.ReadAll(c.r)
			require.ErrorContains(t, err, "reset")
			require.False(t, strings.Contains(string(rest), "250"), string(rest))
		}
	})
}

func TestDefer(t *testing.T) {
	t.Parallel()
	attempt := func(c *client, mail, to, want string) {
		c.t.Helper()
		c.cmd("MAIL FROM:<"+mail, "250")
		c.cmd("RCPT TO:<"+to+">", want)
		if want != "250" {
			c.cmd("RSET", "250")
			return
		}
		c.cmd("DATA", "354")
		c.send(note + ".\r\n")
		c.expect("250")
	}
	const refused = "451 4.7.1 "
	t.Run("twice for a sender and recipient, and again for the next message", func(t *testing.T) {
		t.Parallel()
		c := setup(t, Config{Steer: true}).hello()
		for range 2 {
			attempt(c, "a@x.test>", "defer@dev.test", refused)
			attempt(c, "a@x.test>", "defer+x@dev.test", refused)
			attempt(c, "A@x.test>", "Defer@dev.test", refused)
			attempt(c, "b@x.test>", "defer@dev.test", refused)
			attempt(c, "b@x.test>", "defer@dev.test", refused)
			attempt(c, "b@x.test>", "defer@dev.test", "250")
			attempt(c, "a@x.test>", "defer+x@dev.test", refused)
			attempt(c, "a@x.test>", "defer+x@dev.test", "250")
			attempt(c, "a@x.test>", "defer@dev.test", "250")
		}
	})
	t.Run("twice for an ENVID, whoever it is from", func(t *testing.T) {
		t.Parallel()
		c := setup(t, Config{Steer: true}).hello()
		attempt(c, "a@x.test> ENVID=m1", "defer@dev.test", refused)
		attempt(c, "a@x.test> ENVID=m2", "defer@dev.test", refused)
		attempt(c, "b@x.test> ENVID=m1", "defer@dev.test", refused)
		attempt(c, "a@x.test> ENVID=m1", "defer@dev.test", "250")
		attempt(c, "a@x.test> ENVID=m1", "defer@dev.test", "250") // the same message again
		attempt(c, "a@x.test> ENVID=m2", "defer@dev.test", refused)
	})
	t.Run("a message not stored is not deferred anew", func(t *testing.T) {
		t.Parallel()
		b := setup(t, Config{Steer: true})
		c := b.hello()
		attempt(c, "a@x.test>", "defer@dev.test", refused)
		attempt(c, "a@x.test>", "defer@dev.test", refused)
		c.cmd("MAIL FROM:<a@x.test>", "250")
		c.cmd("RCPT TO:<defer@dev.test>", "250")
		c.cmd("RSET", "250")
		attempt(c, "a@x.test>", "defer@dev.test", "250")
	})
	t.Run("memory is bounded and expires", func(t *testing.T) {
		t.Parallel()
		now := time.Unix(0, 0)
		d := newDeferrals(func() time.Time { return now })
		key := func(i int) deferralKey { return keyOf(fmt.Sprint(i), "", "defer@dev.test") }
		for i := range maxDeferrals + 5 {
			require.True(t, d.refuse(key(i)))
		}
		require.Len(t, d.byKey, maxDeferrals)
		require.Equal(t, maxDeferrals, d.order.Len())
		require.True(t, d.refuse(key(maxDeferrals)))
		require.False(t, d.refuse(key(maxDeferrals)))
		now = now.Add(deferralLife)
		require.True(t, d.refuse(key(maxDeferrals)))
		require.Len(t, d.byKey, 1)
	})
}

// TestTheInboxOfDevTakesNoSubmissions: what Postrider delivers is taken as ever; a program
// that submits mail, with and without a login, reads what the port is.
func TestTheInboxOfDevTakesNoSubmissions(t *testing.T) {
	t.Parallel()
	fault := errors.New("no database")
	b := setup(t, Config{Steer: true, Own: func(_ context.Context, id string) (bool, error) {
		if id == "down" {
			return false, fault
		}
		return id == "ours", nil
	}})
	const why = "this is the inbox of `postrider dev`, which sends nothing. Send with POST /v1.0/emails"
	t.Run("an address that is no mailbox", func(t *testing.T) {
		c := b.hello()
		c.cmd("MAIL FROM:<shop@x.test>", "250")
		for _, to := range []string{"somebody@example.org", "bounce@example.org", "452@example.org"} {
			require.Contains(t, c.cmd("RCPT TO:<"+to+">", "550 5.7.1 "), why)
		}
		c.cmd("DATA", "503")
		c.cmd("RSET", "250")
		c.cmd("MAIL FROM:<shop@x.test> ENVID=other", "250")
		c.cmd("RCPT TO:<somebody@example.org>", "550 5.7.1 ")
	})
	t.Run("a login", func(t *testing.T) {
		c := b.hello()
		require.Contains(t, c.cmd("AUTH PLAIN AHNob3AAa2V5", "535 5.7.8 "), why)
		require.Contains(t, c.cmd("AUTH LOGIN", "535 5.7.8 "), why)
	})
	t.Run("a mailbox takes anybody's mail", func(t *testing.T) {
		c := b.hello()
		c.envelope("a@x.test", "Inbox@dev.test")
		c.send(note + ".\r\n")
		c.expect("250")
	})
	t.Run("what Postrider delivers is taken and steered", func(t *testing.T) {
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test> RET=HDRS ENVID=ours", "250")
		c.cmd("RCPT TO:<you@example.net>", "250")
		c.cmd("RCPT TO:<452@example.net>", "452")
		c.cmd("DATA", "354")
		c.send(note + ".\r\n")
		c.expect("250")
	})
	t.Run("while nobody can tell, the client comes again", func(t *testing.T) {
		c := b.hello()
		c.cmd("MAIL FROM:<a@x.test> ENVID=down", "250")
		c.cmd("RCPT TO:<you@example.net>", "451")
	})
	t.Run("a server for mailboxes offers no login", func(t *testing.T) {
		c := setup(t, Config{}).hello()
		require.NotContains(t, c.cmd("EHLO again.test", "250"), "AUTH")
	})
}
