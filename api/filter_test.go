package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListEmailsFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	order := b.as("POST", "/v1.0/emails", `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"Order 1","content":"t","tags":["order"]}`).field(t, "id")
	news := b.as("POST", "/v1.0/emails", `{"from":{"email":"news@acme.test"},"to":[{"email":"eve@y.test"}],"subject":"News","content":"t","stream":"broadcast"}`).field(t, "id")
	require.Equal(t, 200, b.as("POST", "/v1.0/emails/"+news+"/cancel", "").status)
	for query, want := range map[string][]string{
		"":                                  {news, order},
		"status=initiated":                  {order},
		"status=queued,canceled":            {news, order},
		"status=delivered":                  {},
		"status=dropped":                    {news},
		"status=bounce,deferred":            {},
		"to=BOB@x.test":                     {order},
		"to=@y.test":                        {news},
		"from=news@acme.test":               {news},
		"tag=order":                         {order},
		"subject=order":                     {order},
		"stream=broadcast":                  {news},
		"created_from=2020-01-01":           {news, order},
		"created_before=2020-01-01":         {},
		"created_from=2020-01-01&tag=order": {order},
		"created_from=" + url.QueryEscape("2020-01-01 10:00:00.000000"): {news, order},
	} {
		a := b.as("GET", "/v1.0/emails?"+query, "")
		require.Equal(t, 200, a.status, query+a.body)
		var page struct{ Result []struct{ ID string } }
		a.decode(t, &page)
		got := []string{}
		for _, e := range page.Result {
			got = append(got, e.ID)
		}
		require.ElementsMatch(t, want, got, query)
	}
	for query, name := range map[string]string{
		"status=sent": "status", "to=bob": "to", "stream=fast": "stream", "created_from=monday": "created_from", "colour=red": "colour",
		"tag=a&tag=b": "tag", "created_from=2026-01-02&created_before=2026-01-02": "created_before", "recipient=x@y.z": "recipient",
	} {
		a := b.as("GET", "/v1.0/emails?"+query, "")
		require.Equal(t, 400, a.status, query)
		var p struct {
			Errors []struct{ Pointer, Detail string }
		}
		a.decode(t, &p)
		require.Equal(t, name, p.Errors[0].Pointer)
		require.NotEmpty(t, p.Errors[0].Detail)
	}

	stats := b.as("GET", "/v1.0/emails/stats?accesskey="+b.key, "")
	require.Equal(t, 200, stats.status, stats.body)
	var got struct {
		Emails     map[string]int
		Recipients struct {
			Total, Open, Failed, Canceled int
			DeliveredRate                 float64 `json:"delivered_rate"`
		}
		Days             []json.RawMessage
		SenderDomains    []struct{ Domain string } `json:"sender_domains"`
		RecipientDomains []struct{ Domain string } `json:"recipient_domains"`
	}
	stats.decode(t, &got)
	require.Equal(t, map[string]int{"total": 2, "queued": 1, "sending": 0, "delivered": 0, "bounced": 0, "failed": 0, "canceled": 1}, got.Emails)
	require.Equal(t, 2, got.Recipients.Total)
	require.Equal(t, 1, got.Recipients.Open)
	require.Equal(t, 1, got.Recipients.Canceled)
	require.Zero(t, got.Recipients.Failed, "what somebody canceled has not failed")
	require.Len(t, got.SenderDomains, 1)
	require.Len(t, got.RecipientDomains, 2)
	require.Equal(t, 400, b.as("GET", "/v1.0/emails/stats?created_from=2020-01-01", "").status, "a year at most")
	require.Equal(t, 400, b.as("GET", "/v1.0/emails/stats?page_size=5", "").status)
	empty := b.as("GET", "/v1.0/emails/stats?tag=none", "")
	require.Contains(t, empty.body, `"days":[]`)
}

// Open and canceled recipients have no verdict, so the rate does not count them.
func TestStatsBouncedRate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var to []string
	for i := range 10 {
		to = append(to, fmt.Sprintf(`{"email":"r%d@x.test"}`, i))
	}
	sent := b.as("POST", "/v1.0/emails", `{"from":{"email":"a@acme.test"},"to":[`+strings.Join(to, ",")+`],"subject":"s","content":"t"}`)
	require.Equal(t, 202, sent.status, sent.body)
	rates := func() (delivered, bounced float64) {
		var got struct {
			Recipients struct {
				DeliveredRate float64 `json:"delivered_rate"`
				BouncedRate   float64 `json:"bounced_rate"`
			}
		}
		b.as("GET", "/v1.0/emails/stats", "").decode(t, &got)
		return got.Recipients.DeliveredRate, got.Recipients.BouncedRate
	}
	_, bounced := rates()
	require.Zero(t, bounced, "nobody has a verdict")
	_, err := b.raw.ExecContext(t.Context(), `UPDATE recipients SET accepted_by = '{}', next_attempt_at = CASE WHEN position >= 6 THEN now() END,
		status = (ARRAY['delivered', 'delivered', 'bounced', 'failed', 'canceled', 'canceled', 'queued', 'queued', 'queued', 'queued'])[position + 1]`)
	require.NoError(t, err)
	delivered, bounced := rates()
	require.InDelta(t, 0.2, delivered, 1e-9)
	require.InDelta(t, 0.25, bounced, 1e-9)
}
