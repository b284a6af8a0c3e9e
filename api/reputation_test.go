package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReputation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/domains", `{"name":"shop.example"}`).field(t, "id")
	path := "/v1.0/domains/" + id + "/reputation"
	today := time.Now().UTC()
	empty := b.as("GET", path, "")
	require.Equal(t, 200, empty.status, empty.body)
	require.Contains(t, empty.body, `"band":"unknown","since":null`)
	require.Contains(t, empty.body, `"streams":[],"providers":[],"days":[]`)
	require.Contains(t, empty.body, `"bounce_rate":null`)

	_, err := b.raw.ExecContext(t.Context(), `INSERT INTO reputation_days (customer_id, sender_domain, day, stream, provider, sent, delivered, deferred, hard, soft, blocked, complained, unsubscribed) VALUES
		(?0, 'shop.example', ?1::date, 'broadcast', 'google', 100, 90, 1, 6, 1, 3, 2, 4), (?0, 'shop.example', ?1::date - 20, 'transactional', 'other', 10, 10, 0, 0, 0, 0, 0, 0)`,
		b.customer.ID, today.Format(time.DateOnly))
	require.NoError(t, err)
	_, err = b.raw.ExecContext(t.Context(), `INSERT INTO reputation_states (customer_id, domain, band, since, bounce_band, complaint_band, derived_on)
		VALUES (?, 'shop.example', 'critical', '2026-01-02T03:04:05Z', 'critical', 'unknown', now())`, b.customer.ID)
	require.NoError(t, err)
	var got struct {
		Domain, Band, Since string
		BounceBand          string `json:"bounce_band"`
		Window              struct {
			Recipients struct {
				Sent, Unsubscribed int
				BounceRate         float64 `json:"bounce_rate"`
			}
		}
		Streams   []struct{ Stream string }
		Providers []struct {
			Provider   string
			Recipients struct {
				ComplaintRate *float64 `json:"complaint_rate"`
			}
		}
		Days []struct{ Day string }
	}
	b.as("GET", path, "").decode(t, &got)
	require.Equal(t, "critical", got.Band)
	require.Equal(t, "critical", got.BounceBand)
	require.Equal(t, "2026-01-02T03:04:05.000Z", got.Since)
	require.Equal(t, 100, got.Window.Recipients.Sent)
	require.Equal(t, 4, got.Window.Recipients.Unsubscribed)
	require.InDelta(t, 0.06, got.Window.Recipients.BounceRate, 1e-9)
	require.Len(t, got.Streams, 2)
	require.Equal(t, "google", got.Providers[0].Provider)
	require.InDelta(t, 2./90, *got.Providers[0].Recipients.ComplaintRate, 1e-9)
	require.Len(t, got.Days, 2)
	require.Equal(t, today.AddDate(0, 0, -20).Format(time.DateOnly), got.Days[0].Day)
	b.as("GET", path+"?days=7", "").decode(t, &got)
	require.Len(t, got.Days, 1)
	b.as("GET", path+"?stream=transactional", "").decode(t, &got)
	require.Len(t, got.Streams, 1)
	require.Equal(t, 100, got.Window.Recipients.Sent, "the window is of both streams")

	for _, wrong := range []struct{ query, pointer string }{{"days=0", "days"}, {"days=367", "days"}, {"days=", "days"}, {"stream=pigeon", "stream"}} {
		a := b.as("GET", path+"?"+wrong.query, "")
		require.Equal(t, 400, a.status, wrong.query)
		require.Contains(t, a.body, `"pointer":"`+wrong.pointer+`"`)
	}
	require.Equal(t, 404, b.as("GET", "/v1.0/domains/019f0000-0000-7000-8000-000000000000/reputation", "").status)
}
