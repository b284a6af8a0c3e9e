package mail_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
)

// signs gives the sender's domain of dbsetup.Message active keys, and returns their ids, RSA first.
func (b *bench) signs() (ids []string) {
	b.T.Helper()
	_, _, err := b.Accounts.CreateDomain(b.Ctx, b.Customer, "acme.test")
	require.NoError(b.T, err)
	b.Exec("UPDATE dkim_keys SET state = 'active'")
	require.NoError(b.T, b.Raw.NewRaw("SELECT id FROM dkim_keys ORDER BY algorithm DESC").Scan(b.Ctx, &ids))
	require.Len(b.T, ids, 2)
	return ids
}

// TestTheFirstAttemptSettlesWhatAllAttemptsHave.
func TestTheFirstAttemptSettlesWhatAllAttemptsHave(t *testing.T) {
	t.Parallel()
	relayFault := func(delivery.EnvelopeRecipient) delivery.Outcome {
		o := dbsetup.Deferred(delivery.EnvelopeRecipient{})
		o.RelayFault, o.Uncounted = true, true
		return o
	}
	type change func(b *bench)
	for name, tt := range map[string]struct {
		bounceHost string
		// before is done before the first attempt, between after it.
		before, between change
		// sent: the first attempt has sent the message.
		sent bool
		// keys is how many sign the first and the last attempt; host is that of the return paths.
		keys [2]int
		host [2]string
	}{
		"neither keys nor a bounce host": {sent: true},
		"keys, later others":             {before: func(b *bench) { b.signs() }, between: func(b *bench) { b.Exec("UPDATE dkim_keys SET state = 'retiring'") }, sent: true, keys: [2]int{2, 2}},
		"keys come when it was sent":     {between: func(b *bench) { b.signs() }, sent: true},
		"keys come before it is sent":    {between: func(b *bench) { b.signs() }, keys: [2]int{0, 2}},
		"keys of another customer": {before: func(b *bench) {
			b.signs()
			b.Exec("UPDATE domains SET customer_id = (SELECT id FROM customers WHERE id <> customer_id LIMIT 1)")
		}, sent: true},
		"pending keys": {before: func(b *bench) {
			b.signs()
			b.Exec("UPDATE dkim_keys SET state = 'pending' WHERE algorithm = 'ed25519'")
		}, sent: true, keys: [2]int{1, 1}},
		"a bounce host": {bounceHost: "bounce.mail.test", sent: true, host: [2]string{"bounce.mail.test", "bounce.mail.test"}},
		"the domain's own, later gone": {bounceHost: "bounce.mail.test", before: func(b *bench) {
			b.signs()
			b.Exec("UPDATE domains SET bounce_host = 'bounce.acme.test', bounce_target = 'bounce.mail.test'")
		},
			between: func(b *bench) { b.Exec("UPDATE domains SET bounce_host = ''") }, sent: true, keys: [2]int{2, 2}, host: [2]string{"bounce.acme.test", "bounce.acme.test"}},
		"the domain's own, gone before it is sent": {bounceHost: "bounce.mail.test", before: func(b *bench) {
			b.signs()
			b.Exec("UPDATE domains SET bounce_host = 'bounce.acme.test', bounce_target = 'bounce.mail.test'")
		},
			between: func(b *bench) { b.Exec("UPDATE domains SET bounce_host = ''") }, keys: [2]int{2, 2}, host: [2]string{"bounce.acme.test", "bounce.mail.test"}},
		"the domain's own leads to a former host": {bounceHost: "bounce.new.test", before: func(b *bench) {
			b.signs()
			b.Exec("UPDATE domains SET bounce_host = 'bounce.acme.test', bounce_target = 'bounce.mail.test'")
		}, sent: true, keys: [2]int{2, 2}, host: [2]string{"bounce.new.test", "bounce.new.test"}},
		"the domain's own, but the installation has none": {before: func(b *bench) {
			b.signs()
			b.Exec("UPDATE domains SET bounce_host = 'bounce.acme.test', bounce_target = 'bounce.mail.test'")
		}, sent: true, keys: [2]int{2, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.BounceHost = tt.bounceHost })
			_, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
			require.NoError(t, err)
			do := func(c change) {
				if c != nil {
					c(b)
				}
			}
			e := b.Accept(dbsetup.Message("a@x.test"))
			require.Empty(t, b.Get(e.ID).ReturnPath, "nothing is settled")
			attempt := func(n int, sent bool, outcome func(delivery.EnvelopeRecipient) delivery.Outcome) delivery.Opening {
				b.DueNow(e.ID)
				owner := uuid.NewString()
				o, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: e.ID, Attempt: n, Owner: owner, Relay: dbsetup.Relay})
				require.NoError(t, err)
				require.Equal(t, delivery.VerdictOpened, o.Verdict)
				require.Equal(t, e.ID, o.Settled.EmailID)
				out := outcome(o.Recipients[0])
				out.RecipientID = o.Recipients[0].ID
				if sent {
					require.NoError(t, b.Mark(e.ID, n, owner, out))
				}
				_, err = b.Mail.Conclude(b.Ctx, delivery.Ending{EmailID: e.ID, Attempt: n, Owner: owner, Relay: dbsetup.Relay, Outcomes: []delivery.Outcome{out}})
				require.NoError(t, err)
				_, m, err := b.Mail.MailOf(b.Ctx, delivery.Route{For: e.ID})
				require.NoError(t, err)
				require.Equal(t, o.From, m.From)
				require.Equal(t, o.From, b.Get(e.ID).ReturnPath)
				return o
			}
			requireSettled := func(o delivery.Opening, at int) {
				t.Helper()
				require.Regexp(t, "^[a-z2-7]{16}$", o.Token)
				require.Len(t, o.DKIMKeys, tt.keys[at])
				if tt.host[at] == "" {
					require.Equal(t, "shop@acme.test", o.From)
				} else {
					require.Equal(t, "b-"+o.Token+"@"+tt.host[at], o.From)
				}
			}
			do(tt.before)
			_, before, err := b.Mail.MailOf(b.Ctx, delivery.Route{For: e.ID})
			require.NoError(t, err)
			first := attempt(1, tt.sent, map[bool]func(delivery.EnvelopeRecipient) delivery.Outcome{true: dbsetup.Deferred, false: relayFault}[tt.sent])
			requireSettled(first, 0)
			require.Equal(t, delivery.LikeReturnPath(first.From), delivery.LikeReturnPath(before.From), "a probe says MAIL as the attempt will")
			do(tt.between)
			last := attempt(2, true, dbsetup.Delivered)
			requireSettled(last, 1)
			require.Equal(t, first.Token, last.Token)
			if tt.sent {
				require.Equal(t, first.Settled, last.Settled, "a second copy has the same bytes")
			}
		})
	}
}

// TestABatchsAttemptsAreSettledOneByOne: each e-mail has a token of its own, also one whose attempt was
// abandoned and is taken over.
func TestABatchsAttemptsAreSettledOneByOne(t *testing.T) {
	t.Parallel()
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.BounceHost = "bounce.mail.test" })
	keys := b.signs()
	batch, _ := b.acceptBatch(batchOf(3, nil))
	_, opened, _ := b.openBatch(batch.ID, 10)
	require.Len(t, opened, 3)
	b.leasesEnd()
	b.Exec("UPDATE emails SET next_action_at = now()")
	b.Exec("UPDATE dkim_keys SET state = 'retiring'")
	_, again, _ := b.openBatch(batch.ID, 10)
	require.Len(t, again, 3)
	tokens := map[string]string{}
	for _, o := range opened {
		require.Equal(t, keys, o.DKIMKeys)
		require.True(t, strings.HasSuffix(o.From, o.Token+"@bounce.mail.test"), o.From)
		tokens[o.Token] = o.EmailID
	}
	require.Len(t, tokens, 3)
	for _, o := range again {
		require.Equal(t, o.EmailID, tokens[o.Token])
		require.Equal(t, keys, o.DKIMKeys)
	}
}
