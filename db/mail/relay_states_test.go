package mail_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func relayFault(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RelayFault: true, RetryAfter: 10 * time.Second,
		Reply: email.Reply{Code: 452, Enhanced: "4.3.1", Text: "Insufficient system storage"}}
}

// refuse takes an e-mail through an attempt that ends before the final dot.
func (b *bench) refuse(id string, n int, outcome func(delivery.EnvelopeRecipient) delivery.Outcome) delivery.Recorded {
	b.T.Helper()
	owner, o := b.Open(id, n)
	require.Equal(b.T, delivery.VerdictOpened, o.Verdict)
	var outs []delivery.Outcome
	for _, r := range o.Recipients {
		out := outcome(r)
		out.RecipientID = r.ID
		outs = append(outs, out)
	}
	require.NoError(b.T, b.Finish(id, n, owner, outs...))
	return b.Record(id, n)
}

func TestARelayFaultTouchesNoRecipient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test", "b@y.test"))
	st := b.refuse(e.ID, 1, relayFault).State
	require.Equal(t, email.DetailRelayDown, st.Detail)
	require.Equal(t, email.WaitingRetry, st.Waiting)
	require.Equal(t, 2, st.NextAttempt)
	e = b.Get(e.ID)
	for _, r := range e.Recipients {
		require.Equal(t, email.RecipientQueued, r.Status)
		require.Zero(t, r.Attempts)
		require.Empty(t, r.Reply)
	}
	require.Equal(t, "primary", e.RelayFault.Relay, "it has taken other mail since, and refused this")
	require.Equal(t, email.Reply{Code: 452, Enhanced: "4.3.1", Text: "Insufficient system storage"}, e.RelayFault.Reply)
	require.Equal(t, e.NextAttemptAt, e.RelayFault.NextAttemptAt)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM delivery_attempts WHERE email_id = ?", e.ID), "it stays as evidence")
	require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE date_at IS NULL"), "the time until expiry has not begun")

	since := e.RelayFault.Since
	require.False(t, since.IsZero())
	require.Equal(t, "relay primary: Insufficient system storage", st.Last.Text, "the run says which relay, and its words")

	// Further attempts that end so leave no event, and come less and less often.
	var waits []time.Duration
	for n := 2; n <= 8; n++ {
		b.DueNow(e.ID)
		b.refuse(e.ID, n, relayFault)
		var wait float64
		require.NoError(t, b.Raw.NewRaw("SELECT extract(epoch FROM next_action_at - moved_at) FROM emails AS e JOIN (SELECT email_id, max(status_at) AS moved_at FROM recipients GROUP BY 1) AS r ON r.email_id = e.id").Scan(t.Context(), &wait))
		waits = append(waits, time.Duration(wait)*time.Second)
	}
	require.Equal(t, []time.Duration{20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute, 5 * time.Minute}, waits)
	require.NotContains(t, b.Events(e.ID), string(email.EventDeferred))
	require.Equal(t, 1, countOf(b.Events(e.ID), email.EventSending))

	// The earlier reply of the recipient's own server stays.
	b.DueNow(e.ID)
	b.Attempt(e.ID, 9, dbsetup.Deferred)
	b.DueNow(e.ID)
	b.refuse(e.ID, 10, relayFault)
	e = b.Get(e.ID)
	var refusedAt time.Time
	require.NoError(t, b.Raw.NewRaw("SELECT done_at FROM delivery_attempts WHERE email_id = ? AND attempt = 10", e.ID).Scan(t.Context(), &refusedAt))
	require.WithinDuration(t, refusedAt, e.RelayFault.Since, 0, "the relay had taken this e-mail before")
	require.Equal(t, email.RecipientDeferred, e.Recipients[0].Status)
	require.Equal(t, 1, e.Recipients[0].Attempts)
	require.Equal(t, 451, e.Recipients[0].Code)
	require.Equal(t, 2, countOf(b.Events(e.ID), email.EventDeferred), "of the one attempt that counted")
	require.Zero(t, b.Count("SELECT count(*) FROM emails WHERE date_at IS NULL"))
	b.DueNow(e.ID)
	require.Equal(t, email.StatusDelivered, b.Attempt(e.ID, 11, dbsetup.Delivered).State.Status)
	require.Equal(t, 2, countOf(b.Events(e.ID), email.EventSending))
}

func countOf(types []string, t email.EventType) int {
	return len(slices.DeleteFunc(slices.Clone(types), func(s string) bool { return s != string(t) }))
}

// TestMailThatWasNotTriedFollowsItsRelay: an e-mail that met only the backoff of its relay
// waits for that, however often it was given back before.
func TestMailThatWasNotTriedFollowsItsRelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	for n := 1; n <= 6; n++ {
		b.refuse(e.ID, n, relayFault)
		b.DueNow(e.ID)
	}
	since := b.Get(e.ID).RelayFault.Since
	b.refuse(e.ID, 7, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := relayFault(r)
		o.Unasked = true
		return o
	})
	var wait float64
	require.NoError(t, b.Raw.QueryRowContext(b.Ctx, "SELECT extract(epoch FROM next_attempt_at - status_at) FROM recipients").Scan(&wait))
	require.Equal(t, 10.0, wait)
	got := b.Get(e.ID)
	require.Equal(t, since, got.RelayFault.Since, "it has waited since the first refusal")
	require.Equal(t, got.NextAttemptAt, got.RelayFault.NextAttemptAt)
}

// TestARelaysFaultTakesNoTime: however long an outage lasts, mail is tried after it,
// unless the message itself says until when.
func TestARelaysFaultTakesNoTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fresh, tried, limited := b.Accept(dbsetup.Message("a@x.test")), b.Accept(dbsetup.Message("b@x.test")), dbsetup.Message("c@x.test")
	limited.ExpiresAt = time.Now().Add(time.Hour)
	ends := b.Accept(limited)
	b.Attempt(tried.ID, 1, dbsetup.Deferred)
	b.DueNow(tried.ID)
	for _, e := range []email.Email{fresh, ends} {
		b.Attempt(e.ID, 1, relayFault) // at the final dot
	}
	b.refuse(tried.ID, 2, relayFault)
	require.Equal(t, 2, b.Count("SELECT count(*) FROM emails WHERE date_at IS NULL"), "the time until expiry has not begun")
	b.Exec("UPDATE emails SET date_at = date_at - interval '100 hours'")
	for _, e := range []email.Email{fresh, tried} {
		require.Equal(t, email.DetailRelayDown, b.Get(e.ID).Detail)
		n := b.Get(e.ID).Attempts + 1
		b.DueNow(e.ID)
		require.Equal(t, email.StatusDelivered, b.Attempt(e.ID, n, dbsetup.Delivered).State.Status)
	}
	b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", ends.ID)
	b.DueNow(ends.ID)
	_, o := b.Open(ends.ID, 2)
	require.Equal(t, email.DetailExpired, o.State.Detail)
}

// TestWhereAnotherRelayTakesItAnEmailGoesThere: soon the first time, with the relay whose
// fault it was to be avoided.
func TestWhereAnotherRelayTakesItAnEmailGoesThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	elsewhere := func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := relayFault(r)
		o.Elsewhere, o.RetryAfter = true, time.Hour
		return o
	}
	var waits []float64
	for n := 1; n <= 3; n++ {
		st := b.refuse(e.ID, n, elsewhere).State
		require.Equal(t, "primary", st.FaultyRelay)
		var wait float64
		require.NoError(t, b.Raw.QueryRowContext(b.Ctx, "SELECT extract(epoch FROM next_attempt_at - status_at) FROM recipients").Scan(&wait))
		waits = append(waits, wait)
		b.DueNow(e.ID)
	}
	require.Equal(t, []float64{1, 10, 20}, waits)
}

// TestWhoWasPutOffBeforeIsNamedLast: a recipient at whom the relay ends the connection
// would keep the others from being named, each time.
func TestWhoWasPutOffBeforeIsNamedLast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bad@x.test", "b@x.test", "c@x.test"))
	b.refuse(e.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientDeferred, Uncounted: r.Address != "bad@x.test", Reply: email.Reply{Code: 421}}
	})
	b.DueNow(e.ID)
	_, o := b.Open(e.ID, 2)
	var addresses []string
	for _, r := range o.Recipients {
		addresses = append(addresses, r.Address)
	}
	require.Equal(t, []string{"b@x.test", "c@x.test", "bad@x.test"}, addresses)
}

func TestARelayFaultKeepsWhatMayHaveArrived(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	b.Attempt(e.ID, 1, func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailAmbiguous}
	})
	b.DueNow(e.ID)
	b.refuse(e.ID, 2, relayFault)
	st, err := b.Mail.Control(t.Context(), e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, st.Status)
	require.Equal(t, email.DetailAmbiguous, st.Detail)
}

func TestACancelDuringARelayFaultIsCarriedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	owner, o := b.Open(e.ID, 1)
	_, err := b.Mail.Control(t.Context(), e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	out := relayFault(o.Recipients[0])
	out.RecipientID = o.Recipients[0].ID
	require.NoError(t, b.Finish(e.ID, 1, owner, out))
	require.Equal(t, email.StatusCanceled, b.Record(e.ID, 1).State.Status)
}

// All processes agree on how long a relay is left alone, and on who probes it.
func TestRelayStatesAreShared(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mail := delivery.MailCommand{From: "shop@acme.test", Bytes: 20_000}
	st := delivery.RelayState{Name: "primary", Address: "mx.test:25", Shared: true, Mail: &mail, Reply: email.Reply{Code: 452, Enhanced: "4.3.1", Text: "full"}, Cause: "it refused MAIL FROM"}
	one, two := uuid.NewString(), uuid.NewString()
	failed := func(owner string) delivery.RelayState {
		got, err := b.Mail.RelayFailed(t.Context(), st, owner)
		require.NoError(t, err)
		return got
	}
	over := func() { b.Exec("UPDATE relay_states SET next_at = now()") }
	claim := func(owner string) (bool, delivery.RelayState) {
		granted, got, err := b.Mail.ClaimProbe(t.Context(), st.Name, st.Address, owner, time.Minute)
		require.NoError(t, err)
		return granted, got
	}
	granted, got := claim(one)
	require.False(t, granted, "nothing is known against it")
	require.Zero(t, got.Failures)

	require.Equal(t, 10*time.Second, failed(one).RetryAfter)
	require.Equal(t, st.Cause, failed(one).Cause)
	require.Equal(t, 1, failed(two).Failures, "those who were talking to it count as one")
	granted, got = claim(two)
	require.False(t, granted)
	require.Positive(t, got.RetryAfter)
	for n, want := range []time.Duration{20, 40, 80, 160, 300, 300} {
		over()
		owner, other := one, two
		if n%2 == 1 {
			owner, other = two, one
		}
		granted, _ = claim(owner)
		require.True(t, granted)
		granted, _ = claim(other)
		require.False(t, granted, "one at a time")
		got = failed(owner)
		require.Equal(t, want*time.Second, got.RetryAfter)
		require.Equal(t, n+2, failed(other).Failures, "the others add nothing")
	}
	list, err := b.Mail.RelayStates(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	began := list[0].ChangedAt
	require.Equal(t, mail, *list[0].Mail)
	require.Equal(t, st.Reply, list[0].Reply)
	require.True(t, list[0].Shared)

	over()
	granted, _ = claim(one)
	require.True(t, granted)
	require.NoError(t, b.Mail.ReleaseProbe(t.Context(), st.Name, st.Address, one))
	granted, _ = claim(two)
	require.True(t, granted, "what was given back is there for others")
	require.NoError(t, b.Mail.RelayRecovered(t.Context(), st.Name, st.Address))
	list, err = b.Mail.RelayStates(t.Context())
	require.NoError(t, err)
	require.Zero(t, list[0].Failures)
	require.True(t, list[0].ChangedAt.After(began), "it works again since then")
	require.Less(t, list[0].SinceChange, time.Hour)
	require.Equal(t, 10*time.Second, failed(one).RetryAfter, "it begins anew")

	forget := func() int {
		require.NoError(t, b.Mail.ForgetRelay(t.Context(), st.Name, st.Address, 10*time.Minute))
		list, err := b.Mail.RelayStates(t.Context())
		require.NoError(t, err)
		return len(list)
	}
	b.Exec("UPDATE relay_states SET next_at = now() - interval '9 minutes'")
	require.Equal(t, 1, forget(), "somebody may still probe it")
	b.Exec("UPDATE relay_states SET next_at = now() - interval '11 minutes'")
	require.Equal(t, 0, forget())
}

// A batch's copies that a relay's fault ended stay with the batch, and do not count as
// attempted.
func TestARelayFaultLeavesABatchAsItWas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, nil))
	owner, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 3)
	rec, err := b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, relayFault))
	require.NoError(t, err)
	require.Zero(t, rec.HandedOver)
	require.Empty(t, rec.Statuses)
	for _, it := range items {
		e := b.Get(it.EmailID)
		require.Equal(t, email.DetailRelayDown, e.Detail)
		require.Equal(t, email.RecipientQueued, e.Recipients[0].Status)
		require.Equal(t, email.BatchWorkflowIDPrefix+batch.ID, e.WorkflowID)
		require.NotContains(t, b.Events(e.ID), string(email.EventDeferred))
	}
	_, opened, _ = b.openBatch(batch.ID, 10)
	require.Empty(t, opened, "they wait")
	b.Exec("UPDATE recipients SET next_attempt_at = now(); UPDATE emails SET next_action_at = now()")
	avoiding := batchRoute
	avoiding.Avoid = "primary"
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, []delivery.Route{avoiding}, plan.Routes, "another relay that works goes first")
	owner, opened, _ = b.openBatchAt(batch.ID, avoiding, 10)
	require.Len(t, opened, 3)
	rec, err = b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Delivered))
	require.NoError(t, err)
	require.Equal(t, 3, rec.Statuses[email.StatusDelivered])
}

// TestMailOf: a relay that refused MAIL is asked with the command that an e-mail will say.
func TestMailOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	id, m, err := b.Mail.MailOf(t.Context(), delivery.Route{For: e.ID})
	require.NoError(t, err)
	require.Equal(t, e.ID, id)
	require.Equal(t, e.From.Email, m.From)
	require.Positive(t, m.Bytes)
	id, _, err = b.Mail.MailOf(t.Context(), delivery.Route{For: uuid.NewString()})
	require.NoError(t, err)
	require.Empty(t, id)
}

// TestAFaultIsThatOfTheAddressThatFailedLast: a relay that has moved fails where it is now.
func TestAFaultIsThatOfTheAddressThatFailedLast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	b.Exec("UPDATE emails SET status = 'queued', status_detail = 'relay_down', relay_down = true, relay_down_by = 'primary'")
	old := delivery.RelayState{Name: "primary", Address: "old.test:25", Reply: email.Reply{Text: "connection refused"}}
	for range 3 {
		_, err := b.Mail.RelayFailed(t.Context(), old, uuid.NewString())
		require.NoError(t, err)
		b.Exec("UPDATE relay_states SET next_at = now() - interval '2 seconds', since = now() - interval '1 hour'")
	}
	require.Equal(t, "connection refused", b.Get(e.ID).RelayFault.Reply.Text)
	moved := delivery.RelayState{Name: "primary", Address: "new.test:25", Reply: email.Reply{Code: 421, Text: "closing"}}
	_, err := b.Mail.RelayFailed(t.Context(), moved, uuid.NewString())
	require.NoError(t, err)
	require.Equal(t, 421, b.Get(e.ID).RelayFault.Reply.Code)
}

// TestAnEmailsOwnRefusalIsNewerThanAnAddressThatWasLeft: the former address of a relay that has
// moved is known as failing for a while. Mail that the relay refuses at its new address says so.
func TestAnEmailsOwnRefusalIsNewerThanAnAddressThatWasLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := delivery.RelayState{Name: "primary", Address: dbsetup.Relay.Host + ":25", Reply: email.Reply{Text: "connection refused"}}
	_, err := b.Mail.RelayFailed(t.Context(), old, uuid.NewString())
	require.NoError(t, err)
	b.Exec("UPDATE relay_states SET failures = 6, since = now() - interval '1 hour', next_at = now() + interval '4 minutes'")

	e := b.Accept(dbsetup.Message("a@x.test"))
	b.refuse(e.ID, 1, relayFault)
	refusedAt := func(n int) (at time.Time) {
		require.NoError(t, b.Raw.NewRaw("SELECT done_at FROM delivery_attempts WHERE email_id = ? AND attempt = ?", e.ID, n).Scan(t.Context(), &at))
		return at
	}
	got := b.Get(e.ID)
	require.Equal(t, relayFault(delivery.EnvelopeRecipient{}).Reply, got.RelayFault.Reply)
	require.WithinDuration(t, refusedAt(1), got.RelayFault.Since, 0)
	require.Equal(t, got.NextAttemptAt, got.RelayFault.NextAttemptAt)
	require.Less(t, got.NextAttemptAt.Sub(refusedAt(1)), time.Minute, "the old address's backoff is not this e-mail's")

	// The new address takes no mail at all now.
	moved := delivery.RelayState{Name: "primary", Address: dbsetup.Relay.Host + ":26", Reply: email.Reply{Code: 421, Text: "closing"}}
	_, err = b.Mail.RelayFailed(t.Context(), moved, uuid.NewString())
	require.NoError(t, err)
	require.Equal(t, moved.Reply, b.Get(e.ID).RelayFault.Reply)

	// That the relay was left alone is no word of the relay's.
	b.DueNow(e.ID)
	b.refuse(e.ID, 2, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := relayFault(r)
		o.Unasked, o.Reply = true, email.Reply{Text: "left alone"}
		return o
	})
	require.Equal(t, moved.Reply, b.Get(e.ID).RelayFault.Reply)

	// The relay takes other mail again.
	require.NoError(t, b.Mail.RelayRecovered(t.Context(), moved.Name, moved.Address))
	b.DueNow(e.ID)
	b.refuse(e.ID, 3, relayFault)
	got = b.Get(e.ID)
	require.Equal(t, relayFault(delivery.EnvelopeRecipient{}).Reply, got.RelayFault.Reply)
	require.WithinDuration(t, refusedAt(1), got.RelayFault.Since, 0, "the relay took other mail between")

	// In a list each has its own.
	other := b.Accept(dbsetup.Message("b@x.test"))
	denied := email.Reply{Code: 554, Enhanced: "5.7.1", Text: "Relay access denied"}
	b.refuse(other.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := relayFault(r)
		o.Reply = denied
		return o
	})
	list, _, err := b.Mail.Emails(t.Context(), b.Customer, email.Filter{}, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []string{other.ID, e.ID}, []string{list[0].ID, list[1].ID})
	require.Equal(t, []email.Reply{denied, got.RelayFault.Reply}, []email.Reply{list[0].RelayFault.Reply, list[1].RelayFault.Reply})
}

// TestAnAddressThatWorksSinceIsNewerThanOneThatWasLeft: mail that was not tried at the new address
// of a relay does not wait for the old one.
func TestAnAddressThatWorksSinceIsNewerThanOneThatWasLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("a@x.test"))
	_, err := b.Mail.Check(t.Context(), e.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.NoError(t, err)
	old := delivery.RelayState{Name: "primary", Address: "old.test:25", Reply: email.Reply{Text: "connection refused"}}
	moved := delivery.RelayState{Name: "primary", Address: "new.test:25", Reply: email.Reply{Code: 421, Text: "closing"}}
	fail := func(st delivery.RelayState) {
		_, err := b.Mail.RelayFailed(t.Context(), st, uuid.NewString())
		require.NoError(t, err)
	}
	fail(old)
	fail(moved)
	require.Equal(t, moved.Reply, b.Get(e.ID).RelayFault.Reply)
	failed := b.Get(e.ID).RelayFault.Since
	require.False(t, failed.IsZero())
	require.NoError(t, b.Mail.RelayRecovered(t.Context(), moved.Name, moved.Address))
	again := b.Get(e.ID).RelayFault
	require.Contains(t, again.Reply.Text, "the relay takes mail again")
	require.Equal(t, failed, again.Since, "it waited since then")

	// Another process still finds the relay there.
	b.Exec("UPDATE relay_states SET next_at = now() WHERE address = ?", old.Address)
	fail(old)
	require.Equal(t, old.Reply, b.Get(e.ID).RelayFault.Reply)
}

// TestAFaultBeganWithTheRelayNotWithTheEmail: an e-mail that meets an outage late says since when
// the relay fails, also where its attempt was one of several in the relay's backoff.
func TestAFaultBeganWithTheRelayNotWithTheEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refusal := relayFault(delivery.EnvelopeRecipient{}).Reply
	st := delivery.RelayState{Name: "primary", Address: dbsetup.Relay.Host + ":25", Shared: true, Reply: email.Reply{Code: 421, Text: "closing"}}
	first, err := b.Mail.RelayFailed(t.Context(), st, uuid.NewString())
	require.NoError(t, err)
	b.Exec("UPDATE relay_states SET next_at = now()")

	probe, late := b.Accept(dbsetup.Message("a@x.test")), b.Accept(dbsetup.Message("b@x.test"))
	st.Reply = refusal
	b.refuse(probe.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		_, err := b.Mail.RelayFailed(t.Context(), st, uuid.NewString())
		require.NoError(t, err)
		o := relayFault(r)
		o.Reply.Text = "as the session had it"
		return o
	})
	b.refuse(late.ID, 1, relayFault)
	for _, e := range []email.Email{probe, late} {
		fault := b.Get(e.ID).RelayFault
		require.Equal(t, refusal, fault.Reply)
		require.Equal(t, first.Since, fault.Since)
	}
}
