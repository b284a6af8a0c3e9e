package mail_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
)

// paced is a bench whose recipients' domains have rates.
func paced(t *testing.T, rates delivery.Rates) *bench {
	t.Helper()
	return setupWith(t, dbtest.URL(t), func(o *db.Options) { o.RecipientRates = rates })
}

func broadcast(to ...string) email.Message {
	m := dbsetup.Message(to...)
	m.Stream = email.StreamBroadcast
	return m
}

// openMany asks for attempts at them, one after the other.
func (b *bench) openMany(attempt int, ids ...string) []delivery.Opening {
	b.T.Helper()
	reqs := make([]delivery.OpenRequest, len(ids))
	for i, id := range ids {
		reqs[i] = delivery.OpenRequest{EmailID: id, Attempt: attempt, Owner: uuid.NewString(), Relay: dbsetup.Relay}
	}
	os, err := b.Mail.OpenEach(b.Ctx, reqs)
	require.NoError(b.T, err)
	return os
}

// pass makes so much time pass for everything that waits for its turn.
func (b *bench) pass(d time.Duration) {
	b.T.Helper()
	s := d.Seconds()
	b.Exec("UPDATE rates SET next_at = next_at - ? * interval '1 second', queue_at = queue_at - ? * interval '1 second'", s, s)
	b.Exec(`UPDATE recipients SET next_attempt_at = next_attempt_at - ? * interval '1 second',
		turn = CASE WHEN turn->>'at' IS NOT NULL THEN jsonb_set(turn, '{at}', to_jsonb((turn->>'at')::timestamptz - ? * interval '1 second')) ELSE turn END`, s, s)
	b.Exec("UPDATE emails SET next_action_at = next_action_at - ? * interval '1 second', throttled_until = throttled_until - ? * interval '1 second'", s, s)
}

// nextPlace is the first free slot of a domain's rate.
func (b *bench) nextPlace(domain string) (at time.Time) {
	b.T.Helper()
	require.NoError(b.T, b.Raw.QueryRowContext(b.Ctx, "SELECT next_at FROM rates WHERE name = ?", string(email.RecipientRate(domain))).Scan(&at))
	return at
}

func TestARecipientsDomainHasARate(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{"slow.test": 10 * time.Minute})
	first := b.Accept(dbsetup.Message("a@slow.test"))
	second := b.Accept(dbsetup.Message("b@slow.test"))
	other := b.Accept(dbsetup.Message("c@free.test"))
	_, o := b.Open(first.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	place := b.nextPlace("slow.test")
	_, o = b.Open(second.ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.WaitingThrottled, o.State.Waiting)
	require.Equal(t, email.RecipientRate("slow.test"), o.State.ThrottledBy)
	require.True(t, place.Equal(o.State.NextAt), "one pace behind the first")
	got := b.Get(second.ID)
	require.Equal(t, email.StatusQueued, got.Status, "no recipient was touched")
	require.Equal(t, email.DetailThrottled, got.Detail)
	require.Equal(t, o.State.NextAt, got.NextAttemptAt)
	require.Equal(t, 0, b.Count("SELECT count(*) FROM outbox WHERE email_id = ?", second.ID), "it has a run, and that has a timer")
	_, o = b.Open(other.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "others have no rate")

	_, again := b.Open(second.ID, 1)
	require.Equal(t, got.NextAttemptAt, again.State.NextAt, "who comes early keeps the place")
	b.pass(10 * time.Minute)
	plan, err := b.Mail.Plan(b.Ctx, second.ID)
	require.NoError(t, err)
	require.Empty(t, plan.State.Waiting)
	_, o = b.Open(second.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "it needs no second place")
	require.Equal(t, email.Detail(""), b.Get(second.ID).Detail)

	third := b.Accept(dbsetup.Message("d@slow.test"))
	place = b.nextPlace("slow.test")
	_, o = b.Open(third.ID, 1)
	require.True(t, place.Equal(o.State.NextAt), "one pace behind the second")
	b.pass(30 * time.Minute)
	fourth := b.Accept(dbsetup.Message("e@slow.test"))
	_, o = b.Open(fourth.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	_, o = b.Open(third.ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict, "twenty minutes late: the place is gone")
}

func TestARetryNeedsAPlaceToo(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{delivery.AnyDomain: time.Hour})
	e := b.Accept(dbsetup.Message("a@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Deferred)
	b.DueNow(e.ID)
	_, o := b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.WaitingThrottled, o.State.Waiting)
	_, o = b.Open(b.Accept(dbsetup.Message("a@y.test")).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "each domain has its own queue")
	require.NoError(t, b.Control(e.ID, email.ActionRetryNow))
	_, o = b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictClosed, o.Verdict, "retry now is not in spite of a rate")
	b.pass(time.Hour)
	_, o = b.Open(e.ID, 2)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
}

// TestASlowDomainHoldsBackNobodyElse: the others of the same e-mail are sent to.
func TestASlowDomainHoldsBackNobodyElse(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{"slow.test": time.Minute, "slower.test": time.Hour})
	b.Open(b.Accept(dbsetup.Message("a@slow.test", "b@slower.test")).ID, 1)
	e := b.Accept(dbsetup.Message("a@slow.test", "b@slower.test", "c@free.test", "d@slow.test"))
	rec := b.Attempt(e.ID, 1, dbsetup.Delivered)
	require.Equal(t, 3, rec.State.Open)
	require.Equal(t, email.WaitingThrottled, rec.State.Waiting)
	require.Equal(t, email.RecipientRate("slow.test"), rec.State.ThrottledBy)
	got := b.Get(e.ID)
	require.Equal(t, email.StatusSending, got.Status)
	require.Equal(t, email.DetailThrottled, got.Detail)
	require.Equal(t, email.RecipientDelivered, got.Recipients[2].Status)
	require.Equal(t, got.Recipients[0].NextAttemptAt, got.Recipients[3].NextAttemptAt, "they go together")
	require.WithinDuration(t, time.Now().Add(time.Hour), got.Recipients[1].NextAttemptAt, time.Minute)
	b.pass(time.Minute)
	rec = b.Attempt(e.ID, 2, dbsetup.Delivered)
	require.Equal(t, 1, rec.State.Open)
	require.Equal(t, email.RecipientRate("slower.test"), rec.State.ThrottledBy)
	require.WithinDuration(t, time.Now().Add(15*time.Minute), rec.State.NextAt, time.Minute, "it looks whether the queue is shorter")
	b.pass(time.Hour - time.Minute)
	require.True(t, b.Attempt(e.ID, 3, dbsetup.Delivered).State.Final)
	_, o := b.Open(b.Accept(dbsetup.Message("z@slow.test")).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
}

// TestAPlaceIsKeptWhileTheRelayTakesItsTime: its domain's turn is not lost for the
// relay's.
func TestAPlaceIsKeptWhileTheRelayTakesItsTime(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{"slow.test": time.Hour})
	e := b.Accept(dbsetup.Message("a@slow.test"))
	st, err := b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{})
	require.NoError(t, err)
	require.Nil(t, st.State, "it is its turn")
	st, err = b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{ThrottledUntil: time.Now().Add(10 * time.Minute), ThrottledBy: email.RelayRate("primary")})
	require.NoError(t, err)
	require.Equal(t, email.RelayRate("primary"), st.State.ThrottledBy)
	require.Zero(t, b.Count("SELECT count(*) FROM outbox"), "it has a run, and that has a timer")
	b.pass(10 * time.Minute)
	st, err = b.Mail.Check(b.Ctx, e.ID, delivery.Obstacle{})
	require.NoError(t, err)
	require.Nil(t, st.State)
	_, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)

	other := b.Accept(dbsetup.Message("b@slow.test"))
	st, err = b.Mail.Check(b.Ctx, other.ID, delivery.Obstacle{})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(50*time.Minute), b.Get(other.ID).NextAttemptAt, 30*time.Minute, "one place was taken, not three")
	require.Equal(t, email.RecipientRate("slow.test"), st.State.ThrottledBy)
}

func TestTwoRecipientsTakeTwoPlaces(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{"slow.test": 4 * time.Minute})
	b.Open(b.Accept(dbsetup.Message("a@slow.test", "b@slow.test", "c@slow.test")).ID, 1)
	_, o := b.Open(b.Accept(dbsetup.Message("d@slow.test")).ID, 1)
	require.WithinDuration(t, time.Now().Add(12*time.Minute), o.State.NextAt, 4*time.Minute)
}

// TestManyPassAGateAtTheRate: however many ask at once, in one transaction or in many,
// no two places are closer than the pace, and each e-mail comes through.
func TestManyPassAGateAtTheRate(t *testing.T) {
	t.Parallel()
	const pace, n, together = 10 * time.Millisecond, 300, 20
	b := paced(t, delivery.Rates{"slow.test": pace, "other.test": pace})
	var ids []string
	for i := range n {
		to := []string{fmt.Sprintf("u%d@slow.test", i)}
		if i%3 == 0 {
			to = append(to, fmt.Sprintf("u%d@other.test", i))
		}
		m := dbsetup.Message(to...)
		if i%2 == 0 {
			m = broadcast(to...)
		}
		ids = append(ids, b.Accept(m).ID)
	}
	began := time.Now()
	var mu sync.Mutex
	opened := map[string][]time.Time{}
	// late is the most by which a busy machine used a slot, or reported it, late.
	var late time.Duration
	var wg sync.WaitGroup
	for part := range slices.Chunk(ids, together) {
		wg.Go(func() {
			left, attempts, told := part, map[string]int{}, map[string]time.Time{}
			for len(left) > 0 && time.Since(began) < time.Minute {
				reqs := make([]delivery.OpenRequest, len(left))
				for i, id := range left {
					reqs[i] = delivery.OpenRequest{EmailID: id, Attempt: attempts[id] + 1, Owner: uuid.NewString(), Relay: dbsetup.Relay}
				}
				asked := time.Now()
				os, err := b.Mail.OpenEach(b.Ctx, reqs)
				at := time.Now()
				if err != nil {
					t.Error(err)
					return
				}
				var again []string
				next := at.Add(time.Second)
				for i, o := range os {
					id := left[i]
					st := o.State
					if o.Verdict == delivery.VerdictOpened {
						var outs []delivery.Outcome
						mu.Lock()
						if late = max(late, at.Sub(asked)); !told[id].IsZero() {
							late = max(late, at.Sub(told[id]))
						}
						for _, r := range o.Recipients {
							d := email.DomainOf(r.Address)
							opened[d] = append(opened[d], at)
							outs = append(outs, delivery.Outcome{RecipientID: r.ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250}})
						}
						mu.Unlock()
						attempts[id]++
						if err := b.Finish(id, attempts[id], reqs[i].Owner, outs...); err != nil {
							t.Error(err)
						}
						rec, err := b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: id, Attempt: attempts[id]})
						if err != nil {
							t.Error(err)
						}
						st = rec.State
					}
					if st.Final {
						continue
					}
					again, told[id] = append(again, id), st.NextAt
					if !st.NextAt.IsZero() && st.NextAt.Before(next) {
						next = st.NextAt
					}
				}
				left = again
				<-time.After(time.Until(next)) // as the runs' timers do
			}
			if len(left) > 0 {
				t.Errorf("%d e-mails are stuck", len(left))
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	require.Len(t, opened["slow.test"], n)
	require.Len(t, opened["other.test"], n/3)
	for domain, times := range opened {
		slices.SortFunc(times, time.Time.Compare)
		for i := range times {
			for j := i + 1; j < len(times); j++ {
				most := float64(times[j].Sub(times[i])+100*time.Millisecond+late)/float64(pace) + 1
				require.LessOrEqual(t, float64(j-i+1), most, "%s: from %d to %d", domain, i, j)
			}
		}
	}
	t.Logf("%d recipients in %s, %s at the rate, at most %s late", n, took, n*pace, late)
	require.GreaterOrEqual(t, took, (n-20)*pace)
}

// TestTransactionalDoesNotWaitForANewsletter: two thousand wait, and it does not.
func TestTransactionalDoesNotWaitForANewsletter(t *testing.T) {
	t.Parallel()
	t.Run("for a relay", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		demand := delivery.Demand{Queue: "relay:a", N: 1, Pace: 20 * time.Millisecond, Stream: email.StreamBroadcast}
		var last delivery.Slot
		began := time.Now()
		for range 2000 {
			var err error
			last, _, err = b.Mail.Draw(b.Ctx, demand)
			require.NoError(t, err)
		}
		require.False(t, last.Reserved)
		require.Greater(t, time.Since(began)+last.Wait, 35*time.Second)
		demand.Stream = email.StreamTransactional
		place, ok, err := b.Mail.Draw(b.Ctx, demand)
		require.NoError(t, err)
		require.True(t, ok && place.Reserved)
		require.Less(t, place.Wait, 2*time.Second)
		t.Logf("transactional: %s, the last of the newsletter: %s", place.Wait, last.Wait)
	})
	t.Run("for a recipient's domain", func(t *testing.T) {
		t.Parallel()
		// Half an hour: on the slowest machine most of them still wait when the last has come.
		b := paced(t, delivery.Rates{"slow.test": time.Second})
		var ids []string
		for i := range 2000 {
			ids = append(ids, b.Accept(broadcast(fmt.Sprintf("u%d@slow.test", i))).ID)
		}
		for part := range slices.Chunk(ids, 100) {
			b.openMany(1, part...)
		}
		require.Greater(t, b.Count("SELECT count(*) FROM emails WHERE status_detail = 'throttled'"), 1000)
		_, o := b.Open(b.Accept(dbsetup.Message("a@slow.test")).ID, 1)
		if o.Verdict != delivery.VerdictOpened {
			require.Less(t, o.State.NextAt, time.Now().Add(10*time.Second))
		}
	})
}

// TestABatchPassesTheGateAtTheRate: what has to wait stays with its batch.
func TestABatchPassesTheGateAtTheRate(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{"slow.test": time.Minute})
	batch, _ := b.acceptBatch(batchOf(6, func(i int, m *email.Message) error {
		m.To = []email.Address{{Email: fmt.Sprintf("u%d@%s.test", i, []string{"slow", "free"}[i%2])}}
		return nil
	}))
	_, opened, _ := b.openBatch(batch.ID, 100)
	require.Len(t, opened, 4, "all who are free, and one of the others")
	_, opened, _ = b.openBatch(batch.ID, 100)
	require.Empty(t, opened)
	require.Equal(t, 2, b.progress(batch.ID).Details[email.DetailThrottled])
	b.pass(time.Minute)
	_, opened, _ = b.openBatch(batch.ID, 100)
	require.Len(t, opened, 1)
	b.pass(time.Minute)
	_, opened, _ = b.openBatch(batch.ID, 100)
	require.Len(t, opened, 1)
}
