package activities

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
)

// fakes implements the interfaces of Deps.
type fakes struct {
	mu      sync.Mutex
	plan    delivery.Plan
	opening func(n int) delivery.Opening
	opens   int
	check   *email.State
	// expiresIn is what Check and ExpireBatch answer.
	expiresIn time.Duration
	// checkOpen is the n-th answer of Check for an attempt that is open.
	checkOpen func(n int) delivery.Opening
	checks    int
	obstacle  delivery.Obstacle
	finishes  []delivery.Ending
	onFinish  func() error
	// onFitting replaces the session before a message is sent.
	onFitting func(Session) (Session, error)
	// superseded: another owner takes the attempt over before it ends.
	superseded bool
	// concluded is where the e-mail stands after Conclude; nil if that has not recorded it.
	concluded *delivery.Recorded
	marked    []delivery.Mark
	stored    []email.Attachment
	recorded  []delivery.RecordStatusInput

	relayErr error
	// onSession is the error of the n-th session; nil gives all sessions.
	onSession func(n int) error
	// askedFor are the ids of the e-mails or batches that sessions were asked for.
	askedFor []string
	sessions atomic.Int64
	down     *delivery.RelayError
	slow     bool
	onSend   func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange
	sends    int
	closed   int

	onResolve func(email.Attachment) (io.Reader, error)
	maxBytes  []int64
	storeErr  error
	onRender  error
	// onSign is the answer to a message that is to be signed.
	onSign error

	due     []endpoint.Due
	others  []string
	settled map[string]endpoint.Verdict
	onPost  func(endpoint.Due) endpoint.Result
	woken   []string
	claims  int
	onClaim func() []endpoint.Due
	// released counts deliveries given back.
	released int
	// pace is that of the relay's rate; 0 is no rate.
	pace time.Duration
}

func (w *fakes) Plan(context.Context, string) (delivery.Plan, error) { return w.plan, nil }

func (w *fakes) Message(context.Context, string) (email.Message, error) {
	return email.Message{Subject: "s"}, nil
}

func (w *fakes) StoreAttachment(_ context.Context, _ string, a email.Attachment, content io.Reader) (email.Attachment, error) {
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

func (w *fakes) Open(context.Context, delivery.OpenRequest) (delivery.Opening, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	return w.opening(w.opens), nil
}

func (w *fakes) Check(_ context.Context, _ string, o delivery.Obstacle) (delivery.Checked, error) {
	w.obstacle = o
	out := delivery.Checked{State: w.check, ExpiresIn: w.expiresIn}
	if w.checkOpen != nil {
		w.checks++
		out.Open = w.checkOpen(w.checks)
	}
	return out, nil
}

func (w *fakes) MarkSent(_ context.Context, ms []delivery.Mark) ([]bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marked = append(w.marked, ms...)
	out := make([]bool, len(ms))
	for i := range out {
		out[i] = true
	}
	return out, nil
}

func (w *fakes) Conclude(_ context.Context, e delivery.Ending) (delivery.Conclusion, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onFinish != nil {
		if err := w.onFinish(); err != nil {
			return delivery.Conclusion{}, err
		}
	}
	w.finishes = append(w.finishes, e)
	return delivery.Conclusion{Ours: !w.superseded, Recorded: w.concluded}, nil
}

func (w *fakes) Finish(_ context.Context, es []delivery.Ending) ([]bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onFinish != nil {
		if err := w.onFinish(); err != nil {
			return nil, err
		}
	}
	w.finishes = append(w.finishes, es...)
	return make([]bool, len(es)), nil
}

func (w *fakes) Renew(context.Context, string, int, string) error { return nil }

func (w *fakes) Record(_ context.Context, in delivery.RecordStatusInput) (delivery.Recorded, error) {
	w.recorded = append(w.recorded, in)
	return delivery.Recorded{State: email.State{Status: email.StatusDelivered, Final: true}, Webhooks: 2}, nil
}

func (w *fakes) Control(context.Context, string, email.Control) (email.State, error) {
	return email.State{Status: email.StatusCanceled}, nil
}

func (w *fakes) Session(_ context.Context, route delivery.Route) (Session, error) {
	w.mu.Lock()
	w.askedFor = append(w.askedFor, route.For+route.ForBatch)
	w.mu.Unlock()
	if w.relayErr != nil {
		return nil, w.relayErr
	}
	if w.onSession != nil {
		if err := w.onSession(int(w.sessions.Add(1))); err != nil {
			return nil, err
		}
	}
	return peer{w}, nil
}

func (w *fakes) Fitting(_ context.Context, _ delivery.Route, s Session, _ delivery.Envelope, _ []byte) (Session, error) {
	if w.onFitting != nil {
		return w.onFitting(s)
	}
	return s, nil
}

func (w *fakes) Fast(delivery.Route) bool { return !w.slow }

func (w *fakes) Pace(delivery.Route) time.Duration { return w.pace }

func (w *fakes) Lot(delivery.Route, time.Duration) int { return 100 }

func (w *fakes) Down(delivery.Route) *delivery.RelayError { return w.down }

func (w *fakes) Resolve(_ context.Context, _ string, a email.Attachment, maxBytes int64) (email.Attachment, io.ReadCloser, error) {
	w.maxBytes = append(w.maxBytes, maxBytes)
	body, err := w.onResolve(a)
	return a, io.NopCloser(body), err
}

func (w *fakes) ClaimForEmail(context.Context, string) ([]endpoint.Due, []string, error) {
	w.claims++
	return w.due, w.others, nil
}

func (w *fakes) ReleaseDeliveries(_ context.Context, ds []endpoint.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released += len(ds)
	return nil
}

func (w *fakes) BeginRound(context.Context, string) error { return nil }

func (w *fakes) ClaimForEndpoint(context.Context, string, int) ([]endpoint.Due, error) {
	if w.onClaim != nil {
		return w.onClaim(), nil
	}
	due := w.due
	w.due = nil
	return due, nil
}

func (w *fakes) RecordDelivery(_ context.Context, d endpoint.Delivery, r endpoint.Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled[d.ID] = r.Verdict
	return nil
}

func (w *fakes) EndpointBacklog(context.Context, string) (endpoint.Backlog, error) {
	return endpoint.Backlog{Waiting: 1, NextAt: time.Unix(1000, 0), Endpoint: endpoint.Endpoint{URL: "https://hooks.x.test/secret", LastError: "answered 503"}}, nil
}

func (w *fakes) Post(_ context.Context, d endpoint.Due, _ time.Duration) endpoint.Result {
	return w.onPost(d)
}

func (w *fakes) Wake(_ context.Context, orders []string) error {
	w.woken = append(w.woken, orders...)
	return nil
}

// Sign puts the ids of the keys before a message.
func (w *fakes) Sign(_ context.Context, message []byte, keyIDs []string, _ time.Time) ([]byte, error) {
	return append([]byte(strings.Join(keyIDs, ",")+":"), message...), w.onSign
}

func (w *fakes) WakeEndpoint(_ context.Context, id string) error {
	w.woken = append(w.woken, id)
	return nil
}

func (w *fakes) WakeDomain(ctx context.Context, id string) error { return w.WakeEndpoint(ctx, id) }

type peer struct{ w *fakes }

func (p peer) Relay() email.Relay { return email.Relay{Name: "primary"} }

func (p peer) Close() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.closed++
}

func (p peer) Send(ctx context.Context, env delivery.Envelope, _ []byte, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
	p.w.mu.Lock()
	p.w.sends++
	p.w.mu.Unlock()
	ex := p.w.onSend(ctx, mark)
	for i := range ex.Outcomes {
		ex.Outcomes[i].RecipientID = env.Recipients[i].ID
	}
	return ex
}

func opened(int) delivery.Opening {
	return delivery.Opening{Verdict: delivery.VerdictOpened, From: "a@x.test", Recipients: []delivery.EnvelopeRecipient{{ID: "R", Address: "robert@y.test"}}}
}

func deliver(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
	reply := email.Reply{Code: 250, Text: "queued for robert@y.test"}
	if err := mark(ctx, nil); err != nil {
		return delivery.Exchange{Outcomes: []delivery.Outcome{{Status: email.RecipientDeferred, Uncounted: true}}}
	}
	return delivery.Exchange{Outcomes: []delivery.Outcome{{Status: email.RecipientDelivered, Reply: reply}}, Final: reply}
}

type bench struct {
	*fakes
	*Activities
	drain Drain
	env   *testsuite.TestActivityEnvironment
}

func setup(t *testing.T) *bench {
	t.Helper()
	w := &fakes{opening: opened, onSend: deliver, settled: map[string]endpoint.Verdict{}}
	p := &post{fakes: w}
	a, drain, err := New(Deps{
		Acceptor: &fakeAcceptor{}, Customers: &fakeAcceptor{}, Mail: w, Gate: w, Journal: w, Recorder: w, Controller: w, Deliveries: w, Relays: w, Resolver: w, Poster: w, Waker: w, Domains: &fakeDomains{}, Lookup: &fakeDomains{},
		BatchGate: p, BatchMail: p, BatchJournal: p, BatchController: p,
		Render: func(email.Message, delivery.Settled) ([]byte, error) { return []byte("m"), w.onRender },
		Signer: w,
		Log:    slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	a.limits = limits{inlineBudget: 200 * time.Millisecond, finishWithin: 300 * time.Millisecond, busyPoll: time.Millisecond, heartbeatEvery: 5 * time.Millisecond, resolveWindow: time.Hour}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return &bench{w, a, drain, env}
}

func (b *bench) smtp(t *testing.T, inline bool) (delivery.SendSMTPResult, error) {
	t.Helper()
	val, err := b.env.ExecuteActivity(b.SendSMTP, delivery.SendSMTPInput{EmailID: "E", Attempt: 1, Inline: inline})
	var res delivery.SendSMTPResult
	if err == nil {
		require.NoError(t, val.Get(&res))
	}
	return res, err
}
