package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/webhook"
)

// webhookCall is a webhook call as the receiver saw it.
type webhookCall struct {
	at      time.Duration
	id      string
	attempt int
	body    string
	header  http.Header
	status  int
}

// receiver answers webhook calls by virtual time, and keeps them.
type receiver struct {
	v      *virtual
	answer func(at time.Duration, w http.ResponseWriter) int

	mu    sync.Mutex
	calls []webhookCall
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := r.v.Now().Sub(virtualStart)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller has gone, which it will see
	}
	attempt, _ := strconv.Atoi(req.Header.Get(webhook.HeaderAttempt)) // 0 is no attempt's number
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.answer(at, w)
	r.calls = append(r.calls, webhookCall{at: at, id: req.Header.Get(webhook.HeaderID), attempt: attempt, body: string(body), header: req.Header.Clone(), status: status})
	w.WriteHeader(status)
}

// all are the calls so far.
func (r *receiver) all() []webhookCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// wakeRoot is the dispatcher: it has tellAll wake the endpoint's run.
type wakeRoot struct{ v *virtual }

const signalTell = "tell"

func (w wakeRoot) WakeEndpoint(context.Context, string) error {
	w.v.SignalWorkflow(signalTell, nil)
	return nil
}

func (w wakeRoot) WakeDomain(context.Context, string) error { return nil }

func (w wakeRoot) Wake(context.Context, []string) error { return nil }

type tellAllInput struct {
	IDs        []string
	Every      time.Duration
	EndpointID string
}

// tellAll sends an e-mail now and then, and keeps the endpoint's run as the
// dispatcher does: started, or signaled where there is one. A minute after each
// e-mail it sweeps.
func tellAll(ctx workflow.Context, in tellAllInput) error {
	var runs []workflow.ChildWorkflowFuture
	wake := func(ctx workflow.Context) error {
		if n := len(runs); n > 0 && !runs[n-1].IsReady() {
			return runs[n-1].SignalChildWorkflow(ctx, email.SignalWake, nil).Get(ctx, nil)
		}
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: email.WebhookWorkflowIDPrefix + in.EndpointID})
		runs = append(runs, workflow.ExecuteChildWorkflow(child, email.WorkflowDeliverWebhooks, email.DeliverWebhooksInput{EndpointID: in.EndpointID}))
		return nil
	}
	var failed error
	workflow.Go(ctx, func(ctx workflow.Context) {
		wakes := workflow.GetSignalChannel(ctx, signalTell)
		for failed == nil {
			wakes.Receive(ctx, nil)
			failed = wake(ctx)
		}
	})
	for _, id := range in.IDs {
		if err := sendAll(ctx, []string{id}); err != nil {
			return err
		}
		if err := workflow.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		if err := wake(ctx); err != nil {
			return err
		}
		if err := workflow.Sleep(ctx, in.Every-time.Minute); err != nil {
			return err
		}
	}
	for i := 0; i < len(runs); i++ { // more may come meanwhile
		if err := runs[i].Get(ctx, nil); err != nil {
			return err
		}
	}
	return failed
}

// addEndpoint makes an endpoint with a receiver, and returns its secret.
func (v *virtual) addEndpoint(events []string, answer func(at time.Duration, w http.ResponseWriter) int) (r *receiver, e endpoint.Endpoint, secret string) {
	v.t.Helper()
	r = &receiver{v: v, answer: answer}
	srv := httptest.NewServer(r)
	v.t.Cleanup(srv.Close)
	v.RegisterWorkflow(tellAll)
	v.poster = webhook.NewPoster(safehttp.New(safehttp.Options{AllowHTTP: true, AllowLoopback: true}), "test").WithClock(v.Now)
	v.waker = wakeRoot{v}
	e, secret, err := v.store.Webhooks.CreateEndpoint(v.t.Context(), endpoint.Endpoint{CustomerID: v.customer, URL: srv.URL, Method: http.MethodPost,
		Format: endpoint.FormatStandard, Events: events})
	require.NoError(v.t, err)
	v.listen(nil, "", until(0, "", ""))
	v.connect("", v.peer.Addr())
	return r, e, secret
}

func (v *virtual) tell(e endpoint.Endpoint, every time.Duration, ids ...string) {
	v.t.Helper()
	v.ExecuteWorkflow(tellAll, tellAllInput{IDs: ids, Every: every, EndpointID: e.ID})
	require.True(v.t, v.IsWorkflowCompleted())
	require.NoError(v.t, v.GetWorkflowError())
}

// verifies asks the official library. It knows the time as it is, not ours, which
// is therefore compared here.
func (v *virtual) verifies(secret string, c webhookCall) bool {
	v.t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	require.NoError(v.t, err)
	ts, err := strconv.ParseInt(c.header.Get(webhook.HeaderTimestamp), 10, 64)
	require.NoError(v.t, err)
	require.WithinDuration(v.t, virtualStart.Add(c.at), time.Unix(ts, 0), 2*time.Second, "of the attempt, not of the event")
	return wh.VerifyIgnoringTimestamp([]byte(c.body), c.header) == nil
}

// A receiver that is down for two days misses nothing: every event comes, under the
// id and with the bytes of its first attempt, and the sequence has no gap.
func TestVirtualReceiverDownForTwoDays(t *testing.T) {
	t.Parallel()
	const down = 48 * time.Hour
	v := newVirtual(t)
	r, e, secret := v.addEndpoint(endpoint.Events(endpoint.FormatStandard), func(at time.Duration, _ http.ResponseWriter) int {
		if at < down {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	var ids []string
	for range 50 { // one an hour
		ids = append(ids, v.accept(time.Time{}, "a@x.test", "b@y.test"))
	}
	v.tell(e, time.Hour, ids...)

	bodies, attempts := map[string]string{}, map[string]int{}
	delivered := map[string]int{}
	sequences := map[string][]int64{}
	for _, c := range r.all() {
		require.True(t, v.verifies(secret, c))
		if first, ok := bodies[c.id]; ok {
			require.Equal(t, first, c.body, "the same bytes on every attempt")
		}
		bodies[c.id] = c.body
		attempts[c.id]++
		require.Equal(t, attempts[c.id], c.attempt)
		if c.status != http.StatusOK {
			continue
		}
		require.GreaterOrEqual(t, c.at, down)
		if delivered[c.id]++; delivered[c.id] > 1 {
			continue
		}
		var body struct {
			Data struct {
				EmailID  string `json:"email_id"`
				Sequence int64  `json:"sequence"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(c.body), &body))
		sequences[body.Data.EmailID] = append(sequences[body.Data.EmailID], body.Data.Sequence)
	}
	require.Len(t, sequences, len(ids))
	for _, id := range ids {
		got := sequences[id]
		slices.Sort(got)
		require.Equal(t, []int64{1, 2, 3, 4, 5}, got, "queued, sending, delivered twice, completed")
		require.Equal(t, email.StatusDelivered, v.email(id).Status)
	}
	require.Len(t, delivered, 5*len(ids))
	for id, n := range delivered {
		require.Equal(t, 1, n, "and once: %s", id)
		require.LessOrEqual(t, attempts[id], 10)
	}
	require.Less(t, len(r.all())-len(delivered), 48*60/5+200, "while it is down, one call finds that out")
	backlog, err := v.store.Webhooks.EndpointBacklog(t.Context(), e.ID)
	require.NoError(t, err)
	require.Zero(t, backlog.Waiting)
	require.Zero(t, backlog.Endpoint.Failures)
	for _, at := range v.received("MAIL") {
		require.Zero(t, at%time.Hour/time.Minute, "mail never waits for it")
	}
}

// After a reply with Retry-After of an hour, the receiver gets no call for an hour, also not
// for new events.
func TestVirtualRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	r, e, _ := v.addEndpoint([]string{"email.completed"}, func(at time.Duration, w http.ResponseWriter) int {
		if at < time.Hour {
			w.Header().Set("Retry-After", "3600")
			return http.StatusTooManyRequests
		}
		return http.StatusOK
	})
	var ids []string
	for range 6 { // one every ten minutes
		ids = append(ids, v.accept(time.Time{}, "a@x.test"))
	}
	v.tell(e, 10*time.Minute, ids...)
	calls := r.all()
	require.Equal(t, http.StatusTooManyRequests, calls[0].status)
	require.Equal(t, 1+len(ids), len(calls), "one call is refused, and all that waited comes afterwards")
	for _, c := range calls[1:] {
		require.GreaterOrEqual(t, c.at, calls[0].at+time.Hour)
		require.Equal(t, http.StatusOK, c.status)
	}
	require.Less(t, calls[1].at, calls[0].at+time.Hour+2*time.Minute)
}

// The official library verifies the calls: before a rotation with the old secret, for a day
// with both secrets, and then with the new one only.
func TestVirtualRotation(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	r, e, old := v.addEndpoint([]string{"email.delivered", "email.completed"}, func(time.Duration, http.ResponseWriter) int { return http.StatusOK })
	var fresh string
	v.RegisterDelayedCallback(func() {
		var err error
		_, fresh, err = v.store.Webhooks.RotateSecret(t.Context(), v.customer, e.ID)
		require.NoError(t, err)
	}, time.Hour)
	ids := []string{v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@x.test"), v.accept(time.Time{}, "c@x.test")}
	v.tell(e, 13*time.Hour, ids...)
	seen := map[time.Duration]int{}
	for _, c := range r.all() {
		hour := c.at.Truncate(time.Hour)
		seen[hour]++
		switch hour {
		case 0:
			require.True(t, v.verifies(old, c))
			require.False(t, v.verifies(fresh, c))
		case 13 * time.Hour:
			require.True(t, v.verifies(old, c))
			require.True(t, v.verifies(fresh, c))
		default:
			require.False(t, v.verifies(old, c))
			require.True(t, v.verifies(fresh, c))
		}
	}
	require.Equal(t, map[time.Duration]int{0: 2, 13 * time.Hour: 2, 26 * time.Hour: 2}, seen)
}
