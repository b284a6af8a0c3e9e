package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtptest"
)

// listUnsubscribe finds the path of the link in a message's header.
var listUnsubscribe = regexp.MustCompile(`(?m)^List-Unsubscribe: <https://mail\.example\.com(/u/[a-z2-7]{42})>\r$`)

// TestANewsletterAndTenWhoUnsubscribe: while the second issue is being sent, the server of twenty recipients defers
// it. Ten of them unsubscribe by the link of the first issue. From then on none of the ten gets it, and all others do.
// POSTRIDER_TEST_NEWSLETTER is the number of subscribers, 100 without it.
func TestANewsletterAndTenWhoUnsubscribe(t *testing.T) {
	t.Parallel()
	subscribers, deferred, leaving := 100, 20, 10
	if n := os.Getenv("POSTRIDER_TEST_NEWSLETTER"); n != "" {
		var err error
		subscribers, err = strconv.Atoi(n)
		require.NoError(t, err)
	}
	var holds atomic.Bool
	peer := (&smtptest.Peer{Answer: func(line string) string {
		if holds.Load() && strings.HasPrefix(line, "RCPT TO:<deferred") {
			return "451 4.7.1 greylisted"
		}
		return ""
	}}).Start(t)
	g := newGround(t)
	d := g.deploy(t, relayURL(peer), "POSTRIDER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
	d.serve()
	d.worker()
	var to []string
	for i := range subscribers {
		kind := "reader"
		if i < deferred {
			kind = "deferred"
		}
		to = append(to, fmt.Sprintf("%s%d@y.test", kind, i))
	}
	issue := func(subject string) (batch string) {
		type recipient struct {
			Email string `json:"email"`
		}
		recipients := make([]recipient, len(to))
		for i, a := range to {
			recipients[i].Email = a
		}
		list, err := json.Marshal(recipients)
		require.NoError(t, err)
		return text(t, d.rest(202, "POST", "/v1.0/emails/batch", `{"message":{"from":{"email":"news@acme.test"},"subject":"`+subject+`","stream":"broadcast",
			"content":{"html":"<p>News</p><p><a href=\"{{unsubscribe_url}}\">Unsubscribe</a></p>"}},"recipients":`+string(list)+`}`), "id")
	}
	// got are the links of those who got an issue, by address.
	got := func(subject string) map[string]string {
		out := map[string]string{}
		for _, m := range peer.Messages() {
			if strings.Contains(m.Data, "\r\nSubject: "+subject+"\r\n") {
				link := listUnsubscribe.FindStringSubmatch(m.Data)
				require.Len(t, link, 2, m.Data)
				require.Len(t, m.To, 1)
				require.NotContains(t, out, m.To[0], "a second copy")
				out[m.To[0]] = link[1]
			}
		}
		return out
	}
	db := d.sql()
	issue("Issue 1")
	d.finished(db, patience)
	links := got("Issue 1")
	require.Len(t, links, subscribers)

	holds.Store(true)
	batch := issue("Issue 2")
	d.eventually("the others have it", func() bool { return len(got("Issue 2")) == subscribers-deferred })
	left := to[:leaving]
	for i, a := range left {
		body := []string{"List-Unsubscribe=One-Click", ""}[i%2]
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.api+links[a], strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, 200, res.StatusCode)
	}
	// An attempt that had opened before may still send: it is the only one.
	d.eventually("no attempt is open that began before", func() bool {
		return d.count(db, "SELECT count(*) FROM emails AS e JOIN recipients AS r ON r.email_id = e.id WHERE e.attempt_open AND r.address = ANY (string_to_array($1, ' '))", strings.Join(left, " ")) == 0
	})
	holds.Store(false)
	d.finished(db, patience)
	second := got("Issue 2")
	require.Len(t, second, subscribers-leaving)
	for _, a := range left {
		require.NotContains(t, second, a)
	}
	for a, link := range second {
		require.NotEqual(t, links[a], link, "each mail has a link of its own")
	}
	require.Equal(t, leaving, d.count(db, "SELECT count(*) FROM recipients AS r JOIN emails AS e ON e.id = r.email_id WHERE e.batch_id = $1 AND r.status = 'suppressed' AND r.suppressed_by IS NOT NULL", batch))
	require.Equal(t, leaving, d.count(db, "SELECT count(*) FROM email_events WHERE type = $1", email.EventSuppressed))
	require.Equal(t, leaving, d.count(db, "SELECT count(*) FROM email_events WHERE type = $1", email.EventUnsubscribed))

	issue("Issue 3")
	d.finished(db, patience)
	third := got("Issue 3")
	require.Len(t, third, subscribers-leaving)
	for a := range third {
		require.False(t, slices.Contains(left, a))
	}
}
