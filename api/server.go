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

	"github.com/postrider/postrider/internal/httpserver"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/missing"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
)

// Deps are the API's dependencies. Each is required unless its comment says otherwise.
type Deps struct {
	Emails        Emails
	Stats         Stats
	Events        Events
	Previews      Previews
	Batches       Batches
	Files         Files
	Dispatcher    Dispatcher
	Credentials   Credentials
	Logins        Logins
	Keys          Keys
	OwnCustomer   OwnCustomer
	Customers     Customers
	Users         Users
	Domains       Domains
	SenderDomains SenderDomains
	Reputations   Reputations
	Suppressions  Suppressions
	Usage         Usage
	Audit         Audit
	Pauses        Pauses
	Webhooks      Webhooks
	Replays       Replays
	Mailboxes     Mailboxes
	Unsubscribing Unsubscribing
	Parser        Parser
	Render        Renderer
	// Ready returns an error if Postgres does not answer.
	Ready func(context.Context) error
	// WorkerReady returns an error if the worker of this process polls no task queue; nil if the
	// process runs no worker.
	WorkerReady func(context.Context) error
	// Metrics answers GET /metrics. It checks the scraper's credential itself.
	Metrics http.Handler
	// CheckURL returns an error for a URL that webhooks may not call.
	CheckURL func(string) error
	Log      *slog.Logger
}

// Dispatcher starts workflows and signals them. It may fail: the outbox and the sweeps start
// them later.
type Dispatcher interface {
	EmailStarter
	BatchStarter
	EndpointWaker
	DomainWaker
}

// Options of the API.
type Options struct {
	// Limits of a message. Each request adds its customer and the time.
	Limits intake.Limits
	// TokenKey signs and verifies login tokens; at least 32 bytes. OldTokenKey verifies them too
	// while an operator replaces the secret key; empty otherwise.
	TokenKey, OldTokenKey []byte
	// SigningKey returns which key signs new tokens: 0 for TokenKey, 1 for OldTokenKey. nil means
	// TokenKey.
	SigningKey func(context.Context) (int, error)
	// PublicURL is the address of the API, without a slash at its end. Empty makes Location
	// headers paths.
	PublicURL string
	// RequestRate is the requests per second of a credential, with a burst of twice as many; 0
	// is no limit.
	RequestRate int
	// CustomerRequestRate is the same limit for all credentials of a customer together.
	CustomerRequestRate int
	// MemoryBytes limits the memory of all requests and answers together; 0 means
	// DefaultMemoryBytes. See budget.
	MemoryBytes int64
	// Turns makes large requests wait for each other, and for other large work of the process
	// that takes turns from it; nil means that there is none.
	Turns *turns.Turns
	// Processors limits how many requests of more than 256 KiB are decoded, parsed or rendered at
	// once; nil means three quarters of GOMAXPROCS, at least one. MediumProcessors is the same for
	// those of more than 16 KiB; nil means a quarter.
	Processors, MediumProcessors *turns.Turns
	// Spool holds bodies and answers on disk while clients send and read them; nil means
	// NewSpool("", DefaultSpoolBytes).
	Spool *spool.Pool
	// Connections limits the open connections of the API's port; 0 means MaxConnections. At most
	// half of them may wait for verdicts (?wait=).
	Connections int
	// HashesAtOnce limits concurrent password hashes, each of 64 MiB; 0 means 2.
	HashesAtOnce int
	// TrustedProxies are the proxies whose X-Forwarded-For header names the client.
	TrustedProxies []netip.Prefix
	// HashPatience is how long a login waits for a password hash to start; 0 means 10 s.
	HashPatience time.Duration
	// Now is the clock that times in requests, and the expiry of tokens and keys, are compared
	// with. Defaults to time.Now.
	Now func() time.Time
	// WorkflowURL returns the address of a workflow in the Temporal UI; nil leaves it out of
	// answers.
	WorkflowURL func(workflowID string) string
	// Home is what GET / shows besides the API's own addresses.
	Home Home
}

// Server is the API's http.Handler.
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

// New makes a Server. Its error names all missing dependencies.
func New(deps Deps, opts Options) (*Server, error) {
	if err := missing.Of(deps, "WorkerReady"); err != nil {
		return nil, err
	}
	gin.SetMode(gin.ReleaseMode)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	respond, tokens := responder{deps.Log, newUnavailable(opts.Now)}, newTokens(opts)
	s := &Server{
		engine: gin.New(), respond: respond, memory: newBudget(opts), links: links{opts.PublicURL, opts.WorkflowURL}, log: deps.Log,
		credentials: &credentials{store: deps.Credentials, customers: deps.Customers, tokens: tokens, limits: newRequestLimits(opts.RequestRate, opts.CustomerRequestRate), respond: respond},
	}
	s.handlers = newHandlers(deps, opts, s.links, respond, tokens)
	proxies := make([]string, len(opts.TrustedProxies))
	for i, p := range opts.TrustedProxies {
		proxies[i] = p.String()
	}
	if err := s.engine.SetTrustedProxies(proxies); err != nil {
		return nil, err
	}
	s.engine.RemoteIPHeaders = []string{"X-Forwarded-For"} // not X-Real-IP: proxies forward it unchecked
	s.engine.HandleMethodNotAllowed = true
	s.engine.RedirectTrailingSlash = false
	s.engine.Use(s.identify, s.logged, s.memory.track, s.recovered, s.storable)
	s.engine.NoRoute(s.noRoute)
	s.engine.NoMethod(func(c *gin.Context) { s.respond.problem(c, errNoMethod) })
	s.routes(s.handlers)
	return s, nil
}

// handlers has one struct of handlers for each resource. A struct holds the dependencies of its
// resource only.
type handlers struct {
	home          *homeHandlers
	health        *healthHandlers
	metrics       gin.HandlerFunc
	docs          *docHandlers
	auth          *authHandlers
	emails        *emailHandlers
	stats         *statsHandlers
	events        *eventHandlers
	previews      *previewHandlers
	batches       *batchHandlers
	files         *fileHandlers
	accessKeys    *accessKeyHandlers
	usage         *usageHandlers
	audit         *auditHandlers
	ownCustomer   *ownCustomerHandlers
	customers     *customerHandlers
	customerKeys  *customerKeyHandlers
	users         *userHandlers
	domains       *domainHandlers
	senderDomains *senderDomainHandlers
	reputation    *reputationHandlers
	suppressions  *suppressionHandlers
	webhooks      *webhookHandlers
	pauses        *pauseHandlers
	mailboxes     *mailboxHandlers
	unsubscribing *unsubscribeHandlers
}

// newHandlers gives each struct its dependencies. New has checked that deps is complete.
func newHandlers(deps Deps, opts Options, links links, respond responder, tokens tokens) handlers {
	submissions := submissions{limits: opts.Limits, checkURL: deps.CheckURL, now: opts.Now}
	passwords := newPasswordChecks(opts.Now, opts.HashPatience, opts.HashesAtOnce)
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
			waiters: &waiters{settled: deps.Emails.FirstVerdict, waiting: map[string]*waiter{}},
			waits:   membudget.New(membudget.Options{Total: int64(cmp.Or(opts.Connections, httpserver.MaxConnections)) / 2, Shared: true}),
		},
		stats:         &statsHandlers{store: deps.Stats, now: opts.Now},
		events:        &eventHandlers{store: deps.Events},
		previews:      &previewHandlers{store: deps.Previews, submissions: submissions, render: deps.Render, now: opts.Now},
		batches:       &batchHandlers{store: deps.Batches, starter: deps.Dispatcher, submissions: submissions, links: links, log: deps.Log},
		files:         &fileHandlers{store: deps.Files, limits: opts.Limits, links: links, respond: respond, log: deps.Log},
		accessKeys:    accessKeys,
		usage:         &usageHandlers{store: deps.Usage},
		audit:         &auditHandlers{store: deps.Audit},
		ownCustomer:   &ownCustomerHandlers{store: deps.OwnCustomer, checkURL: deps.CheckURL},
		customers:     &customerHandlers{store: deps.Customers, customer: customer},
		customerKeys:  &customerKeyHandlers{customer: customer, keys: accessKeys},
		users:         &userHandlers{customer: customer, store: deps.Users, passwords: passwords},
		domains:       &domainHandlers{customer: customer, store: deps.Domains, now: opts.Now},
		senderDomains: &senderDomainHandlers{store: deps.SenderDomains, waker: deps.Dispatcher, log: deps.Log},
		reputation:    &reputationHandlers{store: deps.Reputations},
		suppressions:  &suppressionHandlers{store: deps.Suppressions, respond: respond, now: opts.Now, log: deps.Log},
		webhooks:      &webhookHandlers{store: deps.Webhooks, replays: deps.Replays, waker: deps.Dispatcher, checkURL: deps.CheckURL, now: opts.Now, log: deps.Log},
		pauses:        &pauseHandlers{store: deps.Pauses},
		mailboxes:     &mailboxHandlers{store: deps.Mailboxes, parser: deps.Parser, respond: respond},
		unsubscribing: newUnsubscribeHandlers(deps.Unsubscribing, respond, deps.Log),
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }
