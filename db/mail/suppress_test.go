package mail_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/suppression"
)

// list puts an address on the customer's suppression list, for all mail for good unless change says
// otherwise, and returns the entry's id.
func (b *bench) list(address string, change ...func(*suppression.Entry)) string {
	b.T.Helper()
	keys, err := b.Suppressions.Keys(b.Ctx)
	require.NoError(b.T, err)
	e := suppression.Entry{ID: uuid.NewString(), CustomerID: b.Customer, Key: keys.Key(address), Address: address, Scope: suppression.ScopeAll, Reason: suppression.Manual, Source: suppression.FromCustomer}
	for _, c := range change {
		c(&e)
	}
	var expires *time.Time
	if !e.ExpiresAt.IsZero() {
		expires = &e.ExpiresAt
	}
	b.Exec("INSERT INTO suppressions (id, customer_id, address_key, address, scope, target, reason, source, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		e.ID, e.CustomerID, e.Key, e.Address, e.Scope, e.Target, e.Reason, e.Source, expires)
	return e.ID
}

// entries are the customer's list, as "address scope target reason".
func (b *bench) entries() (out []string) {
	b.T.Helper()
	require.NoError(b.T, b.Raw.NewRaw("SELECT concat_ws(' ', address, scope, target, reason) FROM suppressions ORDER BY created_at").Scan(b.Ctx, &out))
	return out
}

// refused is a recipient's outcome whose address does not exist, for Attempt.
func refused(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientBounced, Reason: email.DetailHard, Suppress: true, Reply: email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}}
}

// TestWhoIsOnTheListGetsNoMail: what an acceptance knows ends there, and the gate sees what came since.
func TestWhoIsOnTheListGetsNoMail(t *testing.T) {
	t.Parallel()
	change := func(f func(*suppression.Entry)) []func(*suppression.Entry) { return []func(*suppression.Entry){f} }
	scope := func(s suppression.Scope, target string) []func(*suppression.Entry) {
		return change(func(e *suppression.Entry) { e.Scope, e.Target = s, target })
	}
	for name, row := range map[string]struct {
		address string
		change  []func(*suppression.Entry)
		mail    func(*email.Message)
		counts  bool
	}{
		"the address":           {address: "bob@x.test", counts: true},
		"the domain's case":     {address: "bob@X.test", counts: true},
		"another local part":    {address: "Bob@x.test"},
		"a tag":                 {address: "bob+news@x.test"},
		"dots":                  {address: "b.ob@x.test"},
		"all of its domain":     {address: "*@x.test", counts: true},
		"all of another domain": {address: "*@y.test"},
		"all of a parent":       {address: "*@test"},
		"expired":               {address: "bob@x.test", change: change(func(e *suppression.Entry) { e.ExpiresAt = time.Now().Add(-time.Hour) })},
		"not yet expired":       {address: "bob@x.test", change: change(func(e *suppression.Entry) { e.ExpiresAt = time.Now().Add(time.Hour) }), counts: true},
		"the address is erased": {address: "bob@x.test", change: change(func(e *suppression.Entry) { e.Address = "" }), counts: true},
		"another stream":        {address: "bob@x.test", change: scope(suppression.ScopeStream, "broadcast")},
		"its stream":            {address: "bob@x.test", change: scope(suppression.ScopeStream, "broadcast"), mail: func(m *email.Message) { m.Stream = email.StreamBroadcast }, counts: true},
		"no topic":              {address: "bob@x.test", change: scope(suppression.ScopeTopic, "news")},
		"another topic":         {address: "bob@x.test", change: scope(suppression.ScopeTopic, "news"), mail: func(m *email.Message) { m.Topic = "offers" }},
		"its topic":             {address: "bob@x.test", change: scope(suppression.ScopeTopic, "news"), mail: func(m *email.Message) { m.Topic = "news" }, counts: true},
		"it is to be ignored":   {address: "bob@x.test", mail: func(m *email.Message) { m.IgnoreSuppressions = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			m := dbsetup.Message("bob@x.test", "eve@z.test")
			if row.mail != nil {
				row.mail(&m)
			}
			before := b.Accept(m)
			id := b.list(row.address, row.change...)
			after := b.Accept(m)
			require.Equal(t, row.counts, after.Recipients[0].Status == email.RecipientSuppressed, "the acceptance")
			require.Equal(t, email.RecipientQueued, after.Recipients[1].Status)
			for _, e := range []email.Email{before, after} {
				_, o := b.Open(e.ID, 1)
				require.Equal(t, delivery.VerdictOpened, o.Verdict)
				if !row.counts {
					require.Len(t, o.Recipients, 2)
					continue
				}
				require.Len(t, o.Recipients, 1)
				require.Equal(t, "eve@z.test", o.Recipients[0].Address)
				bob := b.Get(e.ID).Recipients[0]
				require.Equal(t, []any{email.RecipientSuppressed, email.DetailSuppressed, id}, []any{bob.Status, bob.Reason, bob.SuppressedBy})
				require.Contains(t, bob.Text, "on the suppression list since 20")
				require.Contains(t, b.Events(e.ID), "email.suppressed")
			}
		})
	}
}

// TestAnEmailToNobodyButTheListEnds: at acceptance, or when its attempt would open. Its run finds it so.
func TestAnEmailToNobodyButTheListEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Exec("UPDATE customers SET credits = 1")
	m := dbsetup.Message("bob@x.test")
	before := b.Accept(m)
	b.list("bob@x.test")
	idem := email.Idempotency{Key: "k", Fingerprint: "f"}
	after, _, err := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), idem)
	require.NoError(t, err, "it costs no credit")
	require.Equal(t, []any{email.StatusBounced, email.DetailSuppressed}, []any{after.Status, after.Detail})
	require.Zero(t, after.NextAttemptAt)
	require.Equal(t, []string{"email.queued", "email.suppressed", "email.completed"}, b.Events(after.ID))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM outbox WHERE email_id = ?", after.ID), "it has a run as every e-mail")
	plan, err := b.Mail.Plan(b.Ctx, after.ID)
	require.NoError(t, err)
	require.True(t, plan.State.Final)
	require.Equal(t, email.RecipientSuppressed, plan.State.Results[0].Status)

	_, o := b.Open(before.ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, []any{email.StatusBounced, true}, []any{o.State.Status, o.State.Final})
	require.Equal(t, []string{"email.queued", "email.suppressed", "email.completed"}, b.Events(before.ID))
	require.Zero(t, b.Count("SELECT count(*) FROM delivery_attempts"))

	b.Exec("DELETE FROM suppressions")
	again, replayed, err := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), idem)
	require.NoError(t, err)
	require.True(t, replayed)
	require.Equal(t, dbsetup.Untimed(after), dbsetup.Untimed(again))
}

// TestTheGateLooksBeforeEachAttempt, with a relay and without one. A hold, and a time in the future, keep
// the recipient as it is.
func TestTheGateLooksBeforeEachAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deferred := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(deferred.ID, 1, dbsetup.Deferred)
	noRelay := b.Accept(dbsetup.Message("bob@x.test"))
	ambiguous := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(ambiguous.ID, 1, func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailAmbiguous}
	})
	held := b.Accept(dbsetup.Message("bob@x.test"))
	require.NoError(t, b.Control(held.ID, email.ActionHold))
	id := b.list("bob@x.test")
	later := dbsetup.Message("bob@x.test")
	later.SendAt = time.Now().Add(time.Hour)
	scheduled := b.Accept(later)
	require.Equal(t, email.DetailScheduled, scheduled.Detail)

	b.DueNow(deferred.ID)
	_, o := b.Open(deferred.ID, 2)
	require.True(t, o.State.Final)
	bob := b.Get(deferred.ID).Recipients[0]
	require.Equal(t, []any{email.RecipientSuppressed, 451, id, 1}, []any{bob.Status, bob.Code, bob.SuppressedBy, bob.Attempts}, "with the server's last words")

	checked, err := b.Mail.Check(b.Ctx, noRelay.ID, delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.NoError(t, err)
	require.True(t, checked.State.Final)

	b.DueNow(ambiguous.ID)
	_, o = b.Open(ambiguous.ID, 2)
	require.True(t, o.State.Final)
	require.Equal(t, email.DetailAmbiguous, b.Get(ambiguous.ID).Detail, "a copy may have arrived")

	_, o = b.Open(held.ID, 1)
	require.Equal(t, email.WaitingHeld, o.State.Waiting)
	b.Exec("DELETE FROM suppressions")
	require.NoError(t, b.Control(held.ID, email.ActionResume))
	_, o = b.Open(held.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	require.Equal(t, email.RecipientQueued, b.Get(scheduled.ID).Recipients[0].Status)
}

// TestABatchLeavesOutTheList.
func TestABatchLeavesOutTheList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	listed := b.list("r2@x.test")
	idem := email.Idempotency{Key: "k", Fingerprint: "f"}
	req := batchOf(4, nil)
	batch, items, _, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, req, uuid.NewString(), idem)
	require.NoError(t, err)
	require.Equal(t, []email.Detail{"", "", email.DetailSuppressed, ""}, details(items))
	require.Equal(t, 3, b.Count("SELECT recipients FROM usage"), "it costs nothing")
	b.list("r3@x.test")
	_, openings, _ := b.openBatch(batch.ID, 10)
	require.Len(t, openings, 2)
	require.Equal(t, listed, b.Get(items[2].EmailID).Recipients[0].SuppressedBy)
	require.Equal(t, email.StatusBounced, b.Get(items[3].EmailID).Status)
	_, again, replayed, err := b.Mail.AcceptBatch(b.Ctx, b.Customer, req, uuid.NewString(), idem)
	require.NoError(t, err)
	require.True(t, replayed)
	require.Equal(t, details(items), details(again))
}

func details(items []email.BatchItem) (out []email.Detail) {
	for _, i := range items {
		out = append(out, i.Detail)
	}
	return out
}

func TestAHardBounceIsPutOnTheList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test", "eve@x.test", "kim@x.test"))
	b.Attempt(e.ID, 1, func(r delivery.EnvelopeRecipient) delivery.Outcome {
		switch r.Address {
		case "bob@x.test":
			return refused(r)
		case "eve@x.test": // several had this answer: it says nothing of one of them
			o := refused(r)
			o.Reason, o.Suppress = email.DetailOther, false
			return o
		}
		return dbsetup.Delivered(r)
	})
	require.Equal(t, []string{"bob@x.test all  hard_bounce"}, b.entries())
	require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE email_id = ? AND source = 'delivery'", e.ID))
	next := b.Accept(dbsetup.Message("bob@x.test", "kim@x.test"))
	require.Equal(t, []email.RecipientStatus{email.RecipientSuppressed, email.RecipientQueued}, []email.RecipientStatus{next.Recipients[0].Status, next.Recipients[1].Status})
	require.Equal(t, email.DetailPartial, next.Detail)

	anyway := dbsetup.Message("bob@x.test")
	anyway.IgnoreSuppressions = true
	b.Exec("UPDATE suppressions SET note = 'first', expires_at = now() + interval '1 day'")
	b.Attempt(b.Accept(anyway).ID, 1, refused)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE expires_at IS NULL AND note = ''"), "it lasts longer than the entry that was there")
	b.Exec("UPDATE suppressions SET note = 'second'")
	b.Attempt(b.Accept(anyway).ID, 1, refused)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE note = 'second'"), "one that never ends stays")
}

// TestRepeatedSoftFailuresArePutOnTheList: five in a row over a week, without anything else between them.
func TestRepeatedSoftFailuresArePutOnTheList(t *testing.T) {
	t.Parallel()
	full := func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientBounced, Reason: email.DetailSoft, Reply: email.Reply{Code: 552, Enhanced: "5.2.2", Text: "mailbox full"}}
	}
	policy := func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientBounced, Reason: email.DetailSoft, Reply: email.Reply{Code: 552, Enhanced: "5.7.1", Text: "not from you"}}
	}
	deferred := func(reason email.Detail) func(delivery.EnvelopeRecipient) delivery.Outcome {
		return func(delivery.EnvelopeRecipient) delivery.Outcome {
			return delivery.Outcome{Status: email.RecipientDeferred, Reason: reason, Reply: email.Reply{Code: 452, Enhanced: "4.2.2", Text: "later"}}
		}
	}
	blocked, laterOn := deferred(email.DetailIPBlocked), deferred("")
	type outcome = func(delivery.EnvelopeRecipient) delivery.Outcome
	type before struct {
		daysAgo int
		outcome outcome
	}
	week := []before{{8, full}, {6, full}, {4, full}, {2, full}}
	for name, row := range map[string]struct {
		history []before
		last    outcome
		listed  bool
	}{
		"five over eight days":        {week, full, true},
		"four":                        {week[1:], full, false},
		"five in six days":            {[]before{{6, full}, {5, full}, {4, full}, {2, full}}, full, false},
		"a delivery between":          {[]before{{9, full}, {8, full}, {6, full}, {4, dbsetup.Delivered}, {2, full}}, full, false},
		"a delivery before":           {append([]before{{9, dbsetup.Delivered}}, week...), full, true},
		"the last is policy":          {week, policy, false},
		"one is policy":               {[]before{{8, full}, {6, policy}, {4, full}, {2, full}}, full, false},
		"the last one is a delivery":  {week, dbsetup.Delivered, false},
		"deferred until they expired": {[]before{{8, laterOn}, {6, laterOn}, {4, laterOn}, {2, laterOn}}, laterOn, true},
		"our address was blocked":     {[]before{{8, laterOn}, {6, blocked}, {4, laterOn}, {2, laterOn}}, laterOn, false},
		"and at last":                 {[]before{{8, laterOn}, {6, laterOn}, {4, laterOn}, {2, laterOn}}, blocked, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			run := func(o outcome) string {
				e := b.Accept(dbsetup.Message("bob@x.test"))
				b.Attempt(e.ID, 1, o)
				if o(delivery.EnvelopeRecipient{}).Status != email.RecipientDeferred {
					return e.ID
				}
				b.Exec("UPDATE emails SET expires_at = now() WHERE id = ?", e.ID)
				_, o2 := b.Open(e.ID, 2)
				require.Equal(t, email.StatusFailed, o2.State.Status)
				return e.ID
			}
			for _, h := range row.history {
				b.Exec("UPDATE recipients SET status_at = now() - ? * interval '1 day' WHERE email_id = ?", h.daysAgo, run(h.outcome))
				require.Empty(t, b.entries())
			}
			run(row.last)
			if !row.listed {
				require.Empty(t, b.entries())
				return
			}
			require.Equal(t, []string{"bob@x.test stream broadcast soft_bounces"}, b.entries(), "transactional mail goes on")
			require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE expires_at > now() + interval '29 days' AND expires_at < now() + interval '31 days'"))
		})
	}
}

// TestSoManyHardBouncesPutNobodyOnTheList: the fault may be ours. Entries of the last minutes are taken back.
func TestSoManyHardBouncesPutNobodyOnTheList(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	b.Attempt(b.Accept(dbsetup.Message("old@x.test")).ID, 1, refused)
	b.Exec("UPDATE suppressions SET created_at = now() - interval '11 minutes'")
	b.Attempt(b.Accept(dbsetup.Message("other@y.test")).ID, 1, refused)
	b.list("manual@x.test")
	b.list("user0@x.test", func(e *suppression.Entry) { e.ExpiresAt = time.Now().Add(time.Hour) })
	bounce := func(n int) {
		var to []string
		for i := range n {
			to = append(to, fmt.Sprintf("user%d@x.test", i))
		}
		m := dbsetup.Message(to...)
		m.IgnoreSuppressions = true
		b.Attempt(b.Accept(m).ID, 1, refused)
	}
	bounce(48)
	require.Equal(t, 51, b.Count("SELECT count(*) FROM suppressions"))
	require.Equal(t, 50, b.Count("SELECT count(*) FROM suppressions WHERE source = 'delivery'"))
	bounce(1)
	require.Equal(t, 1, strings.Count(log.String(), "msg=suppressions.suspended"))
	require.Contains(t, log.String(), "domain=x.test taken_back=48 for=1h0m0s")
	require.Equal(t, "manual@x.test,old@x.test,other@y.test,user0@x.test", b.sorted("SELECT address FROM suppressions ORDER BY 1"))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE address = 'user0@x.test' AND source = 'manual' AND expires_at IS NOT NULL"), "the customer's entry is as it was")
	require.Equal(t, 1, b.Count("SELECT count(*) FROM audit WHERE action = 'suppressions.suspended' AND target = 'x.test' AND customer_id = ?", b.Customer))
	backlog, err := b.Mail.Backlog(b.Ctx)
	require.NoError(t, err)
	require.Equal(t, 1, backlog.Circuits)

	bounce(1)
	b.Attempt(b.Accept(dbsetup.Message("more@y.test")).ID, 1, refused)
	require.Equal(t, "manual@x.test,more@y.test,old@x.test,other@y.test,user0@x.test", b.sorted("SELECT address FROM suppressions ORDER BY 1"), "another domain's are believed")
	b.Exec("UPDATE suppression_circuits SET until = now()")
	bounce(1)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM suppressions WHERE address = 'user0@x.test' AND source = 'delivery'"))
}

func (b *bench) sorted(query string) string {
	b.T.Helper()
	var out []string
	require.NoError(b.T, b.Raw.NewRaw(query).Scan(b.Ctx, &out))
	return strings.Join(out, ",")
}

// TestMailOfAnOlderVersionIsCheckedToo: its recipients have no keys.
func TestMailOfAnOlderVersionIsCheckedToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test", "eve@z.test"))
	b.Exec("UPDATE recipients SET address_key = ''")
	b.list("bob@x.test", func(e *suppression.Entry) { e.Address = "" })
	_, o := b.Open(e.ID, 1)
	require.Len(t, o.Recipients, 1)
	require.Equal(t, email.RecipientSuppressed, b.Get(e.ID).Recipients[0].Status)
}
