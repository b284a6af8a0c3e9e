// Package activities holds the side effects of the workflows, against small
// interfaces declared here.
//
//  1. AcceptEmail, in a direct start only, makes an e-mail of the message that the run
//     was given.
//  2. ResolveAttachments makes stored bytes of everything a message refers to.
//  3. SendSMTP makes one attempt. The store's gate decides whether there is one
//     to make; from then on the journal knows how far it got.
//  4. RecordStatus projects the attempt's outcomes, in one transaction.
//  5. FireWebhooks tells the customer, once, quickly; what fails belongs to
//     DeliverDueWebhooks, which works for one endpoint at a time.
//
// Each may run twice, even at once, without harm: that is the store's doing.
// A business outcome is a result; an error means that something of our own, or
// a relay, was not there.
package activities

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/missing"
)

// Acceptor takes in the messages of direct starts, each once.
type Acceptor interface {
	Customer(ctx context.Context, id string) (account.Customer, error)
	// DirectEmail is nil while nothing was accepted under the start's name.
	DirectEmail(ctx context.Context, d delivery.DirectStart) (*delivery.DirectEmail, error)
	AcceptDirect(ctx context.Context, m email.Message, d delivery.DirectStart) (delivery.DirectEmail, error)
}

// Mail reads what a run needs of an e-mail and stores what its attachments
// were resolved to.
type Mail interface {
	Plan(ctx context.Context, emailID string) (delivery.Plan, error)
	Message(ctx context.Context, emailID string) (email.Message, error)
	// StoreAttachment reads content to its end; an error of content is in the chain
	// of the one returned.
	StoreAttachment(ctx context.Context, customerID string, a email.Attachment, content io.Reader) (email.Attachment, error)
}

// Gate is the only way to SMTP.
type Gate interface {
	Open(ctx context.Context, reqs []delivery.OpenRequest) ([]delivery.Opening, error)
	Check(ctx context.Context, emailID string, obstacle delivery.Obstacle) (*email.State, error)
}

// Journal carries an open attempt through its phases.
type Journal interface {
	// MarkSent and Finish tell which of the attempts are still ours, and so went through.
	MarkSent(ctx context.Context, marks []delivery.Mark) (ours []bool, err error)
	Finish(ctx context.Context, endings []delivery.Ending) (ours []bool, err error)
	Renew(ctx context.Context, emailID string, attempt int, owner string) error
}

// Recorder projects outcomes.
type Recorder interface {
	Record(ctx context.Context, rec delivery.RecordStatusInput) (delivery.Recorded, error)
}

// Controller carries out actions.
type Controller interface {
	Control(ctx context.Context, emailID string, control email.Control) (email.State, error)
}

// Deliveries hands out webhook deliveries and takes their results.
type Deliveries interface {
	ClaimForEmail(ctx context.Context, emailID string) (due []endpoint.Due, others []string, err error)
	// BeginRound says that a run is at work; EndpointBacklog, that it stops.
	BeginRound(ctx context.Context, endpointID string) error
	ClaimForEndpoint(ctx context.Context, endpointID string, limit int) ([]endpoint.Due, error)
	SettleDelivery(ctx context.Context, d endpoint.Delivery, r endpoint.Result) error
	// ReleaseDeliveries gives back what was claimed and not attempted.
	ReleaseDeliveries(ctx context.Context, ds []endpoint.Delivery) error
	EndpointBacklog(ctx context.Context, endpointID string) (endpoint.Backlog, error)
}

// Session is one connection to a relay, ready for a transaction.
type Session interface {
	Relay() email.Relay
	// Send runs one transaction. It calls mark right before the final dot with
	// the outcomes that hold if nothing more is heard, and writes the dot only
	// if mark returns nil.
	Send(ctx context.Context, env delivery.Envelope, message []byte, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange
	// Close gives the session back.
	Close()
}

// Relays finds a relay for a route. An error is an *delivery.RelayError where no
// relay would talk to us, an *delivery.Throttled where its rate says later.
type Relays interface {
	Session(ctx context.Context, route delivery.Route) (Session, error)
	// Fitting returns the session to send a message with: s, or one with a relay that
	// takes more of it. s is closed where it returns another, or an error.
	Fitting(ctx context.Context, route delivery.Route, s Session, env delivery.Envelope, message []byte) (Session, error)
	// Fast reports whether the route's relay has answered quickly of late.
	Fast(route delivery.Route) bool
	// Paced reports whether the route's relay has a rate.
	Paced(route delivery.Route) bool
	// Lot is how many transactions the rate of the route's relay lets begin in that
	// time, at least 1.
	Lot(route delivery.Route, within time.Duration) int
	// Down says why no relay of the route would be tried now; nil if one would.
	Down(route delivery.Route) *delivery.RelayError
}

// Render makes the bytes of a message; the same for every attempt.
type Render func(m email.Message, emailID string, date time.Time) ([]byte, error)

// Resolver opens what an attachment refers to, up to a size. An *email.Failure, of
// the body too, is final, unless its code is CodeUnavailable.
type Resolver interface {
	Resolve(ctx context.Context, customerID string, a email.Attachment, maxBytes int64) (email.Attachment, io.ReadCloser, error)
}

// Poster makes one webhook call.
type Poster interface {
	Post(ctx context.Context, due endpoint.Due, timeout time.Duration) endpoint.Result
}

// Waker makes sure that the run of an endpoint, or of an e-mail, exists and looks.
type Waker interface {
	WakeEndpoint(ctx context.Context, endpointID string) error
	Wake(ctx context.Context, e email.Email) error
}

// Deps are what the activities work with. All are required that do not say otherwise.
type Deps struct {
	Acceptor Acceptor
	// Limits of a direct start's message, as those of the API; Now, DefaultSource and
	// IgnoreUnknown are set for each.
	Limits     intake.Limits
	Mail       Mail
	Gate       Gate
	Journal    Journal
	Recorder   Recorder
	Controller Controller
	Deliveries Deliveries

	BatchGate       BatchGate
	BatchMail       BatchMail
	BatchJournal    BatchJournal
	BatchController BatchController

	Relays   Relays
	Render   Render
	Resolver Resolver
	Poster   Poster
	Waker    Waker
	Log      *slog.Logger

	// LargeBytes bounds the large messages that are being sent at the same time: the sum of
	// their sizes in bytes before encoding. A larger message is sent without other large
	// ones. 0 is DefaultLargeBytes.
	LargeBytes int64
	// Alone, if set, is asked before a message of more than LargeBytes is loaded and encoded,
	// and waits until nothing else of its size is in memory; done ends that. Aside takes the
	// encoded message out of the process's memory, until free.
	Alone func(ctx context.Context, owner string) (done func(), err error)
	Aside func(message []byte) (same []byte, free func() error, err error)
}

// Activities exports the activities and nothing else: registering it registers
// every exported method.
type Activities struct {
	deps      Deps
	exchanges *exchanges
	limits    limits
	// large is the memory that large messages share.
	large *semaphore.Weighted
}

// limits are the times that tests shorten.
type limits struct {
	// inlineBudget is how long an inline attempt may take. While a local activity
	// runs, signals and queries of its run wait.
	inlineBudget time.Duration
	// finishWithin bounds how long an exchange tries to write its end itself.
	finishWithin time.Duration
	// busyPoll is how often an attempt that another process has marked is looked at.
	busyPoll time.Duration
	// resolveWindow is how long a source may fail in passing before the e-mail
	// fails for want of its attachment.
	resolveWindow time.Duration
	// heartbeatEvery is how often a waiting SendSMTP says that it is alive.
	heartbeatEvery time.Duration
}

func defaultLimits() limits {
	return limits{inlineBudget: 5 * time.Second, finishWithin: 10 * time.Second, busyPoll: time.Second, heartbeatEvery: 5 * time.Second, resolveWindow: time.Hour}
}

// New makes the activities and the Drain that lets their open exchanges end. It fails where a
// dependency is missing.
func New(deps Deps) (*Activities, Drain, error) {
	if err := missing.Of(deps, "Alone", "Aside"); err != nil {
		return nil, nil, err
	}
	if deps.LargeBytes == 0 {
		deps.LargeBytes = DefaultLargeBytes
	}
	a := &Activities{deps: deps, exchanges: newExchanges(), limits: defaultLimits(), large: semaphore.NewWeighted(deps.LargeBytes)}
	return a, a.exchanges.drain, nil
}

// Drain stops new exchanges and waits for those under way, until ctx ends. An
// error says how many were left: each is in the journal and will be found there.
type Drain func(ctx context.Context) error

// since fills in when a step began and how long it took.
func since(start time.Time) delivery.Took {
	return delivery.Took{StartedAt: start.UTC(), MS: time.Since(start).Milliseconds()}
}

// Error types of the Temporal contract.
const (
	errRelayUnavailable = "relay_unavailable"
	errNotFinished      = "not_finished"
	errInternal         = "internal"
)

// failed translates an error for Temporal. What only its sender can mend is not
// retried; all else is. The text of a fault of our own stays in our log: it may
// hold what has no place in a history.
func failed(ctx context.Context, log *slog.Logger, what string, err error) error {
	if f, ok := errors.AsType[*email.Failure](err); ok {
		switch f.Code {
		case email.CodeUnavailable:
			return temporal.NewApplicationErrorWithOptions(f.Detail, string(f.Code), temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign})
		default:
			return temporal.NewNonRetryableApplicationError(f.Detail, string(f.Code), nil, refusedFields(f)...)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	log.ErrorContext(ctx, what, "error", err)
	return temporal.NewApplicationError(what+" failed; the worker's log says why", errInternal)
}

// refusedFields are the details of an error, none where it names no places.
func refusedFields(f *email.Failure) []any {
	if len(f.Fields) == 0 {
		return nil
	}
	return []any{email.ErrorDetails{Errors: f.Fields}}
}

// heartbeats reports whether this is a regular activity, which may heartbeat.
func heartbeats(ctx context.Context) bool {
	return activity.IsActivity(ctx) && !activity.GetInfo(ctx).IsLocalActivity
}
