// Package api is the HTTP face of Postrider, in Gin. The route table below is
// the whole of it; each resource has a file of its own with the interfaces it
// needs. Errors are RFC 9457 problems, written in one place (errors.go).
package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// Deps are what the API works with. All are required.
type Deps struct {
	Emails     Emails
	Events     Events
	Files      Files
	Dispatcher Dispatcher
	Accounts   Accounts
	Keys       Keys
	Mailboxes  Mailboxes
	Parser     Parser
	// Ready reports whether Postgres answers.
	Ready func(context.Context) error
	// CheckURL refuses addresses that may not be called.
	CheckURL func(string) error
	Log      *slog.Logger
}

// Options of the API.
type Options struct {
	// Limits of a message. Now and DefaultSource are set per request.
	Limits intake.Limits
	// TokenKey signs login tokens; at least 32 bytes.
	TokenKey []byte
	// PublicURL is how the API is reached, without a slash at the end; empty makes
	// a Location a path.
	PublicURL string
	// WorkflowURL makes the address of a run in the Temporal UI; nil leaves it out.
	WorkflowURL func(workflowID string) string
}

// Server answers requests.
type Server struct {
	deps   Deps
	opts   Options
	tokens tokens
	engine *gin.Engine
	// waiters are those of ?wait=.
	waiters waiters
}

// New makes a Server.
func New(deps Deps, opts Options) *Server {
	gin.SetMode(gin.ReleaseMode)
	s := &Server{deps: deps, opts: opts, tokens: tokens{key: opts.TokenKey}, engine: gin.New(),
		waiters: waiters{settled: deps.Emails.Settled, waiting: map[string]*waiter{}}}
	s.engine.HandleMethodNotAllowed = true
	s.engine.RedirectTrailingSlash = false
	s.engine.Use(s.identify, s.logged, s.recovered)
	s.engine.NoRoute(func(c *gin.Context) { s.problem(c, errNoRoute) })
	s.engine.NoMethod(func(c *gin.Context) { s.problem(c, errNoMethod) })
	s.routes()
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// routes is the API on one screen.
func (s *Server) routes() {
	//   method  path                                       credential  handler
	s.route("GET", "/healthz", open, s.healthz)
	s.route("GET", "/readyz", open, s.readyz)
	s.route("POST", "/auth/login", open, s.login)
	s.route("POST", "/v1.0/auth/login", open, s.login)

	s.route("POST", "/v1.0/emails", customer, s.postEmail)
	s.route("GET", "/v1.0/emails", customer, s.listEmails)
	s.route("GET", "/v1.0/emails/:id", customer, s.getEmail)
	s.route("DELETE", "/v1.0/emails/:id", customer, s.deleteEmail)
	s.route("POST", "/v1.0/emails/:id/cancel", customer, s.control(email.ActionCancel))
	s.route("POST", "/v1.0/emails/:id/hold", customer, s.control(email.ActionHold))
	s.route("POST", "/v1.0/emails/:id/resume", customer, s.control(email.ActionResume))
	s.route("POST", "/v1.0/emails/:id/retry-now", customer, s.control(email.ActionRetryNow))
	s.route("POST", "/v1.0/emails/:id/reschedule", customer, s.control(email.ActionReschedule))
	s.route("POST", "/v1.0/emails/:id/resend", customer, s.resend)
	s.route("GET", "/v1.0/emails/:id/events", customer, s.emailEvents)
	s.route("GET", "/v1.0/events", customer, s.feed)

	s.route("POST", "/v1.0/files", customer, s.postFile)
	s.route("GET", "/v1.0/files/:id", customer, s.getFile)
	s.route("DELETE", "/v1.0/files/:id", customer, s.deleteFile)
	s.routeRaw("GET", "/v1.0/files/:id/content", customer, s.getFileContent)

	s.route("GET", "/v1.0/accesskeys", customer, s.listAccessKeys)
	s.route("POST", "/v1.0/accesskeys", customer, s.postAccessKey)
	s.route("GET", "/v1.0/accesskeys/:id", customer, s.getAccessKey)
	s.route("DELETE", "/v1.0/accesskeys/:id", customer, s.deleteAccessKey)

	s.route("GET", "/v1.0/customer", customer, s.getCustomer)
	s.route("PUT", "/v1.0/customer", customer, s.putCustomer)
	s.route("GET", "/v1.0/customers", customer, s.listCustomers)

	s.route("GET", "/v1.0/mailboxes", customer, s.listMailboxes)
	s.route("GET", "/v1.0/mailboxes/:id/messages", customer, s.listMessages)
	s.route("GET", "/v1.0/mailboxes/:id/messages/:message", customer, s.getMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/raw", customer, s.getRawMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/attachments/:index", customer, s.getMessageAttachment)
}

// credential is what a route asks for.
type credential int

const (
	// open routes take no credential.
	open credential = iota
	// customer routes act for the customer of the credential.
	customer
)

// handler answers with a status and what becomes JSON, or with an error.
type handler func(*gin.Context) (int, any, error)

func (s *Server) route(method, path string, cred credential, h handler) {
	s.routeRaw(method, path, cred, func(c *gin.Context) {
		status, body, err := h(c)
		if err != nil {
			s.problem(c, err)
			return
		}
		c.JSON(status, body)
	})
}

// routeRaw is for answers that are not JSON.
func (s *Server) routeRaw(method, path string, cred credential, h gin.HandlerFunc) {
	if cred == open {
		s.engine.Handle(method, path, h)
		return
	}
	s.engine.Handle(method, path, s.authenticate, h)
}

// Routes lists method and path of every route, for checks.
func (s *Server) Routes() []string {
	var out []string
	for _, r := range s.engine.Routes() {
		out = append(out, r.Method+" "+r.Path)
	}
	return out
}

// Timeouts of the HTTP server: a header in 10 s; a whole request in 5 minutes,
// which is 35 MB at 1 Mbit/s.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 5 * time.Minute
	idleTimeout       = 2 * time.Minute
)

// HTTPServer wraps a handler with the timeouts that a server in the open needs.
func HTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout}
}
