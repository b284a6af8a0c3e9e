package mail_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// waitsForItsTurn is the outcome of a recipient that did not fit into the transaction.
func waitsForItsTurn(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, Unasked: true, RetryAfter: time.Second,
		Reply: email.Reply{Text: "not tried yet: the relay takes 1 recipient at a time"}}
}

func many(n int) []string {
	to := make([]string, n)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@x.test", i)
	}
	return to
}

// TestWhoWaitsForItsTurnIsNotDeferred: an e-mail whose relay takes one recipient at a time has
// as many events as recipients and transactions, and not as their product.
func TestWhoWaitsForItsTurnIsNotDeferred(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message(many(40)...))
	for n := 1; n <= 40; n++ {
		first := true
		st := b.Attempt(e.ID, n, func(r delivery.EnvelopeRecipient) delivery.Outcome {
			if first {
				first = false
				return dbsetup.Delivered(r)
			}
			return waitsForItsTurn(r)
		}).State
		if n == 40 {
			require.Equal(t, email.StatusDelivered, st.Status)
			break
		}
		require.Equal(t, email.StatusSending, st.Status)
		require.Equal(t, email.DetailPartial, st.Detail)
		require.Equal(t, email.WaitingRetry, st.Waiting)
		require.Contains(t, st.Last.Text, "not tried yet")
		b.DueNow(e.ID)
	}
	events := b.Events(e.ID)
	require.Zero(t, countOf(events, email.EventDeferred))
	require.Equal(t, 40, countOf(events, email.EventDelivered))
	require.Len(t, events, 1+40+40+1, "queued, sending and delivered 40 times, completed")
	for _, r := range b.Get(e.ID).Recipients {
		require.Equal(t, 1, r.Attempts, "its own")
	}
}

func TestWhoWaitsForItsTurnIsAsItWas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test", "b@x.test"))
	for n := 1; n <= 2; n++ {
		b.Attempt(e.ID, n, waitsForItsTurn)
		e = b.Get(e.ID)
		for _, r := range e.Recipients {
			require.Equal(t, email.RecipientQueued, r.Status)
			require.Zero(t, r.Attempts)
			require.Contains(t, r.Text, "not tried yet")
			require.False(t, r.NextAttemptAt.IsZero())
		}
		b.DueNow(e.ID)
	}
	// retry-now makes it due at once, as who is deferred.
	b.Attempt(e.ID, 3, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := waitsForItsTurn(r)
		o.RetryAfter = time.Hour
		return o
	})
	st, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionRetryNow})
	require.NoError(t, err)
	require.Empty(t, st.Waiting)

	// The reply of its own server stays.
	b.Attempt(e.ID, 4, dbsetup.Deferred)
	b.DueNow(e.ID)
	b.Attempt(e.ID, 5, waitsForItsTurn)
	for _, r := range b.Get(e.ID).Recipients {
		require.Equal(t, email.RecipientDeferred, r.Status)
		require.Equal(t, 1, r.Attempts)
		require.Equal(t, 451, r.Code)
	}
	require.Equal(t, 2, countOf(b.Events(e.ID), email.EventDeferred), "of the attempt that asked them")

	// A cancel that came meanwhile is carried out.
	b.DueNow(e.ID)
	owner, o := b.Open(e.ID, 6)
	_, err = b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	var outs []delivery.Outcome
	for _, r := range o.Recipients {
		out := waitsForItsTurn(r)
		out.RecipientID = r.ID
		outs = append(outs, out)
	}
	require.NoError(t, b.Finish(e.ID, 6, owner, outs...))
	require.Equal(t, email.StatusCanceled, b.Record(e.ID, 6).State.Status)
}

// A relay refused the e-mail for a reason of its own, which is mended: retry-now makes the
// recipients due, as those that are deferred.
func TestRetryNowAfterARelaysFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test", "b@x.test"))
	b.Attempt(e.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{RecipientID: r.ID, Status: email.RecipientDeferred, Uncounted: true, RelayFault: true, RetryAfter: 30 * time.Minute,
			Reply: email.Reply{Code: 554, Enhanced: "5.7.1", Text: "Daily sending limit exceeded"}}
	})
	before := b.Get(e.ID)
	require.Equal(t, email.DetailRelayDown, before.Detail)
	require.Greater(t, time.Until(before.NextAttemptAt), 20*time.Minute)
	_, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionRetryNow})
	require.NoError(t, err)
	for _, r := range b.Get(e.ID).Recipients {
		require.Equal(t, email.RecipientQueued, r.Status)
		require.LessOrEqual(t, time.Until(r.NextAttemptAt), time.Duration(0))
	}
	b.Attempt(e.ID, 2, dbsetup.Delivered)
	require.Equal(t, email.StatusDelivered, b.Get(e.ID).Status)
}

// TestARelaysFaultAfterManyTransactionsWaitsAsTheFirst: transactions that delivered others are
// no faults of the relay.
func TestARelaysFaultAfterManyTransactionsWaitsAsTheFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message(many(8)...))
	for n := 1; n <= 6; n++ {
		first := true
		b.Attempt(e.ID, n, func(r delivery.EnvelopeRecipient) delivery.Outcome {
			if first {
				first = false
				return dbsetup.Delivered(r)
			}
			return waitsForItsTurn(r)
		})
		b.DueNow(e.ID)
	}
	var waits []float64
	for n := 7; n <= 9; n++ {
		b.refuse(e.ID, n, relayFault)
		var wait float64
		require.NoError(t, b.Raw.QueryRowContext(b.Ctx, "SELECT extract(epoch FROM max(next_attempt_at - status_at)) FROM recipients WHERE next_attempt_at IS NOT NULL").Scan(&wait))
		waits = append(waits, wait)
		b.DueNow(e.ID)
	}
	require.Equal(t, []float64{10, 20, 40}, waits)
}

// refusedAtRcpt is the outcome of a recipient whose refusal may be the relay's fault.
func refusedAtRcpt(r delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RelayFault: true, AtRcpt: true, RetryAfter: time.Minute,
		Reply: email.Reply{Code: 554, Enhanced: "5.7.1", Text: "<" + r.Address + ">: Relay access denied"}}
}

// TestWhatARelaySaidOfARecipientIsShown: the recipient was named at RCPT. A later reply to another
// command, or a wait for its turn, does not hide the reply to it.
func TestWhatARelaySaidOfARecipientIsShown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test", "b@x.test"))
	b.Attempt(e.ID, 1, waitsForItsTurn)
	for n, outcome := range []func(delivery.EnvelopeRecipient) delivery.Outcome{refusedAtRcpt, relayFault, waitsForItsTurn} {
		b.DueNow(e.ID)
		b.refuse(e.ID, n+2, outcome)
		for _, r := range b.Get(e.ID).Recipients {
			require.Equal(t, email.RecipientQueued, r.Status)
			require.Zero(t, r.Attempts)
			require.Equal(t, refusedAtRcpt(delivery.EnvelopeRecipient{Address: r.Address.Email}).Reply, r.Reply)
		}
	}
	b.DueNow(e.ID)
	b.refuse(e.ID, 5, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := waitsForItsTurn(r)
		o.Reply = email.Reply{Code: 452, Enhanced: "4.5.3", Text: "Too many recipients"}
		return o
	})
	require.Equal(t, 452, b.Get(e.ID).Recipients[0].Code, "the last reply to it")
	require.Zero(t, countOf(b.Events(e.ID), email.EventDeferred))
}

// TestWhoWasAcceptedIsNotShownAsNotTried: its transaction ended at DATA, or at the final dot, by a fault of the
// relay. A 421 there is none to its RCPT: it is named with the others.
func TestWhoWasAcceptedIsNotShownAsNotTried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fault := func(code int, enhanced, text string) func(delivery.EnvelopeRecipient) delivery.Outcome {
		return func(r delivery.EnvelopeRecipient) delivery.Outcome {
			o := relayFault(r)
			o.Accepted, o.Reply = true, email.Reply{Code: code, Enhanced: enhanced, Text: text}
			return o
		}
	}
	e := b.Accept(dbsetup.Message("a@x.test", "b@x.test"))
	b.Attempt(e.ID, 1, waitsForItsTurn)
	for n, said := range []struct {
		outcome func(delivery.EnvelopeRecipient) delivery.Outcome
		want    string
	}{
		{fault(451, "4.3.0", "Temporary lookup failure"), "451 4.3.0 Temporary lookup failure"},
		{waitsForItsTurn, "451 4.3.0 Temporary lookup failure"},
		{fault(421, "4.3.2", "closing"), "421 4.3.2 closing"},
		{relayFault, "421 4.3.2 closing"},
		{fault(0, "", "the connection ended at DATA: EOF"), "the connection ended at DATA: EOF"},
	} {
		b.DueNow(e.ID)
		b.refuse(e.ID, n+2, said.outcome)
		for _, r := range b.Get(e.ID).Recipients {
			require.Equal(t, email.RecipientQueued, r.Status)
			require.Equal(t, email.Reply{Text: delivery.AcceptedInVain + ": " + said.want}, r.Reply)
		}
	}
	b.DueNow(e.ID)
	_, o := b.Open(e.ID, 7)
	for _, r := range o.Recipients {
		require.Zero(t, r.Group)
	}

	// relay_fault says it all of the only recipient.
	one := b.Accept(dbsetup.Message("a@x.test"))
	b.refuse(one.ID, 1, fault(451, "4.3.0", "Temporary lookup failure"))
	require.Empty(t, b.Get(one.ID).Recipients[0].Reply)
	require.Equal(t, 451, b.Get(one.ID).RelayFault.Reply.Code)
}

// TestAnAttemptKnowsWhyOthersBounced, each reply once, and not that mailboxes do not exist.
func TestAnAttemptKnowsWhyOthersBounced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test", "b@x.test", "c@y.test", "hard@x.test", "open@x.test"))
	refusal := func(address string) email.Reply {
		return email.Reply{Code: 554, Enhanced: "5.7.1", Text: "<" + address + ">: Recipient address rejected: policy"}
	}
	_, o := b.Open(e.ID, 1)
	require.Empty(t, o.Bounced)
	b.Attempt(e.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		switch r.Address {
		case "hard@x.test":
			return delivery.Outcome{Status: email.RecipientBounced, Reason: email.DetailHard, Reply: email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}}
		case "open@x.test":
			return waitsForItsTurn(r)
		}
		return delivery.Outcome{Status: email.RecipientBounced, Reason: email.DetailBlock, Reply: refusal(r.Address)}
	})
	b.DueNow(e.ID)
	_, o = b.Open(e.ID, 2)
	require.Len(t, o.Recipients, 1)
	want := []delivery.BounceReply{delivery.NewBounceReply("a@x.test", refusal("a@x.test")), delivery.NewBounceReply("c@y.test", refusal("c@y.test"))}
	require.Equal(t, want, o.Bounced)
	require.Equal(t, want, o.Envelope().Bounced)
	require.NotContains(t, fmt.Sprint(o.Bounced), "a@x.test")
}
