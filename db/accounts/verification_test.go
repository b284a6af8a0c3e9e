package accounts_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/accounts"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/senderdomain"
)

// create gives a customer a domain with keys.
func (b *bench) create(customerID, name string) senderdomain.Domain {
	b.T.Helper()
	d, _, err := b.Accounts.CreateDomain(b.Ctx, customerID, name)
	require.NoError(b.T, err)
	return d
}

// check lets a check find all records but those that lack says.
func (b *bench) check(id string, lack ...string) senderdomain.Domain {
	b.T.Helper()
	// The shortest pause between two checks is over.
	b.Exec("UPDATE domains SET next_check_at = now(), checked_at = checked_at - interval '10 seconds' WHERE id = ?", id)
	begun, err := b.Accounts.BeginCheck(b.Ctx, id, false)
	require.NoError(b.T, err)
	require.True(b.T, begun.Due)
	for i, r := range begun.Records {
		begun.Records[i].Status = senderdomain.Verified
		for _, name := range lack {
			if name == r.Name {
				begun.Records[i].Status, begun.Records[i].Problem, begun.Records[i].Remedy = senderdomain.Pending, senderdomain.Missing, "Add it."
			}
		}
	}
	d, err := b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{Records: begun.Records})
	require.NoError(b.T, err)
	return d
}

// pass moves a domain's times into the past.
func (b *bench) pass(id string, d time.Duration) {
	b.Exec(`UPDATE domains SET status_since = status_since - ?0 * interval '1 second', started_at = started_at - ?0 * interval '1 second',
		first_miss_at = first_miss_at - ?0 * interval '1 second', checked_at = checked_at - ?0 * interval '1 second' WHERE id = ?1`, d.Seconds(), id)
	b.Exec("UPDATE dkim_keys SET since = since - ?0 * interval '1 second', seen_at = seen_at - ?0 * interval '1 second' WHERE domain_id = ?1", d.Seconds(), id)
}

func (b *bench) otherCustomer() string {
	b.T.Helper()
	c, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(b.T, err)
	return c.ID
}

func strict(t *testing.T) *bench {
	t.Helper()
	return &bench{dbsetup.With(t, dbtest.URL(t), func(o *db.Options) { o.RequireVerifiedDomains = true })}
}

// send says whether a customer may send from acme.test.
func (b *bench) send(customerID string) error {
	_, _, err := b.Mail.Accept(b.Ctx, customerID, dbsetup.Message("ann@y.test"), "0195d000-0000-7000-8000-000000000000", email.Idempotency{})
	return err
}

// signingKeys are the active keys of the customer's domain acme.test, RSA first.
func (b *bench) signingKeys() (out []dkim.Key, err error) {
	var ids []string
	if err := b.Raw.NewRaw(`SELECT k.id FROM dkim_keys AS k JOIN domains AS d ON d.id = k.domain_id
		WHERE d.customer_id = ? AND d.name = 'acme.test' AND k.state = 'active' ORDER BY k.algorithm DESC`, b.Customer).Scan(b.Ctx, &ids); err != nil || len(ids) == 0 {
		return nil, err
	}
	keys, err := b.Accounts.PrivateKeys(b.Ctx, ids)
	for _, id := range ids {
		out = append(out, keys[id])
	}
	return out, err
}

func TestADomainIsVerifiedWarnedAboutAndFails(t *testing.T) {
	t.Parallel()
	b := strict(t)
	b.Exec("UPDATE webhook_endpoints SET url = 'https://hook.test', disabled_at = NULL, disabled_reason = ''")
	d := b.create(b.Customer, "acme.test")
	require.Equal(t, senderdomain.DomainPending, d.Status)
	require.Len(t, d.Keys, 2)
	require.Equal(t, []string{"pr1r._domainkey", "pr1e._domainkey", "_dmarc"}, []string{d.Records[0].Name, d.Records[1].Name, d.Records[2].Name})
	require.ErrorContains(t, b.send(b.Customer), "publish the records of GET /v1.0/domains/"+d.ID)
	keys, err := b.signingKeys()
	require.NoError(t, err)
	require.Empty(t, keys, "nothing is published")

	d = b.check(d.ID, "pr1r._domainkey")
	require.Equal(t, senderdomain.DomainPending, d.Status)
	require.Equal(t, senderdomain.Missing, d.Records[0].Problem)
	d = b.check(d.ID)
	require.Equal(t, senderdomain.DomainVerified, d.Status)
	require.Equal(t, senderdomain.VerifiedByDNS, d.VerifiedBy)
	require.WithinDuration(t, d.CheckedAt.Add(24*time.Hour), d.NextCheckAt, 2*time.Hour)
	require.NoError(t, b.send(b.Customer))
	keys, err = b.signingKeys()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for i, k := range keys {
		require.Equal(t, []dkim.Algorithm{dkim.RSA, dkim.Ed25519}[i], k.Private.Algorithm())
		require.Equal(t, d.Records[i].FQDN, k.RecordName())
		require.Equal(t, d.Records[i].Value, k.Private.Record(), "it is the key that is published")
	}

	d = b.check(d.ID, "pr1r._domainkey")
	require.Equal(t, senderdomain.DomainWarning, d.Status)
	require.NoError(t, b.send(b.Customer), "a domain with a warning sends")
	d = b.check(d.ID, "pr1r._domainkey")
	b.pass(d.ID, 48*time.Hour)
	d = b.check(d.ID, "pr1r._domainkey")
	require.Equal(t, senderdomain.DomainFailed, d.Status)
	require.Zero(t, d.NextCheckAt)
	require.Zero(t, d.VerifiedAt)
	err = b.send(b.Customer)
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(err))
	require.ErrorContains(t, err, "the TXT record at pr1r._domainkey.acme.test is missing or wrong (missing)")

	d, err = b.Accounts.CheckDomainNow(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Equal(t, senderdomain.DomainPending, d.Status, "verify begins anew")
	require.Equal(t, senderdomain.DomainVerified, b.check(d.ID).Status)
	require.NoError(t, b.send(b.Customer))

	var types []string
	var bodies []string
	require.NoError(t, b.Raw.NewRaw("SELECT type, body FROM webhook_deliveries WHERE type LIKE 'domain.%' ORDER BY created_at").Scan(b.Ctx, &types, &bodies))
	require.Equal(t, []string{"domain.verified", "domain.warning", "domain.failed", "domain.verified"}, types)
	var body struct {
		Type string
		Data struct {
			Domain  string
			Status  string
			Records []map[string]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(bodies[2]), &body))
	require.Equal(t, "domain.failed", body.Type)
	require.Equal(t, "acme.test", body.Data.Domain)
	require.Equal(t, []map[string]any{{"record": "DKIM", "required": true, "type": "TXT", "fqdn": "pr1r._domainkey.acme.test", "problem": "missing", "remedy": "Add it."}}, body.Data.Records)
}

// The DNS neither ends an operator's verification nor brings back one that an operator has withdrawn.
func TestTheOperatorOverridesTheDNS(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	_, err := b.Accounts.VerifyDomain(b.Ctx, b.Customer, "acme.test", true)
	require.NoError(t, err)
	b.check(d.ID, "pr1r._domainkey")
	b.pass(d.ID, 15*24*time.Hour)
	d = b.check(d.ID, "pr1r._domainkey")
	require.Equal(t, senderdomain.DomainVerified, d.Status)
	require.Equal(t, senderdomain.VerifiedByOperator, d.VerifiedBy)
	require.NoError(t, b.send(b.Customer))

	_, err = b.Accounts.VerifyDomain(b.Ctx, b.Customer, "acme.test", false)
	require.NoError(t, err)
	d, err = b.Accounts.CheckDomainNow(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	d = b.check(d.ID)
	require.Equal(t, senderdomain.DomainPending, d.Status, "right records do not bring it back")
	require.Equal(t, senderdomain.BlockedByOperator, d.BlockedBy)
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(b.send(b.Customer)))
	_, err = b.Accounts.VerifyDomain(b.Ctx, b.Customer, "acme.test", true)
	require.NoError(t, err)
	require.NoError(t, b.send(b.Customer))
}

// Two customers claim a domain. Each has a selector of its own. The domain goes to the one
// who publishes it, until that verification fails.
func TestADomainGoesToWhoPublishesTheirSelector(t *testing.T) {
	t.Parallel()
	b := strict(t)
	other := b.otherCustomer()
	mine, theirs := b.create(b.Customer, "acme.test"), b.create(other, "acme.test")
	require.Equal(t, []string{"pr1r", "pr1e", "pr2r", "pr2e"}, []string{mine.Keys[0].Selector, mine.Keys[1].Selector, theirs.Keys[0].Selector, theirs.Keys[1].Selector})
	require.Equal(t, senderdomain.DomainVerified, b.check(mine.ID).Status)
	theirs = b.check(theirs.ID)
	require.Equal(t, senderdomain.DomainPending, theirs.Status)
	require.Equal(t, senderdomain.BlockedByCustomer, theirs.BlockedBy)
	require.ErrorContains(t, b.send(other), "the sender's domain acme.test is verified for another customer")

	for range 2 {
		b.check(mine.ID, "pr1r._domainkey")
	}
	require.Equal(t, senderdomain.DomainPending, b.check(theirs.ID).Status, "a warning keeps the domain")
	b.pass(mine.ID, 48*time.Hour)
	require.Equal(t, senderdomain.DomainFailed, b.check(mine.ID, "pr1r._domainkey").Status)
	begun, err := b.Accounts.BeginCheck(b.Ctx, theirs.ID, false)
	require.NoError(t, err)
	require.LessOrEqual(t, time.Until(begun.NextCheckAt), 10*time.Second, "their next check is due")
	require.Equal(t, senderdomain.DomainVerified, b.check(theirs.ID).Status)
	require.NoError(t, b.send(other))
	require.Equal(t, email.CodeDomainUnverified, email.FailureCode(b.send(b.Customer)))

	_, err = b.Accounts.DeleteOwnDomain(b.Ctx, other, theirs.ID)
	require.NoError(t, err)
	mine, err = b.Accounts.CheckDomainNow(b.Ctx, b.Customer, mine.ID)
	require.NoError(t, err)
	require.Equal(t, senderdomain.DomainVerified, b.check(mine.ID).Status, "a deleted domain is free")
	require.Equal(t, "pr3r", b.create(other, "acme.test").Keys[0].Selector, "no selector is used twice")
}

func TestRotation(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	b.check(d.ID)
	d, err := b.Accounts.RotateDKIM(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Len(t, d.Keys, 4)
	again, err := b.Accounts.RotateDKIM(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Len(t, again.Keys, 4, "a rotation is under way")

	d = b.check(d.ID, "pr2r._domainkey", "pr2e._domainkey")
	require.Equal(t, senderdomain.DomainVerified, d.Status, "the new keys' records are not required")
	require.Equal(t, 10*time.Second, d.NextCheckAt.Sub(d.CheckedAt), "the customer waits for them")
	b.check(d.ID)
	b.pass(d.ID, 10*time.Minute)
	d = b.check(d.ID)
	state := func() map[string]senderdomain.KeyState {
		out := map[string]senderdomain.KeyState{}
		for _, k := range d.Keys {
			out[k.Selector] = k.State
		}
		return out
	}
	require.Equal(t, map[string]senderdomain.KeyState{"pr1r": "retiring", "pr1e": "retiring", "pr2r": "active", "pr2e": "active"}, state())
	keys, err := b.signingKeys()
	require.NoError(t, err)
	require.Equal(t, []string{"pr2r", "pr2e"}, []string{keys[0].Selector, keys[1].Selector})
	b.pass(d.ID, 14*24*time.Hour)
	d = b.check(d.ID)
	require.Equal(t, map[string]senderdomain.KeyState{"pr1r": "revoked", "pr1e": "revoked", "pr2r": "active", "pr2e": "active"}, state())
	require.True(t, d.Keys[2].SafeToRemove())
	var left int
	require.NoError(t, b.Raw.NewRaw("SELECT count(*) FROM dkim_keys WHERE private_key_sealed IS NOT NULL").Scan(b.Ctx, &left))
	require.Equal(t, 2, left, "a revoked key is destroyed")
}

// TestAKeyIsKeptForMailOnItsWay: it is revoked once the last e-mail that is signed with it has ended.
func TestAKeyIsKeptForMailOnItsWay(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	b.check(d.ID)
	e := b.Accept(dbsetup.Message("a@x.test"))
	_, o := b.Open(e.ID, 1)
	require.EqualValues(t, "opened", o.Verdict)
	require.Len(t, o.DKIMKeys, 2)
	later := b.Accept(dbsetup.Message("later@x.test"))
	d, err := b.Accounts.RotateDKIM(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	b.check(d.ID)
	b.pass(d.ID, 10*time.Minute)
	b.check(d.ID)
	b.Open(later.ID, 1)
	b.pass(d.ID, 14*24*time.Hour)
	old := func() []senderdomain.KeyState {
		d := b.check(d.ID)
		require.Equal(t, "pr1r", d.Keys[2].Selector)
		return []senderdomain.KeyState{d.Keys[2].State, d.Keys[3].State}
	}
	require.Equal(t, []senderdomain.KeyState{senderdomain.RetiringKey, senderdomain.RetiringKey}, old())
	keys, err := b.Accounts.PrivateKeys(b.Ctx, o.DKIMKeys)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	b.Exec("UPDATE emails SET status = 'delivered', next_action_at = NULL, attempt_open = false WHERE id = ?", e.ID)
	b.pass(d.ID, time.Minute)
	require.Equal(t, []senderdomain.KeyState{senderdomain.RevokedKey, senderdomain.RevokedKey}, old(), "mail with newer keys does not keep them")
}

// A customer cannot make keys without end.
func TestKeyLimit(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	b.check(d.ID)
	b.Exec(`INSERT INTO dkim_keys (id, domain_id, domain, selector, generation, algorithm, record, private_key_sealed, state, since)
		SELECT gen_random_uuid(), ?, 'acme.test', 'old' || n, -n, 'rsa', '', '', CASE WHEN n > 2 THEN 'retiring' ELSE 'active' END, now() FROM generate_series(1, ?) AS n`, d.ID, accounts.MaxKeys-3)
	_, err := b.Accounts.RotateDKIM(b.Ctx, b.Customer, d.ID)
	require.Equal(t, email.CodeConflict, email.FailureCode(err))
	require.ErrorContains(t, err, "the domain has 9 DKIM keys that are not revoked, the limit is 10")
	b.Exec("DELETE FROM dkim_keys WHERE selector = 'old1'")
	d, err = b.Accounts.RotateDKIM(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Len(t, d.Keys, accounts.MaxKeys)
	b.Exec("UPDATE dkim_keys SET state = 'revoked', private_key_sealed = NULL, since = now() - interval '91 days' WHERE generation < 0")
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	d, err = b.Accounts.DomainByID(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Len(t, d.Keys, 4, "revoked keys are forgotten after 90 days")
	b.Exec("UPDATE dkim_selectors SET used_at = now() - interval '91 days'")
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM dkim_selectors"), "the number of a domain's selectors stays")
	_, err = b.Accounts.DeleteOwnDomain(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.NoError(t, b.Mail.Housekeep(b.Ctx))
	require.Zero(t, b.Count("SELECT count(*) FROM dkim_selectors"))
}

// A check that ran beside a change of the keys is not saved: it has not seen them.
func TestACheckOfOlderKeysIsNotSaved(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	d = b.check(d.ID)
	b.Exec("UPDATE domains SET next_check_at = now(), checked_at = now() - interval '1 hour'")
	begun, err := b.Accounts.BeginCheck(b.Ctx, d.ID, false)
	require.NoError(t, err)
	require.True(t, begun.Due)
	_, err = b.Accounts.RotateDKIM(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	d, err = b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{Records: begun.Records})
	require.NoError(t, err)
	require.Equal(t, begun.CheckedAt, d.CheckedAt)
	require.Len(t, d.Keys, 4)
}

// A customer that asks again and again does not keep a check from ending. An activity that runs twice
// saves once.
func TestACheckIsSavedOnceWhileOthersAreAskedFor(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	begun, err := b.Accounts.BeginCheck(b.Ctx, d.ID, false)
	require.NoError(t, err)
	require.True(t, begun.Due)
	_, err = b.Accounts.CheckDomainNow(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	_, err = b.Accounts.BeginCheck(b.Ctx, d.ID, true)
	require.NoError(t, err)
	for i := range begun.Records {
		begun.Records[i].Status = senderdomain.Verified
	}
	d, err = b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{Records: begun.Records})
	require.NoError(t, err)
	require.Equal(t, senderdomain.DomainVerified, d.Status)
	again, err := b.Accounts.SaveCheck(b.Ctx, begun, senderdomain.Findings{Records: begun.Records})
	require.NoError(t, err)
	require.Equal(t, d.CheckedAt, again.CheckedAt)
}

// The DNS is asked at most every 10 seconds about a domain, and 30 times a minute for a customer that asks.
func TestChecksThatAreAskedForAreBounded(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	b.check(d.ID)
	_, err := b.Accounts.CheckDomainNow(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	begun, err := b.Accounts.BeginCheck(b.Ctx, d.ID, false)
	require.NoError(t, err)
	require.False(t, begun.Due)
	require.Equal(t, 10*time.Second, begun.NextCheckAt.Sub(begun.CheckedAt))

	b.Exec("INSERT INTO domain_requests VALUES (?, date_trunc('minute', now()), ?)", b.Customer, accounts.MaxDomainRequests)
	b.Exec("INSERT INTO domain_requests VALUES (?, date_trunc('minute', now()) - interval '1 minute', ?)", b.otherCustomer(), accounts.MaxDomainRequests)
	for range 2 { // the minute may end between the two statements
		if err = b.Accounts.CountDomainRequest(b.Ctx, b.Customer); err != nil {
			break
		}
		b.Exec("UPDATE domain_requests SET minute = date_trunc('minute', now()), requests = ?", accounts.MaxDomainRequests)
	}
	require.Equal(t, email.CodeTooMany, email.FailureCode(err))
}

func TestDomainLimit(t *testing.T) {
	t.Parallel()
	b := strict(t)
	b.Exec("INSERT INTO domains (id, customer_id, name) SELECT gen_random_uuid(), ?, 'd' || n || '.test' FROM generate_series(1, ?) AS n", b.Customer, accounts.MaxDomains)
	_, _, err := b.Accounts.CreateDomain(b.Ctx, b.Customer, "acme.test")
	require.Equal(t, email.CodeConflict, email.FailureCode(err))
	require.ErrorContains(t, err, "there are 1000 domains, the limit is 1000")
	d, created, err := b.Accounts.CreateDomain(b.Ctx, b.Customer, "d1.test")
	require.NoError(t, err)
	require.False(t, created, "an operator has added it before")
	require.Len(t, d.Keys, 2)
}

// A check that lost its run is found, once in two minutes.
func TestOverdueDomains(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	overdue := func() []string {
		ids, err := b.Accounts.ClaimOverdueDomains(b.Ctx, 10)
		require.NoError(t, err)
		return ids
	}
	require.Empty(t, overdue(), "it is due now")
	b.Exec("UPDATE domains SET next_check_at = now() - interval '6 seconds'")
	require.Equal(t, []string{d.ID}, overdue())
	require.Empty(t, overdue(), "its run was woken")
	b.Exec("UPDATE domains SET claimed_until = now() - interval '1 second'")
	begun, err := b.Accounts.BeginCheck(b.Ctx, d.ID, false)
	require.NoError(t, err)
	require.True(t, begun.Due)
	require.Empty(t, overdue(), "a run is at work")
	b.Exec("UPDATE domains SET claimed_until = NULL, next_check_at = NULL")
	require.Empty(t, overdue(), "there is no next check")
}

// A version before the checks writes verified_at alone.
func TestOlderVersionsSetAFlag(t *testing.T) {
	t.Parallel()
	b := strict(t)
	d := b.create(b.Customer, "acme.test")
	b.Exec("UPDATE domains SET verified_at = now()")
	d, err := b.Accounts.DomainByID(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Equal(t, senderdomain.VerifiedByOperator, d.VerifiedBy)
	require.Equal(t, senderdomain.DomainVerified, d.Status)
	b.Exec("UPDATE domains SET verified_at = NULL, status = 'verified', verified_by = 'dns'")
	d, err = b.Accounts.DomainByID(b.Ctx, b.Customer, d.ID)
	require.NoError(t, err)
	require.Empty(t, d.VerifiedBy)
	require.Equal(t, senderdomain.DomainPending, d.Status)
	d = b.check(d.ID, "pr1r._domainkey")
	require.Equal(t, senderdomain.DomainPending, d.Status, "a miss is no warning then")
	require.Zero(t, d.VerifiedAt)
	require.Equal(t, senderdomain.DomainVerified, b.check(d.ID).Status)
}
