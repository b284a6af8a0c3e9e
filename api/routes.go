package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// routes is the table of all routes: h answers them.
func (s *Server) routes(h handlers) {
	//   method, path, what the credential must allow, handler
	s.routeRaw("GET", "/", public, h.home.get)
	s.route("GET", "/healthz", public, h.health.healthz)
	s.route("GET", "/readyz", public, h.health.readyz)
	s.routeRaw("GET", "/metrics", public, h.metrics)
	s.routeRaw("GET", "/openapi.json", public, h.docs.openapiJSON())
	s.routeRaw("GET", "/openapi.yaml", public, h.docs.openapiYAML())
	s.routeRaw("GET", "/docs", public, h.docs.page)
	s.route("POST", "/auth/login", public, h.auth.login)
	s.route("POST", "/v1.0/auth/login", public, h.auth.login)
	s.route("POST", "/v1.0/auth/password", login, h.auth.changePassword)
	s.route("POST", "/v1.0/auth/revoke", login, reservingChange(h.auth.revokeLogins))

	s.routeRaw("GET", "/u/:token", public, h.unsubscribing.get)
	s.routeRaw("HEAD", "/u/:token", public, h.unsubscribing.get)
	s.routeRaw("POST", "/u/:token", public, h.unsubscribing.post)

	s.route("POST", "/v1.0/emails", send, h.emails.post)
	s.route("POST", "/v1.0/emails/preview", send, h.previews.post)
	s.route("POST", "/v1.0/emails/batch", send, h.batches.post)
	s.route("GET", "/v1.0/emails", read, h.emails.list)
	s.route("GET", "/v1.0/emails/stats", read, h.stats.get)
	s.route("GET", "/v1.0/emails/:id", read, h.emails.get)
	s.route("DELETE", "/v1.0/emails/:id", manage, reservingChange(h.emails.delete))
	s.route("POST", "/v1.0/emails/:id/cancel", manage, h.emails.control(email.ActionCancel))
	s.route("POST", "/v1.0/emails/:id/hold", manage, h.emails.control(email.ActionHold))
	s.route("POST", "/v1.0/emails/:id/resume", manage, h.emails.control(email.ActionResume))
	s.route("POST", "/v1.0/emails/:id/retry-now", manage, h.emails.control(email.ActionRetryNow))
	s.route("POST", "/v1.0/emails/:id/reschedule", manage, h.emails.control(email.ActionReschedule))
	s.route("POST", "/v1.0/emails/:id/resend", send, reservingChange(h.emails.resend))
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
	s.route("DELETE", "/v1.0/files/:id", send, reservingChange(h.files.delete))
	s.routeRaw("GET", "/v1.0/files/:id/content", send, h.files.content)

	s.route("GET", "/v1.0/accesskeys", unrestricted, h.accessKeys.list)
	s.route("POST", "/v1.0/accesskeys", unrestricted, h.accessKeys.post)
	s.route("GET", "/v1.0/accesskeys/:id", unrestricted, h.accessKeys.get)
	s.route("DELETE", "/v1.0/accesskeys/:id", unrestricted, reservingChange(h.accessKeys.delete))
	s.route("POST", "/v1.0/accesskeys/:id/rotate", unrestricted, h.accessKeys.rotate)
	s.route("GET", "/v1.0/usage", read, h.usage.get)
	s.route("GET", "/v1.0/audit", unrestricted, h.audit.list)

	s.route("GET", "/v1.0/customer", anyCredential, h.ownCustomer.get)
	s.route("PUT", "/v1.0/customer", unrestricted, h.ownCustomer.put)
	s.route("GET", "/v1.0/customers", anyCredential, h.customers.list)

	s.route("POST", "/v1.0/customers", admin, h.customers.post)
	s.route("GET", "/v1.0/customers/:id", admin, h.customers.get)
	s.route("PUT", "/v1.0/customers/:id", admin, h.customers.put)
	s.route("DELETE", "/v1.0/customers/:id", admin, reservingChange(h.customers.delete))
	s.route("GET", "/v1.0/customers/:id/accesskeys", admin, h.customerKeys.list)
	s.route("POST", "/v1.0/customers/:id/accesskeys", admin, h.customerKeys.post)
	s.route("GET", "/v1.0/customers/:id/accesskeys/:key", admin, h.customerKeys.get)
	s.route("DELETE", "/v1.0/customers/:id/accesskeys/:key", admin, reservingChange(h.customerKeys.delete))
	s.route("GET", "/v1.0/customers/:id/users", admin, h.users.list)
	s.route("GET", "/v1.0/customers/:id/users/:user", admin, h.users.one(nil))
	s.route("DELETE", "/v1.0/customers/:id/users/:user", admin, reservingChange(h.users.one(h.users.delete)))
	s.route("PUT", "/v1.0/customers/:id/users/:user/password", admin, h.users.one(h.users.setPassword))
	s.route("POST", "/v1.0/customers/:id/users/:user/revoke", admin, reservingChange(h.users.one(h.users.revoke)))
	s.route("GET", "/v1.0/customers/:id/domains", admin, h.domains.list)
	s.route("POST", "/v1.0/customers/:id/domains", admin, h.domains.post)
	s.route("GET", "/v1.0/customers/:id/domains/:domain", admin, h.domains.one(h.domains.get))
	s.route("PUT", "/v1.0/customers/:id/domains/:domain", admin, h.domains.one(h.domains.put))
	s.route("DELETE", "/v1.0/customers/:id/domains/:domain", admin, reservingChange(h.domains.one(h.domains.delete)))
	s.route("GET", "/v1.0/customers/:id/domains/:domain/warmup", admin, h.domains.warmup(h.domains.get))
	s.route("PUT", "/v1.0/customers/:id/domains/:domain/warmup", admin, h.domains.warmup(h.domains.putWarmup))
	s.route("DELETE", "/v1.0/customers/:id/domains/:domain/warmup", admin, reservingChange(h.domains.warmup(h.domains.deleteWarmup)))

	s.route("GET", "/v1.0/domains", senderDomains, h.senderDomains.list)
	s.route("POST", "/v1.0/domains", senderDomains, h.senderDomains.post)
	s.route("GET", "/v1.0/domains/:id", senderDomains, h.senderDomains.get)
	s.route("DELETE", "/v1.0/domains/:id", senderDomains, h.senderDomains.change(false, h.senderDomains.delete))
	s.route("POST", "/v1.0/domains/:id/verify", senderDomains, h.senderDomains.change(true, h.senderDomains.verify))
	s.route("POST", "/v1.0/domains/:id/rotate-dkim", senderDomains, h.senderDomains.change(true, h.senderDomains.rotate))
	s.route("GET", "/v1.0/domains/:id/reputation", senderDomains, h.reputation.get)

	s.route("GET", "/v1.0/suppressions", suppressions, h.suppressions.list)
	s.route("POST", "/v1.0/suppressions", suppressions, h.suppressions.post)
	s.route("POST", "/v1.0/suppressions/check", suppressions, h.suppressions.check)
	s.route("POST", "/v1.0/suppressions/import", suppressions, h.suppressions.importFile)
	s.routeRaw("GET", "/v1.0/suppressions/export", suppressions, h.suppressions.export)
	s.route("GET", "/v1.0/suppressions/:id", suppressions, h.suppressions.get)
	s.route("DELETE", "/v1.0/suppressions/:id", suppressions, reservingChange(h.suppressions.delete))

	s.route("GET", "/v1.0/webhooks", webhooks, h.webhooks.list)
	s.route("POST", "/v1.0/webhooks", webhooks, h.webhooks.post)
	s.route("GET", "/v1.0/webhooks/:id", webhooks, h.webhooks.one(h.webhooks.store.Endpoint))
	s.route("PUT", "/v1.0/webhooks/:id", webhooks, h.webhooks.put)
	s.route("DELETE", "/v1.0/webhooks/:id", webhooks, reservingChange(h.webhooks.one(h.webhooks.delete)))
	s.route("POST", "/v1.0/webhooks/:id/enable", webhooks, reservingChange(h.webhooks.one(h.webhooks.enable)))
	s.route("POST", "/v1.0/webhooks/:id/rotate-secret", webhooks, reservingChange(h.webhooks.rotateSecret))
	s.route("POST", "/v1.0/webhooks/:id/test", webhooks, reservingChange(h.webhooks.test))
	s.route("POST", "/v1.0/webhooks/:id/replay", replay, h.webhooks.replay)
	s.route("GET", "/v1.0/webhooks/:id/deliveries", webhooks, h.webhooks.listDeliveries)
	s.route("POST", "/v1.0/deliveries/:id/retry", replay, reservingChange(h.webhooks.retryDelivery))

	s.route("GET", "/v1.0/pauses", admin, h.pauses.list)
	s.route("PUT", "/v1.0/pauses", admin, h.pauses.put)
	s.route("DELETE", "/v1.0/pauses", admin, reservingChange(h.pauses.delete))

	s.route("GET", "/v1.0/mailboxes", mailboxes, h.mailboxes.list)
	s.route("GET", "/v1.0/mailboxes/:id/messages", mailboxes, h.mailboxes.messages)
	s.route("GET", "/v1.0/mailboxes/:id/messages/:message", mailboxes, h.mailboxes.parsedMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/raw", mailboxes, h.mailboxes.rawMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/attachments/:index", mailboxes, h.mailboxes.attachment)
}

// requirement is what a route requires of a request's credential. The zero value requires a
// valid credential and nothing else.
type requirement struct {
	// public routes take requests without a credential.
	public bool
	// unrestricted: the credential must have all rights of its customer, see account.Grant.Full.
	unrestricted bool
	// login: the credential must be the token of a user, see POST /auth/login.
	login bool
	// anyCustomer: an operator's request with ?customer_id= acts for that customer.
	anyCustomer bool
	// scope and also are scopes that the credential must have; empty is none.
	scope, also account.Scope
}

var (
	public        = requirement{public: true}
	anyCredential = requirement{}
	unrestricted  = requirement{unrestricted: true}
	login         = requirement{login: true}

	send          = requirement{scope: account.ScopeSend}
	read          = requirement{scope: account.ScopeRead}
	manage        = requirement{scope: account.ScopeManage}
	webhooks      = requirement{scope: account.ScopeWebhooks}
	senderDomains = requirement{scope: account.ScopeDomains, anyCustomer: true}
	suppressions  = requirement{scope: account.ScopeSuppressions, anyCustomer: true}
	mailboxes     = requirement{scope: account.ScopeMailboxes}
	admin         = requirement{scope: account.ScopeAdmin}
	// replay sends past events to an endpoint, so the credential must be allowed to read them.
	replay = requirement{scope: account.ScopeWebhooks, also: account.ScopeRead}
)

// handler returns the HTTP status and the body of an answer, which becomes JSON, or an error,
// which becomes a problem.
type handler func(*gin.Context) (int, any, error)

// route adds a route whose handler answers with JSON.
func (s *Server) route(method, path string, needs requirement, h handler) {
	s.routeRaw(method, path, needs, func(c *gin.Context) {
		status, body, err := h(c)
		if err != nil {
			s.respond.problem(c, err)
			return
		}
		s.respond.answer(c, status, body)
	})
}

// routeRaw adds a route whose handler writes its answer itself.
func (s *Server) routeRaw(method, path string, needs requirement, h gin.HandlerFunc) {
	s.table = append(s.table, Route{Method: method, Path: path, Public: needs.public, Unrestricted: needs.unrestricted, Login: needs.login, AnyCustomer: needs.anyCustomer, Scope: needs.scope, Also: needs.also})
	if needs.public {
		s.engine.Handle(method, path, h)
		return
	}
	s.engine.Handle(method, path, s.credentials.authenticate, s.credentials.authorize(needs), h)
}

// Route is a line of the route table.
type Route struct {
	Method string
	// Path has parameters as :id.
	Path string
	// Public: no credential is needed. Unrestricted: the credential must have all rights of its
	// customer. Login: it must be the token of a user.
	Public, Unrestricted, Login bool
	// AnyCustomer: an operator's request with ?customer_id= acts for that customer.
	AnyCustomer bool
	// Scope and Also are scopes that the credential must have; empty is none.
	Scope, Also account.Scope
}

// Routes lists all routes, in the order of the table.
func (s *Server) Routes() []Route { return slices.Clone(s.table) }

// noRoute answers a request whose path is no route's. A GET or HEAD of a route's path with a
// slash at its end is redirected to the path without the slash. Everything else is 404: some
// clients do not send a body again after a redirect.
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
