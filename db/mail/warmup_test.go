package mail_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
)

// today waits where the day is about to end: a test's day is one.
func today() time.Time {
	now := time.Now().UTC()
	if midnight := now.Truncate(dbsetup.Day).Add(dbsetup.Day); midnight.Sub(now) < 30*time.Second {
		<-time.After(time.Until(midnight))
	}
	return time.Now().UTC().Truncate(dbsetup.Day)
}

// warming gives the customer's domain a plan.
func warming(t *testing.T, from time.Time, plan ...int) *bench {
	t.Helper()
	b := setup(t)
	_, err := b.Accounts.AddDomain(b.Ctx, b.Customer, "acme.test", true)
	require.NoError(t, err)
	d, err := b.Accounts.SetWarmup(b.Ctx, b.Customer, "acme.test", account.Warmup{Plan: plan, From: from})
	require.NoError(t, err)
	require.Equal(t, plan, d.Warmup.Plan)
	require.Equal(t, from, d.Warmup.From)
	return b
}

func (b *bench) warmup() account.Warmup {
	b.T.Helper()
	d, err := b.Accounts.Domain(b.Ctx, b.Customer, "acme.test")
	require.NoError(b.T, err)
	return d.Warmup
}

// tomorrow makes it the next day for the plan and for those who wait for it.
func (b *bench) tomorrow() {
	b.T.Helper()
	b.Exec("UPDATE domains SET warmup_from = warmup_from - 1, warmup_until = warmup_until - 1")
	b.Exec("UPDATE warmup_days SET day = day - 10000") // a primary key is checked row by row
	b.Exec("UPDATE warmup_days SET day = day + 9999")
	b.Exec(`UPDATE recipients SET turn = turn || jsonb_build_object('day', (turn->>'day')::date - 1) WHERE turn->>'day' IS NOT NULL`)
	b.pass(24 * time.Hour)
}

func TestAWarmUpLetsSoManyThroughADay(t *testing.T) {
	t.Parallel()
	b := warming(t, today(), 5, 10)
	var last email.Email
	for i := range 5 {
		last = b.Accept(dbsetup.Message(fmt.Sprintf("u%d@x.test", i)))
		_, o := b.Open(last.ID, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict)
	}
	require.Equal(t, account.Warmup{Plan: []int{5, 10}, From: today(), Day: 1, Used: 5}, b.warmup())
	e := b.Accept(dbsetup.Message("a@x.test", "b@x.test"))
	_, o := b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.WaitingThrottled, o.State.Waiting)
	require.Equal(t, email.WarmupOf("acme.test"), o.State.ThrottledBy)
	require.WithinRange(t, o.State.NextAt, today().Add(dbsetup.Day), today().Add(dbsetup.Day+time.Hour))
	got := b.Get(e.ID)
	require.Equal(t, email.DetailThrottled, got.Detail)
	require.Equal(t, o.State.NextAt, got.NextAttemptAt)
	require.Equal(t, 1, b.warmup().Waiting)
	_, again := b.Open(e.ID, 1)
	require.Equal(t, o.State, again.State, "it keeps its place")

	m := dbsetup.Message("c@x.test")
	m.From.Email = "x@other.test"
	_, o = b.Open(b.Accept(m).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "another sender's domain has no plan")

	b.tomorrow()
	b.Exec("UPDATE recipients SET next_attempt_at = now(), turn = jsonb_set(turn, '{at}', to_jsonb(now())) WHERE turn->>'for' IS NOT NULL")
	b.Exec("UPDATE emails SET next_action_at = now() WHERE status = 'queued'")
	require.Equal(t, 2, b.warmup().Used, "its places are counted on its day")
	rec := b.Attempt(e.ID, 1, dbsetup.Delivered)
	require.True(t, rec.State.Final)
	require.Equal(t, account.Warmup{Plan: []int{5, 10}, From: today().Add(-dbsetup.Day), Day: 2, Used: 2}, b.warmup())

	b.tomorrow()
	require.Equal(t, 3, b.warmup().Day)
	for i := range 20 {
		_, o := b.Open(b.Accept(dbsetup.Message(fmt.Sprintf("v%d@x.test", i))).ID, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict, "after the plan there is no limit")
	}
}

func TestAWarmUpLeavesTransactionalMailItsShare(t *testing.T) {
	t.Parallel()
	b := warming(t, today(), 10, 20)
	var news []email.Email
	for i := range 40 {
		news = append(news, b.Accept(broadcast(fmt.Sprintf("u%d@x.test", i))))
	}
	opened := 0
	for _, n := range news {
		if _, o := b.Open(n.ID, 1); o.Verdict == delivery.VerdictOpened {
			opened++
		}
	}
	require.Equal(t, 8, opened)
	require.Equal(t, 16, b.Count("SELECT broadcast FROM warmup_days WHERE day = (now() AT TIME ZONE 'UTC')::date + 1"))
	require.Equal(t, 16, b.Count("SELECT broadcast FROM warmup_days WHERE day = (now() AT TIME ZONE 'UTC')::date + 2"), "those whom no day takes wait for the plan's end")
	for i := range 3 {
		_, o := b.Open(b.Accept(dbsetup.Message(fmt.Sprintf("v%d@x.test", i))).ID, 1)
		require.Equal(t, i < 2, o.Verdict == delivery.VerdictOpened, i)
	}
	w := b.warmup()
	require.Equal(t, []int{10, 8, 33}, []int{w.Used, w.UsedByBroadcast, w.Waiting})
}

func TestARecipientIsCountedOnceADay(t *testing.T) {
	t.Parallel()
	b := warming(t, today(), 1, 1)
	e := b.Accept(dbsetup.Message("a@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Deferred)
	b.DueNow(e.ID)
	b.Attempt(e.ID, 2, dbsetup.Deferred)
	require.Equal(t, 1, b.warmup().Used)
	b.tomorrow()
	b.DueNow(e.ID)
	b.Attempt(e.ID, 3, dbsetup.Deferred)
	require.Equal(t, 1, b.warmup().Used, "on another day it is")
	_, o := b.Open(b.Accept(dbsetup.Message("b@x.test")).ID, 1)
	require.Equal(t, email.WaitingThrottled, o.State.Waiting)
}

func TestAWarmUpThatIsChangedOrGivenUp(t *testing.T) {
	t.Parallel()
	b := warming(t, today(), 1, 1, 1)
	b.Open(b.Accept(dbsetup.Message("a@x.test")).ID, 1)
	var waiting []email.Email
	for i := range 5 {
		waiting = append(waiting, b.Accept(dbsetup.Message(fmt.Sprintf("u%d@x.test", i))))
		b.Open(waiting[i].ID, 1)
	}
	require.Equal(t, 5, b.warmup().Waiting)
	d, err := b.Accounts.SetWarmup(b.Ctx, b.Customer, "acme.test", account.Warmup{Plan: []int{3, 9}, From: today()})
	require.NoError(t, err)
	require.Equal(t, 1, d.Warmup.Used, "what has gone out today has gone out")
	require.Zero(t, d.Warmup.Waiting, "those who wait are looked at anew")
	starts, err := b.Mail.ClaimUnpaused(b.Ctx, time.Minute, 100)
	require.NoError(t, err)
	require.Len(t, starts, 5, "their runs are woken at once")
	require.Equal(t, 5, b.Count("SELECT count(*) FROM emails WHERE status = 'queued' AND next_action_at <= now()"))
	opened := 0
	for _, e := range waiting {
		if _, o := b.Open(e.ID, 1); o.Verdict == delivery.VerdictOpened {
			opened++
		}
	}
	require.Equal(t, 2, opened)
	_, err = b.Accounts.SetWarmup(b.Ctx, b.Customer, "acme.test", account.Warmup{})
	require.NoError(t, err)
	require.Empty(t, b.warmup())
	for _, e := range waiting[2:] {
		_, o := b.Open(e.ID, 1)
		require.Equal(t, delivery.VerdictOpened, o.Verdict)
	}

	_, err = b.Accounts.SetWarmup(b.Ctx, b.Customer, "nobody.test", account.Warmup{Plan: []int{1}, From: today()})
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	_, err = b.Accounts.SetWarmup(b.Ctx, uuid.NewString(), "acme.test", account.Warmup{Plan: []int{1}, From: today()})
	require.Equal(t, email.CodeNotFound, email.FailureCode(err), "another customer's")
	for _, plan := range [][]int{{0}, {1, -1}, make([]int, 367), {10_000_001}} {
		_, err = b.Accounts.SetWarmup(b.Ctx, b.Customer, "acme.test", account.Warmup{Plan: plan, From: today()})
		require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), plan)
	}
	_, err = b.Accounts.SetWarmup(b.Ctx, b.Customer, "acme.test", account.Warmup{Plan: []int{1}, From: today().Add(dbsetup.Day)})
	require.NoError(t, err)
	_, o := b.Open(b.Accept(dbsetup.Message("z@x.test")).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "before its first day it is not in force")
}

// TestAWarmUpUnderConcurrency: however many ask at once, a day has as many as it has.
func TestAWarmUpUnderConcurrency(t *testing.T) {
	t.Parallel()
	b := warming(t, today(), 30, 1000)
	var parts [][]string
	for i := range 10 {
		var ids []string
		for j := range 10 {
			ids = append(ids, b.Accept(dbsetup.Message(fmt.Sprintf("u%d-%d@x.test", i, j))).ID)
		}
		parts = append(parts, ids)
	}
	var wg sync.WaitGroup
	for _, ids := range parts {
		wg.Go(func() {
			reqs := make([]delivery.OpenRequest, len(ids))
			for i, id := range ids {
				reqs[i] = delivery.OpenRequest{EmailID: id, Attempt: 1, Owner: uuid.NewString(), Relay: dbsetup.Relay}
			}
			if _, err := b.Mail.OpenEach(b.Ctx, reqs); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 30, b.Count("SELECT count(*) FROM emails WHERE attempt_open"))
	require.Equal(t, 30, b.warmup().Used)
	require.Equal(t, 70, b.warmup().Waiting)
}

// TestAWarmUpAndARate: the day comes first, so that no place in a queue is wasted.
func TestAWarmUpAndARate(t *testing.T) {
	t.Parallel()
	b := paced(t, delivery.Rates{"slow.test": time.Minute})
	_, err := b.Accounts.AddDomain(b.Ctx, b.Customer, "acme.test", true)
	require.NoError(t, err)
	_, err = b.Accounts.SetWarmup(b.Ctx, b.Customer, "acme.test", account.Warmup{Plan: []int{2, 9}, From: today()})
	require.NoError(t, err)
	_, o := b.Open(b.Accept(dbsetup.Message("a@slow.test")).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	second := b.Accept(dbsetup.Message("b@slow.test"))
	_, o = b.Open(second.ID, 1)
	require.Equal(t, email.RecipientRate("slow.test"), o.State.ThrottledBy)
	_, o = b.Open(b.Accept(dbsetup.Message("c@slow.test")).ID, 1)
	require.Equal(t, email.WarmupOf("acme.test"), o.State.ThrottledBy)
	require.Equal(t, 2, b.warmup().Used)
	b.pass(time.Minute)
	_, o = b.Open(second.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Equal(t, 2, b.warmup().Used)
	b.pass(time.Minute)
	m := dbsetup.Message("d@slow.test")
	m.From.Email = "x@other.test"
	_, o = b.Open(b.Accept(m).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "the one who waits for another day took no place")
}
