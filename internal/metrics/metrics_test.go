package metrics_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/metrics"
)

type store struct {
	reads int
	err   error
}

func (s *store) Backlog(context.Context) (delivery.Backlog, error) {
	s.reads++
	return delivery.Backlog{
		Open:       []delivery.OpenEmails{{Status: email.StatusQueued, Emails: 3}, {Status: email.StatusSending, Detail: email.DetailDeferred, Emails: 2}},
		OldestOpen: 90 * time.Second, Starts: 1, Webhooks: 4, Reputations: map[string]int{"good": 5, "critical": 0},
	}, s.err
}

func (*store) Waiting() map[string]int   { return map[string]int{"accept": 7} }
func (*store) Refused() map[string]int64 { return map[string]int64{"accept": 3} }

type relays map[string]bool

func (r relays) Up() map[string]bool        { return r }
func (relays) Unanswered() map[string]int64 { return map[string]int64{"primary": 2} }
func (relays) Held() map[string]int         { return map[string]int{"primary": 5} }
func (relays) Blocked() map[string]int64    { return map[string]int64{"primary": 6} }

func scrape(t *testing.T, m *metrics.Metrics, token string) (int, string) {
	t.Helper()
	req := httptest.NewRequest("GET", "/metrics", nil)
	req.RemoteAddr = "127.0.0.1:1234"
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	m.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

func TestAScrape(t *testing.T) {
	t.Parallel()
	s := &store{}
	m := metrics.New(s, relays{"primary": true, "backup": false}, "", slog.New(slog.DiscardHandler))
	m.Observe([]email.Event{
		{Type: email.EventQueued, Sequence: 1}, {Type: email.EventScheduled, Sequence: 1}, {Type: email.EventScheduled, Sequence: 2}, {Type: email.EventSending}, {Type: email.EventHeld},
		{Type: email.EventDelivered}, {Type: email.EventBounced, Reason: email.DetailHard}, {Type: email.EventBounced, Reason: email.DetailHard},
		{Type: email.EventCompleted, Reason: email.DetailPartial},
	})
	for part, unavailable := range map[string]func() map[string]int64{"work": func() map[string]int64 { return map[string]int64{"memory": 8} }, "sending": nil} {
		m.Watch(metrics.Limits{Unavailable: unavailable, Budgets: func() map[string]membudget.State {
			return map[string]membudget.State{part: {Total: 10, Used: 6, Waiting: 5, Refused: 4}}
		}})
	}
	for range 3 {
		code, body := scrape(t, m, "")
		require.Equal(t, 200, code)
		for _, line := range []string{
			"postrider_emails_accepted_total 2", `postrider_recipient_outcomes_total{outcome="delivered",reason=""} 1`,
			`postrider_recipient_outcomes_total{outcome="bounced",reason="hard"} 2`, `postrider_emails_completed_total{detail="partial"} 1`,
			`postrider_emails_open{detail="",status="queued"} 3`, `postrider_emails_open{detail="deferred",status="sending"} 2`,
			"postrider_oldest_open_seconds 90", "postrider_overdue_seconds 0", "postrider_starts_waiting 1", "postrider_webhooks_waiting 4", `postrider_reputation_domains{band="good"} 5`, `postrider_reputation_domains{band="critical"} 0`,
			`postrider_store_waiting{call="accept"} 7`, `postrider_store_refused_total{call="accept"} 3`,
			"postrider_database_up 1", `postrider_relay_up{relay="primary"} 1`, `postrider_relay_up{relay="backup"} 0`, `postrider_relay_unanswered_total{relay="primary"} 2`, `postrider_relay_refusals_held{relay="primary"} 5`, `postrider_relay_ip_blocked_total{relay="primary"} 6`, "process_open_fds ",
			`postrider_memory_total{part="work"} 10`, `postrider_memory_used{part="sending"} 6`, `postrider_memory_waiting{part="work"} 5`, `postrider_memory_refused_total{part="work"} 4`,
			`postrider_http_unavailable_total{reason="memory"} 8`,
		} {
			require.Contains(t, "\n"+body, "\n"+line)
		}
	}
	require.Equal(t, 1, s.reads, "however often it is scraped")
}

func TestWithoutTheDatabaseNothingIsMadeUp(t *testing.T) {
	t.Parallel()
	m := metrics.New(&store{err: errors.New("away")}, nil, "", slog.New(slog.DiscardHandler))
	code, body := scrape(t, m, "")
	require.Equal(t, 200, code, "counters are still there")
	require.Contains(t, body, "postrider_database_up 0")
	require.Contains(t, body, "postrider_emails_accepted_total 0")
	require.NotContains(t, body, "postrider_oldest_open_seconds")
}

func TestATokenIsAskedFor(t *testing.T) {
	t.Parallel()
	m := metrics.New(&store{}, nil, "s3cret", slog.New(slog.DiscardHandler))
	for _, wrong := range []string{"", "s3cre", "s3cret2"} {
		code, body := scrape(t, m, wrong)
		require.Equal(t, 401, code)
		require.NotContains(t, body, "postrider_emails")
	}
	code, _ := scrape(t, m, "s3cret")
	require.Equal(t, 200, code)
}

// TestWithoutATokenOnlyThisMachineScrapes: a proxy of this machine passes on requests of
// others.
func TestWithoutATokenOnlyThisMachineScrapes(t *testing.T) {
	t.Parallel()
	m := metrics.New(&store{}, nil, "", slog.New(slog.DiscardHandler))
	from := func(remote string, headers ...string) int {
		req := httptest.NewRequest("GET", "/metrics", nil)
		req.RemoteAddr = remote
		for _, h := range headers {
			req.Header.Set(h, "127.0.0.1")
		}
		rec := httptest.NewRecorder()
		m.ServeHTTP(rec, req)
		return rec.Code
	}
	require.Equal(t, 200, from("127.0.0.1:1"))
	require.Equal(t, 200, from("[::1]:1"))
	for _, remote := range []string{"192.0.2.1:1", "10.0.0.1:1", "[2001:db8::1]:1", "@", ""} {
		require.Equal(t, 403, from(remote), remote)
	}
	require.Equal(t, 403, from("127.0.0.1:1", "X-Forwarded-For"))
	require.Equal(t, 403, from("127.0.0.1:1", "Forwarded"))
}
