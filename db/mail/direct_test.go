package mail_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func (b *bench) direct(workflowID, key string) delivery.DirectStart {
	return delivery.DirectStart{CustomerID: b.Customer, Namespace: "default", WorkflowID: workflowID, RunID: uuid.NewString(), Key: key, Fingerprint: "one"}
}

func (b *bench) acceptDirect(d delivery.DirectStart) delivery.DirectEmail {
	b.T.Helper()
	got, err := b.Mail.AcceptDirect(b.Ctx, dbsetup.Message("a@x.test"), d)
	require.NoError(b.T, err)
	return got
}

func TestADirectStartIsOneEmail(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"by workflow id": "", "by key": "order 5"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.Exec("UPDATE customers SET credits = 10")
			d := b.direct("order-5/mail", key)
			none, err := b.Mail.DirectEmail(b.Ctx, d)
			require.NoError(t, err)
			require.Nil(t, none)

			// A step may run twice, even at once.
			var wg sync.WaitGroup
			ids := make([]string, 8)
			for i := range ids {
				wg.Go(func() {
					got, err := b.Mail.AcceptDirect(b.Ctx, dbsetup.Message("a@x.test"), d)
					if err != nil {
						t.Error(err)
					}
					ids[i] = got.EmailID
				})
			}
			wg.Wait()
			for _, id := range ids {
				require.Equal(t, ids[0], id)
			}
			require.Equal(t, 1, b.Count("SELECT count(*) FROM emails"))
			require.Equal(t, 9, b.Count("SELECT credits FROM customers"), "paid once")
			require.Zero(t, b.Count("SELECT count(*) FROM outbox"), "its run exists")
			e := b.Get(ids[0])
			require.Equal(t, "order-5/mail", e.WorkflowID)
			require.Equal(t, email.StatusQueued, e.Status)
			require.Equal(t, []string{"email.queued"}, b.Events(e.ID))

			// Another run with the same message, now and when it is done.
			again := d
			again.RunID = uuid.NewString()
			if key != "" {
				again.WorkflowID = "order-5/second"
			}
			got := b.acceptDirect(again)
			require.Equal(t, delivery.DirectEmail{EmailID: e.ID, AcceptedAt: e.CreatedAt, RunID: d.RunID, Fingerprint: "one", Owner: "order-5/mail"}, got)
			b.Attempt(e.ID, 1, dbsetup.Delivered)
			require.True(t, b.acceptDirect(again).Final)
			found, err := b.Mail.DirectEmail(b.Ctx, again)
			require.NoError(t, err)
			require.Equal(t, e.ID, found.EmailID)

			again.Fingerprint = "another"
			_, err = b.Mail.AcceptDirect(b.Ctx, dbsetup.Message("b@x.test"), again)
			require.Equal(t, email.CodeIdempotencyConflict, email.FailureCode(err))
			require.Equal(t, 1, b.Count("SELECT count(*) FROM emails"))

			// Names are a customer's, in a namespace.
			other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
			require.NoError(t, err)
			elsewhere, others := d, d
			elsewhere.Namespace, others.CustomerID = "staging", other.ID
			require.NotEqual(t, e.ID, b.acceptDirect(elsewhere).EmailID)
			require.NotEqual(t, e.ID, b.acceptDirect(others).EmailID)
		})
	}
}

func TestARefusedDirectStartLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Exec("UPDATE customers SET credits = 0")
	d := b.direct("w", "")
	_, err := b.Mail.AcceptDirect(b.Ctx, dbsetup.Message("a@x.test"), d)
	require.Equal(t, email.CodeCredits, email.FailureCode(err))
	require.Zero(t, b.Count("SELECT count(*) FROM emails"))
	b.Exec("UPDATE customers SET credits = 1")
	b.acceptDirect(d)
	require.Equal(t, 1, b.Count("SELECT emails FROM usage"))
}

// A workflow id can be used again when its run has ended. E-mails that the run left unfinished may
// not wait for a signal under a name that another run has.
func TestAWorkflowIDBelongsToItsLastRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.acceptDirect(b.direct("nightly", "monday"))
	done := b.acceptDirect(b.direct("nightly", "tuesday"))
	b.Attempt(done.EmailID, 1, dbsetup.Delivered)
	d := b.direct("nightly", "wednesday")
	second := b.acceptDirect(d)
	require.Equal(t, "nightly", b.Get(second.EmailID).WorkflowID)
	left := b.Get(first.EmailID)
	require.Equal(t, email.WorkflowIDPrefix+left.ID, left.WorkflowID)
	require.Equal(t, email.DetailHeld, left.Detail, "its run may have been terminated, which means stop")
	require.Equal(t, "nightly", b.Get(done.EmailID).WorkflowID, "what is finished stays as it is")

	// The same run once more changes nothing, nor does a start of the same message: it
	// goes on with that e-mail.
	b.acceptDirect(d)
	d.RunID = uuid.NewString()
	b.acceptDirect(d)
	mine := b.Get(second.EmailID)
	require.Equal(t, "nightly", mine.WorkflowID)
	require.Empty(t, mine.Detail)
}

func TestAnEmailLeavesAWorkflowIDThatIsAnothers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	open, done := b.acceptDirect(b.direct("one", "")), b.acceptDirect(b.direct("two", ""))
	b.Attempt(done.EmailID, 1, dbsetup.Delivered)
	for _, e := range []delivery.DirectEmail{open, done} {
		id, err := b.Mail.LeaveWorkflowID(b.Ctx, e.EmailID)
		require.NoError(t, err)
		require.Equal(t, email.WorkflowIDPrefix+e.EmailID, id)
	}
	require.Equal(t, email.WorkflowIDPrefix+open.EmailID, b.Get(open.EmailID).WorkflowID)
	require.Equal(t, "two", b.Get(done.EmailID).WorkflowID)
}

func TestARunMayNameAnyEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Mail.Plan(b.Ctx, "order 5")
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}
