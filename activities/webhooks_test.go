package activities

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

func TestFireWebhooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fire := func(waiting int) delivery.FireWebhooksResult {
		val, err := b.env.ExecuteActivity(b.FireWebhooks, delivery.FireWebhooksInput{EmailID: "E", Waiting: waiting})
		require.NoError(t, err)
		var res delivery.FireWebhooksResult
		require.NoError(t, val.Get(&res))
		return res
	}
	fire(0)
	require.Zero(t, b.claims, "a customer without endpoints costs no query")

	delivery := func(id, ep string) endpoint.Due {
		return endpoint.Due{Endpoint: endpoint.Endpoint{ID: ep}, Delivery: endpoint.Delivery{ID: id}}
	}
	b.due = []endpoint.Due{delivery("1", "good"), delivery("2", "bad"), delivery("3", "bad"), delivery("4", "good")}
	b.others = []string{"busy"}
	b.onPost = func(d endpoint.Due) endpoint.Result {
		if d.Endpoint.ID == "bad" {
			return endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 500}
		}
		return endpoint.Result{Verdict: endpoint.VerdictDelivered, Status: 200}
	}
	res := fire(5)
	require.Equal(t, 2, res.Delivered)
	require.Equal(t, 2, res.Pending)
	require.Equal(t, map[string]endpoint.Verdict{"1": endpoint.VerdictDelivered, "2": endpoint.VerdictRetry, "4": endpoint.VerdictDelivered}, b.settled,
		"an endpoint that failed is not called again inline")
	require.ElementsMatch(t, []string{"busy", "bad"}, b.woken)

	require.Equal(t, 1, b.released, "and what it is not called for is given back")
}

func TestDeliverDueWebhooksStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 20 {
		b.due = append(b.due, endpoint.Due{Delivery: endpoint.Delivery{ID: strconv.Itoa(i)}})
	}
	b.onPost = func(endpoint.Due) endpoint.Result {
		return endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 500}
	}
	val, err := b.env.ExecuteActivity(b.DeliverDueWebhooks, email.DeliverWebhooksInput{EndpointID: "bad"})
	require.NoError(t, err)
	var round delivery.DeliverWebhooksResult
	require.NoError(t, val.Get(&round))
	require.NotZero(t, round.Failed)
	require.LessOrEqual(t, round.Failed, webhookConcurrency)
	require.Equal(t, 20, round.Failed+b.released, "what was not attempted once it failed is given back")
	require.Equal(t, 1, round.Waiting)
	require.Equal(t, "hooks.x.test", round.Host, "a path may be secret")
	require.Equal(t, "answered 503", round.Why)
}

// TestDeliverDueWebhooksProbesAFailingEndpoint: the next claim waits for the probe's answer.
func TestDeliverDueWebhooksProbesAFailingEndpoint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	claims := make(chan []endpoint.Due, 3)
	claims <- []endpoint.Due{{Endpoint: endpoint.Endpoint{Failures: 3}, Delivery: endpoint.Delivery{ID: "1"}}}
	claims <- []endpoint.Due{{Delivery: endpoint.Delivery{ID: "2"}}}
	claims <- nil
	answered := make(chan struct{})
	b.onClaim = func() []endpoint.Due {
		if len(claims) == 2 {
			select {
			case <-answered:
			default:
				require.Fail(t, "claimed before the first has answered")
			}
		}
		return <-claims
	}
	b.onPost = func(d endpoint.Due) endpoint.Result {
		if d.Delivery.ID == "1" {
			defer close(answered)
		}
		return endpoint.Result{Verdict: endpoint.VerdictDelivered, Status: 200}
	}
	val, err := b.env.ExecuteActivity(b.DeliverDueWebhooks, email.DeliverWebhooksInput{EndpointID: "E"})
	require.NoError(t, err)
	var round delivery.DeliverWebhooksResult
	require.NoError(t, val.Get(&round))
	require.Equal(t, 2, round.Delivered)
}

// TestDeliverDueWebhooksReleasesACanceledCall: a call canceled by the worker is no failure.
func TestDeliverDueWebhooksReleasesACanceledCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.onPost = func(endpoint.Due) endpoint.Result {
		cancel()
		return endpoint.Result{Verdict: endpoint.VerdictRetry, Error: "canceled"}
	}
	_, err := b.post(ctx, endpoint.Due{Delivery: endpoint.Delivery{ID: "1"}}, time.Second)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, b.settled)
	require.Equal(t, 1, b.released)
	b.onPost = func(endpoint.Due) endpoint.Result {
		return endpoint.Result{Verdict: endpoint.VerdictDelivered, Status: 200}
	}
	ok, err := b.post(ctx, endpoint.Due{Delivery: endpoint.Delivery{ID: "2"}}, time.Second)
	require.NoError(t, err, "what was answered is written all the same")
	require.True(t, ok)
	require.Equal(t, map[string]endpoint.Verdict{"2": endpoint.VerdictDelivered}, b.settled)
}
