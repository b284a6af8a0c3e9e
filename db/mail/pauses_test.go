package mail_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestPauseStopsWhatItCovers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broadcast := dbsetup.Message("bob@x.test")
	broadcast.Stream = email.StreamBroadcast
	for name, tc := range map[string]struct {
		pause email.Pause
		stops email.Message
		lets  email.Message
	}{
		"installation":  {email.Pause{Scope: email.PauseInstallation}, dbsetup.Message("bob@x.test"), email.Message{}},
		"customer":      {email.Pause{Scope: email.PauseCustomer, Key: b.Customer}, dbsetup.Message("bob@x.test"), email.Message{}},
		"stream":        {email.Pause{Scope: email.PauseStream, Key: "broadcast"}, broadcast, dbsetup.Message("bob@x.test")},
		"domain_stream": {email.Pause{Scope: email.PauseDomainStream, Key: b.Customer + "/acme.test/broadcast"}, broadcast, dbsetup.Message("bob@x.test")},
		"relay":         {email.Pause{Scope: email.PauseRelay, Key: dbsetup.Relay.Name}, dbsetup.Message("bob@x.test"), email.Message{}},
	} {
		b.pause(tc.pause)
		b.pause(tc.pause)
		e := b.Accept(tc.stops)
		_, o := b.Open(e.ID, 1)
		require.Equal(t, delivery.VerdictClosed, o.Verdict, name)
		require.Equal(t, email.WaitingPaused, o.State.Waiting, name)
		require.Equal(t, email.DetailHeld, b.Get(e.ID).Detail)
		if tc.lets.Subject != "" {
			_, o := b.Open(b.Accept(tc.lets).ID, 1)
			require.Equal(t, delivery.VerdictOpened, o.Verdict, name)
		}
		got, err := b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 10)
		require.NoError(t, err)
		require.Empty(t, got, "still paused")
		ps, waiting, err := b.Mail.Pauses(b.Ctx)
		require.NoError(t, err)
		require.Equal(t, tc.pause.Scope, ps[0].Scope)
		require.Equal(t, 1, waiting)

		require.NoError(t, b.Mail.Unpause(b.Ctx, tc.pause))
		require.Equal(t, email.CodeNotFound, email.FailureCode(b.Mail.Unpause(b.Ctx, tc.pause)))
		got, err = b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 10)
		require.NoError(t, err)
		require.Len(t, got, 1, name)
		require.Equal(t, e.WorkflowID, got[0].WorkflowID)
		_, o = b.Open(e.ID, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict, name)
	}
	other := broadcast
	other.From.Email = "shop@Other.test"
	b.pause(email.Pause{Scope: email.PauseDomainStream, Key: b.Customer + "/acme.test/broadcast"})
	_, o := b.Open(b.Accept(other).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "another domain's mail")
	b.pause(email.Pause{Scope: email.PauseDomainStream, Key: b.Customer + "/other.test/broadcast"})
	_, o = b.Open(b.Accept(other).ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict, "the case of the address does not matter")
	b.pause(email.Pause{Scope: email.PauseStream, Key: "broadcast"})
	_, o = b.Open(b.Accept(dbsetup.Message("bob@x.test")).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "somebody else's pause")
}

func TestAPausedMailStillExpiresAndIsCanceled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.pause(email.Pause{Scope: email.PauseInstallation})
	m := dbsetup.Message("bob@x.test")
	m.ExpiresAt = time.Now().Add(dbsetup.Day).UTC().Truncate(time.Microsecond)
	e := b.Accept(m)
	_, o := b.Open(e.ID, 1)
	require.Equal(t, m.ExpiresAt, o.State.NextAt, "its run wakes for that")
	b.Exec("UPDATE emails SET expires_at = now() - interval '1 second' WHERE id = ?", e.ID)
	_, o = b.Open(e.ID, 1)
	require.Equal(t, email.DetailExpired, o.State.Detail)

	gone := b.Accept(dbsetup.Message("bob@x.test"))
	b.Open(gone.ID, 1)
	require.NoError(t, b.Control(gone.ID, email.ActionCancel))
	require.Equal(t, email.StatusCanceled, b.Get(gone.ID).Status)
	_, waiting, err := b.Mail.Pauses(b.Ctx)
	require.NoError(t, err)
	require.Zero(t, waiting, "what is finished does not wait")
}

// A user who resumes a mail that a pause keeps gets an error that names the pause.
func TestAPauseIsNamedToWhoWantsMailToGoOn(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]func(b *bench) email.Pause{
		"installation": func(*bench) email.Pause { return email.Pause{Scope: email.PauseInstallation} },
		"customer":     func(b *bench) email.Pause { return email.Pause{Scope: email.PauseCustomer, Key: b.Customer} },
		"stream":       func(*bench) email.Pause { return email.Pause{Scope: email.PauseStream, Key: "transactional"} },
		"domain_stream": func(b *bench) email.Pause {
			return email.Pause{Scope: email.PauseDomainStream, Key: b.Customer + "/acme.test/transactional"}
		},
		"relay": func(*bench) email.Pause { return email.Pause{Scope: email.PauseRelay, Key: dbsetup.Relay.Name} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := pause(b)
			seen := b.Accept(dbsetup.Message("bob@x.test")) // the gate has turned it away
			waits := b.Accept(dbsetup.Message("bob@x.test"))
			held := b.Accept(dbsetup.Message("bob@x.test"))
			b.Attempt(waits.ID, 1, dbsetup.Deferred)
			b.Attempt(held.ID, 1, dbsetup.Deferred)
			require.NoError(t, b.Control(held.ID, email.ActionHold))
			b.pause(p)
			b.Open(seen.ID, 1)
			refused := []string{seen.ID, waits.ID}
			if p.Scope == email.PauseRelay { // only the gate knows which relay one takes that it has not seen
				refused = refused[:1]
				require.NoError(t, b.Control(waits.ID, email.ActionRetryNow))
				_, o := b.Open(waits.ID, 2)
				require.Equal(t, email.WaitingPaused, o.State.Waiting)
				require.Equal(t, email.CodeConflict, email.FailureCode(b.Control(waits.ID, email.ActionRetryNow)))
				require.NoError(t, b.Control(held.ID, email.ActionResume))
				b.DueNow(held.ID)
				_, o = b.Open(held.ID, 2)
				require.Equal(t, email.WaitingPaused, o.State.Waiting)
			}
			for _, id := range refused {
				err := b.Control(id, email.ActionRetryNow)
				require.Equal(t, email.CodeConflict, email.FailureCode(err))
				require.ErrorContains(t, err, "mail like this is paused ("+string(p.Scope)+")")
			}
			require.Equal(t, email.DetailHeld, b.Get(seen.ID).Detail)
			if p.Scope != email.PauseRelay {
				require.Equal(t, email.DetailDeferred, b.Get(waits.ID).Detail, "a refusal changes nothing")
			}

			st, err := b.Mail.Control(b.Ctx, held.ID, email.Control{Action: email.ActionResume})
			require.NoError(t, err, "the hold ends")
			require.Equal(t, email.WaitingPaused, st.Waiting)
			require.Equal(t, email.DetailHeld, st.Detail)
			st, err = b.Mail.Control(b.Ctx, held.ID, email.Control{Action: email.ActionResume})
			require.NoError(t, err, "it may be repeated")
			require.Equal(t, email.WaitingPaused, st.Waiting)

			require.NoError(t, b.Mail.Unpause(b.Ctx, p))
			claimed, err := b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 10)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(claimed), 2)
			for _, id := range []string{seen.ID, waits.ID, held.ID} {
				require.NoError(t, b.Control(id, email.ActionRetryNow))
			}
			_, o := b.Open(held.ID, 2)
			require.Equal(t, delivery.VerdictOpened, o.Verdict)
		})
	}
}

// A batch's mail that a pause of its domain covers waits; the batch's other mail goes on.
func TestAPauseOfADomainsStreamStopsItsPartOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(4, func(i int, m *email.Message) error {
		m.Stream = email.StreamTransactional
		if i%2 == 0 {
			m.Stream = email.StreamBroadcast
		}
		return nil
	}))
	p := email.Pause{Scope: email.PauseDomainStream, Key: b.Customer + "/acme.test/broadcast"}
	b.pause(p)
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Len(t, plan.Routes, 2)
	var opened []string
	for _, route := range plan.Routes {
		got, _, err := b.Mail.OpenBatch(b.Ctx, delivery.BatchOpenRequest{BatchID: batch.ID, Route: route, Owner: uuid.NewString(), Relay: dbsetup.Relay, Limit: 10})
		require.NoError(t, err)
		for _, o := range got {
			opened = append(opened, o.EmailID)
		}
	}
	require.ElementsMatch(t, []string{items[1].EmailID, items[3].EmailID}, opened)
	require.Equal(t, email.DetailHeld, b.Get(items[0].EmailID).Detail)
	require.Equal(t, []email.Holder{email.HolderPause}, b.Get(items[2].EmailID).HeldBy)
	require.NoError(t, b.Mail.Unpause(b.Ctx, p))
	freed, err := b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 10)
	require.NoError(t, err)
	require.Len(t, freed, 1, "the batch's run is woken")
	require.Equal(t, batch.ID, freed[0].BatchID)
}

func TestAPauseGivesBackWhatWasOnlyOpened(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Open(e.ID, 1)
	b.pause(email.Pause{Scope: email.PauseInstallation})
	_, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictRecorded, o.Verdict)
	b.Record(e.ID, 1)
	b.DueNow(e.ID)
	_, o = b.Open(e.ID, 2)
	require.Equal(t, email.WaitingPaused, o.State.Waiting)
}

func (b *bench) pause(p email.Pause) {
	b.T.Helper()
	_, err := b.Mail.Pause(b.Ctx, p)
	require.NoError(b.T, err)
}
