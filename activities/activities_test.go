package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

// world plays everything the activities talk to, at interfaces that are ours.
type world struct {
	mu       sync.Mutex
	plan     email.Plan
	opening  func(n int) email.Opening
	opens    int
	check    *email.State
	obstacle email.Obstacle
	finishes []email.Ending
	onFinish func() error
	// superseded: the attempt has another owner by the time it ends.
	superseded bool
	marked     []email.Mark
	stored     []email.Attachment
	recorded   []email.RecordStatusInput

	relayErr error
	down     *email.RelayError
	slow     bool
	onSend   func(ctx context.Context, mark func(context.Context, []email.Outcome) error) email.Exchange
	sends    int
	closed   int

	onResolve func(email.Attachment) (io.Reader, error)
	rooms     []int64
	storeErr  error
	onRender  error

	due     []endpoint.Due
	others  []string
	settled map[string]endpoint.Verdict
	onPost  func(endpoint.Due) endpoint.Result
	woken   []string
	claims  int
	onClaim func() []endpoint.Due
	// released counts deliveries given back.
	released int
	// paced: the relay has a rate.
	paced bool
}

func (w *world) Plan(context.Context, string) (email.Plan, error) { return w.plan, nil }
func (w *world) Message(context.Context, string) (email.Message, error) {
	return email.Message{Subject: "s"}, nil
}
func (w *world) StoreAttachment(_ context.Context, _ string, a email.Attachment, content io.Reader) (email.Attachment, error) {
	if a.Problem == "" {
		var err error
		if a.Content, err = io.ReadAll(content); err != nil {
			return a, fmt.Errorf("store: %w", err)
		}
		a.Size = int64(len(a.Content))
	}
	if w.storeErr != nil {
		return a, w.storeErr
	}
	w.stored = append(w.stored, a)
	return a, nil
}
func (w *world) Open(context.Context, []email.OpenRequest) ([]email.Opening, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	return []email.Opening{w.opening(w.opens)}, nil
}
func (w *world) Check(_ context.Context, _ string, o email.Obstacle) (*email.State, error) {
	w.obstacle = o
	return w.check, nil
}
func (w *world) MarkSent(_ context.Context, ms []email.Mark) ([]bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marked = append(w.marked, ms...)
	out := make([]bool, len(ms))
	for i := range out {
		out[i] = true
	}
	return out, nil
}
func (w *world) Finish(_ context.Context, es []email.Ending) ([]bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onFinish != nil {
		if err := w.onFinish(); err != nil {
			return nil, err
		}
	}
	w.finishes = append(w.finishes, es...)
	return []bool{!w.superseded}, nil
}
func (w *world) Renew(context.Context, string, int, string) error { return nil }
func (w *world) Record(_ context.Context, in email.RecordStatusInput) (email.Recorded, error) {
	w.recorded = append(w.recorded, in)
	return email.Recorded{State: email.State{Status: email.StatusDelivered, Final: true}, Webhooks: 2}, nil
}
func (w *world) Control(context.Context, string, email.Control) (email.State, error) {
	return email.State{Status: email.StatusCanceled}, nil
}
func (w *world) Session(context.Context, email.Route) (Session, error) {
	if w.relayErr != nil {
		return nil, w.relayErr
	}
	return peer{w}, nil
}
func (w *world) Fast(email.Route) bool              { return !w.slow }
func (w *world) Paced(email.Route) bool             { return w.paced }
func (w *world) Lot(email.Route, time.Duration) int { return 100 }
func (w *world) Down(email.Route) *email.RelayError { return w.down }
func (w *world) Resolve(_ context.Context, _ string, a email.Attachment, maxBytes int64) (email.Attachment, io.ReadCloser, error) {
	w.rooms = append(w.rooms, maxBytes)
	body, err := w.onResolve(a)
	return a, io.NopCloser(body), err
}
func (w *world) ClaimForEmail(context.Context, string) ([]endpoint.Due, []string, error) {
	w.claims++
	return w.due, w.others, nil
}
func (w *world) ReleaseDeliveries(_ context.Context, ds []endpoint.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released += len(ds)
	return nil
}
func (w *world) BeginRound(context.Context, string) error { return nil }
func (w *world) ClaimForEndpoint(context.Context, string, int) ([]endpoint.Due, error) {
	if w.onClaim != nil {
		return w.onClaim(), nil
	}
	due := w.due
	w.due = nil
	return due, nil
}
func (w *world) SettleDelivery(_ context.Context, d endpoint.Delivery, r endpoint.Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled[d.ID] = r.Verdict
	return nil
}
func (w *world) EndpointBacklog(context.Context, string) (endpoint.Backlog, error) {
	return endpoint.Backlog{Waiting: 1, NextAt: time.Unix(1000, 0), Endpoint: endpoint.Endpoint{URL: "https://hooks.x.test/secret", LastError: "answered 503"}}, nil
}
func (w *world) Post(_ context.Context, d endpoint.Due, _ time.Duration) endpoint.Result {
	return w.onPost(d)
}
func (w *world) WakeEndpoint(_ context.Context, id string) error {
	w.woken = append(w.woken, id)
	return nil
}

type peer struct{ w *world }

func (p peer) Relay() email.Relay { return email.Relay{Name: "primary"} }
func (p peer) Close() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.closed++
}
func (p peer) Send(ctx context.Context, env email.Envelope, _ []byte, mark func(context.Context, []email.Outcome) error) email.Exchange {
	p.w.mu.Lock()
	p.w.sends++
	p.w.mu.Unlock()
	ex := p.w.onSend(ctx, mark)
	for i := range ex.Outcomes {
		ex.Outcomes[i].RecipientID = env.Recipients[i].ID
	}
	return ex
}

func opened(int) email.Opening {
	return email.Opening{Verdict: email.VerdictOpened, From: "a@x.test", Recipients: []email.EnvelopeRecipient{{ID: "R", Address: "robert@y.test"}}}
}

func deliver(ctx context.Context, mark func(context.Context, []email.Outcome) error) email.Exchange {
	reply := email.Reply{Code: 250, Text: "queued for robert@y.test"}
	if err := mark(ctx, nil); err != nil {
		return email.Exchange{Outcomes: []email.Outcome{{Status: email.RecipientDeferred, Uncounted: true}}}
	}
	return email.Exchange{Outcomes: []email.Outcome{{Status: email.RecipientDelivered, Reply: reply}}, Final: reply}
}

type bench struct {
	*world
	*Activities
	drain Drain
	env   *testsuite.TestActivityEnvironment
}

func setup(t *testing.T) *bench {
	t.Helper()
	w := &world{opening: opened, onSend: deliver, settled: map[string]endpoint.Verdict{}}
	a, drain := New(Deps{
		Mail: w, Gate: w, Journal: w, Recorder: w, Controller: w, Deliveries: w, Relays: w, Resolver: w, Poster: w, Waker: w,
		Render: func(email.Message, string, time.Time) ([]byte, error) { return []byte("m"), w.onRender },
		Log:    slog.New(slog.DiscardHandler),
	})
	a.limits = limits{inlineBudget: 200 * time.Millisecond, finishWithin: 300 * time.Millisecond, busyPoll: time.Millisecond, heartbeatEvery: 5 * time.Millisecond, resolveWindow: time.Hour}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return &bench{w, a, drain, env}
}

func (b *bench) smtp(t *testing.T, inline bool) (email.SendSMTPResult, error) {
	t.Helper()
	val, err := b.env.ExecuteActivity(b.SendSMTP, email.SendSMTPInput{EmailID: "E", Attempt: 1, Inline: inline})
	var res email.SendSMTPResult
	if err == nil {
		require.NoError(t, val.Get(&res))
	}
	return res, err
}

func TestRegisteringExportsTheActivitiesAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	names := []string{"AcceptEmail", "ResolveAttachments", "SendSMTP", "RecordStatus", "FireWebhooks", "ControlEmail", "FollowEmail", "DeliverDueWebhooks"}
	for _, name := range names {
		_, err := b.env.ExecuteActivity(name, struct{}{})
		if err != nil {
			require.NotContains(t, err.Error(), "unable to find", name)
		}
	}
	require.Equal(t, []string{email.ActivityAccept, email.ActivityResolveAttachments, email.ActivitySendSMTP, email.ActivityRecordStatus, email.ActivityFireWebhooks,
		email.ActivityControl, email.ActivityFollow, email.ActivityDeliverWebhooks}, names, "the published names")
}

func TestADeliveredAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Equal(t, 250, res.Code)
	require.Equal(t, "queued for ***@y.test", res.Text, "no address goes into a history")
	require.Len(t, b.marked, 1)
	require.Equal(t, "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a", b.marked[0].MessageSHA256)
	require.Equal(t, b.marked[0].Owner, b.finishes[0].Owner)
	require.Equal(t, "queued for robert@y.test", b.finishes[0].Outcomes[0].Text, "the journal has it all")
	require.Equal(t, 1, b.closed)
}

func TestASlowInlineAttemptIsHandedOverAndAttachedTo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	goOn := make(chan struct{})
	b.onSend = func(ctx context.Context, mark func(context.Context, []email.Outcome) error) email.Exchange {
		<-goOn
		return deliver(ctx, mark)
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver)
	require.False(t, res.Sent)
	attached := sync.OnceFunc(func() { close(goOn) })
	// The first heartbeat shows that the regular activity waits for it.
	b.env.SetOnActivityHeartbeatListener(func(*activity.Info, converter.EncodedValues) { attached() })
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Equal(t, 1, b.sends, "the same exchange")
	require.Equal(t, 1, b.opens)
}

func TestWhatIsNotForInline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slow = true
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver)
	b.slow = false
	val, err := b.env.ExecuteActivity(b.SendSMTP, email.SendSMTPInput{EmailID: "E", Attempt: 1, Inline: true, Route: email.Route{Bytes: inlineMaxBytes + 1}})
	require.NoError(t, err)
	require.NoError(t, val.Get(&res))
	require.True(t, res.HandOver)
	require.Zero(t, b.opens)
}

func TestAnUnreachableRelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.relayErr = &email.RelayError{Relay: email.Relay{Name: "primary"}, Reply: email.Reply{Code: 421, Text: "no service for robert@y.test"}, RetryAfter: 40 * time.Second}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver, "inline it is left to the regular activity")
	require.True(t, res.RelayDown)
	res, err = b.smtp(t, false)
	require.NoError(t, err, "the run has to say so first")
	require.True(t, res.HandOver && res.RelayDown)
	require.Equal(t, "relay primary: 421  no service for ***@y.test", res.Text)
	said := email.SendSMTPInput{EmailID: "E", Attempt: 1, RelayDown: true}
	_, err = b.env.ExecuteActivity(b.SendSMTP, said)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.Equal(t, "relay_unavailable", app.Type())
	require.Equal(t, 40*time.Second, app.NextRetryDelay())
	require.Equal(t, temporal.ApplicationErrorCategoryBenign, app.Category())
	require.NotContains(t, app.Error(), "robert@")
	require.Zero(t, b.opens, "no recipient was touched")

	// What is known to be down is not even tried inline.
	b.slow, b.down, b.relayErr = true, &email.RelayError{Relay: email.Relay{Name: "primary"}, Err: errors.New("not tried before noon")}, nil
	res, err = b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver && res.RelayDown)
	require.Equal(t, "relay primary: not tried before noon", res.Text)
	b.slow, b.relayErr = false, b.down

	b.check = &email.State{Status: email.StatusCanceled, Final: true}
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, res.State.Status, "who is canceled need not wait for a relay")
}

func TestTheGatesOtherAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.opening = func(int) email.Opening {
		return email.Opening{Verdict: email.VerdictClosed, State: email.State{Waiting: "held"}}
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.Equal(t, "held", res.State.Waiting)
	require.False(t, res.Sent)

	b.opening = func(n int) email.Opening {
		if n < 5 {
			return email.Opening{Verdict: email.VerdictBusy}
		}
		return email.Opening{Verdict: email.VerdictRecorded, Relay: email.Relay{Name: "other"}, Reply: email.Reply{Code: 250}}
	}
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Equal(t, "other", res.Relay.Name)
	require.Zero(t, b.sends)
}

func TestAJournalThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.onFinish = func() error { return errors.New("no database") }
	res, err := b.smtp(t, false)
	require.NoError(t, err, "the server has answered")
	require.Len(t, res.Unrecorded, 1)
	require.Equal(t, email.RecipientDelivered, res.Unrecorded[0].Status)
	require.Equal(t, "queued for ***@y.test", res.Unrecorded[0].Text)

	n := 0
	b.onFinish = func() error {
		if n++; n < 2 {
			return errors.New("no database")
		}
		return nil
	}
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.Empty(t, res.Unrecorded, "a passing fault is waited out")

	b.onFinish, b.superseded = nil, true
	_, err = b.smtp(t, false)
	require.Error(t, err, "somebody else knows better")
}

func TestWhatCannotBeRenderedFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.onRender = errors.New("a header value holds a line break")
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Zero(t, b.sends)
	require.Equal(t, email.DetailUnsendable, b.finishes[0].Outcomes[0].Reason)
}

func TestDrainLetsOpenExchangesEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	b.onSend = func(ctx context.Context, mark func(context.Context, []email.Outcome) error) email.Exchange {
		close(reached)
		select {
		case <-goOn:
			return deliver(ctx, mark)
		case <-ctx.Done():
			return email.Exchange{Outcomes: []email.Outcome{{Status: email.RecipientDeferred, Uncounted: true}}}
		}
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver)
	<-reached
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorContains(t, b.drain(short), "1 SMTP exchanges were still open")
	_, err = b.env.ExecuteActivity(b.SendSMTP, email.SendSMTPInput{EmailID: "other", Attempt: 1})
	require.ErrorContains(t, err, "shutting down", "nothing new begins")
	require.NoError(t, b.drain(t.Context()))
}

func TestResolveAttachments(t *testing.T) {
	t.Parallel()
	missing := email.Fail(email.CodeNotFound, "there is no such recording")
	run := func(b *bench, inline bool) (email.ResolveAttachmentsResult, error) {
		val, err := b.env.ExecuteActivity(b.ResolveAttachments, email.ResolveAttachmentsInput{EmailID: "E", Inline: inline})
		var res email.ResolveAttachmentsResult
		if err == nil {
			require.NoError(t, val.Get(&res))
		}
		return res, err
	}
	b := setup(t)
	b.plan = email.Plan{Attachments: 4, Unresolved: []email.Attachment{{ID: "1"}, {ID: "2", Optional: true}, {ID: "3"}}, Room: 100, Route: email.Route{Bytes: 7}}
	b.onResolve = func(a email.Attachment) (io.Reader, error) {
		if a.ID == "2" {
			return nil, missing
		}
		return strings.NewReader("hello"), nil
	}
	res, err := run(b, true)
	require.NoError(t, err)
	require.True(t, res.Remote, "inline nothing is fetched")
	require.Empty(t, b.stored)
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, 4, res.Stored)
	require.Empty(t, res.Problem)
	require.Equal(t, "hello", string(b.stored[0].Content))
	require.Equal(t, "there is no such recording", b.stored[1].Problem)
	require.Equal(t, []int64{100, 95, 95}, b.rooms, "each may have what the others leave")
	require.Equal(t, int64(17), res.Route.Bytes, "what decides how it is sent")

	b = setup(t)
	b.plan = email.Plan{Attachments: 1, Unresolved: []email.Attachment{{ID: "1"}}}
	b.onResolve = func(email.Attachment) (io.Reader, error) { return nil, missing }
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, "there is no such recording", res.Problem)
	b.onResolve = func(email.Attachment) (io.Reader, error) { return nil, errors.New("connection refused") }
	_, err = run(b, false)
	require.Error(t, err, "what may pass is tried again")
	require.NotContains(t, err.Error(), "refused", "the text stays in our log")
	b.onResolve = func(email.Attachment) (io.Reader, error) {
		return nil, email.Fail(email.CodeUnavailable, "cdn.test answered 503")
	}
	_, err = run(b, false)
	require.ErrorContains(t, err, "cdn.test answered 503", "what may be shown is")

	// In the middle of the content, whose errors come out of the store.
	broken := func(err error) func(email.Attachment) (io.Reader, error) {
		return func(email.Attachment) (io.Reader, error) {
			return io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(err)), nil
		}
	}
	b.onResolve = broken(email.Fail(email.CodeTooLarge, "it has more than 5 bytes"))
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, "it has more than 5 bytes", res.Problem)
	b.onResolve = broken(io.ErrUnexpectedEOF)
	_, err = run(b, false)
	require.Error(t, err)
	b.plan.Unresolved[0].Optional = true
	_, err = run(b, false)
	require.Error(t, err, "an optional one is tried again, too")
	require.Empty(t, b.stored)

	// The store's own faults are not the attachment's.
	b.onResolve = func(email.Attachment) (io.Reader, error) { return strings.NewReader("x"), nil }
	b.storeErr = email.Fail(email.CodeNotFound, "there is no such e-mail")
	_, err = run(b, false)
	require.Error(t, err)
	require.Empty(t, b.stored)
	b.storeErr = nil

	// What does not pass in time ends it, or is left out.
	b.limits.resolveWindow = 0
	b.onResolve = func(email.Attachment) (io.Reader, error) {
		return nil, email.Fail(email.CodeUnavailable, "cdn.test answered 503")
	}
	const late = "the attachment could not be fetched within 0s: cdn.test answered 503"
	_, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, late, b.stored[0].Problem)
	b.plan.Unresolved[0].Optional = false
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, late, res.Problem)
	b.onResolve = broken(errors.New("dial tcp 10.0.0.1: connection refused"))
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, "the attachment could not be fetched within 0s", res.Problem)

	b.plan.State.Waiting = "scheduled"
	res, err = run(b, false)
	require.NoError(t, err)
	require.Empty(t, res.Problem, "nothing is fetched before its time")
}

func TestFireWebhooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	fire := func(waiting int) email.FireWebhooksResult {
		val, err := b.env.ExecuteActivity(b.FireWebhooks, email.FireWebhooksInput{EmailID: "E", Waiting: waiting})
		require.NoError(t, err)
		var res email.FireWebhooksResult
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

func TestARoundEndsWithTheFirstFailure(t *testing.T) {
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
	var round email.DeliverWebhooksResult
	require.NoError(t, val.Get(&round))
	require.NotZero(t, round.Failed)
	require.LessOrEqual(t, round.Failed, webhookConcurrency)
	require.Equal(t, 20, round.Failed+b.released, "what was not attempted once it failed is given back")
	require.Equal(t, 1, round.Waiting)
	require.Equal(t, "hooks.x.test", round.Host, "a path may be secret")
	require.Equal(t, "answered 503", round.Why)
}

// TestOneFindsOutWhetherAnEndpointIsBack: the next claim waits for what it says.
func TestOneFindsOutWhetherAnEndpointIsBack(t *testing.T) {
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
	var round email.DeliverWebhooksResult
	require.NoError(t, val.Get(&round))
	require.Equal(t, 2, round.Delivered)
}

// TestAStoppedWorkerBlamesNoEndpoint: a call that we broke off counts for nothing.
func TestAStoppedWorkerBlamesNoEndpoint(t *testing.T) {
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

func TestRecordAndControl(t *testing.T) {
	t.Parallel()
	b := setup(t)
	val, err := b.env.ExecuteActivity(b.RecordStatus, email.RecordStatusInput{EmailID: "E", Attempt: 1})
	require.NoError(t, err)
	var rec email.RecordStatusResult
	require.NoError(t, val.Get(&rec))
	require.Equal(t, 2, rec.Webhooks)
	val, err = b.env.ExecuteActivity(b.ControlEmail, email.ControlInput{EmailID: "E", Action: email.ActionCancel})
	require.NoError(t, err)
	var st email.State
	require.NoError(t, val.Get(&st))
	require.Equal(t, email.StatusCanceled, st.Status)
}

// TestAPlaceAtARelayIsForMailThatMayGo: what has to wait elsewhere takes none.
func TestAPlaceAtARelayIsForMailThatMayGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.paced, b.relayErr = true, errors.New("nobody is to ask for a session")
	b.check = &email.State{Waiting: "throttled", ThrottledBy: email.RecipientRate("x.test")}
	res, err := b.smtp(t, false)
	require.NoError(t, err)
	require.Equal(t, b.check, res.State)
	require.False(t, res.Sent)
	b.check, b.relayErr = nil, nil
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent)
}

func TestAThrottledAttemptWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	turn := email.Turn{Relay: "metered", At: time.Now().Add(time.Hour).UTC()}
	b.relayErr = &email.Throttled{Turn: turn}
	b.check = &email.State{Waiting: "throttled", NextAt: turn.At}
	res, err := b.smtp(t, false)
	require.NoError(t, err, "a rate is no fault")
	require.Equal(t, turn, res.Turn)
	require.Equal(t, "throttled", res.State.Waiting)
	require.False(t, res.Sent)
	require.Equal(t, email.Obstacle{ThrottledUntil: turn.At, ThrottledBy: "relay:metered"}, b.obstacle)
	require.Zero(t, b.opens, "no recipient was touched")
}

func TestLargeMessagesShareMemory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release, err := b.room(t.Context(), 200<<20)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.room(ended, 100<<20)
	require.ErrorIs(t, err, context.Canceled, "it would have waited")
	small, err := b.room(ended, 1<<20)
	require.NoError(t, err, "small ones are not held up")
	small()
	release()
	all, err := b.room(t.Context(), 1<<40)
	require.NoError(t, err, "one that is larger than all there is goes alone")
	all()
}
