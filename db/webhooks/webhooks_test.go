package webhooks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/endpoint"
)

// hook points the customer's webhook to an address and returns its secret.
func (b *bench) hook(url string) string {
	b.T.Helper()
	c, err := b.Accounts.Customer(b.Ctx, b.Customer)
	require.NoError(b.T, err)
	c.WebhookURI = url
	_, secret, err := b.Accounts.UpdateCustomer(b.Ctx, c)
	require.NoError(b.T, err)
	return secret
}

func TestDeliveriesAreWrittenWithTheStatusTheyTell(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Deferred)
	require.Zero(t, b.Count("SELECT count(*) FROM webhook_deliveries"), "nobody to tell")

	secret := b.hook("https://a.test/in")
	require.True(t, strings.HasPrefix(secret, "whsec_"))
	b.DueNow(e.ID)
	rec := b.Attempt(e.ID, 2, dbsetup.Delivered)
	require.Equal(t, 2, rec.Webhooks, "delivered and completed; sending is not among the defaults")

	due, others, err := b.Webhooks.ClaimForEmail(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Empty(t, others)
	require.Len(t, due, 2)
	require.Equal(t, "email.delivered", due[0].Delivery.Type)
	require.Contains(t, string(due[0].Delivery.Body), `"sequence":5`)
	require.Equal(t, "email.completed", due[1].Delivery.Type)
	require.Equal(t, secret, due[0].Endpoint.Secrets[0].Reveal())
	require.Zero(t, b.Count("SELECT count(*) FROM webhook_endpoints WHERE position(? in encode(secret_sealed, 'escape')) > 0", secret), "sealed at rest")
	again, others, err := b.Webhooks.ClaimForEmail(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Empty(t, again, "leased")
	require.Empty(t, others)

	require.NoError(t, b.Webhooks.RecordDelivery(b.Ctx, due[0].Delivery, endpoint.Result{Verdict: endpoint.VerdictDelivered, Status: 204}))
	require.NoError(t, b.Webhooks.RecordDelivery(b.Ctx, due[1].Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 429, RetryAfter: time.Hour}))
	waiting := b.backlog(due[0].Endpoint.ID)
	require.Equal(t, 1, waiting.Waiting)
	require.WithinDuration(t, time.Now().Add(time.Hour), waiting.NextAt, 10*time.Second, "what the endpoint asked for")
	got, err := b.Webhooks.ClaimForEndpoint(b.Ctx, due[0].Endpoint.ID, 10)
	require.NoError(t, err)
	require.Empty(t, got, "not before")
	b.Exec("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'pending'")
	got, err = b.Webhooks.ClaimForEndpoint(b.Ctx, due[0].Endpoint.ID, 10)
	require.NoError(t, err)
	require.Empty(t, got, "the endpoint is left alone, whatever is due")
	b.Exec("UPDATE webhook_endpoints SET blocked_until = now()")
	got, err = b.Webhooks.ClaimForEndpoint(b.Ctx, due[0].Endpoint.ID, 10)
	require.NoError(t, err)
	require.Equal(t, due[1].Delivery.ID, got[0].Delivery.ID, "the same id on every attempt")
	require.Equal(t, due[1].Delivery.Body, got[0].Delivery.Body)
	require.Equal(t, 1, got[0].Delivery.Attempts)
}

func TestABusyEndpointIsLeftToItsRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	one, two := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(one.ID, 1, dbsetup.Delivered)
	b.Attempt(two.ID, 1, dbsetup.Delivered)
	due, others, err := b.Webhooks.ClaimForEmail(b.Ctx, two.ID)
	require.NoError(t, err)
	require.Empty(t, due)
	require.Len(t, others, 1)
	all, err := b.Webhooks.ClaimForEndpoint(b.Ctx, others[0], 3)
	require.NoError(t, err)
	require.Len(t, all, 3)
}

func TestAGoneEndpointGetsNothingMore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Delivered)
	due, _, err := b.Webhooks.ClaimForEmail(b.Ctx, e.ID)
	require.NoError(t, err)
	require.NoError(t, b.Webhooks.RecordDelivery(b.Ctx, due[0].Delivery, endpoint.Result{Verdict: endpoint.VerdictGone, Status: 410}))
	gone := b.backlog(due[0].Endpoint.ID)
	require.Zero(t, gone.Waiting)
	require.Equal(t, endpoint.ReasonGone, gone.Endpoint.DisabledReason)
	next := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(next.ID, 1, dbsetup.Delivered)
	require.Zero(t, b.Count("SELECT count(*) FROM webhook_deliveries WHERE email_id = ?", next.ID))
	b.hook("https://b.test/in")
	require.Equal(t, 1, b.backlog(due[0].Endpoint.ID).Waiting, "another address: what was recorded goes there")
}

func TestADeliveryEndsWithItsSchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	e := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(e.ID, 1, dbsetup.Delivered)
	due, _, err := b.Webhooks.ClaimForEmail(b.Ctx, e.ID)
	require.NoError(t, err)
	d := due[0]
	for d.Delivery.Attempts = 0; d.Delivery.Attempts < 10; d.Delivery.Attempts++ {
		require.Equal(t, 2, b.Count("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"))
		require.NoError(t, b.Webhooks.RecordDelivery(b.Ctx, d.Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 500, Error: "the endpoint answered 500"}))
	}
	require.Equal(t, 1, b.Count("SELECT count(*) FROM webhook_deliveries WHERE status = 'failed' AND attempts = 10 AND last_code = 500"))
}

func TestDefaultEventsAreOutcomes(t *testing.T) {
	t.Parallel()
	require.NotContains(t, endpoint.DefaultEvents(endpoint.FormatStandard), string(email.EventQueued))
	require.NotContains(t, endpoint.DefaultEvents(endpoint.FormatStandard), string(email.EventSending))
	require.Contains(t, endpoint.DefaultEvents(endpoint.FormatStandard), string(email.EventCompleted))
}

// TestCallbacks: there is one endpoint per customer and URL, and it gets the events of its own
// e-mails only.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.CallbackURL = "https://a.test/done"
	one := b.Accept(m)
	require.Equal(t, m.CallbackURL, one.CallbackURL)
	require.Equal(t, m.CallbackURL, b.Get(one.ID).CallbackURL)
	two := b.Accept(m)
	other := b.Accept(dbsetup.Message("bob@x.test"))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM webhook_endpoints WHERE kind = 'callback'"))
	require.Zero(t, b.Attempt(other.ID, 1, dbsetup.Delivered).Webhooks, "that one has none")
	require.Equal(t, 2, b.Attempt(one.ID, 1, dbsetup.Delivered).Webhooks)
	due, _, err := b.Webhooks.ClaimForEmail(b.Ctx, one.ID)
	require.NoError(t, err)
	require.Len(t, due, 2)
	require.Equal(t, m.CallbackURL, due[0].Endpoint.URL)
	secret, err := b.Webhooks.WebhookSecret(b.Ctx, b.Customer)
	require.NoError(t, err)
	require.Equal(t, secret, due[0].Endpoint.Secrets[0].Reveal(), "signed with the customer's secret")

	b.hook("https://a.test/all")
	require.Equal(t, 4, b.Attempt(two.ID, 1, dbsetup.Delivered).Webhooks, "the customer's webhook is told besides")
	b.Exec("UPDATE webhook_endpoints SET tags = '{vip}' WHERE kind = 'customer'")
	m.CallbackURL, m.Tags = "", []string{"vip", "x"}
	require.Equal(t, 2, b.Attempt(b.Accept(m).ID, 1, dbsetup.Delivered).Webhooks)
	m.Tags = []string{"x"}
	require.Zero(t, b.Attempt(b.Accept(m).ID, 1, dbsetup.Delivered).Webhooks, "none of its tags")
	b.Exec("UPDATE webhook_endpoints SET tags = '{}', streams = '{broadcast}' WHERE kind = 'customer'")
	require.Zero(t, b.Attempt(b.Accept(m).ID, 1, dbsetup.Delivered).Webhooks, "not its stream")
}

func (b *bench) endpoint(events ...string) (endpoint.Endpoint, string) {
	b.T.Helper()
	if len(events) == 0 {
		events = []string{"email.delivered", "email.completed"}
	}
	e, secret, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{CustomerID: b.Customer, URL: "https://a.test/in", Method: "POST", Format: endpoint.FormatStandard, Events: events})
	require.NoError(b.T, err)
	return e, secret
}

func (b *bench) backlog(id string) endpoint.Backlog {
	b.T.Helper()
	out, err := b.Webhooks.EndpointBacklog(b.Ctx, id)
	require.NoError(b.T, err)
	return out
}

func (b *bench) settle(d endpoint.Delivery, v endpoint.Verdict, status int) {
	b.T.Helper()
	require.NoError(b.T, b.Webhooks.RecordDelivery(b.Ctx, d, endpoint.Result{Verdict: v, Status: status, Duration: 5 * time.Millisecond, BodyExcerpt: "no", Error: "answered"}))
}

// TestTheBreaker: deliveries that wait for an endpoint that is down burn no attempts.
func TestTheBreaker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint("email.completed")
	for range 3 {
		b.Attempt(b.Accept(dbsetup.Message("bob@x.test")).ID, 1, dbsetup.Delivered)
	}
	due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 3)
	b.settle(due[0].Delivery, endpoint.VerdictRetry, 500)
	require.NoError(t, b.Webhooks.ReleaseDeliveries(b.Ctx, []endpoint.Delivery{due[1].Delivery, due[2].Delivery}))
	for failures, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		got, err := b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
		require.NoError(t, err)
		require.Equal(t, failures+1, got.Failures)
		require.WithinDuration(t, time.Now().Add(wait), got.BlockedUntil, 3*time.Second)
		waiting := b.backlog(e.ID)
		require.Equal(t, 3, waiting.Waiting)
		require.WithinDuration(t, got.BlockedUntil, waiting.NextAt, time.Second, "its run sleeps so long")
		require.Equal(t, "answered", waiting.Endpoint.LastError)
		b.Exec("UPDATE webhook_endpoints SET blocked_until = now()")
		b.Exec("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'pending'")
		due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
		require.NoError(t, err)
		require.Len(t, due, 1, "one finds out")
		if failures < 2 {
			b.settle(due[0].Delivery, endpoint.VerdictRetry, 0)
		}
	}
	require.Equal(t, 3, b.Count("SELECT sum(attempts) FROM webhook_deliveries"), "and no others are asked meanwhile")
	b.settle(due[0].Delivery, endpoint.VerdictDelivered, 200)
	got, err := b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Zero(t, got.Failures)
	require.True(t, got.FailingSince.IsZero())
	b.Exec("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'pending'")
	due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 2, "the rest goes at once")
}

func TestAnEndpointThatKeepsFailingIsDisabled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint("email.completed")
	watch, _ := b.endpoint(endpoint.TypeFailing, endpoint.TypeDisabled)
	mail := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(mail.ID, 1, dbsetup.Delivered)
	due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	b.settle(due[0].Delivery, endpoint.VerdictRetry, 500)
	for _, row := range []struct {
		hours    int
		told     string
		disabled bool
	}{{23, "", false}, {24, endpoint.TypeFailing, false}, {95, "", false}, {96, endpoint.TypeFailing, false}, {119, "", false}, {121, endpoint.TypeDisabled, true}} {
		// Time passes: everything moves back by as much.
		b.Exec(`UPDATE webhook_endpoints SET warned_at = warned_at + (now() - make_interval(hours => ?0) - failing_since),
			failing_since = now() - make_interval(hours => ?0), blocked_until = now() WHERE failures > 0`, row.hours)
		b.Exec("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'pending'")
		due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
		require.NoError(t, err)
		require.Len(t, due, 1)
		b.settle(due[0].Delivery, endpoint.VerdictRetry, 500)
		got, err := b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
		require.NoError(t, err)
		require.Equal(t, row.disabled, got.Disabled, row)
		told, err := b.Webhooks.ClaimForEndpoint(b.Ctx, watch.ID, 10)
		require.NoError(t, err)
		if row.told == "" {
			require.Empty(t, told, row)
			continue
		}
		require.Len(t, told, 1, row)
		require.Equal(t, row.told, told[0].Delivery.Type)
		require.Contains(t, string(told[0].Delivery.Body), `"endpoint_id":"`+e.ID+`"`)
		require.Contains(t, string(told[0].Delivery.Body), `"last_error":"answered"`)
		b.settle(told[0].Delivery, endpoint.VerdictDelivered, 200)
	}
	require.Equal(t, 2, b.Count("SELECT count(*) FROM audit WHERE action = 'webhook.failing' AND target = ?", e.ID))
	require.Equal(t, 1, b.Count("SELECT count(*) FROM audit WHERE action = 'webhook.disabled' AND target = ?", e.ID))

	since := time.Now().Add(-time.Hour)
	second := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(second.ID, 1, dbsetup.Delivered)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = '"+e.ID+"'"), "nothing is written for it while it is disabled")
	enabled, err := b.Webhooks.EnableEndpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.False(t, enabled.Disabled)
	n, err := b.Mail.Replay(b.Ctx, b.Customer, e.ID, since, time.Now().Add(time.Minute), nil)
	require.NoError(t, err)
	require.Equal(t, 2, n, "what was told and what was missed")
	due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 2)
	require.Equal(t, 7, due[0].Delivery.Attempts, "told before, and that stays on record")
	require.Zero(t, due[1].Delivery.Attempts)
	n, err = b.Mail.Replay(b.Ctx, b.Customer, e.ID, since, time.Now().Add(time.Minute), []string{"email.delivered"})
	require.NoError(t, err)
	require.Equal(t, 2, n, "also what it does not want by itself")
}

func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, first := b.endpoint("email.completed")
	_, second, err := b.Webhooks.RotateSecret(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	_, third, err := b.Webhooks.RotateSecret(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	b.Attempt(b.Accept(dbsetup.Message("bob@x.test")).ID, 1, dbsetup.Delivered)
	due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	signs := func(at time.Time) (out []string) {
		for _, s := range due[0].Endpoint.LiveSecrets(at) {
			out = append(out, s.Reveal())
		}
		return out
	}
	require.Equal(t, []string{third, second, first}, signs(time.Now()))
	require.Equal(t, []string{third}, signs(time.Now().Add(endpoint.RotationOverlap)))
	own, err := b.Webhooks.WebhookSecret(b.Ctx, b.Customer)
	require.NoError(t, err)
	require.NotEqual(t, third, own)
}

func TestTheListOfDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint()
	b.Attempt(b.Accept(dbsetup.Message("bob@x.test")).ID, 1, dbsetup.Delivered)
	tried, err := b.Webhooks.TestEndpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 3)
	for _, d := range due {
		b.settle(d.Delivery, endpoint.VerdictRetry, 503)
	}
	all, next, err := b.Webhooks.Deliveries(b.Ctx, b.Customer, e.ID, "", email.Cursor{}, 10)
	require.NoError(t, err)
	require.Nil(t, next)
	require.Len(t, all, 3)
	require.Equal(t, tried.ID, all[0].ID, "newest first")
	require.Equal(t, 1, len(all[0].Log))
	require.Equal(t, endpoint.Attempt{Number: 1, At: all[0].Log[0].At, Code: 503, Duration: 5 * time.Millisecond, Error: "answered", Answer: "no"}, all[0].Log[0])
	_, _, err = b.Webhooks.Deliveries(b.Ctx, "00000000-0000-0000-0000-000000000000", e.ID, "", email.Cursor{}, 10)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))

	again, err := b.Webhooks.RetryDelivery(b.Ctx, b.Customer, all[1].ID)
	require.NoError(t, err)
	require.Equal(t, all[1].ID, again.ID)
	require.Empty(t, all[1].Body, "a list has no bodies, which may hold whole messages")
	require.NotEmpty(t, again.Body)
	require.Equal(t, 1, again.Attempts)
	require.Equal(t, 1, b.Count("SELECT attempts - spent + 1 FROM webhook_deliveries WHERE spent > 0"), "with the whole schedule before it")
	due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 1, "although the endpoint is left alone")
	require.Equal(t, again.ID, due[0].Delivery.ID)
	b.settle(due[0].Delivery, endpoint.VerdictRetry, 503)
	all, _, err = b.Webhooks.Deliveries(b.Ctx, b.Customer, e.ID, "", email.Cursor{}, 10)
	require.NoError(t, err)
	require.Len(t, all[1].Log, 2, "what was called before is kept")
	for _, bad := range []string{"msg_x", all[1].ID + "0", strings.TrimPrefix(all[1].ID, "msg_")} {
		_, err = b.Webhooks.RetryDelivery(b.Ctx, b.Customer, bad)
		require.Equal(t, email.CodeNotFound, email.FailureCode(err), bad)
	}
	_, err = b.Webhooks.DeleteEndpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Zero(t, b.Count("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"))
	_, err = b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
}

func TestVoIPBINBodiesHoldTheWholeEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{CustomerID: b.Customer, URL: "https://a.test/v", Method: "PUT", Format: endpoint.FormatVoIPBIN, Events: []string{"email_updated"}})
	require.NoError(t, err)
	m := dbsetup.Message("bob@x.test")
	m.Text = "the whole text"
	e := b.Accept(m)
	b.Attempt(e.ID, 1, dbsetup.Delivered)
	require.Equal(t, 2, b.Count("SELECT count(*) FROM webhook_deliveries WHERE type = 'email_updated' AND position('the whole text' in body) > 0"), "sending, completed")
}

func TestAProfileChoosesTheFormatOfWebhookURI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	own := func() endpoint.Endpoint {
		es, err := b.Webhooks.Endpoints(b.Ctx, b.Customer)
		require.NoError(t, err)
		return es[0]
	}
	for _, tc := range []struct {
		profile account.Profile
		format  endpoint.Format
	}{{account.ProfileVoIPBIN, endpoint.FormatVoIPBIN}, {account.ProfileDefault, endpoint.FormatStandard}} {
		c, err := b.Accounts.Customer(b.Ctx, b.Customer)
		require.NoError(t, err)
		c.Profile = tc.profile
		_, _, err = b.Accounts.UpdateCustomer(b.Ctx, c)
		require.NoError(t, err)
		require.Equal(t, tc.format, own().Format)
		require.Equal(t, endpoint.DefaultEvents(tc.format), own().Events)
	}
}
