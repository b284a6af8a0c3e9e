package db_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// hook points the customer's webhook to an address and returns its secret.
func (b *bench) hook(url string) string {
	b.t.Helper()
	c, err := b.Customer(b.ctx, b.customer)
	require.NoError(b.t, err)
	c.WebhookURI = url
	_, secret, err := b.UpdateCustomer(b.ctx, c)
	require.NoError(b.t, err)
	return secret
}

func TestDeliveriesAreWrittenWithTheStatusTheyTell(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.accept(message("bob@x.test"))
	b.attempt(e.ID, 1, deferred)
	require.Zero(t, b.count("SELECT count(*) FROM webhook_deliveries"), "nobody to tell")

	secret := b.hook("https://a.test/in")
	require.True(t, strings.HasPrefix(secret, "whsec_"))
	b.dueNow(e.ID)
	rec := b.attempt(e.ID, 2, delivered)
	require.Equal(t, 2, rec.Webhooks, "delivered and completed; sending is not among the defaults")

	due, others, err := b.ClaimForEmail(b.ctx, e.ID)
	require.NoError(t, err)
	require.Empty(t, others)
	require.Len(t, due, 2)
	require.Equal(t, "email.delivered", due[0].Delivery.Type)
	require.Contains(t, string(due[0].Delivery.Body), `"sequence":5`)
	require.Equal(t, "email.completed", due[1].Delivery.Type)
	require.Equal(t, secret, due[0].Endpoint.Secrets[0].Reveal())
	require.Zero(t, b.count("SELECT count(*) FROM webhook_endpoints WHERE position(? in encode(secret_sealed, 'escape')) > 0", secret), "sealed at rest")
	again, others, err := b.ClaimForEmail(b.ctx, e.ID)
	require.NoError(t, err)
	require.Empty(t, again, "leased")
	require.Empty(t, others)

	require.NoError(t, b.SettleDelivery(b.ctx, due[0].Delivery, endpoint.Result{Verdict: endpoint.VerdictDelivered, Status: 204}))
	require.NoError(t, b.SettleDelivery(b.ctx, due[1].Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 429, RetryAfter: time.Hour}))
	waiting, next, err := b.EndpointBacklog(b.ctx, due[0].Endpoint.ID)
	require.NoError(t, err)
	require.Equal(t, 1, waiting)
	require.WithinDuration(t, time.Now().Add(time.Hour), next, 10*time.Second, "what the endpoint asked for")
	got, err := b.ClaimForEndpoint(b.ctx, due[0].Endpoint.ID, 10)
	require.NoError(t, err)
	require.Empty(t, got, "not before")
	b.exec("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'pending'")
	got, err = b.ClaimForEndpoint(b.ctx, due[0].Endpoint.ID, 10)
	require.NoError(t, err)
	require.Equal(t, due[1].Delivery.ID, got[0].Delivery.ID, "the same id on every attempt")
	require.Equal(t, due[1].Delivery.Body, got[0].Delivery.Body)
	require.Equal(t, 1, got[0].Delivery.Attempts)
}

func TestABusyEndpointIsLeftToItsRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	one, two := b.accept(message("bob@x.test")), b.accept(message("bob@x.test"))
	b.attempt(one.ID, 1, delivered)
	b.attempt(two.ID, 1, delivered)
	due, others, err := b.ClaimForEmail(b.ctx, two.ID)
	require.NoError(t, err)
	require.Empty(t, due)
	require.Len(t, others, 1)
	all, err := b.ClaimForEndpoint(b.ctx, others[0], 3)
	require.NoError(t, err)
	require.Len(t, all, 3)
}

func TestAGoneEndpointGetsNothingMore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	e := b.accept(message("bob@x.test"))
	b.attempt(e.ID, 1, delivered)
	due, _, err := b.ClaimForEmail(b.ctx, e.ID)
	require.NoError(t, err)
	require.NoError(t, b.SettleDelivery(b.ctx, due[0].Delivery, endpoint.Result{Verdict: endpoint.VerdictGone, Status: 410}))
	waiting, _, err := b.EndpointBacklog(b.ctx, due[0].Endpoint.ID)
	require.NoError(t, err)
	require.Zero(t, waiting)
	next := b.accept(message("bob@x.test"))
	b.attempt(next.ID, 1, delivered)
	require.Zero(t, b.count("SELECT count(*) FROM webhook_deliveries WHERE email_id = ?", next.ID))
	b.hook("https://b.test/in")
	waiting, _, err = b.EndpointBacklog(b.ctx, due[0].Endpoint.ID)
	require.NoError(t, err)
	require.Equal(t, 1, waiting, "another address: what was recorded goes there")
}

func TestADeliveryEndsWithItsSchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hook("https://a.test/in")
	e := b.accept(message("bob@x.test"))
	b.attempt(e.ID, 1, delivered)
	due, _, err := b.ClaimForEmail(b.ctx, e.ID)
	require.NoError(t, err)
	d := due[0]
	for d.Delivery.Attempts = 0; d.Delivery.Attempts < 10; d.Delivery.Attempts++ {
		require.Equal(t, 2, b.count("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"))
		require.NoError(t, b.SettleDelivery(b.ctx, d.Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 500, Error: "the endpoint answered 500"}))
	}
	require.Equal(t, 1, b.count("SELECT count(*) FROM webhook_deliveries WHERE status = 'failed' AND attempts = 10 AND last_code = 500"))
}

func TestDefaultEventsAreOutcomes(t *testing.T) {
	t.Parallel()
	require.NotContains(t, email.DefaultWebhookEvents(), email.EventQueued)
	require.NotContains(t, email.DefaultWebhookEvents(), email.EventSending)
	require.Contains(t, email.DefaultWebhookEvents(), email.EventCompleted)
}

// TestCallbacks: one endpoint per customer and URL, told of its own e-mails only.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := message("bob@x.test")
	m.CallbackURL = "https://a.test/done"
	one := b.accept(m)
	require.Equal(t, m.CallbackURL, one.CallbackURL)
	require.Equal(t, m.CallbackURL, b.get(one.ID).CallbackURL)
	two := b.accept(m)
	other := b.accept(message("bob@x.test"))
	require.Equal(t, 1, b.count("SELECT count(*) FROM webhook_endpoints WHERE kind = 'callback'"))
	require.Zero(t, b.attempt(other.ID, 1, delivered).Webhooks, "that one has none")
	require.Equal(t, 2, b.attempt(one.ID, 1, delivered).Webhooks)
	due, _, err := b.ClaimForEmail(b.ctx, one.ID)
	require.NoError(t, err)
	require.Len(t, due, 2)
	require.Equal(t, m.CallbackURL, due[0].Endpoint.URL)
	secret, err := b.WebhookSecret(b.ctx, b.customer)
	require.NoError(t, err)
	require.Equal(t, secret, due[0].Endpoint.Secrets[0].Reveal(), "signed with the customer's secret")

	b.hook("https://a.test/all")
	require.Equal(t, 4, b.attempt(two.ID, 1, delivered).Webhooks, "the customer's webhook is told besides")
	b.exec("UPDATE webhook_endpoints SET tags = '{vip}' WHERE kind = 'customer'")
	m.CallbackURL, m.Tags = "", []string{"vip", "x"}
	require.Equal(t, 2, b.attempt(b.accept(m).ID, 1, delivered).Webhooks)
	m.Tags = []string{"x"}
	require.Zero(t, b.attempt(b.accept(m).ID, 1, delivered).Webhooks, "none of its tags")
	b.exec("UPDATE webhook_endpoints SET tags = '{}', streams = '{broadcast}' WHERE kind = 'customer'")
	require.Zero(t, b.attempt(b.accept(m).ID, 1, delivered).Webhooks, "not its stream")
}
