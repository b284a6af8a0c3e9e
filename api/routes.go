package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// routes is the API on one screen.
func (s *Server) routes(h handlers) {
	//   method  path                                       needs     handler
	s.routeRaw("GET", "/", open, h.home.get)
	s.route("GET", "/healthz", open, h.health.healthz)
	s.route("GET", "/readyz", open, h.health.readyz)
	s.routeRaw("GET", "/metrics", open, h.metrics)
	s.routeRaw("GET", "/openapi.json", open, h.docs.openapiJSON())
	s.routeRaw("GET", "/openapi.yaml", open, h.docs.openapiYAML())
	s.routeRaw("GET", "/docs", open, h.docs.page)
	s.route("POST", "/auth/login", open, h.auth.login)
	s.route("POST", "/v1.0/auth/login", open, h.auth.login)
	s.route("POST", "/v1.0/auth/password", login, h.auth.changePassword)
	s.route("POST", "/v1.0/auth/revoke", login, change(h.auth.revokeLogins))

	s.route("POST", "/v1.0/emails", send, h.emails.post)
	s.route("POST", "/v1.0/emails/preview", send, h.previews.post)
	s.route("POST", "/v1.0/emails/batch", send, h.batches.post)
	s.route("GET", "/v1.0/emails", read, h.emails.list)
	s.route("GET", "/v1.0/emails/stats", read, h.stats.get)
	s.route("GET", "/v1.0/emails/:id", read, h.emails.get)
	s.route("DELETE", "/v1.0/emails/:id", manage, change(h.emails.delete))
	s.route("POST", "/v1.0/emails/:id/cancel", manage, h.emails.control(email.ActionCancel))
	s.route("POST", "/v1.0/emails/:id/hold", manage, h.emails.control(email.ActionHold))
	s.route("POST", "/v1.0/emails/:id/resume", manage, h.emails.control(email.ActionResume))
	s.route("POST", "/v1.0/emails/:id/retry-now", manage, h.emails.control(email.ActionRetryNow))
	s.route("POST", "/v1.0/emails/:id/reschedule", manage, h.emails.control(email.ActionReschedule))
	s.route("POST", "/v1.0/emails/:id/resend", send, change(h.emails.resend))
	s.route("GET", "/v1.0/emails/:id/events", read, h.events.ofEmail)
	s.route("GET", "/v1.0/emails/:id/attempts", read, h.events.attempts)
	s.route("GET", "/v1.0/events", read, h.events.feed)

	s.route("GET", "/v1.0/batches", read, h.batches.list)
	s.route("GET", "/v1.0/batches/:id", read, h.batches.get)
	s.route("POST", "/v1.0/batches/:id/cancel", manage, h.batches.control(email.ActionCancel))
	s.route("POST", "/v1.0/batches/:id/hold", manage, h.batches.control(email.ActionHold))
	s.route("POST", "/v1.0/batches/:id/resume", manage, h.batches.control(email.ActionResume))

	s.route("POST", "/v1.0/files", send, h.files.post)
	s.route("GET", "/v1.0/files", read, h.files.list)
	s.route("GET", "/v1.0/files/:id", send, h.files.get)
	s.route("DELETE", "/v1.0/files/:id", send, change(h.files.delete))
	s.routeRaw("GET", "/v1.0/files/:id/content", send, h.files.content)

	s.route("GET", "/v1.0/accesskeys", full, h.accessKeys.list)
	s.route("POST", "/v1.0/accesskeys", full, h.accessKeys.post)
	s.route("GET", "/v1.0/accesskeys/:id", full, h.accessKeys.get)
	s.route("DELETE", "/v1.0/accesskeys/:id", full, change(h.accessKeys.delete))
	s.route("POST", "/v1.0/accesskeys/:id/rotate", full, h.accessKeys.rotate)
	s.route("GET", "/v1.0/usage", read, h.usage.get)
	s.route("GET", "/v1.0/audit", full, h.audit.list)

	s.route("GET", "/v1.0/customer", some, h.ownCustomer.get)
	s.route("PUT", "/v1.0/customer", full, h.ownCustomer.put)
	s.route("GET", "/v1.0/customers", some, h.customers.list)

	s.route("POST", "/v1.0/customers", admin, h.customers.post)
	s.route("GET", "/v1.0/customers/:id", admin, h.customers.get)
	s.route("PUT", "/v1.0/customers/:id", admin, h.customers.put)
	s.route("DELETE", "/v1.0/customers/:id", admin, change(h.customers.delete))
	s.route("GET", "/v1.0/customers/:id/accesskeys", admin, h.customerKeys.list)
	s.route("POST", "/v1.0/customers/:id/accesskeys", admin, h.customerKeys.post)
	s.route("GET", "/v1.0/customers/:id/accesskeys/:key", admin, h.customerKeys.get)
	s.route("DELETE", "/v1.0/customers/:id/accesskeys/:key", admin, change(h.customerKeys.delete))
	s.route("GET", "/v1.0/customers/:id/users", admin, h.users.list)
	s.route("GET", "/v1.0/customers/:id/users/:user", admin, h.users.one(nil))
	s.route("DELETE", "/v1.0/customers/:id/users/:user", admin, change(h.users.one(h.users.delete)))
	s.route("PUT", "/v1.0/customers/:id/users/:user/password", admin, h.users.one(h.users.setPassword))
	s.route("POST", "/v1.0/customers/:id/users/:user/revoke", admin, change(h.users.one(h.users.revoke)))
	s.route("GET", "/v1.0/customers/:id/domains", admin, h.domains.list)
	s.route("POST", "/v1.0/customers/:id/domains", admin, h.domains.post)
	s.route("GET", "/v1.0/customers/:id/domains/:domain", admin, h.domains.one(h.domains.get))
	s.route("PUT", "/v1.0/customers/:id/domains/:domain", admin, h.domains.one(h.domains.put))
	s.route("DELETE", "/v1.0/customers/:id/domains/:domain", admin, change(h.domains.one(h.domains.delete)))
	s.route("GET", "/v1.0/customers/:id/domains/:domain/warmup", admin, h.domains.warmup(h.domains.get))
	s.route("PUT", "/v1.0/customers/:id/domains/:domain/warmup", admin, h.domains.warmup(h.domains.putWarmup))
	s.route("DELETE", "/v1.0/customers/:id/domains/:domain/warmup", admin, change(h.domains.warmup(h.domains.deleteWarmup)))

	s.route("GET", "/v1.0/webhooks", webhooks, h.webhooks.list)
	s.route("POST", "/v1.0/webhooks", webhooks, h.webhooks.post)
	s.route("GET", "/v1.0/webhooks/:id", webhooks, h.webhooks.one(h.webhooks.store.Endpoint))
	s.route("PUT", "/v1.0/webhooks/:id", webhooks, h.webhooks.put)
	s.route("DELETE", "/v1.0/webhooks/:id", webhooks, change(h.webhooks.one(h.webhooks.delete)))
	s.route("POST", "/v1.0/webhooks/:id/enable", webhooks, change(h.webhooks.one(h.webhooks.enable)))
	s.route("POST", "/v1.0/webhooks/:id/rotate-secret", webhooks, change(h.webhooks.rotateSecret))
	s.route("POST", "/v1.0/webhooks/:id/test", webhooks, change(h.webhooks.test))
	s.route("POST", "/v1.0/webhooks/:id/replay", replays, h.webhooks.replay)
	s.route("GET", "/v1.0/webhooks/:id/deliveries", webhooks, h.webhooks.listDeliveries)
	s.route("POST", "/v1.0/deliveries/:id/retry", replays, change(h.webhooks.retryDelivery))

	s.route("GET", "/v1.0/pauses", admin, h.pauses.list)
	s.route("PUT", "/v1.0/pauses", admin, h.pauses.put)
	s.route("DELETE", "/v1.0/pauses", admin, change(h.pauses.delete))

	s.route("GET", "/v1.0/mailboxes", mailboxes, h.mailboxes.list)
	s.route("GET", "/v1.0/mailboxes/:id/messages", mailboxes, h.mailboxes.messages)
	s.route("GET", "/v1.0/mailboxes/:id/messages/:message", mailboxes, h.mailboxes.parsedMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/raw", mailboxes, h.mailboxes.rawMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/attachments/:index", mailboxes, h.mailboxes.attachment)
}

// need is what a route asks of a credential.
type need struct {
	open  bool
	full  bool
	login bool
	scope account.Scope
	// also is a second scope that it takes besides; empty is none.
	also account.Scope
}

var (
	// open routes take no credential.
	open = need{open: true}
	// login routes take the token of a user.
	login = need{login: true}
	// The scopes.
	send      = need{scope: account.ScopeSend}
	read      = need{scope: account.ScopeRead}
	manage    = need{scope: account.ScopeManage}
	webhooks  = need{scope: account.ScopeWebhooks}
	mailboxes = need{scope: account.ScopeMailboxes}
	// replays send what happened in the past to an endpoint, which reads it.
	replays = need{scope: account.ScopeWebhooks, also: account.ScopeRead}
	admin   = need{scope: account.ScopeAdmin}
	// some routes take any credential.
	some = need{}
	// full routes take one that may do all that its customer may.
	full = need{full: true}
)

// handler answers with a status and what becomes JSON, or with an error.
type handler func(*gin.Context) (int, any, error)

func (s *Server) route(method, path string, n need, h handler) {
	s.routeRaw(method, path, n, func(c *gin.Context) {
		status, body, err := h(c)
		if err != nil {
			s.respond.problem(c, err)
			return
		}
		s.respond.answer(c, status, body)
	})
}

// routeRaw is for answers that are not JSON.
func (s *Server) routeRaw(method, path string, n need, h gin.HandlerFunc) {
	s.table = append(s.table, Route{Method: method, Path: path, Open: n.open, Full: n.full, Login: n.login, Scope: n.scope, Also: n.also})
	if n.open {
		s.engine.Handle(method, path, h)
		return
	}
	s.engine.Handle(method, path, s.credentials.authenticate, s.credentials.authorize(n), h)
}

// Route is one line of the route table, for checks.
type Route struct {
	Method string
	// Path has parameters as :id.
	Path string
	// Open takes no credential, Full one that may do all that its customer may, Login a
	// user's token.
	Open, Full, Login bool
	// Scope is empty where none is asked for. Also is a second one that the route takes
	// besides; empty is none.
	Scope, Also account.Scope
}

// Routes lists every route.
func (s *Server) Routes() []Route { return slices.Clone(s.table) }

// noRoute sends a GET of a route's path with a slash at its end to the path without it. It
// answers anything else with 404: not every client sends a body twice.
func (s *Server) noRoute(c *gin.Context) {
	path := strings.TrimRight(c.Request.URL.Path, "/")
	switch get := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead; {
	case path == c.Request.URL.Path || !s.hasPath(path):
		s.respond.problem(c, errNoRoute)
	case !get:
		s.respond.problem(c, errSlash)
	default:
		to := *c.Request.URL
		to.Path, to.RawPath = path, strings.TrimRight(to.RawPath, "/")
		c.Redirect(http.StatusPermanentRedirect, s.links.location(to.RequestURI()))
	}
}

// hasPath reports whether a route of any method has the path.
func (s *Server) hasPath(path string) bool {
	parts := strings.Split(path, "/")
	return slices.ContainsFunc(s.table, func(r Route) bool {
		return slices.EqualFunc(strings.Split(r.Path, "/"), parts, func(pattern, part string) bool {
			return pattern == part || strings.HasPrefix(pattern, ":") && part != ""
		})
	})
}
