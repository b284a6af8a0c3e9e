package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dispatch"
)

// starting is a client that notes which runs it is to start, and answers when it is let.
type starting struct {
	client.Client
	let chan struct{}
	mu  sync.Mutex
	ids []string
	// eager are those of ids that may be eager.
	eager map[string]bool
	err   error
	// slow are the runs of which Temporal answers no call.
	slow map[string]bool
}

func (s *starting) SignalWithStartWorkflow(ctx context.Context, id, _ string, _ any, opts client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error) {
	return s.ExecuteWorkflow(ctx, opts, workflow, args...)
}

func (s *starting) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return nil, serviceerror.NewNotFound("no such run")
}

// fail has starts end with an error.
func (s *starting) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *starting) CheckHealth(context.Context, *client.CheckHealthRequest) (*client.CheckHealthResponse, error) {
	return &client.CheckHealthResponse{}, nil
}

func (s *starting) ExecuteWorkflow(ctx context.Context, opts client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	s.mu.Lock()
	let := s.let
	if s.slow[opts.ID] {
		let = nil
	} else {
		s.ids = append(s.ids, opts.ID)
		if opts.EnableEagerStart {
			s.eager[opts.ID] = true
		}
	}
	s.mu.Unlock()
	select {
	case <-let:
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begun are the workflow ids in the order in which their starts began, when no more begin.
func (s *starting) begun() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

// startBench is a Dispatcher in a bubble with virtual time.
type startBench struct {
	*dispatch.Dispatcher
	client *starting
	box    *outbox
}

// inBubble tests with a Dispatcher that run begins to run.
func inBubble(t *testing.T, test func(t *testing.T, b *startBench, run func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &startBench{client: &starting{let: make(chan struct{}), eager: map[string]bool{}}, box: &outbox{}}
		b.Dispatcher = dispatch.New(b.client, b.box, slog.New(slog.DiscardHandler))
		test(t, b, func() {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { b.Run(ctx); close(done) }()
			t.Cleanup(func() { cancel(); <-done })
		})
	})
}

// kinds make starts: of single mails, and of batches.
var kinds = map[string]func(customerID string, stream email.Stream) delivery.Start{
	"single mails": func(customerID string, stream email.Stream) delivery.Start {
		id := uuid.NewString()
		return delivery.Start{EmailID: id, WorkflowID: email.WorkflowIDPrefix + id, CustomerID: customerID, Stream: stream}
	},
	"batches": func(customerID string, stream email.Stream) delivery.Start {
		id := uuid.NewString()
		return delivery.Start{BatchID: id, WorkflowID: email.BatchWorkflowIDPrefix + id, CustomerID: customerID, Stream: stream}
	},
}

func (b *startBench) accept(starts ...delivery.Start) (ids []string) {
	for _, s := range starts {
		if s.BatchID != "" {
			b.AcceptedBatch(email.Batch{ID: s.BatchID, WorkflowID: s.WorkflowID, CustomerID: s.CustomerID, Stream: s.Stream})
		} else {
			b.Accepted(email.Email{ID: s.EmailID, WorkflowID: s.WorkflowID, CustomerID: s.CustomerID, Message: email.Message{Stream: s.Stream}})
		}
		ids = append(ids, s.WorkflowID)
	}
	return ids
}

// put has the sweeps find starts.
func (b *startBench) put(starts ...delivery.Start) (ids []string) {
	b.box.mu.Lock()
	defer b.box.mu.Unlock()
	for _, s := range starts {
		if s.BatchID != "" {
			b.box.batches = append(b.box.batches, s)
		} else {
			b.box.starts = append(b.box.starts, s)
		}
		ids = append(ids, s.WorkflowID)
	}
	return ids
}

func (b *startBench) unclaimed() int {
	b.box.mu.Lock()
	defer b.box.mu.Unlock()
	return len(b.box.starts) + len(b.box.batches)
}

func many(n int, one func() delivery.Start) (starts []delivery.Start) {
	for range n {
		starts = append(starts, one())
	}
	return starts
}

// Behind a flood of broadcast mail, transactional mail is started next, and so is another customer's
// mail. This process has accepted the flood, or a sweep has claimed it.
func TestAFloodDelaysNoOthersStart(t *testing.T) {
	t.Parallel()
	for kind, one := range kinds {
		for _, flooded := range []string{"accepted", "swept"} {
			for _, came := range []string{"accepted", "swept"} {
				t.Run(kind+" behind a flood that was "+flooded+", "+came, func(t *testing.T) {
					t.Parallel()
					inBubble(t, func(t *testing.T, b *startBench, run func()) {
						add := map[string]func(...delivery.Start) []string{"accepted": b.accept, "swept": b.put}
						add[flooded](many(600, func() delivery.Start { return one("flood", email.StreamBroadcast) })...)
						run()
						require.Len(t, b.client.begun(), dispatch.Starters)

						urgent := add[came](many(dispatch.UrgentStarters+3, func() delivery.Start { return one("flood", email.StreamTransactional) })...)
						time.Sleep(3 * time.Second) // a sweep
						begun := b.client.begun()[dispatch.Starters:]
						require.Len(t, begun, dispatch.UrgentStarters, "no start of broadcast mail has ended")
						for len(begun) < len(urgent) { // slow starts leave places to fewer
							b.client.let <- struct{}{}
							begun = b.client.begun()[dispatch.Starters:]
						}
						require.ElementsMatch(t, urgent, begun)
					})
				})
			}
			t.Run(kind+" behind a flood that was "+flooded+", of another customer", func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, b *startBench, run func()) {
					add := map[string]func(...delivery.Start) []string{"accepted": b.accept, "swept": b.put}
					add[flooded](many(600, func() delivery.Start { return one("flood", email.StreamBroadcast) })...)
					run()
					require.Len(t, b.client.begun(), dispatch.Starters)
					others := b.accept(one("a", email.StreamBroadcast), one("a", email.StreamBroadcast), one("b", email.StreamBroadcast))
					for range 6 {
						b.client.let <- struct{}{}
						synctest.Wait()
					}
					next := b.client.begun()[dispatch.Starters:]
					require.Equal(t, []string{others[0], others[2], others[1]}, []string{next[1], next[2], next[4]}, "they take turns")
				})
			})
		}
	}
}

// A starter takes what is to be started next when its worker has a free slot, not before.
func TestWhatComesWhileStartersWaitForSlotsIsFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *startBench, run func()) {
		one := kinds["single mails"]
		free := make(chan struct{})
		b.StartEagerly(func(context.Context, email.Stream) bool { <-free; return true })
		b.accept(many(100, func() delivery.Start { return one("flood", email.StreamBroadcast) })...)
		run()
		require.Empty(t, b.client.begun())
		urgent := b.accept(many(dispatch.Starters, func() delivery.Start { return one("flood", email.StreamTransactional) })...)
		synctest.Wait()
		close(free)
		require.Subset(t, b.client.begun(), urgent)
		require.Len(t, b.client.begun(), dispatch.Starters+dispatch.UrgentStarters)
	})
}

// The starts that wait in memory are bounded. The newest starts of the customer that has most are left to the
// sweeps.
func TestTheQueueOfStartsIsBounded(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *startBench, run func()) {
		one := kinds["single mails"]
		const beyond = 200
		flood := many(dispatch.MaxQueued+beyond, func() delivery.Start { return one("flood", email.StreamBroadcast) })
		ids := b.accept(flood...)
		other := b.accept(one("other", email.StreamBroadcast))[0]
		urgent := b.accept(one("flood", email.StreamTransactional))[0]
		close(b.client.let)
		run()
		begun := b.client.begun()
		require.ElementsMatch(t, append([]string{other, urgent}, ids[:dispatch.MaxQueued-1]...), begun)
		b.put(flood[dispatch.MaxQueued-1:]...)
		time.Sleep(3 * time.Second)
		require.ElementsMatch(t, append([]string{other, urgent}, ids...), b.client.begun())
	})
}

// A lease may run out while its start waits.
func TestAStartThatWaitsIsNotQueuedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *startBench, run func()) {
		starts := many(3*dispatch.LotMax, func() delivery.Start { return kinds["single mails"]("flood", email.StreamBroadcast) })
		ids := b.accept(starts...)
		b.put(starts...)
		run()
		require.Len(t, b.client.begun(), dispatch.Starters)
		require.Zero(t, b.unclaimed(), "their leases are renewed")
		close(b.client.let)
		require.ElementsMatch(t, ids, b.client.begun())
	})
}

// A sweep ends when Temporal answers no start, and leaves out the rest of its lot.
func TestASweepEndsWhenTemporalIsAway(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *startBench, run func()) {
		const all = 10 * dispatch.LotMax
		ids := b.put(many(all, func() delivery.Start { return kinds["single mails"]("flood", email.StreamBroadcast) })...)
		b.client.fail(errors.New("away"))
		close(b.client.let)
		run()
		begun := b.client.begun()
		require.GreaterOrEqual(t, len(begun), dispatch.AwayAfter)
		require.Less(t, len(begun), dispatch.Starters+dispatch.AwayAfter)
		require.Equal(t, all-dispatch.LotMax, b.unclaimed(), "it claims no more")
		b.client.fail(nil)
		time.Sleep(3 * time.Second)
		require.Subset(t, b.client.begun(), ids[dispatch.LotMax:], "the next sweep goes on")
		require.Zero(t, b.unclaimed())
	})
}

// A call that is not answered delays the others of its sweep by one time-out, not by their lease.
func TestOneRunThatDoesNotAnswerDelaysNoOther(t *testing.T) {
	t.Parallel()
	const all = 3 * dispatch.SweepBatch
	asWakes := func(starts []delivery.Start) (wakes []delivery.Wake) {
		for _, s := range starts {
			wakes = append(wakes, delivery.Wake{IDs: []string{s.WorkflowID}, Start: s})
		}
		return wakes
	}
	for what, put := range map[string]func(b *startBench, starts []delivery.Start){
		"starts":   func(b *startBench, starts []delivery.Start) { b.put(starts...) },
		"orders":   func(b *startBench, starts []delivery.Start) { b.box.wakes = asWakes(starts) },
		"unpaused": func(b *startBench, starts []delivery.Start) { b.box.unpaused = asWakes(starts) },
		"overdue":  func(b *startBench, starts []delivery.Start) { b.box.overdue = starts },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, b *startBench, run func()) {
				starts := many(all, start)
				put(b, starts)
				b.client.slow = map[string]bool{starts[5].WorkflowID: true}
				close(b.client.let)
				run()
				time.Sleep(dispatch.EagerTimeout)
				var others []string
				for i, s := range starts {
					if i != 5 {
						others = append(others, s.WorkflowID)
					}
				}
				require.ElementsMatch(t, others, b.client.begun())
				if what == "overdue" {
					require.Equal(t, starts[5:6], b.box.returned, "the next sweep finds it again")
				}
			})
		})
	}
}

// A process without a worker leaves what it accepts to those that have one. It starts what they do
// not claim.
func TestWorkersStartWhatOthersAccept(t *testing.T) {
	t.Parallel()
	for kind, one := range kinds {
		for _, stream := range []email.Stream{email.StreamTransactional, email.StreamBroadcast} {
			t.Run(kind+" "+string(stream), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, api *startBench, run func()) {
					full := make(chan struct{})
					withWorker := &startBench{client: &starting{let: api.client.let, eager: map[string]bool{}}, box: api.box}
					withWorker.Dispatcher = dispatch.New(withWorker.client, api.box, slog.New(slog.DiscardHandler))
					withWorker.StartEagerly(func(ctx context.Context, _ email.Stream) bool {
						select {
						case <-full:
							<-ctx.Done()
							return false
						default:
							return true
						}
					})
					api.LeaveStarts()
					require.Equal(t, delivery.NoOwner, api.Owner())
					api.box.waitsSince = map[string]time.Time{}
					close(api.client.let)
					run()
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan struct{})
					go func() { withWorker.Run(ctx); close(done) }()
					t.Cleanup(func() { cancel(); <-done })
					require.Empty(t, withWorker.client.begun())

					began := time.Now()
					accept := func(s delivery.Start) []string {
						api.box.mu.Lock()
						api.box.waitsSince[s.WorkflowID] = time.Now()
						api.box.mu.Unlock()
						ids := api.put(s) // it is stored when it is announced
						api.accept(s)
						return ids
					}
					ids := accept(one("acme", stream))
					require.Equal(t, ids, withWorker.client.begun())
					require.True(t, withWorker.client.eager[ids[0]])
					require.Less(t, time.Since(began), 10*time.Millisecond, "an announcement is heard at once")
					require.Empty(t, api.client.begun())

					// No worker has a free slot.
					close(full)
					more := accept(one("acme", stream))
					time.Sleep(499 * time.Millisecond)
					require.Empty(t, api.client.begun())
					last := accept(one("acme", stream)) // must not be forgotten
					time.Sleep(2 * time.Millisecond)
					require.Equal(t, more, api.client.begun())
					time.Sleep(time.Second)
					more = append(more, last...)
					require.Equal(t, more, api.client.begun())
					require.False(t, api.client.eager[more[0]])
					require.Equal(t, ids, withWorker.client.begun())
				})
			})
		}
	}
}
