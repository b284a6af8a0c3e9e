package dispatch_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/dispatch"
	"github.com/postrider/postrider/internal/logtest"
)

const patience = 30 * time.Second

// outbox hands out what a test puts in, once.
type outbox struct {
	mu        sync.Mutex
	starts    []delivery.Start
	overdue   []delivery.Start
	returned  []delivery.Start
	unpaused  []delivery.Wake
	leased    map[string]delivery.Wake
	batches   []delivery.Start
	endpoints []string
	domains   []string
	held      []delivery.Start
	expired   int // sweeps
	wakes     []delivery.Wake
	woken     []string
	// waitsSince is when starts came, by workflow id; others have waited for long.
	waitsSince map[string]time.Time
	// hearers hear announcements.
	hearers []func(delivery.StartKind)
}

func (o *outbox) AnnounceStarts(_ context.Context, kind delivery.StartKind) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, heard := range o.hearers {
		heard(kind)
	}
	return nil
}

func (o *outbox) HearStarts(ctx context.Context, heard func(delivery.StartKind)) error {
	o.mu.Lock()
	o.hearers = append(o.hearers, heard)
	o.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (o *outbox) ClaimBatches(_ context.Context, c delivery.Claim) ([]delivery.Start, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.claim(&o.batches, c), nil
}

// claim takes starts of a stream out of all.
func (o *outbox) claim(all *[]delivery.Start, c delivery.Claim) (out []delivery.Start) {
	var left []delivery.Start
	for _, s := range *all {
		if s.Stream == c.Stream && len(out) < c.Limit && time.Since(o.waitsSince[s.WorkflowID]) >= c.Waited {
			out = append(out, s)
		} else {
			left = append(left, s)
		}
	}
	*all = left
	return out
}

func (o *outbox) HoldTerminated(_ context.Context, run delivery.Start) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = append(o.held, run)
	return nil
}

func (o *outbox) ExpireOverdue(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expired++
	return nil
}

func (o *outbox) ClaimUnpaused(_ context.Context, _ time.Duration, limit int) ([]delivery.Wake, error) {
	return claimSome(o, &o.unpaused, limit), nil
}

func (o *outbox) ClaimWakes(_ context.Context, _ time.Duration, limit int) ([]delivery.Wake, error) {
	return claimSome(o, &o.wakes, limit), nil
}

// claimSome takes the first elements out of all, at most limit.
func claimSome[T any](o *outbox, all *[]T, limit int) (out []T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(limit, len(*all))
	out, *all = (*all)[:n:n], (*all)[n:]
	return out
}

func (o *outbox) Wakes(_ context.Context, ids []string) (out []delivery.Wake, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		if w, ok := o.leased[id]; ok {
			out = append(out, w)
		}
	}
	return out, nil
}

// lease adds an order that a caller of Wake has.
func (o *outbox) lease(w delivery.Wake) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leased == nil {
		o.leased = map[string]delivery.Wake{}
	}
	for _, id := range w.IDs {
		o.leased[id] = w
	}
	return w.IDs
}

func (o *outbox) Woken(_ context.Context, ids []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.woken = append(o.woken, ids...)
	return nil
}

func (o *outbox) LeaveWorkflowID(_ context.Context, id string) (string, error) {
	return email.WorkflowIDPrefix + id, nil
}

func (o *outbox) Housekeep(context.Context) error { return nil }

func (o *outbox) holds() []delivery.Start {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.held)
}

// expiries is how often mail was looked for whose deadline has passed.
func (o *outbox) expiries() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.expired
}

func (o *outbox) ClaimStarts(_ context.Context, c delivery.Claim) ([]delivery.Start, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.claim(&o.starts, c), nil
}

func (o *outbox) ClaimOverdue(_ context.Context, limit int) ([]delivery.Start, error) {
	return claimSome(o, &o.overdue, limit), nil
}

func (o *outbox) ReturnOverdue(_ context.Context, runs []delivery.Start) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.returned = append(o.returned, runs...)
	return nil
}

func (o *outbox) OverdueEndpoints(context.Context) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.endpoints
	o.endpoints = nil
	return out, nil
}

func (o *outbox) ClaimOverdueDomains(_ context.Context, limit int) ([]string, error) {
	return claimSome(o, &o.domains, limit), nil
}

func (o *outbox) order(wakes ...delivery.Wake) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wakes = append(o.wakes, wakes...)
}

// free adds an order of ClaimUnpaused.
func (o *outbox) free(w delivery.Wake) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unpaused = append(o.unpaused, w)
}

// handedOut reports that no order is left.
func (o *outbox) handedOut() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.wakes) == 0 && len(o.unpaused) == 0
}

func (o *outbox) carriedOut() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.woken...)
}

func (o *outbox) put(s delivery.Start) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.starts = append(o.starts, s)
}

func server(t *testing.T, dir string, port int) *devstack.Temporal {
	t.Helper()
	return serverWith(t, devstack.TemporalOptions{Dir: dir, Port: port})
}

func serverWith(t *testing.T, o devstack.TemporalOptions) *devstack.Temporal {
	t.Helper()
	cli, err := devstack.TemporalCLI(t.Context(), "../../tools/temporal", "../../.postrider/tools", nil)
	require.NoError(t, err)
	o.CLI, o.Headless = cli, true
	s, err := devstack.StartTemporal(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	return s
}

func lazy(t *testing.T, addr string) client.Client {
	t.Helper()
	c, err := client.NewLazyClient(client.Options{HostPort: addr, Logger: temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func start() delivery.Start {
	id := uuid.NewString()
	return delivery.Start{EmailID: id, WorkflowID: email.WorkflowIDPrefix + id, CustomerID: uuid.NewString(), Stream: email.StreamTransactional}
}

// status reports the status of a workflow id's latest run; unspecified if there is none.
func status(t *testing.T, c client.Client, id string) enumspb.WorkflowExecutionStatus {
	t.Helper()
	d, err := c.DescribeWorkflowExecution(t.Context(), id, "")
	if err != nil {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED
	}
	return d.GetWorkflowExecutionInfo().GetStatus()
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	temporal := server(t, "", 0)
	// The dispatcher's client is its own until it has connected; c looks on.
	c := lazy(t, temporal.Address())
	ctx, cancel := context.WithCancel(t.Context())
	log := &logtest.Buffer{}
	box := &outbox{}
	d := dispatch.New(lazy(t, temporal.Address()), box, slog.New(slog.NewTextHandler(log, nil)))

	// Search attributes: missing, waited for, created, of the wrong type.
	waited := make(chan error, 1)
	go func() {
		waited <- dispatch.AwaitSearchAttributes(ctx, c, "default", slog.New(slog.NewTextHandler(log, nil)))
	}()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "postrider migrate up") }, patience, 20*time.Millisecond)
	require.NoError(t, dispatch.EnsureSearchAttributes(ctx, c, "default"))
	require.NoError(t, dispatch.EnsureSearchAttributes(ctx, c, "default"), "again is harmless")
	require.NoError(t, <-waited)

	done := make(chan struct{})
	early := d.Wake(ctx, box.lease(delivery.Wake{IDs: []string{"early"}, Start: start()}))
	require.ErrorContains(t, early, "not answered yet")
	go func() { d.Run(ctx); close(done) }()
	<-d.Connected()
	running := func(id string) {
		t.Helper()
		require.Eventually(t, func() bool { return status(t, c, id) == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING }, patience, 20*time.Millisecond, log.String())
	}

	accepted := start()
	d.Accepted(email.Email{ID: accepted.EmailID, CustomerID: accepted.CustomerID, WorkflowID: accepted.WorkflowID, Message: email.Message{Stream: accepted.Stream}})
	running(accepted.WorkflowID)
	described, err := c.DescribeWorkflowExecution(ctx, accepted.WorkflowID, "")
	require.NoError(t, err)
	first := described.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	place := described.GetWorkflowExecutionInfo().GetPriority()
	require.EqualValues(t, email.PriorityTransactional, place.GetPriorityKey(), "harmless where the server does not order by it")
	require.Equal(t, accepted.CustomerID, place.GetFairnessKey())
	attributes := described.GetWorkflowExecutionInfo().GetSearchAttributes().GetIndexedFields()
	require.Equal(t, `"queued"`, string(attributes[email.SearchAttributeStatus].GetData()), "a backlog can be listed while no worker runs")
	box.put(accepted) // a sweep that comes on top
	swept := start()
	box.put(swept)
	running(swept.WorkflowID)
	described, err = c.DescribeWorkflowExecution(ctx, accepted.WorkflowID, "")
	require.NoError(t, err)
	require.Equal(t, first, described.GetWorkflowExecutionInfo().GetExecution().GetRunId(), "one too many changes nothing")

	// These are orders that this process has leased.
	resumed, canceled := start(), start()
	require.NoError(t, d.Wake(ctx, append(box.lease(delivery.Wake{IDs: []string{"a"}, Start: accepted}), box.lease(delivery.Wake{IDs: []string{"b"}, Start: resumed})...)))
	require.NoError(t, d.Wake(ctx, box.lease(delivery.Wake{IDs: []string{"c"}, Start: canceled, Ended: true})))
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, status(t, c, canceled.WorkflowID), "what is finished needs no run")
	require.NoError(t, d.Wake(ctx, []string{"a sweep was first"}))
	running(resumed.WorkflowID)
	require.ElementsMatch(t, []string{"a", "b", "c"}, box.carriedOut(), "the sweep does not signal them again")
	// Orders of a process that does not talk to Temporal: an open e-mail gets a run, a
	// finished one gets none, and the order is deleted when the run has its signal.
	ordered, ended := start(), start()
	box.order(delivery.Wake{IDs: []string{"1", "2"}, Start: ordered}, delivery.Wake{IDs: []string{"3"}, Start: ended, Ended: true},
		delivery.Wake{IDs: []string{"4"}, Start: resumed, Ended: true})
	running(ordered.WorkflowID)
	require.Eventually(t, func() bool { return len(box.carriedOut()) == 7 }, patience, 20*time.Millisecond, log.String())
	require.ElementsMatch(t, []string{"a", "b", "c", "1", "2", "3", "4"}, box.carriedOut())
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, status(t, c, ended.WorkflowID))
	endpoint := uuid.NewString()
	require.NoError(t, d.WakeEndpoint(ctx, endpoint))
	require.NoError(t, d.WakeEndpoint(ctx, endpoint))
	running(email.WebhookWorkflowIDPrefix + endpoint)
	cancel()
	<-done

	_, err = c.OperatorService().RemoveSearchAttributes(t.Context(), &operatorservice.RemoveSearchAttributesRequest{Namespace: "default", SearchAttributes: []string{email.SearchAttributeRelay}})
	require.NoError(t, err)
	_, err = c.OperatorService().AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{Namespace: "default",
		SearchAttributes: map[string]enumspb.IndexedValueType{email.SearchAttributeRelay: enumspb.INDEXED_VALUE_TYPE_INT}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		err := dispatch.EnsureSearchAttributes(t.Context(), c, "default")
		return err != nil && strings.Contains(err.Error(), "search-attribute remove --name EmailRelay")
	}, patience, 50*time.Millisecond, "the error says what to do")
}

func TestOverdueIsWokenAndStartedAgain(t *testing.T) {
	t.Parallel()
	temporal := serverWith(t, devstack.TemporalOptions{DynamicConfig: map[string]string{"limit.historyCount.error": "20"}})
	c := lazy(t, temporal.Address())
	require.NoError(t, dispatch.EnsureSearchAttributes(t.Context(), c, "default"))
	lost, stopped, stale, late := start(), start(), uuid.NewString(), uuid.NewString()
	// A run whose history is too large, which Temporal terminates itself.
	exceeded := start()
	_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: exceeded.WorkflowID, TaskQueue: email.TaskQueue}, email.WorkflowSendEmail)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_ = c.SignalWorkflow(t.Context(), exceeded.WorkflowID, "", email.SignalWake, nil) // the last one says that it is over
		return status(t, c, exceeded.WorkflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	}, patience, time.Millisecond)
	_, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: stopped.WorkflowID, TaskQueue: email.TaskQueue}, email.WorkflowSendEmail)
	require.NoError(t, err)
	require.NoError(t, c.TerminateWorkflow(t.Context(), stopped.WorkflowID, "", "enough"))
	// The id of a direct start is its caller's, who may use it for something else.
	astray := start()
	astray.WorkflowID = "order-5"
	_, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: astray.WorkflowID, TaskQueue: "orders"}, "ConfirmOrder")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	freed := start()
	box := &outbox{overdue: []delivery.Start{stopped, lost, astray, exceeded}, unpaused: []delivery.Wake{{IDs: []string{"freed"}, Start: freed}}, endpoints: []string{stale}, domains: []string{late}}
	d := dispatch.New(lazy(t, temporal.Address()), box, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	for _, id := range []string{lost.WorkflowID, exceeded.WorkflowID, email.WorkflowIDPrefix + astray.EmailID, freed.WorkflowID, email.WebhookWorkflowIDPrefix + stale, email.DomainWorkflowIDPrefix + late} {
		require.Eventually(t, func() bool { return status(t, c, id) == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING }, patience, 20*time.Millisecond)
	}
	require.Eventually(t, func() bool { return len(box.carriedOut()) == 1 }, patience, 20*time.Millisecond)
	require.Equal(t, []string{"freed"}, box.carriedOut())
	require.Equal(t, []delivery.Start{stopped}, box.holds(), "terminated means stop")
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, status(t, c, stopped.WorkflowID), "never resurrected")
	cancel()
	<-done
}

func TestTemporalAwayIsADelay(t *testing.T) {
	t.Parallel()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "state")
	temporal := server(t, dir, port)
	c := lazy(t, temporal.Address())
	require.NoError(t, dispatch.EnsureSearchAttributes(t.Context(), c, "default"))
	require.NoError(t, temporal.Stop(t.Context()))

	log := &logtest.Buffer{}
	box := &outbox{}
	ctx, cancel := context.WithCancel(t.Context())
	d := dispatch.New(lazy(t, temporal.Address()), box, slog.New(slog.NewTextHandler(log, nil)))
	added := make(chan struct{}, 1)
	d.AddSweep(time.Millisecond, func(ctx context.Context) error {
		select {
		case added <- struct{}{}:
		case <-ctx.Done():
		}
		return nil
	})
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	<-added // an added sweep runs without Temporal
	<-added
	s := start()
	box.put(s)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "temporal.away") }, patience, 20*time.Millisecond)
	require.Eventually(t, func() bool { return box.expiries() > 0 }, patience, 20*time.Millisecond, "mail expires without Temporal")
	again := server(t, dir, port)
	box.put(s) // its lease has run out
	require.Eventually(t, func() bool { return status(t, c, s.WorkflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING }, patience, 50*time.Millisecond, log.String())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "temporal.back") }, patience, 50*time.Millisecond)
	require.Equal(t, 1, strings.Count(log.String(), "temporal.away"), "it is said once")

	// Orders stay until their runs have the signal.
	require.NoError(t, again.Stop(t.Context()))
	acted, freed, swept := start(), start(), start()
	box.free(delivery.Wake{IDs: []string{"freed"}, Start: freed})
	box.order(delivery.Wake{IDs: []string{"swept"}, Start: swept})
	require.ErrorContains(t, d.Wake(ctx, box.lease(delivery.Wake{IDs: []string{"acted"}, Start: acted})), "temporal does not answer")
	require.Eventually(t, box.handedOut, patience, 20*time.Millisecond)
	require.Empty(t, box.carriedOut())
	server(t, dir, port)
	require.Eventually(t, func() bool {
		done := box.carriedOut()
		if box.handedOut() { // the leases of the rest run out
			for id, s := range map[string]delivery.Start{"acted": acted, "freed": freed, "swept": swept} {
				if !slices.Contains(done, id) {
					box.order(delivery.Wake{IDs: []string{id}, Start: s})
				}
			}
		}
		return slices.Contains(done, "acted") && slices.Contains(done, "freed") && slices.Contains(done, "swept")
	}, patience, 50*time.Millisecond, log.String())
	for _, s := range []delivery.Start{acted, freed, swept} {
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, status(t, c, s.WorkflowID))
	}
	cancel()
	<-done
}
