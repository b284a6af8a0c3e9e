package main

import (
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
)

// TestVirtualTheLinkIsSignedAndTheSameInEveryAttempt: a newsletter is tried again after two hours. Both attempts
// have the same bytes, the DKIM signatures cover the fields that receivers read the link from, and the link works.
func TestVirtualTheLinkIsSignedAndTheSameInEveryAttempt(t *testing.T) {
	t.Parallel()
	const base = "https://mail.acme.test/postrider"
	v := newVirtualWith(t, func(o *db.Options) { o.LinkBase = base })
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
	m := email.Message{
		From: email.Address{Email: "news@acme.test"}, To: []email.Address{{Email: "bob@x.test"}}, Subject: "News", OnAmbiguous: email.AmbiguousRetry,
		Stream: email.StreamBroadcast, Unsubscribe: true, Topic: "news", Text: "Leave: {{unsubscribe_url}}", HTML: `<a href="{{ unsubscribe_url }}">Leave</a>`,
	}
	e, _, err := v.store.Mail.Accept(t.Context(), v.customer, m, uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	v.send(e.ID)

	attempts, _, err := v.store.Mail.Attempts(t.Context(), v.customer, e.ID, 0)
	require.NoError(t, err)
	require.Greater(t, len(attempts), 1)
	for _, a := range attempts {
		require.Equal(t, attempts[0].MessageSHA256, a.MessageSHA256)
	}
	require.Len(t, v.peer.Messages(), 1)
	sent := v.peer.Messages()[0].Data
	require.Len(t, published.verified(t, sent), 2)
	header, body, _ := strings.Cut(sent, "\r\n\r\n")
	_, link, found := strings.Cut(header, "\r\nList-Unsubscribe: <")
	require.True(t, found)
	link, _, _ = strings.Cut(link, ">\r\n")
	require.Regexp(t, "^"+base+"/u/[a-z2-7]{42}$", link)
	require.NotContains(t, sent, "unsubscribe_url")
	require.Equal(t, 2, strings.Count(strings.ReplaceAll(body, "=\r\n", ""), link), "in text and HTML: %s", body)
	for _, field := range []string{"List-Unsubscribe: <" + link + ">", "List-Unsubscribe-Post: List-Unsubscribe=One-Click", "List-Id: <news.list.acme.test>", "Feedback-ID: news:" + v.customer + ":"} {
		require.Contains(t, header, "\r\n"+field)
		name, _, _ := strings.Cut(field, ":")
		lines := strings.SplitAfter(header+"\r\n", "\r\n")
		kept := lines[:0]
		for _, l := range lines {
			if !strings.HasPrefix(l, name+":") {
				kept = append(kept, l)
			}
		}
		verifications, err := msgauth.VerifyWithOptions(strings.NewReader(strings.Join(kept, "")+"\r\n"+body), &msgauth.VerifyOptions{LookupTXT: published.lookup})
		require.NoError(t, err)
		require.Len(t, verifications, 2)
		for _, verified := range verifications {
			require.Error(t, verified.Err, "%s was taken away", name)
		}
	}

	_, token, _ := strings.Cut(link, "/u/")
	_, err = v.store.Mail.Unsubscribe(t.Context(), token)
	require.NoError(t, err)
	next, _, err := v.store.Mail.Accept(t.Context(), v.customer, m, uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	require.Equal(t, email.DetailSuppressed, next.Detail)
}
