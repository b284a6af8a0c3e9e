package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestHoldAndResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	require.NoError(t, b.Control(e.ID, email.ActionHold))
	require.NoError(t, b.Control(e.ID, email.ActionHold), "in force already")
	got := b.Get(e.ID)
	require.Equal(t, email.DetailHeld, got.Detail)
	require.True(t, got.NextAttemptAt.IsZero())
	_, o := b.Open(e.ID, 1)
	require.Equal(t, email.WaitingHeld, o.State.Waiting)
	require.Equal(t, email.CodeConflict, email.FailureCode(b.Control(e.ID, email.ActionRetryNow)))
	require.NoError(t, b.Control(e.ID, email.ActionResume))
	require.NoError(t, b.Control(e.ID, email.ActionResume))
	_, o = b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Equal(t, []string{"email.queued", "email.held", "email.resumed", "email.sending"}, b.Events(e.ID))

	// Held while an attempt is open: that one ends as it ends, the next waits.
	require.NoError(t, b.Control(e.ID, email.ActionHold))
	require.Equal(t, email.StatusSending, b.Get(e.ID).Status)
}

func TestRetryNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Deferred)
	_, o := b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.NoError(t, b.Control(e.ID, email.ActionRetryNow))
	_, o = b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.NoError(t, b.Control(e.ID, email.ActionRetryNow), "it is being sent")
}

func TestReschedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.SendAt = time.Now().Add(dbsetup.Day)
	e := b.Accept(m)
	to := func(at time.Time) error {
		_, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionReschedule, SendAt: at})
		return err
	}
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(to(time.Time{})))
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(to(time.Now().Add(400*dbsetup.Day))))
	require.Equal(t, email.CodeConflict, email.FailureCode(b.Control(e.ID, email.ActionRetryNow)), "scheduled: reschedule it instead")
	later := time.Now().Add(2 * dbsetup.Day).UTC().Truncate(time.Microsecond)
	require.NoError(t, to(later))
	require.Equal(t, later, b.Get(e.ID).SendAt)
	require.Equal(t, later, b.Get(e.ID).NextAttemptAt)
	require.NoError(t, to(time.Now().Add(-time.Hour)), "a past time means now")
	require.Equal(t, email.Detail(""), b.Get(e.ID).Detail)
	_, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Equal(t, email.CodeConflict, email.FailureCode(to(later)), "only before the first attempt")
}

func TestControlComesTooLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Delivered)
	for _, a := range email.Actions() {
		err := b.Control(e.ID, a)
		require.Equal(t, email.CodeConflict, email.FailureCode(err), a)
		require.ErrorContains(t, err, "delivered", "the conflict names the state")
	}
	gone := b.Accept(dbsetup.Message("bob@x.test"))
	require.NoError(t, b.Control(gone.ID, email.ActionCancel))
	require.NoError(t, b.Control(gone.ID, email.ActionCancel), "in force already")
	require.Equal(t, email.CodeConflict, email.FailureCode(b.Control(gone.ID, email.ActionHold)))
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(b.Control(b.Accept(dbsetup.Message("b@x.test")).ID, "explode")))

	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	_, _, err = b.Mail.ControlFor(b.Ctx, other.ID, e.ID, email.Control{Action: email.ActionCancel})
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}

func TestAHeldEmailExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.ExpiresAt = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	e := b.Accept(m)
	st, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionHold})
	require.NoError(t, err)
	require.Equal(t, email.WaitingHeld, st.Waiting)
	require.Equal(t, m.ExpiresAt, st.NextAt, "its run wakes then")
	require.Equal(t, 1, b.Count("SELECT count(*) FROM audit WHERE action = 'email.hold'"))
	_, err = b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionHold})
	require.NoError(t, err)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM audit WHERE action = 'email.hold'"), "what is in force already is not done again")
	b.Exec("UPDATE emails SET expires_at = now()")
	_, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.DetailExpired, b.Get(e.ID).Detail)
}

// TestAPlanEndsWaitingMailWhoseTimeHasRunOut: its run has asked no gate before, and the plan is all
// that it asks.
func TestAPlanEndsWaitingMailWhoseTimeHasRunOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limited := func() string {
		m := dbsetup.Message("bob@x.test")
		m.ExpiresAt = time.Now().Add(time.Hour)
		return b.Accept(m).ID
	}
	tried := func() string {
		id := b.Accept(dbsetup.Message("bob@x.test")).ID
		b.Attempt(id, 1, dbsetup.Deferred)
		return id
	}
	expired := func(id string) {
		b.Exec("UPDATE emails SET expires_at = now(), next_action_at = now() WHERE id = ?", id)
	}
	spent := func(id string) {
		b.Exec("UPDATE emails SET date_at = now() - interval '73 hours', next_action_at = now() - interval '1 hour' WHERE id = ?", id)
	}
	hold := func(id string) { require.NoError(t, b.Control(id, email.ActionHold)) }
	pause := func(id string) {
		all := email.Pause{Scope: email.PauseInstallation}
		b.pause(all)
		b.DueNow(id)
		_, o := b.Open(id, b.Get(id).Attempts+1)
		require.Equal(t, email.WaitingPaused, o.State.Waiting)
		require.NoError(t, b.Mail.Unpause(b.Ctx, all))
	}
	for name, tt := range map[string]struct {
		mail      func() string
		wait, end func(id string)
	}{
		"held":                           {limited, hold, expired},
		"held after a deferral":          {tried, hold, spent},
		"held, its row names no time":    {tried, hold, func(id string) { spent(id); b.Exec("UPDATE emails SET next_action_at = NULL WHERE id = ?", id) }},
		"paused":                         {limited, pause, expired},
		"deferred, the limit is lowered": {tried, func(string) {}, func(id string) { b.Exec("UPDATE emails SET date_at = now() - interval '73 hours' WHERE id = ?", id) }},
	} {
		id := tt.mail()
		tt.wait(id)
		plan, err := b.Mail.Plan(b.Ctx, id)
		require.NoError(t, err, name)
		require.NotEmpty(t, plan.State.Waiting, name)
		require.Greater(t, time.Until(plan.State.NextAt), time.Duration(0), name)
		b.Exec("INSERT INTO outbox (email_id, lease_owner, lease_until, created_at) VALUES (?, gen_random_uuid(), now(), now())", id)
		tt.end(id)
		plan, err = b.Mail.Plan(b.Ctx, id)
		require.NoError(t, err, name)
		require.True(t, plan.State.Final, name)
		require.Equal(t, email.DetailExpired, plan.State.Detail, name)
		require.Len(t, plan.State.Results, 1, name)
		require.Equal(t, email.DetailExpired, b.Get(id).Detail, name)
		require.Zero(t, b.Count("SELECT count(*) FROM outbox WHERE email_id = ?", id), name)
	}
}

// A time that is past is no answer to a run: it would ask again at once.
func TestAHeldEmailsNextTimeIsNeverPast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Deferred)
	st, err := b.Mail.Control(b.Ctx, e.ID, email.Control{Action: email.ActionHold})
	require.NoError(t, err)
	past := func() { b.Exec("UPDATE emails SET next_action_at = now() - interval '1 second' WHERE id = ?", e.ID) } // as EXPIRE_AFTER was
	past()
	plan, err := b.Mail.Plan(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Equal(t, email.WaitingHeld, plan.State.Waiting)
	require.Equal(t, st.NextAt, plan.State.NextAt)
	past()
	_, o := b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, st.NextAt, o.State.NextAt)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE next_action_at = ?", st.NextAt))
}
