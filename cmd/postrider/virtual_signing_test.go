package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/senderdomain"
)

// senderRecords are the records of a domain by name, as the DNS has them once they are published.
type senderRecords map[string]string

// lookup is what a verifier of signatures asks.
func (r senderRecords) lookup(name string) ([]string, error) {
	if txt, ok := r[name]; ok {
		return []string{txt}, nil
	}
	return nil, errors.New("no such record: " + name)
}

// verified has go-msgauth verify a message, and returns the selectors of the good signatures.
func (r senderRecords) verified(t *testing.T, message string) (selectors []string) {
	t.Helper()
	verifications, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: r.lookup})
	require.NoError(t, err)
	for _, v := range verifications {
		require.NoError(t, v.Err)
		require.Equal(t, "acme.test", v.Domain)
	}
	for line := range strings.SplitSeq(message, "\r\n") {
		if _, after, ok := strings.Cut(line, " s="); ok {
			selector, _, _ := strings.Cut(after, ";")
			selectors = append(selectors, selector)
		}
	}
	require.Len(t, selectors, len(verifications))
	return selectors
}

// check has the domain checked, with all its records published.
func (v *virtual) check(domainID string, published senderRecords) {
	v.t.Helper()
	v.setClock()
	begun, err := v.store.Accounts.BeginCheck(v.t.Context(), domainID, true)
	require.NoError(v.t, err)
	require.True(v.t, begun.Due)
	records := begun.Records
	for i, r := range records {
		records[i].Status, published[r.FQDN] = senderdomain.Verified, r.Value
	}
	_, err = v.store.Accounts.SaveCheck(v.t.Context(), begun, senderdomain.Findings{Records: records})
	require.NoError(v.t, err)
}

// TestVirtualRetriesAreSignedAlikeAcrossARotation: between two attempts that both send the message the
// domain's keys are rotated. Both attempts have the same bytes, which verify. Mail whose first attempt comes
// later is signed with the new keys. The old ones are destroyed only when no mail needs them.
func TestVirtualRetriesAreSignedAlikeAcrossARotation(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.listen(nil, "", func(at time.Duration, line string) string {
		if at < 2*time.Hour && line == "." {
			return "451 4.7.1 try again later"
		}
		return ""
	})
	v.connect("", v.peer.Addr())
	d, _, err := v.store.Accounts.CreateDomain(t.Context(), v.customer, "acme.test")
	require.NoError(t, err)
	published := senderRecords{}
	v.check(d.ID, published)
	v.RegisterDelayedCallback(func() {
		v.setClock()
		_, err := v.store.Accounts.RotateDKIM(t.Context(), v.customer, d.ID)
		require.NoError(t, err)
		v.check(d.ID, published)
	}, time.Hour)
	v.RegisterDelayedCallback(func() { v.check(d.ID, published) }, 75*time.Minute)
	early := v.accept(time.Time{}, "early@x.test")
	late := v.accept(virtualStart.Add(90*time.Minute), "late@x.test")
	v.send(early, late)

	attempts, _, err := v.store.Mail.Attempts(t.Context(), v.customer, early, 0)
	require.NoError(t, err)
	require.Greater(t, len(attempts), 2)
	require.Greater(t, attempts[len(attempts)-1].OpenedAt.Sub(attempts[0].OpenedAt).Abs(), 2*time.Hour-time.Minute)
	for _, a := range attempts {
		require.NotEmpty(t, a.MessageSHA256)
		require.Equal(t, attempts[0].MessageSHA256, a.MessageSHA256)
	}
	selectors := map[string][]string{}
	for _, m := range v.peer.Messages() {
		selectors[m.To[0]] = published.verified(t, m.Data)
	}
	require.Equal(t, map[string][]string{"early@x.test": {"pr1r", "pr1e"}, "late@x.test": {"pr2r", "pr2e"}}, selectors)
	require.Equal(t, email.StatusDelivered, v.email(early).Status)
}
