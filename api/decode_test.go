package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/memtest"
)

// Lists in small bodies have few members, and lists of choices no more than there are choices.
func TestListLimitsOfSmallBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com/a"}`).field(t, "id")
	many := func(member string, n int) string { return "[" + strings.Repeat(member+",", n-1) + member + "]" }
	for name, tc := range map[string]struct{ method, path, body, pointer, detail string }{
		"events":               {"POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com","events":` + many(`""`, 20_000) + `}`, "/events", "more than 400"},
		"events twice":         {"POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com","events":` + many(`"email.delivered"`, 26) + `}`, "/events", "only 25"},
		"streams":              {"POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com","streams":` + many(`"broadcast"`, 3) + `}`, "/streams", "only 2"},
		"changed":              {"PUT", "/v1.0/webhooks/" + id, `{"tags":` + many(`""`, 401) + `}`, "/tags", "more than 400"},
		"types":                {"POST", "/v1.0/webhooks/" + id + "/replay", `{"since":"2026-01-02T15:00:00Z","types":` + many(`"email.bounced"`, 26) + `}`, "/types", "only 25"},
		"types without an end": {"POST", "/v1.0/webhooks/" + id + "/replay", `{"types":` + many(`0`, 30_000) + `}`, "/types", "more than 400"},
		"scopes":               {"POST", "/v1.0/accesskeys", `{"scopes":` + many(`"emails:read"`, 10) + `}`, "/scopes", "only 9"},
		"networks":             {"POST", "/v1.0/accesskeys", `{"networks":` + many(`""`, 20_000) + `}`, "/networks", "more than 400"},
		"sender domains":       {"POST", "/v1.0/accesskeys", `{"sender_domains":` + many(`""`, 20_000) + `}`, "/sender_domains", "more than 400"},
		"objects":              {"PUT", "/v1.0/customer", `{"profile":{"x":` + many(`{}`, 20_000) + `}}`, "/profile/x", "more than 400"},
	} {
		got := b.as(tc.method, tc.path, tc.body)
		require.Equal(t, 400, got.status, name+got.body)
		require.Contains(t, got.body, `"`+tc.pointer+`"`, name)
		require.Contains(t, got.body, tc.detail, name)
	}
	every := `"email.queued","email.scheduled","email.sending","email.deferred","email.delivered","email.bounced","email.failed","email.expired","email.canceled","email.suppressed","email.unsubscribed","email.resubscribed","email.ambiguous",` +
		`"email.cancel_requested","email.held","email.resumed","email.deleted","email.completed","endpoint.failing","endpoint.disabled","domain.verified","domain.warning","domain.failed","reputation.warning","reputation.critical"`
	got := b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com/b","streams":["broadcast","transactional"],"events":[`+every+`]}`)
	require.Equal(t, 201, got.status, got.body)
}

// Not parallel: the memory of other tests would count.
func TestMemoryOfSmallBodies(t *testing.T) {
	b := setup(t)
	body := `{"url":"https://hooks.example.com","events":[` + strings.Repeat(`"",`, 21_000) + `""]}`
	spent := func(body string) int64 {
		before := memtest.Allocated()
		require.Equal(t, 400, b.as("POST", "/v1.0/webhooks", body).status)
		return memtest.Allocated() - before
	}
	spent(body) // what is made once
	short := spent(`{"url":"https://hooks.example.com","events":["",` + strings.Repeat(" ", 63_000) + `""]}`)
	require.Less(t, spent(body)-short, int64(200<<10), "20 bytes for each")
}
