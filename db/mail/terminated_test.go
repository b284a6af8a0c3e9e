package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// expiresInAnHour is a message that expires in an hour.
func expiresInAnHour() email.Message {
	m := dbsetup.Message("bob@x.test")
	m.ExpiresAt = time.Now().Add(time.Hour)
	return m
}

// expiredFor makes the deadline of all mail pass that long ago, for rows that waited for it.
func (b *bench) expiredFor(ago string) {
	b.Exec("UPDATE emails SET expires_at = now() - ?::interval, next_action_at = least(next_action_at, now() - ?::interval) WHERE expires_at IS NOT NULL AND status IN ('queued', 'sending')", ago, ago)
}

func (b *bench) expireOverdue() {
	b.T.Helper()
	require.NoError(b.T, b.Mail.ExpireOverdue(b.Ctx))
}

// Mail whose run is gone ends at its deadline all the same.
func TestMailExpiresWithoutARun(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(b *bench, e email.Email){
		"its run was terminated": func(b *bench, e email.Email) {
			require.NoError(b.T, b.Mail.HoldTerminated(b.Ctx, delivery.RunOf(e)))
			require.Equal(b.T, []email.Holder{email.HolderOperator}, b.Get(e.ID).HeldBy)
		},
		"its customer holds it": func(b *bench, e email.Email) { require.NoError(b.T, b.as(e.ID, email.ActionHold)) },
		"it is paused": func(b *bench, e email.Email) {
			b.pause(email.Pause{Scope: email.PauseInstallation})
			b.Open(e.ID, 1)
		},
		"its relay is down": func(b *bench, e email.Email) {
			_, err := b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
			require.NoError(b.T, err)
		},
		"it was deferred":    func(b *bench, e email.Email) { b.Attempt(e.ID, 1, dbsetup.Deferred) },
		"it was never begun": func(*bench, email.Email) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e := b.Accept(expiresInAnHour())
			wait(b, e)
			b.expireOverdue()
			require.False(t, b.Get(e.ID).Status.Final(), "its time is not over")
			b.expiredFor("0 seconds")
			b.expireOverdue()
			require.False(t, b.Get(e.ID).Status.Final(), "its run ends it, if it has one")
			b.expiredFor("61 seconds")
			b.expireOverdue()
			b.expireOverdue()
			got := b.Get(e.ID)
			require.Equal(t, []any{email.StatusFailed, email.DetailExpired, email.RecipientExpired}, []any{got.Status, got.Detail, got.Recipients[0].Status})
			events := b.Events(e.ID)
			require.Equal(t, []string{"email.expired", "email.completed"}, events[len(events)-2:])
			require.Equal(t, 1, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.completed'"))
			_, o := b.Open(e.ID, got.Attempts+1)
			require.Equal(t, delivery.VerdictClosed, o.Verdict)
		})
	}
}

func TestABatchesMailExpiresWithoutARun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(3, func(i int, m *email.Message) error {
		if i > 0 {
			m.ExpiresAt = time.Now().Add(time.Hour)
		}
		return nil
	}))
	require.NoError(t, b.Mail.HoldTerminated(b.Ctx, delivery.RunOfBatch(batch)))
	require.True(t, b.progress(batch.ID).Held)
	release := b.locked(items[2].EmailID)
	b.Exec("UPDATE emails SET expires_at = now() - interval '2 minutes', next_action_at = now() - interval '2 minutes' WHERE id = ?", items[1].EmailID)
	b.expireOverdue()
	release()
	require.Equal(t, email.StatusCounts{email.StatusQueued: 2, email.StatusFailed: 1}, b.progress(batch.ID).Emails)
	b.expiredFor("2 minutes")
	b.expireOverdue()
	require.Equal(t, email.StatusCounts{email.StatusQueued: 1, email.StatusFailed: 2}, b.progress(batch.ID).Emails)
	require.Equal(t, email.DetailHeld, b.Get(items[0].EmailID).Detail, "it has no deadline")
}

// The 72 hours end mail as they do at the gate. Mail that waits for a relay is tried once more.
func TestTheLimitOfAttemptsEndsMailWithoutARun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deferred, waits := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(deferred.ID, 1, dbsetup.Deferred)
	b.Attempt(waits.ID, 1, dbsetup.Deferred)
	b.Exec("UPDATE emails SET relay_down = true, relay_down_by = 'primary' WHERE id = ?", waits.ID)
	b.Exec("UPDATE emails SET date_at = now() - interval '73 hours', next_action_at = now() - interval '1 hour'")
	b.expireOverdue()
	require.Equal(t, email.DetailExpired, b.Get(deferred.ID).Detail)
	require.Equal(t, email.StatusSending, b.Get(waits.ID).Status)
}

func TestATerminatedRunsAttemptEndsByTheGatesRules(t *testing.T) {
	t.Parallel()
	type end struct {
		status    email.Status
		detail    email.Detail
		recipient email.RecipientStatus
		reason    email.Detail
	}
	delivered := end{email.StatusDelivered, "", email.RecipientDelivered, ""}
	for name, tc := range map[string]struct {
		policy        email.OnAmbiguous
		reach         func(b *bench, id, owner string, o delivery.Opening)
		held, expired end
	}{
		"before its dot": {
			reach:   func(*bench, string, string, delivery.Opening) {},
			held:    end{email.StatusSending, email.DetailHeld, email.RecipientDeferred, ""},
			expired: end{email.StatusFailed, email.DetailExpired, email.RecipientExpired, email.DetailExpired},
		},
		"after its dot": {
			reach: func(b *bench, id, owner string, o delivery.Opening) {
				require.NoError(b.T, b.Mark(id, 1, owner, dbsetup.Ambiguous(o)...))
			},
			held:    end{email.StatusSending, email.DetailHeld, email.RecipientDeferred, email.DetailAmbiguous},
			expired: end{email.StatusFailed, email.DetailAmbiguous, email.RecipientExpired, email.DetailAmbiguous},
		},
		"after its dot, never twice": {
			policy: email.AmbiguousFail,
			reach: func(b *bench, id, owner string, o delivery.Opening) {
				require.NoError(b.T, b.Mark(id, 1, owner, dbsetup.Ambiguous(o)...))
			},
			held:    end{email.StatusFailed, email.DetailAmbiguous, email.RecipientFailed, email.DetailAmbiguous},
			expired: end{email.StatusFailed, email.DetailAmbiguous, email.RecipientFailed, email.DetailAmbiguous},
		},
		"answered": {
			reach: func(b *bench, id, owner string, o delivery.Opening) {
				require.NoError(b.T, b.Mark(id, 1, owner, dbsetup.Ambiguous(o)...))
				out := dbsetup.Delivered(o.Recipients[0])
				out.RecipientID = o.Recipients[0].ID
				require.NoError(b.T, b.Finish(id, 1, owner, out))
			},
			held: delivered, expired: delivered,
		},
	} {
		for _, expired := range []bool{false, true} {
			for _, batched := range []bool{false, true} {
				t.Run(name+map[bool]string{true: ", expired"}[expired]+map[bool]string{true: ", in a batch"}[batched], func(t *testing.T) {
					t.Parallel()
					b := setup(t)
					m := expiresInAnHour()
					m.OnAmbiguous = tc.policy
					var id, owner string
					var o delivery.Opening
					var run delivery.Start
					if batched {
						batch, items := b.acceptBatch(batchOf(1, func(_ int, in *email.Message) error { *in = m; return nil }))
						by, opened, _ := b.openBatch(batch.ID, 1)
						id, owner, o, run = items[0].EmailID, by, opened[0].Opening, delivery.RunOfBatch(batch)
					} else {
						e := b.Accept(m)
						id, run = e.ID, delivery.RunOf(e)
						owner, o = b.Open(id, 1)
					}
					tc.reach(b, id, owner, o)
					b.Exec("UPDATE delivery_attempts SET lease_until = now() + interval '1 hour'")
					if expired {
						b.expiredFor("11 minutes")
					}
					b.expireOverdue()
					require.NoError(t, b.Mail.HoldTerminated(b.Ctx, run))
					got := b.Get(id)
					require.Equal(t, []any{email.StatusSending, []email.Holder{email.HolderOperator}}, []any{got.Status, got.HeldBy}, "its owner may be at it")
					b.Exec("UPDATE delivery_attempts SET recalled = true, lease_until = now() - interval '1 second'")
					b.expireOverdue()
					require.Equal(t, email.StatusSending, b.Get(id).Status, "an open attempt is not simply expired")
					for range 2 {
						require.NoError(t, b.Mail.HoldTerminated(b.Ctx, run))
						got = b.Get(id)
						want := tc.held
						if expired {
							want = tc.expired
						}
						require.Equal(t, want, end{got.Status, got.Detail, got.Recipients[0].Status, got.Recipients[0].Reason})
					}
					require.ErrorIs(t, b.Mark(id, 1, owner, dbsetup.Ambiguous(o)...), delivery.ErrSuperseded, "an owner that wakes up writes no dot")
					if expired {
						require.Equal(t, 1, b.Count("SELECT count(*) FROM email_events WHERE type = 'email.completed'"))
					}
				})
			}
		}
	}
}
