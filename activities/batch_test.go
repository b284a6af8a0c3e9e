package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dkim"
)

// post is a batch whose e-mails wait, at our own interfaces.
type post struct {
	// keys sign the messages.
	keys []string
	*fakes
	mu sync.Mutex
	// waiting are opened in lots; opens counts those.
	waiting  []string
	opens    int
	limits   []int
	recorded []delivery.Ending
	onRecord func(n int) error
	records  int
	contents int
	// locked are the e-mails that another transaction has locked.
	locked map[string]bool
	// obstructed counts the calls that noted that no relay is available.
	obstructed int
	// throttled are the calls that noted that the relay's rate makes mail wait. moved and
	// onThrottle are the answer.
	throttled  []delivery.BatchThrottle
	moved      bool
	onThrottle error
	attached   bool
	outgoing   error
	onExpire   error
	controlled []email.Action
}

func (p *post) PlanBatch(context.Context, string) (delivery.BatchPlan, error) {
	return delivery.BatchPlan{Total: 5, Open: len(p.waiting), Due: len(p.waiting)}, nil
}

func (p *post) OpenBatch(_ context.Context, req delivery.BatchOpenRequest) (out []delivery.BatchOpening, more bool, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opens++
	p.limits = append(p.limits, req.Limit)
	n := min(req.Limit, len(p.waiting))
	for _, id := range p.waiting[:n] {
		out = append(out, delivery.BatchOpening{EmailID: id, Attempt: 1, Opening: delivery.Opening{Verdict: delivery.VerdictOpened, From: "a@x.test",
			Settled:    delivery.Settled{EmailID: id, DKIMKeys: p.keys},
			Recipients: []delivery.EnvelopeRecipient{{ID: "r-" + id, Address: "robert@y.test"}}}})
	}
	p.waiting = p.waiting[n:]
	return out, len(p.waiting) > 0, nil
}

func (p *post) ObstructBatch(_ context.Context, _ string, _ delivery.Route, o delivery.Obstacle, _ int) (int, error) {
	if o.RelayDown {
		p.obstructed++
	}
	return 0, nil
}

func (p *post) ThrottleBatch(_ context.Context, _ string, _ delivery.Route, t delivery.BatchThrottle) (moved bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.throttled = append(p.throttled, t)
	return p.moved, p.onThrottle
}

func (p *post) ExpireBatch(context.Context, string, delivery.Route) (delivery.BatchWaiting, error) {
	out := delivery.BatchWaiting{Due: len(p.waiting) > 0, LookIn: p.expiresIn}
	if p.expiresIn > 0 {
		out.LookAt = expiryOfBatch
	}
	return out, p.onExpire
}

// expiryOfBatch is the first expires_at of a batch that has one.
var expiryOfBatch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (p *post) Outgoing(_ context.Context, ids []string) (map[string]email.Message, error) {
	out := map[string]email.Message{}
	for _, id := range ids {
		m := email.Message{Subject: id}
		if p.attached {
			m.Attachments = []email.Attachment{{ID: "a", BlobID: "blob", Size: 4}}
		}
		out[id] = m
	}
	return out, p.outgoing
}

func (p *post) Content(context.Context, string, int64) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contents++
	return []byte("data"), nil
}

func (p *post) RenewMany(context.Context, []string, string) error { return nil }
func (p *post) SeenBatch(context.Context, string) error           { return nil }

func (p *post) RecordBatch(_ context.Context, es []delivery.Ending) (delivery.BatchRecorded, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records++
	if p.onRecord != nil {
		if err := p.onRecord(p.records); err != nil {
			return delivery.BatchRecorded{}, err
		}
	}
	p.recorded = append(p.recorded, es...)
	rec := delivery.BatchRecorded{Statuses: email.StatusCounts{}, Endpoints: []string{"EP"}}
	for _, e := range es {
		if e.Outcomes[0].Status == email.RecipientDelivered {
			rec.Statuses[email.StatusDelivered]++
		} else {
			rec.Statuses[email.StatusSending]++
		}
	}
	return rec, nil
}

// RecordFree leaves what is locked.
func (p *post) RecordFree(ctx context.Context, es []delivery.Ending) (delivery.BatchRecorded, error) {
	var free, left []delivery.Ending
	for _, e := range es {
		if p.locked[e.EmailID] {
			left = append(left, e)
		} else {
			free = append(free, e)
		}
	}
	rec := delivery.BatchRecorded{}
	if len(free) > 0 {
		var err error
		if rec, err = p.RecordBatch(ctx, free); err != nil {
			return rec, err
		}
	}
	rec.Left = left
	return rec, nil
}

func (p *post) ControlBatch(_ context.Context, _ string, action email.Action) ([]string, error) {
	p.controlled = append(p.controlled, action)
	return []string{"handed over"}, nil
}

type batchBench struct {
	*post
	a     *Activities
	drain Drain
	env   *testsuite.TestActivityEnvironment
}

func setupBatch(t *testing.T, mails int) *batchBench {
	t.Helper()
	w := &fakes{opening: opened, onSend: deliver}
	p := &post{fakes: w}
	for i := range mails {
		p.waiting = append(p.waiting, fmt.Sprintf("e%d", i))
	}
	a, drain, err := New(Deps{
		Acceptor: &fakeAcceptor{}, Customers: &fakeAcceptor{}, Mail: w, Gate: w, Journal: w, Recorder: w, Controller: w, Deliveries: w, Relays: w, Resolver: w, Poster: w, Waker: w, Domains: &fakeDomains{}, Lookup: &fakeDomains{},
		BatchGate: p, BatchMail: p, BatchJournal: p, BatchController: p,
		Render: func(m email.Message, _ delivery.Settled) ([]byte, error) { return []byte(m.Subject), w.onRender },
		Signer: w,
		Log:    slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	a.limits = limits{finishWithin: 300 * time.Millisecond, heartbeatEvery: 5 * time.Millisecond}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return &batchBench{p, a, drain, env}
}

func (b *batchBench) chunk(t *testing.T) (delivery.SendChunkResult, error) {
	t.Helper()
	val, err := b.env.ExecuteActivity(b.a.SendBatchChunk, delivery.SendChunkInput{BatchID: "B"})
	var res delivery.SendChunkResult
	if err == nil {
		require.NoError(t, val.Get(&res))
	}
	return res, err
}

func TestSendBatchChunkSendsDueEmails(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 250)
	b.attached = true
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, email.BatchCounts{Delivered: 250}, res.Sent)
	require.False(t, res.More)
	require.Equal(t, 3, b.opens, "in lots of a hundred")
	require.Len(t, b.recorded, 250)
	require.Len(t, b.marked, 250)
	require.LessOrEqual(t, b.contents, lotSenders, "an attachment that all share is read once, or once by each who came first")
	require.Equal(t, []string{"EP"}, b.woken, "the customer's endpoint is woken once")
	require.Equal(t, 250, b.sends)
	require.Equal(t, 250, b.closed, "every session is given back")
}

func TestSendBatchChunkUsesTheRelayThatFits(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 20)
	var asked atomic.Int64
	b.onFitting = func(s Session) (Session, error) {
		s.Close()
		if asked.Add(1)%2 == 0 {
			return nil, &delivery.RelayError{Relay: email.Relay{Name: "other"}, RetryAfter: time.Minute, Err: errors.New("no route")}
		}
		return other{peer{b.fakes}}, nil
	}
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, 10, res.Sent.Delivered)
	require.Equal(t, 10, b.sends)
	require.Equal(t, 30, b.closed, "each session once")
	for _, e := range b.recorded {
		if o := e.Outcomes[0]; o.Status != email.RecipientDelivered {
			require.True(t, o.Uncounted && o.RelayFault)
			require.Equal(t, time.Minute, o.RetryAfter)
			continue
		}
		require.Equal(t, "other", e.Relay.Name)
	}
	for _, m := range b.marked {
		require.Equal(t, "other", m.Relay.Name)
	}
}

// The outcomes of finished exchanges are recorded while a slower exchange of the lot is open.
func TestSendBatchChunkRecordsWhileOthersAreOpen(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 60)
	recorded := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.recorded)
	}
	var first atomic.Bool
	seen := 0
	b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		if first.CompareAndSwap(false, true) {
			for late := time.Now().Add(10 * time.Second); seen < 59 && time.Now().Before(late); runtime.Gosched() {
				seen = recorded()
			}
		}
		return deliver(ctx, mark)
	}
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, 59, seen, "recorded while one hung")
	require.Equal(t, 60, res.Sent.Delivered)
	require.Equal(t, 1, b.opens)
	require.Less(t, b.records, 10, "several together")
}

// An e-mail that another transaction has locked delays the recording of no other.
func TestSendBatchChunkRecordsLockedEmailsLast(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 60)
	b.locked = map[string]bool{"e0": true, "e3": true}
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, 60, res.Sent.Delivered)
	require.Len(t, b.recorded, 60)
	require.ElementsMatch(t, []string{"e0", "e3"}, []string{b.recorded[58].EmailID, b.recorded[59].EmailID})
}

func TestSendBatchChunkRelayDown(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 5)
	b.relayErr = &delivery.RelayError{Relay: email.Relay{Name: "primary"}, RetryAfter: 10 * time.Second, Err: errors.New("refused")}
	_, err := b.chunk(t)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.Equal(t, "relay_unavailable", app.Type())
	require.Equal(t, 10*time.Second, app.NextRetryDelay())
	require.Zero(t, b.opens)
	require.Equal(t, 1, b.obstructed, "the obstacle is noted on the due e-mails")

	// With TellRelayDown the first call returns a result, not the failure.
	b.relayErr = &delivery.RelayError{Relay: email.Relay{Name: "primary"}, RetryAfter: 10 * time.Second, Err: errors.New("refused robert@y.test")}
	val, err := b.env.ExecuteActivity(b.a.SendBatchChunk, delivery.SendChunkInput{BatchID: "B", TellRelayDown: true})
	require.NoError(t, err)
	var told delivery.SendChunkResult
	require.NoError(t, val.Get(&told))
	require.Equal(t, "relay primary: refused ***@y.test", told.RelayDown)
	require.True(t, told.More)
	require.False(t, told.NoRelay)
	require.Zero(t, b.opens)
	require.Equal(t, 2, b.obstructed)

	// It is tried again when an e-mail expires, if that is sooner.
	for left, want := range map[time.Duration]time.Duration{4 * time.Second: 4001 * time.Millisecond, time.Microsecond: time.Millisecond, time.Minute: 10 * time.Second} {
		b.expiresIn = left
		_, err = b.chunk(t)
		require.ErrorAs(t, err, &app)
		require.Equal(t, want, app.NextRetryDelay())
	}
	b.onExpire = errors.New("no database")
	_, err = b.chunk(t)
	require.ErrorAs(t, err, &app)
	require.Equal(t, "relay_unavailable", app.Type())
	require.Equal(t, 10*time.Second, app.NextRetryDelay())
	b.onExpire = nil

	// The activity ends if no e-mail waits any more.
	waiting := b.waiting
	b.waiting = nil
	done, err := b.chunk(t)
	require.NoError(t, err)
	require.False(t, done.More)
	require.Equal(t, "relay primary: refused ***@y.test", done.RelayDown)
	b.waiting = waiting

	b.relayErr = &delivery.Throttled{Turn: delivery.Turn{Relay: "slow", At: time.Now().Add(time.Hour).UTC()}}
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, "slow", res.Turn.Relay)
	require.True(t, res.More)
	require.Equal(t, expiryOfBatch, res.ExpiresAt, "the run calls again then")
	require.Zero(t, b.opens)
}

// The e-mails of a batch that wait for a relay's rate say so. The activity gives its session back, or
// holds it until the slot.
func TestSendBatchChunkNotesThatARateMakesMailWait(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 350)
	b.pace = 20 * time.Millisecond
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, 350, res.Sent.Delivered)
	require.Equal(t, []delivery.BatchThrottle{{Relay: "primary", Taken: 100, Pace: b.pace}}, b.throttled, "once")

	b = setupBatch(t, 100)
	b.pace = time.Second
	_, err = b.chunk(t)
	require.NoError(t, err)
	require.Empty(t, b.throttled, "nothing waits any more")

	b = setupBatch(t, 5)
	b.pace = time.Minute
	turn := delivery.Turn{Relay: "slow", At: time.Now().Add(time.Hour).UTC()}
	b.relayErr = &delivery.Throttled{Turn: turn}
	for _, b.onThrottle = range []error{nil, errors.New("no database")} {
		res, err = b.chunk(t)
		require.NoError(t, err)
		require.Equal(t, turn, res.Turn)
		require.True(t, res.More)
	}
	require.Equal(t, slices.Repeat([]delivery.BatchThrottle{{Relay: "slow", First: turn.At, Pace: time.Minute}}, 2), b.throttled)
	b.moved = true
	res, err = b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, delivery.Turn{}, res.Turn)
	require.False(t, res.More, "the run reads its routes again")
}

// When the relay refuses MAIL of one e-mail of a lot, the later ones get no session and all of
// the lot is given back.
func TestSendBatchChunkGivesBackTheLotOfAFailingRelay(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 5)
	refused := delivery.Outcome{Status: email.RecipientDeferred, Uncounted: true, RelayFault: true, Reply: email.Reply{Code: 452, Enhanced: "4.3.1"}}
	down := &delivery.RelayError{Relay: email.Relay{Name: "primary"}, RetryAfter: 10 * time.Second, Err: errors.New("refused")}
	b.onSession = func(n int) error {
		if n == 1 {
			return nil
		}
		return down
	}
	b.onSend = func(context.Context, func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		return delivery.Exchange{Outcomes: []delivery.Outcome{refused}, RelayFault: true}
	}
	_, err := b.chunk(t)
	require.NoError(t, err)
	require.Len(t, b.recorded, 5)
	for _, e := range b.recorded {
		o := e.Outcomes[0]
		require.True(t, o.RelayFault && o.Uncounted, "%+v", o)
	}
}

// TestSendBatchChunkNamesTheEmailOfASession: a relay that refused MAIL of one e-mail is still
// tried with others, so each session is asked for by its e-mail's id.
func TestSendBatchChunkNamesTheEmailOfASession(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 3)
	_, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, "B", b.askedFor[0], "the first session is for the batch")
	var ids []string
	for _, e := range b.recorded {
		ids = append(ids, e.EmailID)
	}
	named := slices.DeleteFunc(slices.Clone(b.askedFor), func(of string) bool { return of == "B" })
	require.Len(t, named, 2, "one of them takes the first")
	require.Subset(t, ids, named)
	one := setup(t)
	_, err = one.smtp(t, false)
	require.NoError(t, err)
	require.Equal(t, []string{"E"}, one.askedFor)
}

func TestControlBatchWakesHandedOverRuns(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 1)
	_, err := b.env.ExecuteActivity(b.a.ControlBatch, delivery.ControlBatchInput{BatchID: "B", Action: email.ActionResume})
	require.NoError(t, err)
	require.Equal(t, []email.Action{email.ActionResume}, b.controlled)
	require.Equal(t, []string{"handed over"}, b.woken)
}

func TestSendBatchChunkReturnsUnrecordedOutcomes(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 2)
	b.onRecord = func(int) error { return errors.New("no database") }
	b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		ex := deliver(ctx, mark)
		ex.Outcomes[0].Reply.Text = "queued for user Robert, robert@y.test"
		return ex
	}
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Len(t, res.Unrecorded, 2)
	require.True(t, res.More)
	require.Equal(t, email.RecipientDelivered, res.Unrecorded[0].Outcomes[0].Status)
	require.Equal(t, "queued for user ***, ***@y.test", res.Unrecorded[0].Outcomes[0].Reply.Text, "no address goes into a history")

	b.onRecord = nil
	val, err := b.env.ExecuteActivity(b.a.RecordBatchChunk, delivery.RecordChunkInput{BatchID: "B", Attempts: res.Unrecorded})
	require.NoError(t, err)
	var rec delivery.RecordChunkResult
	require.NoError(t, val.Get(&rec))
	require.Equal(t, 2, rec.Sent.Delivered)
	require.Equal(t, res.Unrecorded[0].Owner, b.recorded[0].Owner)
}

// TestSendBatchChunkKeepsUnrecordedOutcomes: Temporal may have given up the activity that
// returns them. The next one writes them before it opens a lot, and nothing is sent twice.
func TestSendBatchChunkKeepsUnrecordedOutcomes(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 2)
	b.onRecord = func(int) error { return errors.New("no database") }
	lost, err := b.chunk(t)
	require.NoError(t, err)
	require.Len(t, lost.Unrecorded, 2)
	b.waiting = []string{"e2"}

	again, err := b.chunk(t)
	require.NoError(t, err)
	require.ElementsMatch(t, lost.Unrecorded, again.Unrecorded, "the next activity returns them, too")
	require.True(t, again.More)
	require.Equal(t, 1, b.opens, "no lot is opened before they are written: the gate would take their attempts over")
	require.Equal(t, 2, b.sends)

	b.opening = func(int) delivery.Opening {
		t.Error("an attempt of the lot was opened again")
		return delivery.Opening{}
	}
	val, err := b.env.ExecuteActivity(b.a.SendSMTP, delivery.SendSMTPInput{EmailID: "e0", Attempt: 1})
	require.NoError(t, err, "an e-mail that has a run of its own by now")
	var one delivery.SendSMTPResult
	require.NoError(t, val.Get(&one))
	require.True(t, one.Sent)
	require.Equal(t, email.RecipientDelivered, one.Unrecorded[0].Status)

	b.onRecord = nil
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, 3, res.Sent.Delivered)
	require.Empty(t, res.Unrecorded)
	require.Equal(t, 3, b.sends)
	require.Len(t, b.recorded, 3)
	for i, id := range []string{"e0", "e1", "e2"} {
		require.Equal(t, id, b.recorded[i].EmailID)
	}
	require.Equal(t, lost.Unrecorded[0].Owner, b.recorded[0].Owner, "as the attempt's owner")

	_, err = b.chunk(t)
	require.NoError(t, err)
	require.Len(t, b.recorded, 3, "what is written is forgotten")
}

func TestRecordBatchChunkForgetsKeptOutcomes(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 2)
	b.onRecord = func(int) error { return errors.New("no database") }
	lost, err := b.chunk(t)
	require.NoError(t, err)
	b.onRecord = nil
	_, err = b.env.ExecuteActivity(b.a.RecordBatchChunk, delivery.RecordChunkInput{BatchID: "B", Attempts: lost.Unrecorded})
	require.NoError(t, err)
	_, err = b.chunk(t)
	require.NoError(t, err)
	require.Len(t, b.recorded, 2)
}

func TestSendBatchChunkGivesBackUnsentEmails(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 3)
	b.onRender = errors.New("no such charset")
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, 3, res.Sent.Open, "as the fake counts them")
	require.Equal(t, email.DetailUnsendable, b.recorded[0].Outcomes[0].Reason)

	b = setupBatch(t, 3)
	b.outgoing = errors.New("no database")
	_, err = b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, delivery.Outcome{RecipientID: "r-e0", Status: email.RecipientDeferred, Uncounted: true, Unasked: true, RetryAfter: time.Minute, Reply: email.Reply{Text: "the message could not be read"}},
		b.recorded[0].Outcomes[0])
	require.Zero(t, b.sends)

	b = setupBatch(t, 3)
	b.keys, b.onSign = []string{"k"}, errors.New("no database")
	_, err = b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, "the message could not be signed", b.recorded[0].Outcomes[0].Text)
	require.Equal(t, email.RecipientDeferred, b.recorded[0].Outcomes[0].Status)
	require.Zero(t, b.sends)

	b = setupBatch(t, 3)
	b.keys, b.onSign = []string{"k"}, fmt.Errorf("%w: it has no From field", dkim.ErrMessage)
	_, err = b.chunk(t)
	require.NoError(t, err)
	require.Equal(t, email.DetailUnsendable, b.recorded[0].Outcomes[0].Reason)
}

func TestSendBatchChunkFinishesItsLotOnDrain(t *testing.T) {
	t.Parallel()
	b := setupBatch(t, 300)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		once.Do(func() { close(begun); <-goOn })
		return deliver(ctx, mark)
	}
	drained := make(chan error, 1)
	go func() {
		<-begun
		go func() { drained <- b.drain(t.Context()) }()
		for !b.a.exchanges.draining() { // drain has begun, and waits for what follows
			runtime.Gosched()
		}
		close(goOn)
	}()
	res, err := b.chunk(t)
	require.NoError(t, err)
	require.NoError(t, <-drained)
	require.True(t, res.More, "another worker goes on")
	require.Equal(t, 100, res.Sent.Delivered)
	_, err = b.chunk(t)
	require.ErrorContains(t, err, "shutting down")
}
