package webhooks_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// TestNobodyWakesAnEndpointThatIsLookedAfter: its run is at work, or it is left alone.
// Ten thousand events while it is down are not ten thousand signals to its run.
func TestNobodyWakesAnEndpointThatIsLookedAfter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint("email.completed")
	one := b.Accept(dbsetup.Message("bob@x.test"))
	require.Equal(t, 1, b.Attempt(one.ID, 1, dbsetup.Delivered).Webhooks)
	first, _, err := b.Webhooks.ClaimForEmail(b.Ctx, one.ID)
	require.NoError(t, err)

	two := b.Accept(dbsetup.Message("bob@x.test"))
	require.Equal(t, 1, b.Attempt(two.ID, 1, dbsetup.Delivered).Webhooks)
	due, others, err := b.Webhooks.ClaimForEmail(b.Ctx, two.ID)
	require.NoError(t, err)
	require.Empty(t, due)
	require.Equal(t, []string{e.ID}, others)

	require.NoError(t, b.Webhooks.BeginRound(b.Ctx, e.ID))
	require.Zero(t, b.Record(two.ID, 1).Webhooks, "FireWebhooks has nothing to do")
	_, others, err = b.Webhooks.ClaimForEmail(b.Ctx, two.ID)
	require.NoError(t, err)
	require.Empty(t, others)
	b.Exec("UPDATE webhook_deliveries SET next_attempt_at = now() - interval '3 seconds', lease_until = NULL")
	require.Empty(t, b.overdue())
	require.Equal(t, 2, b.backlog(e.ID).Waiting, "what came during the round is seen at its end")
	require.Equal(t, []string{e.ID}, b.overdue())
	_, others, err = b.Webhooks.ClaimForEmail(b.Ctx, two.ID)
	require.NoError(t, err)
	require.Equal(t, []string{e.ID}, others, "and what comes later wakes the run")

	b.settle(first[0].Delivery, endpoint.VerdictRetry, 503)
	require.Zero(t, b.Record(two.ID, 1).Webhooks)
	require.Empty(t, b.overdue())
	b.Exec("UPDATE webhook_endpoints SET blocked_until = now() - interval '3 seconds'")
	require.Equal(t, []string{e.ID}, b.overdue(), "a run that was lost is made good")
}

// TestOneEndpointThatIsDownHoldsNoOtherBack: what is for the other is fired at once.
func TestOneEndpointThatIsDownHoldsNoOtherBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	down, _ := b.endpoint("email.completed")
	b.Exec("UPDATE webhook_endpoints SET failures = 1, failing_since = now(), blocked_until = now() + interval '1 hour' WHERE id = ?", down.ID)
	first := b.Accept(dbsetup.Message("bob@x.test"))
	require.Zero(t, b.Attempt(first.ID, 1, dbsetup.Delivered).Webhooks, "left alone")
	up, _ := b.endpoint("email.completed")
	mail := b.Accept(dbsetup.Message("bob@x.test"))
	require.Equal(t, 1, b.Attempt(mail.ID, 1, dbsetup.Delivered).Webhooks)
	due, others, err := b.Webhooks.ClaimForEmail(b.Ctx, mail.ID)
	require.NoError(t, err)
	require.Empty(t, others)
	require.Len(t, due, 1)
	require.Equal(t, up.ID, due[0].Endpoint.ID)
}

func (b *bench) overdue() []string {
	b.T.Helper()
	ids, err := b.Webhooks.OverdueEndpoints(b.Ctx)
	require.NoError(b.T, err)
	return ids
}

func TestOverdueEndpointsAreFoundAmongMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []string
	for range 5 {
		e, _ := b.endpoint()
		for range 3 {
			_, err := b.Webhooks.TestEndpoint(b.Ctx, b.Customer, e.ID)
			require.NoError(t, err)
		}
		want = append(want, e.ID)
	}
	require.Empty(t, b.overdue(), "not late yet")
	b.Exec("UPDATE webhook_deliveries SET next_attempt_at = now() - interval '3 seconds'")
	require.ElementsMatch(t, want, b.overdue())
}

// TestCallsThatFailTogetherAreOneFailure: five at a time must not make the sixth wait
// as long as if the endpoint had been found down five times.
func TestCallsThatFailTogetherAreOneFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint("email.completed")
	for range 5 {
		b.Attempt(b.Accept(dbsetup.Message("bob@x.test")).ID, 1, dbsetup.Delivered)
	}
	due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 5)
	require.NoError(t, err)
	require.Len(t, due, 5)
	for _, d := range due[:4] {
		b.settle(d.Delivery, endpoint.VerdictRetry, 503)
	}
	got, err := b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Equal(t, 1, got.Failures)
	require.NoError(t, b.Webhooks.RecordDelivery(b.Ctx, due[4].Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 429, RetryAfter: time.Hour}))
	got, err = b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.Equal(t, 1, got.Failures)
	require.WithinDuration(t, time.Now().Add(time.Hour), got.BlockedUntil, 10*time.Second, "the longest wait holds")
}

func TestATestGoesBeforeAllThatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint("email.completed")
	for range 3 {
		b.Attempt(b.Accept(dbsetup.Message("bob@x.test")).ID, 1, dbsetup.Delivered)
	}
	due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 1)
	require.NoError(t, err)
	b.settle(due[0].Delivery, endpoint.VerdictRetry, 503)
	tried, err := b.Webhooks.TestEndpoint(b.Ctx, b.Customer, e.ID)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), b.backlog(e.ID).NextAt, 2*time.Second)
	due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.Equal(t, tried.ID, due[0].Delivery.ID)
	b.settle(due[0].Delivery, endpoint.VerdictDelivered, 200)
	due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 10)
	require.NoError(t, err)
	require.Len(t, due, 2, "it is back: so is what waited, each at its time")
}

func TestAFreshStart(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]func(*bench, endpoint.Endpoint) (endpoint.Endpoint, error){
		"enabled": func(b *bench, e endpoint.Endpoint) (endpoint.Endpoint, error) {
			return b.Webhooks.EnableEndpoint(b.Ctx, b.Customer, e.ID)
		},
		"another URL": func(b *bench, e endpoint.Endpoint) (endpoint.Endpoint, error) {
			e.URL = "https://b.test/in"
			return b.Webhooks.UpdateEndpoint(b.Ctx, e)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e, _ := b.endpoint("email.completed")
			for range 2 {
				b.Attempt(b.Accept(dbsetup.Message("bob@x.test")).ID, 1, dbsetup.Delivered)
			}
			due, err := b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 2)
			require.NoError(t, err)
			b.settle(due[0].Delivery, endpoint.VerdictRetry, 503)
			b.settle(due[1].Delivery, endpoint.VerdictGone, 410)
			got, err := b.Webhooks.Endpoint(b.Ctx, b.Customer, e.ID)
			require.NoError(t, err)
			require.True(t, got.Disabled)
			got, err = restart(b, got)
			require.NoError(t, err)
			require.False(t, got.Disabled)
			require.Zero(t, got.Failures)
			require.Empty(t, got.LastError)
			require.Zero(t, got.BlockedUntil)
			require.Equal(t, 1, b.backlog(e.ID).Waiting)
			if name == "enabled" {
				due, err = b.Webhooks.ClaimForEndpoint(b.Ctx, e.ID, 2)
				require.NoError(t, err)
				require.Len(t, due, 1, "due at once")
			}
		})
	}
}

func TestVoIPBINEndpointsAreToldAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mail := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(mail.ID, 1, dbsetup.Delivered)
	e, _, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{CustomerID: b.Customer, URL: "https://a.test/v", Method: "POST", Format: endpoint.FormatVoIPBIN, Events: []string{"email_updated"}})
	require.NoError(t, err)
	since, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for range 2 {
		n, err := b.Mail.Replay(b.Ctx, b.Customer, e.ID, since, until, nil)
		require.NoError(t, err)
		require.Equal(t, 2, n, "sending and completed")
	}
	require.Equal(t, 2, b.Count("SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = ? AND type = 'email_updated' AND position('Hi' in body) > 0", e.ID))
}

// TestAReplayHasTheEndpointsTagsAndStreams: an endpoint that names some gets the events of no other
// e-mails. A tag may have any characters.
func TestAReplayHasTheEndpointsTagsAndStreams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	odd := `a "quoted\" tag, {it's}`
	m := dbsetup.Message("bob@x.test")
	m.Tags, m.Stream = []string{odd, "b"}, email.StreamBroadcast
	b.Accept(m)
	b.Accept(dbsetup.Message("ann@x.test"))
	for name, tc := range map[string]struct {
		tags, streams []string
		want          int
	}{
		"no filter":            {want: 2},
		"a tag":                {tags: []string{"other", odd}, want: 1},
		"a tag of none":        {tags: []string{"other"}},
		"a stream":             {streams: []string{"broadcast"}, want: 1},
		"a tag and its stream": {tags: []string{"b"}, streams: []string{"broadcast"}, want: 1},
		"a tag, other stream":  {tags: []string{"b"}, streams: []string{"transactional"}},
	} {
		e, _, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{
			CustomerID: b.Customer, URL: "https://hooks.test/" + url.PathEscape(name), Method: "POST", Format: endpoint.FormatStandard,
			Events: []string{"email.queued"}, Tags: tc.tags, Streams: tc.streams,
		})
		require.NoError(t, err)
		n, err := b.Mail.Replay(b.Ctx, b.Customer, e.ID, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), nil)
		require.NoError(t, err)
		require.Equal(t, tc.want, n, name)
	}
}

// TestAReplayOfManyEvents holds one connection, and few e-mails at a time.
func TestAReplayOfManyEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mail := b.Accept(dbsetup.Message("bob@x.test"))
	b.Exec(`INSERT INTO email_events (id, email_id, customer_id, sequence, type, recipient_id, attempt, at)
		SELECT gen_random_uuid(), email_id, customer_id, 100 + n, 'email.held', recipient_id, attempt, at FROM email_events, generate_series(1, 1200) AS n WHERE email_id = ?`, mail.ID)
	e, _ := b.endpoint("email.held")
	n, err := b.Mail.Replay(b.Ctx, b.Customer, e.ID, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), nil)
	require.NoError(t, err)
	require.Equal(t, 1200, n)
	b.Exec(`INSERT INTO email_events (id, email_id, customer_id, sequence, type, recipient_id, attempt, at)
		SELECT gen_random_uuid(), email_id, customer_id, 2000 + n, 'email.held', recipient_id, attempt, at FROM email_events, generate_series(1, 9000) AS n WHERE email_id = ? AND type = 'email.queued'`, mail.ID)
	_, err = b.Mail.Replay(b.Ctx, b.Customer, e.ID, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), nil)
	require.Equal(t, email.CodeConflict, email.FailureCode(err), "10,200 are too many")
	require.Equal(t, 1200, b.Count("SELECT count(*) FROM webhook_deliveries"))
}

func TestOwnEndpointsAreListedBeforeCallbacks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.CallbackURL = "https://a.test/done"
	b.Accept(m)
	e, _ := b.endpoint()
	es, err := b.Webhooks.Endpoints(b.Ctx, b.Customer)
	require.NoError(t, err)
	require.Len(t, es, 2)
	require.Equal(t, e.ID, es[0].ID, "however many callbacks were first")
	require.Equal(t, endpoint.Outcomes(), es[1].Events)
}

func TestSecretsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint()
	for range 9 {
		_, _, err := b.Webhooks.RotateSecret(b.Ctx, b.Customer, e.ID)
		require.NoError(t, err)
	}
	_, _, err := b.Webhooks.RotateSecret(b.Ctx, b.Customer, e.ID)
	require.Equal(t, email.CodeConflict, email.FailureCode(err))
}

// TestConcurrentCallsKeepTheLimitOfEndpoints: of two calls that make the last one, one is refused.
func TestConcurrentCallsKeepTheLimitOfEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range webhooks.MaxEndpoints - 1 {
		b.endpoint()
	}
	errs := b.WhileInsertsWait("webhook_endpoints", func(int) error {
		_, _, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{CustomerID: b.Customer, URL: "https://a.test/in", Method: "POST", Format: endpoint.FormatStandard})
		return err
	})
	require.Len(t, errs, 1)
	require.Equal(t, email.CodeConflict, email.FailureCode(errs[0]))
}
