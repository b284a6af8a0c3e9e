package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dates are the days on which the rules about times are tested: today, and days so far ahead that
// any date in the code or in a test has passed.
var dates = map[string]time.Time{
	"today":                   {},
	"a leap day":              time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC),
	"a year's last half hour": time.Date(2033, 12, 31, 23, 30, 0, 0, time.UTC), // the clock goes on
	"past 32 bits of seconds": time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
	"the next century":        time.Date(2101, 3, 1, 0, 0, 0, 0, time.UTC),
}

// ahead returns a time some days after the fixture's now.
func (b *bench) ahead(days int) string {
	return b.now().AddDate(0, 0, days).UTC().Format(time.RFC3339)
}

func TestTimesInRequests(t *testing.T) {
	t.Parallel()
	for name, now := range dates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupFor(t, setupOptions{maxBytes: maxBytes, now: now})
			at := func(member string, days int) string {
				return strings.Replace(basic, "{", fmt.Sprintf(`{%q:%q,`, member, b.ahead(days)), 1)
			}
			require.Equal(t, http.StatusAccepted, b.as("POST", "/v1.0/emails", at("send_at", 364)).status)
			tooLate := b.as("POST", "/v1.0/emails", at("send_at", 370))
			require.Equal(t, http.StatusBadRequest, tooLate.status)
			require.Contains(t, tooLate.body, "too_late")
			sent := b.as("POST", "/v1.0/emails", at("send_at", -400))
			require.Equal(t, http.StatusAccepted, sent.status, "a time that has passed means at once")
			require.Equal(t, "queued", sent.field(t, "status"))
			require.Equal(t, http.StatusBadRequest, b.as("POST", "/v1.0/emails", at("expires_at", -1)).status)

			warmup := "/v1.0/customers/" + b.customer.ID + "/domains/acme.test/warmup"
			from := func(days int) answer {
				body := fmt.Sprintf(`{"plan":[50,100,200],"from":%q}`, b.ahead(days)[:len(time.DateOnly)])
				return b.call("PUT", warmup, body, "Authorization", "Bearer "+b.adminKey())
			}
			require.Equal(t, http.StatusOK, from(-2).status, "the plan's last day is today")
			require.Equal(t, http.StatusBadRequest, from(-3).status, "the plan is over")

			stats := b.as("GET", "/v1.0/emails/stats", "")
			require.Contains(t, stats.body, `"total":2`, "the last 30 days hold both e-mails")
			require.Contains(t, b.as("GET", "/v1.0/emails?created_from="+b.ahead(-1), "").body, sent.field(t, "id"))
			require.NotContains(t, b.as("GET", "/v1.0/emails?created_before="+b.ahead(-1), "").body, sent.field(t, "id"))

			key := b.as("POST", "/v1.0/accesskeys", `{"name":"a day","expire":86400}`)
			expires, err := time.Parse(time.DateTime, key.field(t, "tm_expire"))
			require.NoError(t, err)
			require.WithinDuration(t, b.now().AddDate(0, 0, 1), expires, time.Hour)
		})
	}
}
