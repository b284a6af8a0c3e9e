// Package api is Postrider's HTTP API, in Gin. routes.go is the table of all routes. Each
// resource has a file with its handlers: a struct that holds what the resource needs, and no
// more. Errors are RFC 9457 problems, which problem.go writes.
package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/missing"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
)

// Deps are what the API works with. All are required that do not say otherwise.
type Deps struct {
	Emails      Emails
	Stats       Stats
	Events      Events
	Previews    Previews
	Batches     Batches
	Files       Files
	Dispatcher  Dispatcher
	Credentials Credentials
	Logins      Logins
	Keys        Keys
	OwnCustomer OwnCustomer
	Customers   Customers
	Users       Users
	Domains     Domains
	Usage       Usage
	Audit       Audit
	Pauses      Pauses
	Webhooks    Webhooks
	Mailboxes   Mailboxes
	Parser      Parser
	Render      Renderer
	// Ready reports whether Postgres answers.
	Ready func(context.Context) error
	// WorkerReady reports whether the worker of this process gets work; nil where the
	// process runs none.
	WorkerReady func(context.Context) error
	// Metrics answers scrapes; it checks their credential itself.
	Metrics http.Handler
	// CheckURL refuses addresses that may not be called.
	CheckURL func(string) error
	Log      *slog.Logger
}

// Dispatcher starts and wakes runs, best effort.
type Dispatcher interface {
	EmailStarter
	BatchStarter
	EndpointWaker
}

// Options of the API.
type Options struct {
	// Limits of a message. What depends on the request is set for each.
	Limits intake.Limits
	// TokenKey signs and verifies login tokens; at least 32 bytes. OldTokenKey verifies
	// them too, while the secret key is being replaced; empty means that it is not.
	TokenKey, OldTokenKey []byte
	// SigningKey says which of the two signs: 0 or 1. nil means the first, always.
	SigningKey func(context.Context) (int, error)
	// PublicURL is how the API is reached, without a slash at the end; empty makes
	// a Location a path.
	PublicURL string
	// RequestRate is how many requests a second one credential may make, twice as many
	// at once; 0 is any number.
	RequestRate int
	// CustomerRequestRate is the same for all credentials of a customer together.
	CustomerRequestRate int
	// MemoryBytes is what all requests and answers may hold together, in bytes; 0 means
	// DefaultMemoryBytes. See budget.
	MemoryBytes int64
	// Turns is what large requests wait for, which one thing in the process has at a time;
	// nil means that nothing but requests is large.
	Turns *turns.Turns
	// Processors is what work on requests of more than 16 KiB waits for; nil lets three quarters
	// of the processors do it, one at least.
	Processors *turns.Turns
	// Spool has what is sent and read at clients' pace; nil is NewSpool in the system's
	// directory, of DefaultSpoolBytes.
	Spool *spool.Pool
	// Connections is how many the API's port has at once; 0 is MaxConnections. Half of them may
	// wait for e-mails (?wait=).
	Connections int
	// HashesAtOnce is how many passwords are hashed at the same time, each with 64 MiB; 0 is 2.
	HashesAtOnce int
	// TrustedProxies are those whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// HashPatience is how long a login waits for its password to be checked; zero is 10 s.
	HashPatience time.Duration
	// Now is the clock of everything that a request says of times: what is in the past, how
	// far ahead something may be, when a token ends. Defaults to time.Now.
	Now func() time.Time
	// WorkflowURL makes the address of a run in the Temporal UI; nil leaves it out.
	WorkflowURL func(workflowID string) string
	// Home is what GET / tells besides the API's own addresses.
	Home Home
}

// Server answers requests.
type Server struct {
	engine      *gin.Engine
	respond     responder
	credentials *credentials
	memory      *budget
	links       links
	handlers    handlers
	table       []Route
	log         *slog.Logger
}

// New makes a Server. Its error names what deps lack.
func New(deps Deps, opts Options) (*Server, error) {
	if err := missing.Of(deps, "WorkerReady"); err != nil {
		return nil, err
	}
	gin.SetMode(gin.ReleaseMode)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	respond, tokens := responder{deps.Log}, newTokens(opts)
	s := &Server{
		engine: gin.New(), respond: respond, memory: newBudget(opts), links: links{opts.PublicURL, opts.WorkflowURL}, log: deps.Log,
		credentials: &credentials{store: deps.Credentials, tokens: tokens, limits: newRequestLimits(opts.RequestRate, opts.CustomerRequestRate), respond: respond},
	}
	s.handlers = newHandlers(deps, opts, s.links, respond, tokens)
	proxies := make([]string, len(opts.TrustedProxies))
	for i, p := range opts.TrustedProxies {
		proxies[i] = p.String()
	}
	if err := s.engine.SetTrustedProxies(proxies); err != nil {
		return nil, err
	}
	s.engine.RemoteIPHeaders = []string{"X-Forwarded-For"} // proxies pass X-Real-IP on as clients send it
	s.engine.HandleMethodNotAllowed = true
	s.engine.RedirectTrailingSlash = false
	s.engine.Use(s.identify, s.logged, s.memory.accounted, s.recovered, s.storable)
	s.engine.NoRoute(s.noRoute)
	s.engine.NoMethod(func(c *gin.Context) { s.respond.problem(c, errNoMethod) })
	s.routes(s.handlers)
	return s, nil
}

// handlers are the API's, one struct a resource, each with what that resource needs alone.
type handlers struct {
	home         *homeHandlers
	health       *healthHandlers
	metrics      gin.HandlerFunc
	docs         *docHandlers
	auth         *authHandlers
	emails       *emailHandlers
	stats        *statsHandlers
	events       *eventHandlers
	previews     *previewHandlers
	batches      *batchHandlers
	files        *fileHandlers
	accessKeys   *accessKeyHandlers
	usage        *usageHandlers
	audit        *auditHandlers
	ownCustomer  *ownCustomerHandlers
	customers    *customerHandlers
	customerKeys *customerKeyHandlers
	users        *userHandlers
	domains      *domainHandlers
	webhooks     *webhookHandlers
	pauses       *pauseHandlers
	mailboxes    *mailboxHandlers
}

// newHandlers gives each resource its part of deps, all of which are there.
func newHandlers(deps Deps, opts Options, links links, respond responder, tokens tokens) handlers {
	submissions := submissions{limits: opts.Limits, checkURL: deps.CheckURL, now: opts.Now}
	passwords := newLogins(opts.Now, opts.HashPatience, opts.HashesAtOnce)
	customer := pathCustomer{deps.Customers}
	accessKeys := &accessKeyHandlers{store: deps.Keys, now: opts.Now}
	return handlers{
		home:    &homeHandlers{home: opts.Home, links: links, respond: respond},
		health:  &healthHandlers{ready: deps.Ready, workerReady: deps.WorkerReady, log: deps.Log},
		metrics: gin.WrapH(deps.Metrics),
		docs:    &docHandlers{description: describe(opts.PublicURL), respond: respond},
		auth:    &authHandlers{store: deps.Logins, passwords: passwords, tokens: tokens, log: deps.Log},
		emails: &emailHandlers{
			store: deps.Emails, starter: deps.Dispatcher, submissions: submissions, links: links, log: deps.Log,
			waiters: &waiters{settled: deps.Emails.Settled, waiting: map[string]*waiter{}},
			waits:   newShares(int64(cmp.Or(opts.Connections, MaxConnections)) / 2),
		},
		stats:        &statsHandlers{store: deps.Stats, now: opts.Now},
		events:       &eventHandlers{store: deps.Events},
		previews:     &previewHandlers{store: deps.Previews, submissions: submissions, render: deps.Render, now: opts.Now},
		batches:      &batchHandlers{store: deps.Batches, starter: deps.Dispatcher, submissions: submissions, links: links, log: deps.Log},
		files:        &fileHandlers{store: deps.Files, limits: opts.Limits, links: links, respond: respond, log: deps.Log},
		accessKeys:   accessKeys,
		usage:        &usageHandlers{store: deps.Usage},
		audit:        &auditHandlers{store: deps.Audit},
		ownCustomer:  &ownCustomerHandlers{store: deps.OwnCustomer, checkURL: deps.CheckURL},
		customers:    &customerHandlers{store: deps.Customers, customer: customer},
		customerKeys: &customerKeyHandlers{customer: customer, keys: accessKeys},
		users:        &userHandlers{customer: customer, store: deps.Users, passwords: passwords},
		domains:      &domainHandlers{customer: customer, store: deps.Domains, now: opts.Now},
		webhooks:     &webhookHandlers{store: deps.Webhooks, waker: deps.Dispatcher, checkURL: deps.CheckURL, now: opts.Now, log: deps.Log},
		pauses:       &pauseHandlers{store: deps.Pauses},
		mailboxes:    &mailboxHandlers{store: deps.Mailboxes, parser: deps.Parser, respond: respond},
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }
