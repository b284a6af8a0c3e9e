package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/logtest"
	"github.com/postrider/postrider/internal/turns"
)

// Answers of 503 are counted by reason. The log has a warning for each reason every ten seconds, and no
// error.
func TestOverloadIsCountedAndLoggedAsWarnings(t *testing.T) {
	t.Parallel()
	at, log, processors := newClock(), &logtest.Buffer{}, &turns.Turns{}
	b := setupFor(t, setupOptions{mediumProcessors: processors, maxBytes: 1 << 20, log: log, clock: at.Now})
	end, err := processors.Acquire(t.Context(), "another")
	require.NoError(t, err)
	var previews [][2]string
	for range 32 {
		previews = append(previews, [2]string{"/v1.0/emails/preview", basic})
	}
	waiting := b.waitForProcessor(processors, b.key, previews)
	refuse := func(n int) {
		for range n {
			require.Equal(t, http.StatusServiceUnavailable, b.as("POST", "/v1.0/emails/preview", basic).status)
		}
	}
	type line struct {
		Level, Msg, Reason string
		Answers            int
	}
	lines := func() (out []line) {
		for text := range strings.Lines(log.String()) {
			var l line
			require.NoError(t, json.Unmarshal([]byte(text), &l))
			require.NotEqual(t, "ERROR", l.Level, text)
			if l.Level == "WARN" {
				out = append(out, l)
			}
		}
		return out
	}
	refuse(50)
	first := line{"WARN", "http.unavailable", "processor", 1}
	require.Equal(t, []line{first}, lines())
	at.pass(10 * time.Second)
	refuse(50)
	require.Equal(t, []line{first, {"WARN", "http.unavailable", "processor", 50}}, lines())
	require.Equal(t, map[string]int64{"processor": 100}, b.server.Unavailable())
	end()
	for range previews {
		require.Equal(t, http.StatusOK, <-waiting)
	}
}

// reservedEmails calls accepting before it accepts a message.
type reservedEmails struct {
	emailsAPI
	accepting func(m email.Message)
}

func (r *reservedEmails) Accept(ctx context.Context, customerID string, m email.Message, owner string, idem email.Idempotency) (email.Email, bool, error) {
	r.accepting(m)
	return r.emailsAPI.Accept(ctx, customerID, m, owner, idem)
}

// A request reserves memory for the text that is made of its HTML, which may be longer than it.
func TestTextMadeOfHTMLIsReserved(t *testing.T) {
	t.Parallel()
	var reserved, text int64
	r := &reservedEmails{}
	b := setupFor(t, setupOptions{maxBytes: 1 << 20, emails: func(e api.Emails) api.Emails { r.emailsAPI = e; return r }})
	r.accepting = func(m email.Message) { reserved, text = b.server.Budgets()["work"].Used, int64(len(m.Text)) }
	list := strings.Repeat("<ol>", 8) + strings.Repeat("<li>", 3<<10)
	body := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","content":{"html":%q}}`, list+"x")
	sent := b.as("POST", "/v1.0/emails", body)
	require.Equal(t, http.StatusAccepted, sent.status, sent.body)
	require.Greater(t, text, int64(3*len(list)), "the text is much longer than the HTML")
	require.Equal(t, 3*int64(len(body))+2*text, reserved)
	require.Zero(t, b.server.Budgets()["work"].Used)
}

// A request whose text finds no memory waits without its message, and is decoded again.
func TestTextMadeOfHTMLWaitsForMemory(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	r := &reservedEmails{accepting: func(email.Message) { entered <- struct{}{}; <-leave }}
	b := setupFor(t, setupOptions{maxBytes: 1 << 20, memory: 4 << 20, emails: func(e api.Emails) api.Emails { r.emailsAPI = e; return r }})
	body := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","content":{"html":%q}}`,
		strings.Repeat("<ol>", 8)+strings.Repeat("<li>", 3<<10)+"x")
	answers := make(chan int, 10)
	for range cap(answers) {
		go func() { answers <- b.as("POST", "/v1.0/emails", body).status }()
	}
	// 768 KiB are one customer's: each request reserves some 200 KiB.
	<-entered
	<-entered
	<-entered
	require.Eventually(t, func() bool { return b.server.Budgets()["work"].Waiting == cap(answers)-3 }, time.Minute, time.Millisecond)
	require.Empty(t, entered)
	close(leave)
	for range cap(answers) {
		require.Equal(t, http.StatusAccepted, <-answers)
	}
	require.Zero(t, b.server.Budgets()["work"].Used)
}

// A request whose deadline ends in a call of the database is answered 503 with Retry-After.
func TestADeadlineInTheDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", "/v1.0/emails", nil)
	req.Header.Set("Authorization", "Bearer "+b.key)
	rec := httptest.NewRecorder()
	b.server.ServeHTTP(rec, req)
	b.check(req, "", rec)
	require.Equal(t, http.StatusServiceUnavailable, rec.Code, rec.Body)
	require.Equal(t, "5", rec.Header().Get("Retry-After"))
	require.Equal(t, map[string]int64{"dependency": 1}, b.server.Unavailable())
}
