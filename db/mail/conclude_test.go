package mail_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// ending is the end of an e-mail's first attempt, which delivered it to everybody.
func ending(e email.Email, owner string, o delivery.Opening) delivery.Ending {
	end := delivery.Ending{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: dbsetup.Relay}
	for _, r := range o.Recipients {
		out := dbsetup.Delivered(r)
		out.RecipientID = r.ID
		end.Outcomes = append(end.Outcomes, out)
	}
	return end
}

// phase is where the journal has an e-mail's first attempt.
func (b *bench) phase(id string) (phase string) {
	b.T.Helper()
	require.NoError(b.T, b.Raw.QueryRowContext(b.Ctx, "SELECT phase FROM delivery_attempts WHERE email_id = ? AND attempt = 1", id).Scan(&phase))
	return phase
}

// The end of an attempt waits for no e-mail's lock: what is locked is recorded later. Several ends
// share a transaction, and one that is not ours leaves the others alone.
func TestConcludeNeverWaitsForALock(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]bool{"each alone": false, "together": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			free, busy, lost := b.Accept(dbsetup.Message("ann@x.test")), b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("eve@x.test"))
			var endings []delivery.Ending
			for _, e := range []email.Email{free, busy, lost} {
				owner, o := b.Open(e.ID, 1)
				require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
				endings = append(endings, ending(e, owner, o))
			}
			endings[2].Owner = uuid.NewString() // another worker has taken it over
			release := b.locked(busy.ID)
			var ends []delivery.Conclusion
			if together {
				var err error
				ends, err = b.Mail.ConcludeMany(b.Ctx, endings)
				require.NoError(t, err)
			} else {
				for _, e := range endings {
					end, err := b.Mail.Conclude(b.Ctx, e)
					require.NoError(t, err)
					ends = append(ends, end)
				}
			}
			require.Equal(t, []bool{true, true, false}, []bool{ends[0].Ours, ends[1].Ours, ends[2].Ours})
			require.Equal(t, email.StatusDelivered, ends[0].Recorded.State.Status)
			require.Equal(t, email.StatusDelivered, b.Get(free.ID).Status)
			require.Nil(t, ends[1].Recorded)
			require.Nil(t, ends[2].Recorded)
			require.Equal(t, []string{"done", "done", "data_sent"}, []string{b.phase(free.ID), b.phase(busy.ID), b.phase(lost.ID)})
			release()
			require.Equal(t, email.StatusSending, b.Get(busy.ID).Status)
			require.Equal(t, email.StatusDelivered, b.Record(busy.ID, 1).State.Status)
			require.Equal(t, email.StatusSending, b.Get(lost.ID).Status)
		})
	}
}

// If recording fails, the journal has the outcomes nevertheless: only this process knows them.
func TestConcludeWritesTheJournalIfRecordingFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	owner, o := b.Open(e.ID, 1)
	require.NoError(t, b.Mark(e.ID, 1, owner, dbsetup.Ambiguous(o)...))
	b.Exec("ALTER TABLE email_events ADD CONSTRAINT no_delivery CHECK (type <> 'email.delivered')")
	end, err := b.Mail.Conclude(b.Ctx, ending(e, owner, o))
	require.NoError(t, err)
	require.True(t, end.Ours)
	require.Nil(t, end.Recorded)
	require.Equal(t, "done", b.phase(e.ID))
	require.Equal(t, email.StatusSending, b.Get(e.ID).Status)
	b.Exec("ALTER TABLE email_events DROP CONSTRAINT no_delivery")
	require.Equal(t, email.StatusDelivered, b.Record(e.ID, 1).State.Status)
}
