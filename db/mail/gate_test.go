package mail_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestAnAttemptFromGateToRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test", "eve@y.test"))
	require.Equal(t, email.StatusQueued, e.Status)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox"))

	owner, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Len(t, o.Recipients, 2)
	require.Equal(t, "shop@acme.test", o.From)
	require.Zero(t, b.Count("SELECT count(*) FROM outbox"), "whoever opened the gate is a run")
	got := b.Get(e.ID)
	require.Equal(t, email.StatusSending, got.Status)
	require.Equal(t, email.RecipientSending, got.Recipients[0].Status)

	require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
	require.NoError(t, b.Finish(e.ID, 1, owner,
		delivery.Outcome{RecipientID: o.Recipients[0].ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250, Text: "queued"}},
		delivery.Outcome{RecipientID: o.Recipients[1].ID, Status: email.RecipientBounced, Reason: email.DetailHard, Reply: email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user eve@y.test"}}))
	rec := b.Record(e.ID, 1)
	require.True(t, rec.State.Final)
	require.Equal(t, email.DetailPartial, rec.State.Detail)
	require.Equal(t, "e***@y.test", rec.State.Results[1].Address)
	require.Equal(t, "no such user ***@y.test", rec.State.Results[1].Text)

	got = b.Get(e.ID)
	require.Equal(t, email.StatusDelivered, got.Status)
	require.Equal(t, email.Counts{Total: 2, Delivered: 1, Bounced: 1}, email.Count(got.Recipients))
	require.Equal(t, "mx.test", got.Recipients[0].AcceptedBy.Host)
	require.Equal(t, email.AcceptsRelay, got.Recipients[0].AcceptedBy.Means)
	require.True(t, got.NextAttemptAt.IsZero())
	require.Equal(t, []string{"email.queued", "email.sending", "email.delivered", "email.bounced", "email.completed"}, b.Events(e.ID))

	again := b.Record(e.ID, 1)
	require.Equal(t, rec.State, again.State, "recording again changes nothing")
	require.Len(t, b.Events(e.ID), 5)
	attempts, _, err := b.Mail.Attempts(b.Ctx, b.Customer, e.ID, 0)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	require.Equal(t, email.PhaseDone, attempts[0].Phase)
	require.Equal(t, "MAIL FROM", attempts[0].Transcript[0].Command)
	_, _, err = b.Mail.Attempts(b.Ctx, uuid.NewString(), e.ID, 0)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}

// TestTheJournalTakesManyAtOnce: a worker that has lost one attempt still marks and ends the
// others.
func TestTheJournalTakesManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var reqs []delivery.OpenRequest
	for range 3 {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		reqs = append(reqs, delivery.OpenRequest{EmailID: e.ID, Attempt: 1, Owner: uuid.NewString(), Relay: dbsetup.Relay})
	}
	openings, err := b.Mail.OpenEach(b.Ctx, reqs)
	require.NoError(t, err)
	b.Open(reqs[1].EmailID, 1) // another process takes it over
	var marks []delivery.Mark
	var endings []delivery.Ending
	for i, r := range reqs {
		marks = append(marks, delivery.Mark{EmailID: r.EmailID, Attempt: 1, Owner: r.Owner, Relay: dbsetup.Relay, IfSilent: dbsetup.Ambiguous(openings[i]), MessageSHA256: "abc", MessageBytes: 3})
		endings = append(endings, delivery.Ending{EmailID: r.EmailID, Attempt: 1, Owner: r.Owner, Relay: dbsetup.Relay,
			Outcomes: []delivery.Outcome{{RecipientID: openings[i].Recipients[0].ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250}}}})
	}
	ours, err := b.Mail.MarkSent(b.Ctx, marks)
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true}, ours)
	ours, err = b.Mail.Finish(b.Ctx, endings)
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true}, ours)
	require.Equal(t, email.StatusDelivered, b.Record(reqs[2].EmailID, 1).State.Status)
	require.Equal(t, email.StatusSending, b.Get(reqs[1].EmailID).Status)
}

func TestAnOpenedAttemptIsTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	first, _ := b.Open(e.ID, 1)
	second, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Len(t, o.Recipients, 1)
	require.ErrorIs(t, b.Mark(e.ID, 1, first, dbsetup.Ambiguous(o)...), delivery.ErrSuperseded, "the first owner must not write the dot")
	require.ErrorIs(t, b.Mail.Renew(b.Ctx, e.ID, 1, first), delivery.ErrSuperseded)
	require.NoError(t, b.Mark(e.ID, 1, second, dbsetup.Ambiguous(o)...))
	require.ErrorIs(t, b.Finish(e.ID, 1, first), delivery.ErrSuperseded)
	require.Equal(t, 1, b.Get(e.ID).Recipients[0].Attempts)
}

func TestAMarkedAttemptIsWaitedForWhileItsLeaseLives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	owner, o := b.Open(e.ID, 1)
	require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
	_, busy := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictBusy, busy.Verdict)
	require.NoError(t, b.Finish(e.ID, 1, owner, delivery.Outcome{RecipientID: o.Recipients[0].ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250}}))
	_, rec := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictRecorded, rec.Verdict)
	require.Equal(t, 250, rec.Reply.Code)
}

// leasesEnd ends the leases of all attempts.
func (b *bench) leasesEnd() {
	b.T.Helper()
	b.Exec("UPDATE delivery_attempts SET lease_until = now() - interval '1 second'")
}

// TestAnOwnerAnswersARecall: Postgres may have been away for longer than a lease. The owner of an
// attempt then writes or renews, and no other process ends the attempt before.
func TestAnOwnerAnswersARecall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	owner, o := b.Open(e.ID, 1)
	require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
	busy := func(why string) {
		t.Helper()
		b.leasesEnd()
		for range 2 {
			_, o := b.Open(e.ID, 1)
			require.Equal(t, delivery.VerdictBusy, o.Verdict, why)
		}
	}
	busy("it is recalled, once")
	require.NoError(t, b.Mail.Renew(b.Ctx, e.ID, 1, owner))
	busy("it was renewed, and is recalled again")
	require.NoError(t, b.Finish(e.ID, 1, owner, delivery.Outcome{RecipientID: o.Recipients[0].ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250}}))
	b.leasesEnd()
	_, rec := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictRecorded, rec.Verdict)
	b.Record(e.ID, 1)
	require.Equal(t, email.StatusDelivered, b.Get(e.ID).Status)
}

// TestTheOwnerOfABatchsAttemptsAnswersARecall does so for a batch, also one that is held.
func TestTheOwnerOfABatchsAttemptsAnswersARecall(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held: %t", held), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			batch, _ := b.acceptBatch(batchOf(3, nil))
			owner, opened, _ := b.openBatch(batch.ID, 10)
			for _, o := range opened {
				require.NoError(t, b.Mark(o.EmailID, 1, owner, dbsetup.Ambiguous(o.Opening)...))
			}
			b.Exec("UPDATE emails SET next_action_at = now()")
			if held {
				_, err := b.Mail.ControlBatch(b.Ctx, batch.ID, email.ActionHold)
				require.NoError(t, err)
			}
			takes := func() []delivery.BatchOpening {
				t.Helper()
				b.leasesEnd()
				_, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
				require.NoError(t, err)
				_, taken, _ := b.openBatch(batch.ID, 10)
				return taken
			}
			require.Empty(t, takes(), "they are recalled")
			require.NoError(t, b.Mail.RenewMany(b.Ctx, []string{opened[0].EmailID}, owner))
			require.NoError(t, b.Finish(opened[1].EmailID, 1, owner, endingsOf(owner, opened[1:2], dbsetup.Delivered)[0].Outcomes...))
			taken := takes()
			got := map[string]delivery.Verdict{}
			for _, o := range taken {
				got[o.EmailID] = o.Verdict
			}
			detail := func(i int) email.Detail { return b.Get(opened[i].EmailID).Recipients[0].Reason }
			if held {
				require.Equal(t, []email.Detail{"", "", email.DetailAmbiguous}, []email.Detail{detail(0), detail(1), detail(2)})
				require.Equal(t, email.StatusDelivered, b.Get(opened[1].EmailID).Status)
				return
			}
			require.Equal(t, map[string]delivery.Verdict{opened[1].EmailID: delivery.VerdictRecorded, opened[2].EmailID: delivery.VerdictRecorded}, got)
			require.Equal(t, 250, taken[slices.IndexFunc(taken, func(o delivery.BatchOpening) bool { return o.EmailID == opened[1].EmailID })].Reply.Code)
		})
	}
}

func TestAMarkedAttemptWhoseOwnerIsGoneIsAmbiguous(t *testing.T) {
	t.Parallel()
	for _, policy := range []email.OnAmbiguous{email.AmbiguousRetry, email.AmbiguousFail} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			m := dbsetup.Message("bob@x.test", "eve@y.test")
			m.OnAmbiguous = policy
			e := b.Accept(m)
			owner, o := b.Open(e.ID, 1)
			refused := delivery.Outcome{RecipientID: o.Recipients[1].ID, Status: email.RecipientBounced, Reason: email.DetailHard, Reply: email.Reply{Code: 550}}
			require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)[0], refused))
			b.leasesEnd()
			_, rec := b.Open(e.ID, 1)
			require.Equal(t, delivery.VerdictBusy, rec.Verdict, "its owner is recalled")
			b.leasesEnd()
			_, rec = b.Open(e.ID, 1)
			require.Equal(t, delivery.VerdictRecorded, rec.Verdict)
			require.ErrorIs(t, b.Finish(e.ID, 1, owner), delivery.ErrSuperseded, "a reply that comes now is too late")
			b.Record(e.ID, 1)
			got := b.Get(e.ID)
			require.Equal(t, email.RecipientBounced, got.Recipients[1].Status, "a refusal before the dot keeps its own reply")
			if policy == email.AmbiguousFail {
				require.Equal(t, email.RecipientFailed, got.Recipients[0].Status)
				require.Equal(t, email.DetailAmbiguous, got.Detail)
				return
			}
			require.Equal(t, email.RecipientDeferred, got.Recipients[0].Status)
			require.InDelta(t, time.Minute, got.Recipients[0].NextAttemptAt.Sub(got.Recipients[0].StatusAt), float64(time.Second))
		})
	}
}

// TestCopiesAreBounded: a relay whose answer to the message never comes gets it five times,
// after waits that grow, and no other relay gets it meanwhile.
func TestCopiesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test", "eve@y.test"))
	unknown := func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailAmbiguous}
	}
	for n, wait := range []time.Duration{time.Minute, 30 * time.Minute, 4 * time.Hour, 12 * time.Hour} {
		rec := b.Attempt(e.ID, n+1, unknown)
		require.Equal(t, dbsetup.Relay.Name, rec.State.OnlyRelay)
		plan, err := b.Mail.Plan(b.Ctx, e.ID)
		require.NoError(t, err)
		require.Equal(t, dbsetup.Relay.Name, plan.State.OnlyRelay)
		for _, r := range b.Get(e.ID).Recipients {
			require.Equal(t, email.RecipientDeferred, r.Status)
			require.Equal(t, wait, r.NextAttemptAt.Sub(r.StatusAt), "after %d copies", n+1)
		}
		b.DueNow(e.ID)
	}
	rec := b.Attempt(e.ID, 5, unknown)
	require.True(t, rec.State.Final)
	got := b.Get(e.ID)
	require.Equal(t, []any{email.StatusFailed, email.DetailAmbiguous}, []any{got.Status, got.Detail})
	for _, r := range got.Recipients {
		require.Equal(t, []any{email.RecipientFailed, email.DetailAmbiguous}, []any{r.Status, r.Reason})
	}
}

// TestARefusalFreesARelay: what the relay says later about the message ends the doubt, and
// the number of copies stays counted.
func TestARefusalFreesARelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	unknown := func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailAmbiguous}
	}
	b.Attempt(e.ID, 1, unknown)
	b.DueNow(e.ID)
	require.Empty(t, b.Attempt(e.ID, 2, dbsetup.Deferred).State.OnlyRelay)
	b.DueNow(e.ID)
	require.Equal(t, dbsetup.Relay.Name, b.Attempt(e.ID, 3, unknown).State.OnlyRelay)
	r := b.Get(e.ID).Recipients[0]
	require.Equal(t, 30*time.Minute, r.NextAttemptAt.Sub(r.StatusAt), "it is the second copy")
}

func TestTheGateIsClosed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	t.Run("before send_at", func(t *testing.T) {
		m := dbsetup.Message("bob@x.test")
		m.SendAt = time.Now().Add(dbsetup.Day)
		e := b.Accept(m)
		require.Equal(t, email.DetailScheduled, e.Detail)
		require.Equal(t, []string{"email.scheduled"}, b.Events(e.ID))
		_, o := b.Open(e.ID, 1)
		require.Equal(t, delivery.VerdictClosed, o.Verdict)
		require.Equal(t, email.WaitingScheduled, o.State.Waiting)
		require.WithinDuration(t, m.SendAt, o.State.NextAt, time.Millisecond)
		require.Zero(t, b.Count("SELECT count(*) FROM delivery_attempts WHERE email_id = ?", e.ID))
	})
	t.Run("while held", func(t *testing.T) {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		require.NoError(t, b.Control(e.ID, email.ActionHold))
		_, o := b.Open(e.ID, 1)
		require.Equal(t, email.WaitingHeld, o.State.Waiting)
		require.True(t, o.State.NextAt.IsZero())
	})
	t.Run("between retries", func(t *testing.T) {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		rec := b.Attempt(e.ID, 1, dbsetup.Deferred)
		require.Equal(t, email.WaitingRetry, rec.State.Waiting)
		require.Equal(t, 2, rec.State.NextAttempt)
		require.Equal(t, "greylisted ***@x.test", rec.State.Last.Text)
		_, o := b.Open(e.ID, 2)
		require.Equal(t, delivery.VerdictClosed, o.Verdict)
		b.DueNow(e.ID)
		_, o = b.Open(e.ID, 2)
		require.Equal(t, delivery.VerdictOpened, o.Verdict)
	})
	t.Run("a moment before it expires", func(t *testing.T) {
		m := dbsetup.Message("bob@x.test")
		m.ExpiresAt = time.Now().Add(dbsetup.Day)
		e := b.Accept(m)
		b.Attempt(e.ID, 1, dbsetup.Deferred)
		b.Exec("UPDATE emails SET expires_at = now() + interval '2 seconds', next_action_at = now() + interval '2 seconds' WHERE id = ?", e.ID)
		_, o := b.Open(e.ID, 2)
		require.Equal(t, delivery.VerdictClosed, o.Verdict)
		require.NotEmpty(t, o.State.Waiting, "a run that is told to go on and finds the gate closed would spin")
		require.False(t, o.State.NextAt.IsZero())
	})
	t.Run("at the end of its time, which is later by now", func(t *testing.T) {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		next := b.Attempt(e.ID, 1, dbsetup.Deferred).State.NextAt
		b.Exec("UPDATE emails SET next_action_at = now() - interval '1 second' WHERE id = ?", e.ID) // as EXPIRE_AFTER was
		_, o := b.Open(e.ID, 2)
		require.Equal(t, delivery.VerdictClosed, o.Verdict)
		require.Equal(t, email.WaitingRetry, o.State.Waiting)
		require.WithinDuration(t, next, o.State.NextAt, time.Microsecond)
		require.WithinDuration(t, next, b.Get(e.ID).NextAttemptAt, time.Microsecond)
	})
	t.Run("after the end", func(t *testing.T) {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		b.Attempt(e.ID, 1, dbsetup.Delivered)
		_, o := b.Open(e.ID, 2)
		require.Equal(t, delivery.VerdictClosed, o.Verdict)
		require.True(t, o.State.Final)
		_, o = b.Open(e.ID, 1)
		require.Equal(t, delivery.VerdictClosed, o.Verdict, "a recorded and projected attempt is history")
	})
	t.Run("for a number that is not next", func(t *testing.T) {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		_, o := b.Open(e.ID, 7)
		require.Equal(t, delivery.VerdictClosed, o.Verdict)
		require.Equal(t, 1, o.State.NextAttempt)
	})
	t.Run("after expires_at", func(t *testing.T) {
		m := dbsetup.Message("bob@x.test")
		m.ExpiresAt = time.Now().Add(dbsetup.Day)
		e := b.Accept(m)
		b.Exec("UPDATE emails SET expires_at = now() - interval '1 second' WHERE id = ?", e.ID)
		_, o := b.Open(e.ID, 1)
		require.True(t, o.State.Final)
		got := b.Get(e.ID)
		require.Equal(t, email.StatusFailed, got.Status)
		require.Equal(t, email.DetailExpired, got.Detail)
		require.Equal(t, []string{"email.queued", "email.expired", "email.completed"}, b.Events(e.ID))
	})
	t.Run("three days after the first attempt", func(t *testing.T) {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		b.Attempt(e.ID, 1, dbsetup.Deferred)
		b.Exec("UPDATE emails SET date_at = now() - interval '73 hours' WHERE id = ?", e.ID)
		_, o := b.Open(e.ID, 2)
		require.True(t, o.State.Final)
		require.Equal(t, email.DetailExpired, o.State.Detail)
	})
	t.Run("for an e-mail that is not there", func(t *testing.T) {
		_, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: uuid.NewString(), Attempt: 1, Owner: uuid.NewString()})
		require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	})
}

func TestOnlyOneOfManyWritesTheDot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		marks int
	)
	for range 8 {
		wg.Go(func() {
			owner := uuid.NewString()
			o, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: dbsetup.Relay})
			if err != nil || o.Verdict != delivery.VerdictOpened {
				return
			}
			if b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...) == nil {
				mu.Lock()
				defer mu.Unlock()
				marks++
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, marks)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM delivery_attempts"))
}

func TestCancelWhileSendingIsRemembered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, tc := range map[string]struct {
		outcome func(delivery.EnvelopeRecipient) delivery.Outcome
		status  email.Status
		detail  email.Detail
		events  []string
	}{
		"a deferral becomes a cancel": {dbsetup.Deferred, email.StatusCanceled, "", []string{"email.queued", "email.sending", "email.cancel_requested", "email.canceled", "email.completed"}},
		"an acceptance stands":        {dbsetup.Delivered, email.StatusDelivered, "", []string{"email.queued", "email.sending", "email.cancel_requested", "email.delivered", "email.completed"}},
		"silence stays in doubt": {func(delivery.EnvelopeRecipient) delivery.Outcome {
			return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailAmbiguous}
		}, email.StatusCanceled, email.DetailAmbiguous, []string{"email.queued", "email.sending", "email.cancel_requested", "email.ambiguous", "email.canceled", "email.completed"}},
	} {
		e := b.Accept(dbsetup.Message("bob@x.test"))
		owner, o := b.Open(e.ID, 1)
		require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...), name)
		_, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionCancel})
		require.NoError(t, err)
		require.Equal(t, email.StatusSending, b.Get(e.ID).Status, "never from sending")
		out := tc.outcome(o.Recipients[0])
		out.RecipientID = o.Recipients[0].ID
		require.NoError(t, b.Finish(e.ID, 1, owner, out))
		b.Record(e.ID, 1)
		got := b.Get(e.ID)
		require.Equal(t, tc.status, got.Status, name)
		require.Equal(t, []email.Detail{tc.detail, tc.detail}, []email.Detail{got.Detail, got.Recipients[0].Reason}, name)
		require.Equal(t, tc.events, b.Events(e.ID), name)
	}
}

// An e-mail that may have arrived is never just canceled or expired.
func TestAnEndAfterSilenceSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	silent := func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailAmbiguous}
	}
	canceled, expired := b.Accept(dbsetup.Message("a@x.test")), b.Accept(dbsetup.Message("b@x.test"))
	for _, e := range []email.Email{canceled, expired} {
		b.Attempt(e.ID, 1, silent)
	}
	require.NoError(t, b.Control(canceled.ID, email.ActionCancel))
	b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", expired.ID)
	b.Open(expired.ID, 2)
	for id, status := range map[string]email.RecipientStatus{canceled.ID: email.RecipientCanceled, expired.ID: email.RecipientExpired} {
		got := b.Get(id)
		require.Equal(t, status, got.Recipients[0].Status)
		require.Equal(t, []email.Detail{email.DetailAmbiguous, email.DetailAmbiguous}, []email.Detail{got.Detail, got.Recipients[0].Reason})
	}
}

func TestCancelOfAnAbandonedOpeningSendsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Open(e.ID, 1)
	_, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	_, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictRecorded, o.Verdict)
	b.Record(e.ID, 1)
	require.Equal(t, email.StatusCanceled, b.Get(e.ID).Status)
}

func TestUnrecordedOutcomesAreWrittenByRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	owner, o := b.Open(e.ID, 1)
	require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
	_, err := b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: e.ID, Attempt: 1})
	require.ErrorContains(t, err, "data_sent", "there is nothing to project yet")
	rec, err := b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: e.ID, Attempt: 1, Relay: dbsetup.Relay,
		Unrecorded: []delivery.Outcome{{RecipientID: o.Recipients[0].ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250, Text: "a NUL \x00 and \xff"}}}})
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, rec.State.Status)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM delivery_attempts WHERE phase = 'done'"))
	require.Equal(t, "a NUL \uFFFD and \uFFFD", b.Get(e.ID).Recipients[0].Text)
}

func TestRelayDownIsSaidAndForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	st, err := b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{RelayDown: true})
	require.NoError(t, err)
	require.Nil(t, st.State, "an attempt is due")
	require.Zero(t, st.ExpiresIn)
	require.Equal(t, email.DetailRelayDown, b.Get(e.ID).Detail)
	require.Equal(t, email.StatusQueued, b.Get(e.ID).Status, "no recipient was touched")
	b.Open(e.ID, 1)
	require.Equal(t, email.Detail(""), b.Get(e.ID).Detail)
}

// TestAnEmailThatWaitsForARelaySaysHowLongItHas: its run asks again then.
func TestAnEmailThatWaitsForARelaySaysHowLongItHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.ExpiresAt = time.Now().Add(time.Hour)
	e := b.Accept(m)
	down := delivery.Obstacle{RelayDown: true, Relay: "primary"}
	c, err := b.Mail.Check(b.Ctx, e.ID, down)
	require.NoError(t, err)
	require.Nil(t, c.State)
	require.Greater(t, c.ExpiresIn, time.Duration(0))
	require.LessOrEqual(t, c.ExpiresIn, time.Hour)
	again, err := b.Mail.Check(b.Ctx, e.ID, down)
	require.NoError(t, err)
	require.Less(t, again.ExpiresIn, c.ExpiresIn)

	b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", e.ID)
	c, err = b.Mail.Check(b.Ctx, e.ID, down)
	require.NoError(t, err)
	require.Equal(t, email.StatusFailed, c.State.Status)
	require.Zero(t, c.ExpiresIn)
}

// TestAnOpenAttemptNeedsNoRelayToEnd: its owner is gone, and the relay is away. It does not wait for the
// relay.
func TestAnOpenAttemptNeedsNoRelayToEnd(t *testing.T) {
	t.Parallel()
	for name, marked := range map[string]bool{"before its dot": false, "at its dot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := b.Accept(dbsetup.Message("bob@x.test"))
			owner, o := b.Open(e.ID, 1)
			if marked {
				require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
			}
			answer := func() delivery.Verdict {
				t.Helper()
				c, err := b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
				require.NoError(t, err)
				require.Nil(t, c.State)
				return c.Open.Verdict
			}
			require.Equal(t, delivery.VerdictBusy, answer(), "its owner may be at it")
			require.Equal(t, email.Detail(""), b.Get(e.ID).Detail)
			b.leasesEnd()
			if marked {
				require.Equal(t, delivery.VerdictBusy, answer(), "its owner is recalled")
				b.leasesEnd()
			}
			require.Equal(t, delivery.VerdictRecorded, answer())
			require.ErrorIs(t, b.Finish(e.ID, 1, owner), delivery.ErrSuperseded)
			b.Record(e.ID, 1)
			got := b.Get(e.ID).Recipients[0]
			if marked {
				require.Equal(t, email.DetailAmbiguous, got.Reason)
				return
			}
			require.Equal(t, []any{email.RecipientDeferred, email.Detail("")}, []any{got.Status, got.Reason}, "nothing was sent")
		})
	}
}

// TestMailIsTriedOnceMoreAfterAnOutage: the time for its attempts ran out meanwhile, and it waits for a
// slot of the relay's rate before the relay is asked.
func TestMailIsTriedOnceMoreAfterAnOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Deferred)
	b.Exec("UPDATE recipients SET next_attempt_at = now()")
	b.Exec("UPDATE emails SET next_action_at = now()")
	_, err := b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.NoError(t, err)
	b.Exec("UPDATE emails SET date_at = now() - interval '80 hours'")
	slot := delivery.Obstacle{ThrottledUntil: time.Now().Add(time.Minute), ThrottledBy: email.RelayRate("primary")}
	c, err := b.Mail.Check(b.Ctx, e.ID, slot)
	require.NoError(t, err)
	require.Equal(t, email.WaitingThrottled, c.State.Waiting)
	require.False(t, c.State.Final)
	_, o := b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
}

func TestAnAttachmentThatCannotBeHadEndsTheMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	rec, err := b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: e.ID, Problem: "recording not found"})
	require.NoError(t, err)
	require.Equal(t, email.StatusFailed, rec.State.Status)
	require.Equal(t, email.DetailAttachment, rec.State.Detail)
	require.Equal(t, "recording not found", b.Get(e.ID).Recipients[0].Text)
}

func TestAThrottledEmailWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	turn := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	st, err := b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{ThrottledUntil: turn})
	require.NoError(t, err)
	require.Equal(t, email.WaitingThrottled, st.State.Waiting)
	require.WithinRange(t, st.State.NextAt, time.Now(), time.Now().Add(15*time.Minute), "it looks now and then whether the queue is shorter")
	got := b.Get(e.ID)
	require.Equal(t, email.DetailThrottled, got.Detail)
	require.Equal(t, email.StatusQueued, got.Status, "no recipient was touched")
	require.Equal(t, turn, got.NextAttemptAt, "the truth is what a client is told")

	_, err = b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionHold})
	require.NoError(t, err)
	require.Equal(t, email.DetailHeld, b.Get(e.ID).Detail)
	_, err = b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionResume})
	require.NoError(t, err)
	require.Equal(t, email.DetailThrottled, b.Get(e.ID).Detail)

	b.Open(e.ID, 1) // its turn came early: the queue moved
	require.Equal(t, email.Detail(""), b.Get(e.ID).Detail)
	require.Equal(t, 0, b.Count("SELECT count(*) FROM emails WHERE throttled_until IS NOT NULL"))
}

// TestAnAttemptNamesThoseLastAtWhomTheRelayCloses, also those that another process met. If there are
// two of them, those that the relay has accepted go first, alone.
func TestAnAttemptNamesThoseLastAtWhomTheRelayCloses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("faulty@x.test", "accepted@x.test", "silent@x.test", "new@x.test", "late@x.test"))
	replies := map[string]email.Reply{
		"faulty@x.test": {Code: 421, Enhanced: "4.3.2", Text: "closing"}, "silent@x.test": {Text: delivery.LostAtRcpt + ": EOF"},
		"accepted@x.test": {Text: delivery.AcceptedInVain + ": closing"}, "new@x.test": {Text: "not tried yet: closing"},
		"late@x.test": {Code: 450, Enhanced: "4.2.1", Text: "later"},
	}
	b.Attempt(e.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RetryAfter: time.Second, Reply: replies[r.Address]}
		switch r.Address {
		case "faulty@x.test", "silent@x.test":
			o.RelayFault, o.AtRcpt = true, true
		case "accepted@x.test", "new@x.test":
			o.Unasked = true
		}
		return o
	})
	groups := func(attempt int) map[string]int {
		b.DueNow(e.ID)
		out := map[string]int{}
		b.Attempt(e.ID, attempt, func(r delivery.EnvelopeRecipient) delivery.Outcome {
			out[r.Address] = r.Group
			return waitsForItsTurn(r)
		})
		return out
	}
	want := map[string]int{"accepted@x.test": 0, "new@x.test": 1, "late@x.test": 1, "faulty@x.test": 2, "silent@x.test": 2}
	require.Equal(t, want, groups(2))
	require.Equal(t, want, groups(3), "a wait for a turn changes nothing")

	b.DueNow(e.ID)
	b.Attempt(e.ID, 4, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		if r.Address == "silent@x.test" {
			return dbsetup.Delivered(r)
		}
		return waitsForItsTurn(r)
	})
	require.Equal(t, map[string]int{"accepted@x.test": 0, "new@x.test": 0, "late@x.test": 0, "faulty@x.test": 2}, groups(5), "the others together")

	b.DueNow(e.ID)
	b.Attempt(e.ID, 6, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		o := waitsForItsTurn(r)
		o.Reply = replies["accepted@x.test"]
		return o
	})
	require.Equal(t, map[string]int{"accepted@x.test": 0, "new@x.test": 0, "late@x.test": 0, "faulty@x.test": 0}, groups(7), "the last replies are new")
}
