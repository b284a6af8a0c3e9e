// Package activities holds the side effects of the workflows, against small
// interfaces declared here.
//
//  1. AcceptEmail, in a direct start only, stores the message of the start as an e-mail.
//  2. ResolveAttachments fetches and stores the files that a message refers to.
//  3. SendSMTP makes one attempt. The store's gate decides whether an attempt is due. From
//     then on the journal records how far it got.
//  4. RecordStatus writes the attempt's outcomes to recipients and e-mail, in one transaction.
//  5. FireWebhooks calls each endpoint once, with a short timeout. DeliverDueWebhooks, which
//     works for one endpoint at a time, delivers what is left.
//
// CheckDomain is apart from these: it looks at the DNS records of a sender domain.
//
// Each activity may run twice, even at the same time: the store makes repeated calls
// harmless. A business outcome is a result. An error means that Postgres, another part of the
// installation or a relay was unavailable.
package activities

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/missing"
	"github.com/postrider/postrider/internal/senderdomain"
)

// Acceptor stores the messages of direct starts, each once.
type Acceptor interface {
	// DirectEmail finds the e-mail that was accepted for a start; nil if there is none.
	DirectEmail(ctx context.Context, d delivery.DirectStart) (*delivery.DirectEmail, error)
	AcceptDirect(ctx context.Context, m email.Message, d delivery.DirectStart) (delivery.DirectEmail, error)
}

// Customers reads customers.
type Customers interface {
	Customer(ctx context.Context, id string) (account.Customer, error)
}

// Mail reads an e-mail's plan and message, and stores the contents of its attachments.
type Mail interface {
	Plan(ctx context.Context, emailID string) (delivery.Plan, error)
	Message(ctx context.Context, emailID string) (email.Message, error)
	// StoreAttachment reads content to its end. It wraps an error of reading content.
	StoreAttachment(ctx context.Context, customerID string, a email.Attachment, content io.Reader) (email.Attachment, error)
}

// Gate decides whether an attempt is made: each SMTP transaction is opened by it.
type Gate interface {
	Open(ctx context.Context, req delivery.OpenRequest) (delivery.Opening, error)
	Check(ctx context.Context, emailID string, obstacle delivery.Obstacle) (delivery.Checked, error)
}

// Journal carries an open attempt through its phases.
type Journal interface {
	// MarkSent and Conclude write the attempts that their owners still hold. Where another owner has
	// taken an attempt over, nothing is written for it: it is not ours.
	MarkSent(ctx context.Context, marks []delivery.Mark) (ours []bool, err error)
	// Conclude ends an attempt and records its outcomes. If those could not be recorded at once,
	// Recorder.Record has to.
	Conclude(ctx context.Context, ending delivery.Ending) (delivery.Conclusion, error)
	// Finish ends attempts and records nothing.
	Finish(ctx context.Context, endings []delivery.Ending) (ours []bool, err error)
	Renew(ctx context.Context, emailID string, attempt int, owner string) error
}

// Recorder writes an attempt's outcomes to recipients, e-mail, events and deliveries.
type Recorder interface {
	Record(ctx context.Context, rec delivery.RecordStatusInput) (delivery.Recorded, error)
}

// Controller carries out actions.
type Controller interface {
	Control(ctx context.Context, emailID string, control email.Control) (email.State, error)
}

// Deliveries leases webhook deliveries and stores their results.
type Deliveries interface {
	ClaimForEmail(ctx context.Context, emailID string) (due []endpoint.Due, others []string, err error)
	// BeginRound notes that a run works for the endpoint; EndpointBacklog notes that it
	// stops.
	BeginRound(ctx context.Context, endpointID string) error
	ClaimForEndpoint(ctx context.Context, endpointID string, limit int) ([]endpoint.Due, error)
	RecordDelivery(ctx context.Context, d endpoint.Delivery, r endpoint.Result) error
	// ReleaseDeliveries gives back what was claimed and not attempted.
	ReleaseDeliveries(ctx context.Context, ds []endpoint.Delivery) error
	EndpointBacklog(ctx context.Context, endpointID string) (endpoint.Backlog, error)
}

// Session is one connection to a relay, ready for a transaction.
type Session interface {
	Relay() email.Relay
	// Send runs one transaction. Right before the final dot it calls mark with the outcomes
	// that hold if no reply follows. It writes the dot only if mark returns nil.
	Send(ctx context.Context, env delivery.Envelope, message []byte, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange
	// Close returns the session to its pool.
	Close()
}

// Relays finds a relay for a route. An error is a *delivery.RelayError where no relay gave a
// session, and a *delivery.Throttled where the relay's rate allows the transaction later.
type Relays interface {
	Session(ctx context.Context, route delivery.Route) (Session, error)
	// Fitting returns the session to send a message with: s, or a session with a relay that
	// accepts more of the message. It closes s if it returns another session or an error. A
	// *delivery.RelayError may speak of another relay than that of s.
	Fitting(ctx context.Context, route delivery.Route, s Session, env delivery.Envelope, message []byte) (Session, error)
	// Fast reports whether the route's relay answered its last transactions quickly.
	Fast(route delivery.Route) bool
	// Pace is the time from one slot to the next of the rate of the route's relay; 0 is no rate.
	Pace(route delivery.Route) time.Duration
	// Lot is how many transactions the rate of the route's relay lets begin within a time,
	// at least 1.
	Lot(route delivery.Route, within time.Duration) int
	// Down is why no relay of the route is tried now; nil if one is.
	Down(route delivery.Route) *delivery.RelayError
}

// Render encodes a message: the same bytes for every attempt.
type Render func(m email.Message, s delivery.Settled) ([]byte, error)

// Signer puts DKIM signatures before a message, in its array if there is room. The same message, keys
// and time yield the same bytes. Keys that are gone sign nothing. An error that is a dkim.ErrMessage
// is of the message, and another try yields it again.
type Signer interface {
	Sign(ctx context.Context, message []byte, keyIDs []string, at time.Time) ([]byte, error)
}

// Resolver opens the file that an attachment refers to, up to a size. An *email.Failure, also
// one from reading the body, is final unless its code is CodeUnavailable.
type Resolver interface {
	Resolve(ctx context.Context, customerID string, a email.Attachment, maxBytes int64) (email.Attachment, io.ReadCloser, error)
}

// Domains has the sender domains and the state of their verification.
type Domains interface {
	// BeginCheck reads a domain, and claims its check if one is due and it is its turn. now makes one due
	// first. A domain that does not exist is a CodeNotFound.
	BeginCheck(ctx context.Context, domainID string, now bool) (senderdomain.Begun, error)
	// SaveCheck writes what a check has found, unless the domain's state was changed since it began.
	SaveCheck(ctx context.Context, begun senderdomain.Begun, found senderdomain.Findings) (senderdomain.Domain, error)
	// GiveTurns lets checks begin that wait, at most limit. Their domains need a run.
	GiveTurns(ctx context.Context, limit int) (domainIDs []string, err error)
}

// Poster makes one webhook call.
type Poster interface {
	Post(ctx context.Context, due endpoint.Due, timeout time.Duration) endpoint.Result
}

// Waker starts the workflow of an endpoint, a sender domain or an e-mail if none is running, and
// signals it to read its state again.
type Waker interface {
	WakeEndpoint(ctx context.Context, endpointID string) error
	WakeDomain(ctx context.Context, domainID string) error
	// Wake carries out orders to wake the workflows of e-mails. The store has them: if Wake
	// fails, a sweep carries them out.
	Wake(ctx context.Context, orders []string) error
}

// Deps are the dependencies of the activities. Each is required unless its comment says
// otherwise.
type Deps struct {
	Acceptor  Acceptor
	Customers Customers
	// Limits of a direct start's message, the same as the API's. Now, DefaultSource and
	// IgnoreUnknown are set per call.
	Limits     intake.Limits
	Mail       Mail
	Gate       Gate
	Journal    Journal
	Recorder   Recorder
	Controller Controller
	Deliveries Deliveries
	Domains    Domains

	BatchGate       BatchGate
	BatchMail       BatchMail
	BatchJournal    BatchJournal
	BatchController BatchController

	Relays   Relays
	Render   Render
	Signer   Signer
	Resolver Resolver
	// Lookup asks the DNS about sender domains.
	Lookup senderdomain.Lookup
	// RelaySources are the relays with the addresses that they send from. May be empty.
	RelaySources []senderdomain.RelaySource
	Poster       Poster
	Waker        Waker
	Log          *slog.Logger

	// LargeBytes bounds the large messages that are being sent at the same time: the sum of
	// their sizes in bytes before encoding. A larger message is sent without other large
	// ones. 0 is DefaultLargeBytes.
	LargeBytes int64
	// AcquireMemory is called before a message of more than LargeBytes is loaded and encoded.
	// It waits until no other message of that size is in memory; release ends the turn.
	// Optional.
	AcquireMemory func(ctx context.Context, owner string) (release func(), err error)
	// MapToFile moves an encoded message of more than LargeBytes out of the heap and returns
	// the same bytes, which are valid until free. Required with AcquireMemory.
	MapToFile func(message []byte) (mapped []byte, free func() error, err error)
}

// Activities exports the activities and nothing else: registering it registers
// every exported method.
type Activities struct {
	deps      Deps
	exchanges *exchanges
	limits    limits
	// large holds Deps.LargeBytes: the memory that large messages share.
	large *membudget.Budget
}

// limits are the times that tests shorten.
type limits struct {
	// inlineBudget is how long an inline attempt may take. While a local activity
	// runs, signals and queries of its run wait.
	inlineBudget time.Duration
	// finishWithin bounds how long an attempt tries to write its outcomes to the journal.
	finishWithin time.Duration
	// busyPoll is the pause between two calls of the gate while another process makes the
	// attempt.
	busyPoll time.Duration
	// resolveWindow is how long an attachment's source may fail temporarily before the e-mail
	// fails.
	resolveWindow time.Duration
	// heartbeatEvery is the pause between two heartbeats of a waiting activity.
	heartbeatEvery time.Duration
}

func defaultLimits() limits {
	return limits{inlineBudget: 5 * time.Second, finishWithin: 10 * time.Second, busyPoll: time.Second, heartbeatEvery: 5 * time.Second, resolveWindow: time.Hour}
}

// New makes the activities and the Drain that lets their open exchanges end. It fails where a
// dependency is missing.
func New(deps Deps) (*Activities, Drain, error) {
	if err := missing.Of(deps, "AcquireMemory", "MapToFile", "RelaySources"); err != nil {
		return nil, nil, err
	}
	if deps.LargeBytes == 0 {
		deps.LargeBytes = DefaultLargeBytes
	}
	a := &Activities{deps: deps, exchanges: newExchanges(), limits: defaultLimits(), large: membudget.New(membudget.Options{Total: deps.LargeBytes})}
	return a, a.exchanges.drain, nil
}

// Drain refuses new exchanges and waits for those under way until ctx ends. Its error counts
// those that were left. Each is in the journal, where another process takes it over.
type Drain func(ctx context.Context) error

// since is when a step began and how long it took.
func since(start time.Time) delivery.Took {
	return delivery.Took{StartedAt: start.UTC(), MS: time.Since(start).Milliseconds()}
}

// Error types of the Temporal contract.
const (
	errRelayUnavailable = "relay_unavailable"
	errNotFinished      = "not_finished"
	errInternal         = "internal"
)

// failed translates an error for Temporal. An *email.Failure other than CodeUnavailable is not
// retried, because only the caller can correct it; all other errors are retried. The text of
// an internal error goes to the log only: it may hold secrets or addresses, which must not be
// in a history. step names what failed.
func failed(ctx context.Context, log *slog.Logger, step string, err error) error {
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
	log.ErrorContext(ctx, step, "error", err)
	return temporal.NewApplicationError(step+" failed; the worker's log says why", errInternal)
}

// refusedFields are the field errors of a failure as details of an ApplicationError; none if
// it has no field errors.
func refusedFields(f *email.Failure) []any {
	if len(f.Fields) == 0 {
		return nil
	}
	return []any{email.ErrorDetails{Errors: f.Fields}}
}

// heartbeats reports whether ctx is that of a regular activity: local ones cannot heartbeat.
func heartbeats(ctx context.Context) bool {
	return activity.IsActivity(ctx) && !activity.GetInfo(ctx).IsLocalActivity
}
