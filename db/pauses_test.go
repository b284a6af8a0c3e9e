package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestPauseStopsWhatItCovers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broadcast := message("bob@x.test")
	broadcast.Stream = email.StreamBroadcast
	for name, tc := range map[string]struct {
		pause email.Pause
		stops email.Message
		lets  email.Message
	}{
		"installation": {email.Pause{Scope: email.PauseInstallation}, message("bob@x.test"), email.Message{}},
		"customer":     {email.Pause{Scope: email.PauseCustomer, Key: b.customer}, message("bob@x.test"), email.Message{}},
		"stream":       {email.Pause{Scope: email.PauseStream, Key: "broadcast"}, broadcast, message("bob@x.test")},
		"relay":        {email.Pause{Scope: email.PauseRelay, Key: testRelay.Name}, message("bob@x.test"), email.Message{}},
	} {
		b.pause(tc.pause)
		b.pause(tc.pause)
		e := b.accept(tc.stops)
		_, o := b.open(e.ID, 1)
		require.Equal(t, email.VerdictClosed, o.Verdict, name)
		require.Equal(t, "paused", o.State.Waiting, name)
		require.Equal(t, email.DetailHeld, b.get(e.ID).Detail)
		if tc.lets.Subject != "" {
			_, o := b.open(b.accept(tc.lets).ID, 1)
			require.Equal(t, email.VerdictOpened, o.Verdict, name)
		}
		got, err := b.ClaimUnpaused(b.ctx, 10)
		require.NoError(t, err)
		require.Empty(t, got, "still paused")
		ps, waiting, err := b.Pauses(b.ctx)
		require.NoError(t, err)
		require.Equal(t, tc.pause.Scope, ps[0].Scope)
		require.Equal(t, 1, waiting)

		require.NoError(t, b.Unpause(b.ctx, tc.pause))
		require.Equal(t, email.CodeNotFound, email.FailureCode(b.Unpause(b.ctx, tc.pause)))
		got, err = b.ClaimUnpaused(b.ctx, 10)
		require.NoError(t, err)
		require.Len(t, got, 1, name)
		require.Equal(t, e.WorkflowID, got[0].WorkflowID)
		_, o = b.open(e.ID, 1)
		require.Equal(t, email.VerdictOpened, o.Verdict, name)
	}
	b.pause(email.Pause{Scope: email.PauseStream, Key: "broadcast"})
	_, o := b.open(b.accept(message("bob@x.test")).ID, 1)
	require.Equal(t, email.VerdictOpened, o.Verdict, "somebody else's pause")
}

func TestAPausedMailStillExpiresAndIsCanceled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.pause(email.Pause{Scope: email.PauseInstallation})
	m := message("bob@x.test")
	m.ExpiresAt = time.Now().Add(day).UTC().Truncate(time.Microsecond)
	e := b.accept(m)
	_, o := b.open(e.ID, 1)
	require.Equal(t, m.ExpiresAt, o.State.NextAt, "its run wakes for that")
	b.exec("UPDATE emails SET expires_at = now() - interval '1 second' WHERE id = ?", e.ID)
	_, o = b.open(e.ID, 1)
	require.Equal(t, email.DetailExpired, o.State.Detail)

	gone := b.accept(message("bob@x.test"))
	b.open(gone.ID, 1)
	require.NoError(t, b.control(gone.ID, email.ActionCancel))
	require.Equal(t, email.StatusCanceled, b.get(gone.ID).Status)
	_, waiting, err := b.Pauses(b.ctx)
	require.NoError(t, err)
	require.Zero(t, waiting, "what is finished does not wait")
}

func TestAPauseGivesBackWhatWasOnlyOpened(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.accept(message("bob@x.test"))
	b.open(e.ID, 1)
	b.pause(email.Pause{Scope: email.PauseInstallation})
	_, o := b.open(e.ID, 1)
	require.Equal(t, email.VerdictRecorded, o.Verdict)
	b.record(e.ID, 1)
	b.dueNow(e.ID)
	_, o = b.open(e.ID, 2)
	require.Equal(t, "paused", o.State.Waiting)
}

func (b *bench) pause(p email.Pause) {
	b.t.Helper()
	_, err := b.Pause(b.ctx, p)
	require.NoError(b.t, err)
}
