// Package api is the HTTP face of Postrider, in Gin. The route table below is
// the whole of it; each resource has a file of its own with the interfaces it
// needs. Errors are RFC 9457 problems, written in one place (errors.go).
package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/missing"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
)

// Deps are what the API works with. All are required that do not say otherwise.
type Deps struct {
	Emails     Emails
	Batches    Batches
	Events     Events
	Previews   Previews
	Files      Files
	Dispatcher Dispatcher
	Accounts   Accounts
	Keys       Keys
	Customers  Customers
	Users      Users
	Domains    Domains
	Pauses     Pauses
	Webhooks   Webhooks
	Mailboxes  Mailboxes
	Parser     Parser
	// Render makes the bytes of a message that is not sent, without attachments' contents
	// of more than maxContent bytes.
	Render func(m email.Message, emailID string, date time.Time, maxContent int) (Rendering, error)
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
	deps   Deps
	opts   Options
	tokens tokens
	engine *gin.Engine
	// waiters are those of ?wait=.
	waiters waiters
	// waits are how many requests may wait for e-mails.
	waits *shares
	// requests limits each credential; nil limits none.
	requests *limiters
	// customers limits each customer; nil limits none.
	customers *limiters
	logins    *logins
	budget    *budget
	// description is what /openapi.json and /docs show.
	description func() (description, error)
	table       []Route
}

// New makes a Server.
func New(deps Deps, opts Options) (*Server, error) {
	if err := missing.Of(deps, "WorkerReady"); err != nil {
		return nil, err
	}
	gin.SetMode(gin.ReleaseMode)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{deps: deps, opts: opts, tokens: newTokens(opts), engine: gin.New(),
		waiters: waiters{settled: deps.Emails.Settled, waiting: map[string]*waiter{}}, logins: newLogins(opts.Now, opts.HashPatience, opts.HashesAtOnce), budget: newBudget(opts),
		waits: newShares(int64(cmp.Or(opts.Connections, MaxConnections)) / 2), description: describe(opts.PublicURL)}
	if opts.RequestRate > 0 {
		s.requests = newLimiters(rate.Limit(opts.RequestRate), 2*opts.RequestRate)
	}
	if opts.CustomerRequestRate > 0 {
		s.customers = newLimiters(rate.Limit(opts.CustomerRequestRate), 2*opts.CustomerRequestRate)
	}
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
	s.engine.Use(s.identify, s.logged, s.accounted, s.recovered, s.storable)
	s.engine.NoRoute(s.noRoute)
	s.engine.NoMethod(func(c *gin.Context) { s.problem(c, errNoMethod) })
	s.routes()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }
