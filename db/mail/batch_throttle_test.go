package mail_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// throttle notes on the due e-mails of a batch that the next slot of the relay's rate is that far off.
func (b *bench) throttle(id string, route delivery.Route, in, pace time.Duration) (first time.Time, moved bool) {
	b.T.Helper()
	first = time.Now().UTC().Truncate(time.Microsecond).Add(in)
	moved, err := b.Mail.ThrottleBatch(b.Ctx, id, route, delivery.BatchThrottle{Relay: dbsetup.Relay.Name, First: first, Pace: pace})
	require.NoError(b.T, err)
	return first, moved
}

// throttledUntil are the times that the throttled e-mails of a batch show, in their order.
func (b *bench) throttledUntil(items []email.BatchItem) (out []time.Time) {
	b.T.Helper()
	ids := make([]string, len(items))
	for i, item := range items {
		ids[i] = item.EmailID
	}
	require.NoError(b.T, b.Raw.NewRaw("SELECT next_action_at FROM emails WHERE id IN (?) AND status_detail = 'throttled'", bun.List(ids)).Scan(b.Ctx, &out))
	for i := range out {
		out[i] = out[i].UTC()
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// apart are n times from first on, a pace apart.
func apart(first time.Time, n int, pace time.Duration) (out []time.Time) {
	for i := range n {
		out = append(out, first.Add(time.Duration(i)*pace))
	}
	return out
}

func TestABatchThatWaitsForARelaysRateSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const pace = 10 * time.Second
	batch, items := b.acceptBatch(batchOf(6, func(i int, m *email.Message) error {
		if i == 5 {
			m.SendAt = time.Now().Add(time.Hour)
		}
		return nil
	}))
	first, moved := b.throttle(batch.ID, batchRoute, pace, pace)
	require.False(t, moved)
	require.Equal(t, apart(first, 5, pace), b.throttledUntil(items), "each has a slot of its own")
	p := b.progress(batch.ID)
	require.Equal(t, map[email.Detail]int{email.DetailThrottled: 5, email.DetailScheduled: 1}, p.Details)
	require.Equal(t, first, p.NextAt)
	listed, _, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{Detail: email.DetailThrottled}, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Len(t, listed, 5)
	backlog, err := b.Mail.Backlog(b.Ctx)
	require.NoError(t, err)
	require.Contains(t, backlog.Open, delivery.OpenEmails{Status: email.StatusQueued, Detail: email.DetailThrottled, Emails: 5})

	// The run takes the next slot for any of them, also before the time that they show.
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, []int{6, 5}, []int{plan.Open, plan.Due})
	require.Equal(t, []delivery.Route{batchRoute}, plan.Routes)
	require.Greater(t, time.Until(plan.NextAt), 30*time.Minute)
	id, _, err := b.Mail.MailOf(b.Ctx, delivery.Route{ForBatch: batch.ID, Stream: batchRoute.Stream, SenderDomain: batchRoute.SenderDomain})
	require.NoError(t, err)
	owner, opened, more := b.openBatch(batch.ID, 1)
	require.True(t, more)
	require.Len(t, opened, 1)
	require.Equal(t, opened[0].EmailID, id)
	require.Empty(t, b.Get(id).Detail)
	require.Equal(t, apart(first.Add(pace), 4, pace), b.throttledUntil(items), "the first of them goes first")
	waiting, err := b.Mail.ExpireBatch(b.Ctx, batch.ID, batchRoute)
	require.NoError(t, err)
	require.True(t, waiting.Due)
	_, err = b.Mail.RecordBatch(b.Ctx, endingsOf(owner, opened, dbsetup.Delivered))
	require.NoError(t, err)

	_, opened, _ = b.openBatch(batch.ID, 10)
	require.Len(t, opened, 4, "without a rate, all of them")
	require.Equal(t, 0, b.Count("SELECT count(*) FROM emails WHERE throttled_until IS NOT NULL OR throttled_by <> ''"))
}

// A batch is written once, not at each of its slots.
func TestTheWaitOfABatchIsWrittenOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const pace = time.Hour
	batch, items := b.acceptBatch(batchOf(2100, nil))
	first, _ := b.throttle(batch.ID, batchRoute, pace, pace)
	require.Equal(t, apart(first, 2100, pace), b.throttledUntil(items))
	rows := func() (out []string) {
		t.Helper()
		require.NoError(t, b.Raw.NewRaw("SELECT xmin::text FROM emails ORDER BY id").Scan(b.Ctx, &out))
		return out
	}
	before := rows()
	b.throttle(batch.ID, batchRoute, pace, pace)
	require.Equal(t, before, rows())

	// Other mail has taken slots: those whose time has passed come first again, in their order.
	b.pass(3*pace + pace/2)
	rest := b.throttledUntil(items)[3:]
	first, _ = b.throttle(batch.ID, batchRoute, pace/2, pace)
	require.Equal(t, slices.SortedFunc(slices.Values(append(apart(first, 3, pace), rest...)), time.Time.Compare), b.throttledUntil(items))
}

func TestNewMailOfABatchComesBehindWhatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const pace = time.Minute
	batch, items := b.acceptBatch(batchOf(4, func(i int, m *email.Message) error {
		if i >= 2 {
			m.SendAt = time.Now().Add(time.Hour)
		}
		return nil
	}))
	first, _ := b.throttle(batch.ID, batchRoute, pace, pace)
	b.Exec("UPDATE emails SET send_at = now(), next_action_at = now() WHERE send_at IS NOT NULL")
	b.Exec("UPDATE recipients SET next_attempt_at = now()")
	b.throttle(batch.ID, batchRoute, pace, pace)
	require.Equal(t, apart(first, 4, pace), b.throttledUntil(items))
}

func TestProcessesThatMarkABatchGiveNoSlotTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(2500, nil))
	first := time.Now().UTC().Truncate(time.Microsecond).Add(time.Minute)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := b.Mail.ThrottleBatch(b.Ctx, batch.ID, batchRoute, delivery.BatchThrottle{Relay: dbsetup.Relay.Name, First: first, Pace: time.Minute})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, apart(first, 2500, time.Minute), b.throttledUntil(items))
}

// A wait that is as short as that of a single e-mail which shows none is not written.
func TestAShortWaitOfABatchIsNotShown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(10, nil))
	b.throttle(batch.ID, batchRoute, 20*time.Millisecond, 20*time.Millisecond)
	require.Empty(t, b.throttledUntil(items))
	_, err := b.Mail.ThrottleBatch(b.Ctx, batch.ID, batchRoute, delivery.BatchThrottle{Relay: dbsetup.Relay.Name, Taken: 4, Pace: 500 * time.Millisecond})
	require.NoError(t, err)
	until := b.throttledUntil(items)
	require.Equal(t, apart(until[0], 10, 500*time.Millisecond), until)
}

func TestABatchThatWaitsForARateCanBeSteered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(4, func(i int, m *email.Message) error {
		if i == 3 {
			m.ExpiresAt = time.Now().Add(time.Hour)
		}
		return nil
	}))
	id := func(i int) string { return items[i].EmailID }
	first, _ := b.throttle(batch.ID, batchRoute, 2*time.Hour, time.Hour)
	require.Equal(t, b.Get(id(3)).ExpiresAt, b.Get(id(3)).NextAttemptAt, "something happens sooner")
	require.NoError(t, b.as(id(0), email.ActionHold))
	require.Equal(t, email.DetailHeld, b.Get(id(0)).Detail)
	require.True(t, b.Get(id(0)).NextAttemptAt.IsZero())
	require.NoError(t, b.as(id(1), email.ActionCancel))
	require.Equal(t, email.StatusCanceled, b.Get(id(1)).Status)
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, []int{3, 2}, []int{plan.Open, plan.Due})
	require.NoError(t, b.as(id(0), email.ActionResume))
	require.Equal(t, email.DetailThrottled, b.Get(id(0)).Detail)
	require.False(t, b.Get(id(0)).NextAttemptAt.Before(first))

	b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", id(3))
	_, err = b.Mail.ExpireBatch(b.Ctx, batch.ID, batchRoute)
	require.NoError(t, err)
	require.Equal(t, email.DetailExpired, b.Get(id(3)).Detail)

	_, err = b.Mail.ControlBatch(b.Ctx, batch.ID, email.ActionHold)
	require.NoError(t, err)
	_, none, more := b.openBatch(batch.ID, 1)
	require.Empty(t, none)
	require.False(t, more)
	_, err = b.Mail.ControlBatch(b.Ctx, batch.ID, email.ActionResume)
	require.NoError(t, err)
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 2)
}

// The gate may find something else when the relay's slot is there. The e-mail is not found again for
// the relay's sake.
func TestWhatTheGateHoldsBackOfABatchAwaitsNoSlot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch, items := b.acceptBatch(batchOf(1, nil))
	b.throttle(batch.ID, batchRoute, time.Hour, time.Hour)
	b.pause(email.Pause{Scope: email.PauseInstallation})
	_, none, _ := b.openBatch(batch.ID, 1)
	require.Empty(t, none)
	e := b.Get(items[0].EmailID)
	require.Equal(t, email.DetailHeld, e.Detail)
	require.Zero(t, b.Count("SELECT count(*) FROM emails WHERE throttled_until IS NOT NULL OR throttled_by <> ''"))
	_, none, more := b.openBatch(batch.ID, 1)
	require.Empty(t, none)
	require.False(t, more)
}

func TestABatchWaitsForARateOrForARelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	name := dbsetup.Relay.Name
	batch, items := b.acceptBatch(batchOf(3, nil))
	id := items[0].EmailID
	b.throttle(batch.ID, batchRoute, time.Hour, time.Minute)
	down := delivery.Obstacle{RelayDown: true, Relay: name}
	n, err := b.Mail.ObstructBatch(b.Ctx, batch.ID, batchRoute, down, 10)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	e := b.Get(id)
	require.Equal(t, email.DetailRelayDown, e.Detail)
	require.False(t, e.NextAttemptAt.After(time.Now()))
	n, err = b.Mail.ObstructBatch(b.Ctx, batch.ID, batchRoute, down, 10)
	require.NoError(t, err)
	require.Zero(t, n)

	// The relay works again, and its rate makes the mail wait.
	avoiding := batchRoute
	avoiding.Avoid = name
	first, moved := b.throttle(batch.ID, avoiding, time.Minute, time.Minute)
	require.True(t, moved, "nothing is avoided any more")
	require.Equal(t, apart(first, 3, time.Minute), b.throttledUntil(items))
	plan, err := b.Mail.PlanBatch(b.Ctx, batch.ID)
	require.NoError(t, err)
	require.Equal(t, []delivery.Route{batchRoute}, plan.Routes)

	// Mail that another relay has refused goes on avoiding that one.
	b.Exec("UPDATE emails SET relay_down = true, relay_down_by = 'other', throttled_until = NULL, throttled_by = '', next_action_at = now()")
	avoiding.Avoid = "other"
	first, moved = b.throttle(batch.ID, avoiding, time.Minute, time.Minute)
	require.False(t, moved)
	require.Equal(t, email.DetailRelayDown, b.Get(id).Detail)
	require.Empty(t, b.throttledUntil(items))
	require.Equal(t, first, b.progress(batch.ID).NextAt)

	// Mail that ran out of time during the outage is tried once all the same.
	b.Exec(`UPDATE emails SET relay_down = true, relay_down_by = ?, throttled_until = NULL, throttled_by = '', next_action_at = now(),
		date_at = now() - interval '80 hours', attempts = 1, status = 'sending'`, name)
	avoiding.Avoid = name
	_, moved = b.throttle(batch.ID, avoiding, time.Minute, time.Minute)
	require.False(t, moved)
	require.Equal(t, email.DetailRelayDown, b.Get(id).Detail)
	_, opened, _ := b.openBatchAt(batch.ID, avoiding, 10)
	require.Len(t, opened, 3)
}
