package activities

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/senderdomain"
)

// fakeDomains has one domain, and is a DNS that has one TXT record.
type fakeDomains struct {
	begun senderdomain.Begun
	err   error
	now   bool
	saved []senderdomain.Record

	// next are the domains whose turn it is after a look, turns counts the questions for them.
	next     []string
	turns    int
	turnsErr error

	published string
	// onLookup is called before each answer.
	onLookup func()
}

func (f *fakeDomains) BeginCheck(_ context.Context, _ string, now bool) (senderdomain.Begun, error) {
	f.now = now
	return f.begun, f.err
}

func (f *fakeDomains) SaveCheck(_ context.Context, begun senderdomain.Begun, found senderdomain.Findings) (senderdomain.Domain, error) {
	f.saved = found.Records
	d := begun.Domain
	d.Records, d.CheckedAt, d.NextCheckAt = found.Records, begun.CheckedAt.Add(time.Hour), begun.CheckedAt.Add(2*time.Hour)
	return d, nil
}

func (f *fakeDomains) GiveTurns(context.Context, int) ([]string, error) {
	f.turns++
	return f.next, f.turnsErr
}

func (f *fakeDomains) Lookup(_ context.Context, name string, typ dnslookup.Type) dnslookup.Answer {
	if f.onLookup != nil {
		f.onLookup()
	}
	a := dnslookup.Answer{Name: name, Type: typ, Outcome: dnslookup.NoSuchName}
	if name == f.published {
		a.Outcome, a.Records = dnslookup.Found, []dnslookup.Record{{Value: "v=DKIM1; k=rsa; p=AAAA"}}
	}
	return a
}

func (f *fakeDomains) LookupAll(ctx context.Context, name string, typ dnslookup.Type) []dnslookup.Answer {
	return []dnslookup.Answer{f.Lookup(ctx, name, typ)}
}

func pendingDomain() senderdomain.Begun {
	keys := []senderdomain.DKIMKey{{Selector: "pr1r", Generation: 1, Algorithm: senderdomain.RSA, State: senderdomain.PendingKey, Value: "v=DKIM1; k=rsa; p=AAAA"}}
	return senderdomain.Begun{Due: true, Domain: senderdomain.Domain{
		ID: "D", Name: "acme.test", Status: senderdomain.DomainPending, Keys: keys, CheckedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Records: senderdomain.DomainRecords(senderdomain.Needs{Domain: "acme.test"}, keys),
	}}
}

func (b *bench) checkDomain(t *testing.T, f *fakeDomains) (delivery.CheckDomainResult, error) {
	t.Helper()
	b.deps.Domains, b.deps.Lookup = f, f
	return b.CheckDomain(t.Context(), delivery.CheckDomainInput{DomainID: "D", VerifyNow: true})
}

func TestCheckDomain(t *testing.T) {
	t.Parallel()
	f := &fakeDomains{begun: pendingDomain(), published: "pr1r._domainkey.acme.test"}
	res, err := setup(t).checkDomain(t, f)
	require.NoError(t, err)
	require.True(t, f.now)
	require.Equal(t, senderdomain.Verified, f.saved[0].Status)
	require.True(t, res.Checked)
	require.Empty(t, res.Problem)
	require.Equal(t, "acme.test", res.Domain)
	require.NotZero(t, res.NextAt)

	f = &fakeDomains{begun: pendingDomain()}
	res, err = setup(t).checkDomain(t, f)
	require.NoError(t, err)
	require.Equal(t, "TXT pr1r._domainkey.acme.test: missing", res.Problem)
}

func TestCheckDomainThatIsNotDue(t *testing.T) {
	t.Parallel()
	f := &fakeDomains{begun: pendingDomain()}
	f.begun.Due, f.begun.NextCheckAt = false, f.begun.CheckedAt.Add(time.Minute)
	res, err := setup(t).checkDomain(t, f)
	require.NoError(t, err)
	require.False(t, res.Checked)
	require.Nil(t, f.saved, "the DNS is not asked")
	require.Equal(t, f.begun.NextCheckAt, res.NextAt)
}

func TestCheckDomainThatIsDeleted(t *testing.T) {
	t.Parallel()
	res, err := setup(t).checkDomain(t, &fakeDomains{err: email.Fail(email.CodeNotFound, "there is no such domain")})
	require.NoError(t, err)
	require.True(t, res.Deleted)
	_, err = setup(t).checkDomain(t, &fakeDomains{err: errors.New("broken")})
	require.ErrorContains(t, err, "checking a domain failed")
}

// A worker that stops saves nothing: records that it has not found may be there.
func TestCheckDomainThatIsCanceledSavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := &fakeDomains{begun: pendingDomain(), onLookup: cancel}
	b.deps.Domains, b.deps.Lookup = f, f
	_, err := b.CheckDomain(ctx, delivery.CheckDomainInput{DomainID: "D"})
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, f.saved)
}

// A domain that waits for its turn does not ask the DNS, and holds none of the worker's slots meanwhile.
func TestADomainThatWaitsAsksNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := &fakeDomains{begun: pendingDomain()}
	f.begun.Due, f.begun.Waits, f.begun.NextCheckAt = false, true, f.begun.CheckedAt.Add(time.Hour)
	res, err := b.checkDomain(t, f)
	require.NoError(t, err)
	require.False(t, res.Checked)
	require.True(t, res.Waits)
	require.Nil(t, f.saved)
	require.Equal(t, f.begun.NextCheckAt, res.NextAt)
	require.Zero(t, f.turns, "it has no place to give")
}

// A look that ends wakes the domains whose turn it is. A sweep finds those that it cannot wake.
func TestALookThatEndsGivesItsPlaceToTheNext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := &fakeDomains{begun: pendingDomain(), next: []string{"E", "F"}}
	res, err := b.checkDomain(t, f)
	require.NoError(t, err)
	require.True(t, res.Checked)
	require.Equal(t, []string{"E", "F"}, b.woken)
	require.Equal(t, 1, f.turns)

	f = &fakeDomains{begun: pendingDomain(), turnsErr: errors.New("broken")}
	res, err = b.checkDomain(t, f)
	require.NoError(t, err)
	require.True(t, res.Checked)
}
