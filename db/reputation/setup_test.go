package reputation_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/reputation"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// bench is a store on a database of its own; see dbsetup.
type bench struct{ *dbsetup.Bench }

func setup(t *testing.T) *bench {
	t.Helper()
	return &bench{dbsetup.New(t)}
}

// pausing is a store whose critical band pauses broadcast mail.
func pausing(t *testing.T) *bench {
	t.Helper()
	return &bench{dbsetup.With(t, dbtest.URL(t), func(o *db.Options) { o.ReputationPause = true })}
}

// rollUp counts all events that there are, and returns the domains that have become worse. Transactions
// of other tests' databases on the same server keep a roll-up waiting, too.
func (b *bench) rollUp() (changes []reputation.Change) {
	b.T.Helper()
	require.Eventually(b.T, func() bool {
		changes = append(changes, b.rollUpOnce()...)
		return b.Count(`SELECT count(*) FROM email_events AS ev JOIN reputation_cursors AS c ON c.customer_id = ev.customer_id WHERE (ev.txid, ev.id) > (c.txid, c.event_id)`) == 0
	}, patience, time.Millisecond)
	return changes
}

func (b *bench) rollUpOnce() (changes []reputation.Change) {
	b.T.Helper()
	require.NoError(b.T, b.Reputation.RollUp(b.Ctx, func(c reputation.Change) { changes = append(changes, c) }))
	return changes
}

// report is that of acme.test over 30 days.
func (b *bench) report() reputation.Report {
	b.T.Helper()
	r, err := b.Reputation.Report(b.Ctx, b.Customer, "acme.test", 30, "")
	require.NoError(b.T, err)
	return r
}

// sent has an e-mail to each address end in the same way.
func (b *bench) sent(stream email.Stream, outcome func(delivery.EnvelopeRecipient) delivery.Outcome, to ...string) (ids []string) {
	b.T.Helper()
	for _, a := range to {
		m := dbsetup.Message(a)
		m.Stream = stream
		e := b.Accept(m)
		b.Attempt(e.ID, 1, outcome)
		ids = append(ids, e.ID)
	}
	return ids
}

// bounced is a recipient's outcome, for Attempt.
func bounced(reason email.Detail) func(delivery.EnvelopeRecipient) delivery.Outcome {
	return func(delivery.EnvelopeRecipient) delivery.Outcome {
		return delivery.Outcome{Status: email.RecipientBounced, Reason: reason, Reply: email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}}
	}
}

// event adds an event of an e-mail to the feed, as a transaction that changes the e-mail does.
func (b *bench) event(emailID, kind, reason string) {
	b.T.Helper()
	b.Exec(`INSERT INTO email_events (id, email_id, customer_id, sequence, type, recipient_id, reason, at)
		SELECT gen_random_uuid(), e.id, e.customer_id, (SELECT max(sequence) + 1 FROM email_events WHERE email_id = e.id), ?, (SELECT id FROM recipients WHERE email_id = e.id LIMIT 1), ?, now()
		FROM emails AS e WHERE e.id = ?`, kind, reason, emailID)
}

// mailed sets the counts of a day of acme.test, so many days ago.
func (b *bench) mailed(daysAgo int, c reputation.Counts) {
	b.T.Helper()
	b.Exec(`INSERT INTO reputation_days (customer_id, sender_domain, day, stream, provider, sent, delivered, hard, complained)
		VALUES (?, 'acme.test', (now() AT TIME ZONE 'UTC')::date - ?, 'broadcast', 'google', ?, ?, ?, ?)
		ON CONFLICT (customer_id, sender_domain, day, stream, provider) DO UPDATE SET sent = excluded.sent, delivered = excluded.delivered, hard = excluded.hard, complained = excluded.complained`,
		b.Customer, daysAgo, c.Sent, c.Delivered, c.Hard, c.Complained)
}

// touch sends one mail, so that the next roll-up judges the domain.
func (b *bench) touch() {
	b.T.Helper()
	b.sent(email.StreamTransactional, dbsetup.Delivered, "touch@x.test")
}

const patience = time.Minute
