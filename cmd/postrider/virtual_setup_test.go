package main

import (
	"context"
	"database/sql"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	temporalworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/attachment"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/senderdomain"
	"github.com/postrider/postrider/internal/signing"
	"github.com/postrider/postrider/internal/smtptest"
	"github.com/postrider/postrider/internal/webhook"
	"github.com/postrider/postrider/worker"
)

// virtualStart is when every virtual time begins.
var virtualStart = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// slack is what a time may be off: while an activity runs, the environment lets
// timers fire as real time passes.
const slack = time.Second

// manySteps is more activities than any test here needs, retries included: one
// that turns in circles ends.
const manySteps = 5_000

// virtual is an installation in which hours pass in milliseconds: the real
// workflow, activities, store and relays against a real Postgres and a scripted
// SMTP peer. Temporal's test environment keeps the one clock. The relays are
// given it; Postgres is set to it whenever an activity begins, and stands still
// in between.
type virtual struct {
	*testsuite.TestWorkflowEnvironment
	t     *testing.T
	store *db.DB
	// db looks behind the store, and sets the clock.
	db       *sql.DB
	customer string
	peer     *smtptest.Peer
	// poster and waker are for webhooks.
	poster activities.Poster
	waker  activities.Waker
	// lookup is the DNS; nil is one without servers.
	lookup senderdomain.Lookup
	// setClock sets Postgres' clock to the environment's time.
	setClock func()

	mu sync.Mutex
	// said are the commands that the peer got.
	said []said
	// steps counts the activities that started, local ones included.
	steps int
}

// said is a command, and how long after the start it came.
type said struct {
	at   time.Duration
	line string
}

// script answers a command that comes that long after the start; "" is the
// usual answer.
type script func(at time.Duration, line string) string

// until gives one answer to a kind of command for a while.
func until(lasts time.Duration, verb, answer string) script {
	return func(at time.Duration, line string) string {
		if at < lasts && strings.HasPrefix(line, verb) {
			return answer
		}
		return ""
	}
}

func newVirtual(t *testing.T) *virtual {
	t.Helper()
	return newVirtualWith(t, func(*db.Options) {})
}

// newVirtualWith is newVirtual with other options of the store.
func newVirtualWith(t *testing.T, change func(*db.Options)) *virtual {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	v := &virtual{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	v.SetStartTime(virtualStart)
	// Both are real time, and the machine may be busy.
	v.SetTestTimeout(patience)
	v.SetWorkerOptions(temporalworker.Options{DeadlockDetectionTimeout: patience, Interceptors: []interceptor.WorkerInterceptor{&endless{}}})
	require.NoError(t, v.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes()))
	v.RegisterWorkflow(sendAll)

	url := dbtest.URL(t)
	v.db = sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(url)))
	t.Cleanup(func() { require.NoError(t, v.db.Close()) })
	v.bendTime()
	var err error
	options := db.Options{SecretKey: make([]byte, 32), MaxConns: 10, WebhookBody: webhook.Bodies}
	change(&options)
	v.store, err = db.Open(url, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.store.Close()) })
	customer, _, err := v.store.Accounts.CreateCustomer(t.Context(), "ACME", "", "")
	require.NoError(t, err)
	v.customer = customer.ID
	return v
}

// bendTime makes the database tell the environment's time.
func (v *virtual) bendTime() {
	v.t.Helper()
	shown := v.Now()
	clock, err := dbtest.SetUpClock(v.t.Context(), v.db, shown)
	require.NoError(v.t, err)
	// The listeners run in the environment's loop: time does not move meanwhile.
	set := func() {
		v.steps++
		require.Less(v.t, v.steps, manySteps, "a run turns in circles")
		if now := v.Now(); !now.Equal(shown) {
			require.NoError(v.t, clock.Set(v.t.Context(), now))
			shown = now
		}
	}
	v.setClock = set
	v.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) { set() })
	v.SetOnLocalActivityStartedListener(func(*activity.Info, context.Context, []any) { set() })
}

// listen starts the peer on a listener, nil for any. It records the commands it receives.
func (v *virtual) listen(l net.Listener, user string, answer script) {
	v.t.Helper()
	v.peer = &smtptest.Peer{Extensions: []string{"PIPELINING"}, User: user, Password: "secret", Answer: func(line string) string {
		at := v.Now().Truncate(time.Microsecond).Sub(virtualStart) // as exact as Postgres
		v.mu.Lock()
		defer v.mu.Unlock()
		v.said = append(v.said, said{at, line})
		return answer(at, line)
	}}
	if l == nil {
		v.peer.Start(v.t)
		return
	}
	v.peer.Serve(v.t, l)
}

// connect wires what a worker consists of, with one relay. There is no attachment,
// so nothing that handles one is there.
func (v *virtual) connect(user, addr string) {
	v.t.Helper()
	if user != "" {
		user += ":secret@"
	}
	peer, err := relay.Parse("smtp://" + user + addr + "?tls=none&name=peer")
	require.NoError(v.t, err)
	relays := relay.New([]relay.Relay{peer}, relay.Options{Now: v.Now, MailOf: v.store.Mail.MailOf})
	v.t.Cleanup(relays.Close)
	v.work(relaySessions{relays})
}

// work registers what a worker consists of, with its relays.
func (v *virtual) work(relays activities.Relays) {
	v.t.Helper()
	if v.poster == nil { // who sets them asks for webhooks
		v.poster = webhook.NewPoster(safehttp.New(safehttp.Options{}), "test")
	}
	if v.waker == nil {
		v.waker = wakeRoot{v}
	}
	if v.lookup == nil {
		v.lookup = noLookup{}
	}
	acts, drain, err := activities.New(activities.Deps{
		Acceptor: v.store.Mail, Customers: v.store.Accounts, BatchGate: v.store.Mail, BatchMail: v.store.Mail, BatchJournal: v.store.Mail, BatchController: v.store.Mail, Resolver: attachment.Resolvers{},
		Mail: v.store.Mail, Gate: v.store.Mail, Journal: v.store.Mail, Recorder: v.store.Mail, Controller: v.store.Mail, Deliveries: v.store.Webhooks, Domains: v.store.Accounts, Lookup: v.lookup,
		Relays: relays, Render: renderMessage, Signer: signing.New(v.store.Accounts, slog.New(slog.DiscardHandler)), Poster: v.poster, Waker: v.waker, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(v.t, err)
	v.t.Cleanup(func() { require.NoError(v.t, drain(context.WithoutCancel(v.t.Context()))) })
	worker.Register(v, acts)
}

// accept stores a mail to the recipients, and makes sure that Postgres' clock is
// the virtual one: if it were not, most of what is asked below would be true of
// tests that take no time.
func (v *virtual) accept(sendAt time.Time, to ...string) string {
	v.t.Helper()
	m := email.Message{From: email.Address{Email: "shop@acme.test"}, Subject: "Hello", Text: "Hi", SendAt: sendAt, OnAmbiguous: email.AmbiguousRetry}
	for _, a := range to {
		m.To = append(m.To, email.Address{Email: a})
	}
	e, _, err := v.store.Mail.Accept(v.t.Context(), v.customer, m, uuid.NewString(), email.Idempotency{})
	require.NoError(v.t, err)
	require.Equal(v.t, virtualStart, e.CreatedAt.UTC())
	return e.ID
}

// sendAll runs the e-mails at once, under one clock.
func sendAll(ctx workflow.Context, ids []string) error {
	var runs []workflow.ChildWorkflowFuture
	for _, id := range ids {
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: email.WorkflowIDPrefix + id})
		runs = append(runs, workflow.ExecuteChildWorkflow(child, email.WorkflowSendEmail, email.SendEmailInput{EmailID: id}))
	}
	for _, r := range runs {
		if err := r.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func (v *virtual) send(ids ...string) {
	v.t.Helper()
	v.ExecuteWorkflow(sendAll, ids)
	require.True(v.t, v.IsWorkflowCompleted())
	require.NoError(v.t, v.GetWorkflowError())
}

func (v *virtual) email(id string) email.Email {
	v.t.Helper()
	e, err := v.store.Mail.Email(v.t.Context(), v.customer, id)
	require.NoError(v.t, err)
	return e
}

// happened are the times, since the start, of an e-mail's events of some types.
func (v *virtual) happened(id string, types ...email.EventType) []time.Duration {
	v.t.Helper()
	events, _, err := v.store.Mail.EmailEvents(v.t.Context(), v.customer, id, 0)
	require.NoError(v.t, err)
	var out []time.Duration
	for _, ev := range events {
		if slices.Contains(types, ev.Type) {
			out = append(out, ev.At.Sub(virtualStart))
		}
	}
	return out
}

// received are the times of the commands with the prefix.
func (v *virtual) received(prefix string) []time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []time.Duration
	for _, s := range v.said {
		if strings.HasPrefix(s.line, prefix) {
			out = append(out, s.at)
		}
	}
	return out
}

// copies is how often the peer took an e-mail for a recipient.
func (v *virtual) copies(id, recipient string) int {
	return v.peer.Copies(email.MessageID(id, "acme.test"), recipient)
}

// dead is how many recipients were taken for addresses that do not exist, in the
// journal: those are what a suppression list is made of.
func (v *virtual) dead() int {
	v.t.Helper()
	var n int
	err := v.db.QueryRowContext(v.t.Context(), `SELECT count(*) FROM public.delivery_attempts AS a, jsonb_array_elements(a.outcomes) AS o
		WHERE o @> '{"suppress": true}'`).Scan(&n)
	require.NoError(v.t, err)
	return n
}

// ends are the events that tell of an end which is not a delivery.
var ends = []email.EventType{email.EventBounced, email.EventFailed, email.EventExpired, email.EventCanceled, email.EventSuppressed}

// requireDelivered: every recipient has exactly one copy, taken within [from, to], and no event
// of another end.
func (v *virtual) requireDelivered(from, to time.Duration, ids ...string) {
	v.t.Helper()
	taken := 0
	for _, id := range ids {
		e := v.email(id)
		require.Equal(v.t, email.StatusDelivered, e.Status)
		require.Empty(v.t, e.Detail)
		require.Empty(v.t, v.happened(id, ends...))
		for _, r := range e.Recipients {
			require.Equal(v.t, email.RecipientDelivered, r.Status)
			require.Equal(v.t, 1, v.copies(id, r.Address.Email), "copies for %s", r.Address.Email)
			taken++
		}
		require.Len(v.t, v.happened(id, email.EventDelivered), len(e.Recipients))
		require.Len(v.t, v.happened(id, email.EventCompleted), 1)
		for _, at := range v.happened(id, email.EventDelivered, email.EventCompleted) {
			require.GreaterOrEqual(v.t, at, from)
			require.LessOrEqual(v.t, at, to)
		}
	}
	inAll := 0
	for _, m := range v.peer.Messages() {
		inAll += len(m.To)
	}
	require.Equal(v.t, taken, inAll, "nothing went anywhere else")
	require.Zero(v.t, v.dead())
}

// endless takes away the ends that the test environment puts to retries: ten tries where the
// policy has no limit, and the timeouts of one try, which it counts in real time over all tries.
// A server does neither.
type endless struct {
	interceptor.WorkerInterceptorBase
}

func (*endless) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &endlessInbound{interceptor.WorkflowInboundInterceptorBase{Next: next}}
}

type endlessInbound struct {
	interceptor.WorkflowInboundInterceptorBase
}

func (i *endlessInbound) Init(out interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&endlessOutbound{interceptor.WorkflowOutboundInterceptorBase{Next: out}})
}

type endlessOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
}

func (o *endlessOutbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	policy := *workflow.GetActivityOptions(ctx).RetryPolicy
	if policy.MaximumAttempts == 0 {
		policy.MaximumAttempts = math.MaxInt32
	}
	ctx = workflow.WithHeartbeatTimeout(workflow.WithStartToCloseTimeout(ctx, virtualDay), 0)
	return o.Next.ExecuteActivity(workflow.WithRetryPolicy(ctx, policy), name, args...)
}
