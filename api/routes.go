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
func (s *Server) routes() {
	//   method  path                                       needs     handler
	s.routeRaw("GET", "/", open, s.home)
	s.route("GET", "/healthz", open, s.healthz)
	s.route("GET", "/readyz", open, s.readyz)
	s.routeRaw("GET", "/metrics", open, gin.WrapH(s.deps.Metrics))
	s.routeRaw("GET", "/openapi.json", open, s.openapiJSON())
	s.routeRaw("GET", "/openapi.yaml", open, s.openapiYAML())
	s.routeRaw("GET", "/docs", open, s.docs)
	s.route("POST", "/auth/login", open, s.login)
	s.route("POST", "/v1.0/auth/login", open, s.login)
	s.route("POST", "/v1.0/auth/password", login, s.changePassword)
	s.route("POST", "/v1.0/auth/revoke", login, change(s.revokeLogins))

	s.route("POST", "/v1.0/emails", send, s.postEmail)
	s.route("POST", "/v1.0/emails/preview", send, s.preview)
	s.route("POST", "/v1.0/emails/batch", send, s.postBatch)
	s.route("GET", "/v1.0/emails", read, s.listEmails)
	s.route("GET", "/v1.0/emails/stats", read, s.emailStats)
	s.route("GET", "/v1.0/emails/:id", read, s.getEmail)
	s.route("DELETE", "/v1.0/emails/:id", manage, change(s.deleteEmail))
	s.route("POST", "/v1.0/emails/:id/cancel", manage, s.control(email.ActionCancel))
	s.route("POST", "/v1.0/emails/:id/hold", manage, s.control(email.ActionHold))
	s.route("POST", "/v1.0/emails/:id/resume", manage, s.control(email.ActionResume))
	s.route("POST", "/v1.0/emails/:id/retry-now", manage, s.control(email.ActionRetryNow))
	s.route("POST", "/v1.0/emails/:id/reschedule", manage, s.control(email.ActionReschedule))
	s.route("POST", "/v1.0/emails/:id/resend", send, change(s.resend))
	s.route("GET", "/v1.0/emails/:id/events", read, s.emailEvents)
	s.route("GET", "/v1.0/emails/:id/attempts", read, s.emailAttempts)
	s.route("GET", "/v1.0/events", read, s.feed)

	s.route("GET", "/v1.0/batches", read, s.listBatches)
	s.route("GET", "/v1.0/batches/:id", read, s.getBatch)
	s.route("POST", "/v1.0/batches/:id/cancel", manage, s.controlBatch(email.ActionCancel))
	s.route("POST", "/v1.0/batches/:id/hold", manage, s.controlBatch(email.ActionHold))
	s.route("POST", "/v1.0/batches/:id/resume", manage, s.controlBatch(email.ActionResume))

	s.route("POST", "/v1.0/files", send, s.postFile)
	s.route("GET", "/v1.0/files", read, s.listFiles)
	s.route("GET", "/v1.0/files/:id", send, s.getFile)
	s.route("DELETE", "/v1.0/files/:id", send, change(s.deleteFile))
	s.routeRaw("GET", "/v1.0/files/:id/content", send, s.getFileContent)

	s.route("GET", "/v1.0/accesskeys", full, s.listAccessKeys)
	s.route("POST", "/v1.0/accesskeys", full, s.postAccessKey)
	s.route("GET", "/v1.0/accesskeys/:id", full, s.getAccessKey)
	s.route("DELETE", "/v1.0/accesskeys/:id", full, change(s.deleteAccessKey))

	s.route("POST", "/v1.0/accesskeys/:id/rotate", full, s.rotateAccessKey)
	s.route("GET", "/v1.0/usage", read, s.usage)
	s.route("GET", "/v1.0/audit", full, s.listAudit)

	s.route("GET", "/v1.0/customer", some, s.getCustomer)
	s.route("PUT", "/v1.0/customer", full, s.putCustomer)
	s.route("GET", "/v1.0/customers", some, s.listCustomers)

	s.route("POST", "/v1.0/customers", admin, s.postCustomer)
	s.route("GET", "/v1.0/customers/:id", admin, s.getCustomerByID)
	s.route("PUT", "/v1.0/customers/:id", admin, s.governCustomer)
	s.route("DELETE", "/v1.0/customers/:id", admin, change(s.deleteCustomer))
	s.route("GET", "/v1.0/customers/:id/accesskeys", admin, s.listCustomerKeys)
	s.route("POST", "/v1.0/customers/:id/accesskeys", admin, s.postCustomerKey)
	s.route("GET", "/v1.0/customers/:id/accesskeys/:key", admin, s.getCustomerKey)
	s.route("DELETE", "/v1.0/customers/:id/accesskeys/:key", admin, change(s.deleteCustomerKey))
	s.route("GET", "/v1.0/customers/:id/users", admin, s.listCustomerUsers)
	s.route("GET", "/v1.0/customers/:id/users/:user", admin, s.customerUser(nil))
	s.route("DELETE", "/v1.0/customers/:id/users/:user", admin, change(s.customerUser(s.deleteUser)))
	s.route("PUT", "/v1.0/customers/:id/users/:user/password", admin, s.customerUser(s.setUserPassword))
	s.route("POST", "/v1.0/customers/:id/users/:user/revoke", admin, change(s.customerUser(s.revokeUser)))
	s.route("GET", "/v1.0/customers/:id/domains", admin, s.listCustomerDomains)
	s.route("POST", "/v1.0/customers/:id/domains", admin, s.postCustomerDomain)
	s.route("GET", "/v1.0/customers/:id/domains/:domain", admin, s.customerDomain(s.getDomain))
	s.route("PUT", "/v1.0/customers/:id/domains/:domain", admin, s.customerDomain(s.putDomain))
	s.route("DELETE", "/v1.0/customers/:id/domains/:domain", admin, change(s.customerDomain(s.deleteDomain)))
	s.route("GET", "/v1.0/customers/:id/domains/:domain/warmup", admin, s.warmup(s.getDomain))
	s.route("PUT", "/v1.0/customers/:id/domains/:domain/warmup", admin, s.warmup(s.putWarmup))
	s.route("DELETE", "/v1.0/customers/:id/domains/:domain/warmup", admin, change(s.warmup(s.deleteWarmup)))

	s.route("GET", "/v1.0/webhooks", webhooks, s.listWebhooks)
	s.route("POST", "/v1.0/webhooks", webhooks, s.postWebhook)
	s.route("GET", "/v1.0/webhooks/:id", webhooks, s.oneWebhook(s.deps.Webhooks.Endpoint))
	s.route("PUT", "/v1.0/webhooks/:id", webhooks, s.putWebhook)
	s.route("DELETE", "/v1.0/webhooks/:id", webhooks, change(s.oneWebhook(s.deleteWebhook)))
	s.route("POST", "/v1.0/webhooks/:id/enable", webhooks, change(s.oneWebhook(s.enableWebhook)))
	s.route("POST", "/v1.0/webhooks/:id/rotate-secret", webhooks, change(s.rotateSecret))
	s.route("POST", "/v1.0/webhooks/:id/test", webhooks, change(s.testWebhook))
	s.route("POST", "/v1.0/webhooks/:id/replay", replays, s.replay)
	s.route("GET", "/v1.0/webhooks/:id/deliveries", webhooks, s.listDeliveries)
	s.route("POST", "/v1.0/deliveries/:id/retry", replays, change(s.retryDelivery))

	s.route("GET", "/v1.0/pauses", admin, s.listPauses)
	s.route("PUT", "/v1.0/pauses", admin, s.putPause)
	s.route("DELETE", "/v1.0/pauses", admin, change(s.deletePause))

	s.route("GET", "/v1.0/mailboxes", mailboxes, s.listMailboxes)
	s.route("GET", "/v1.0/mailboxes/:id/messages", mailboxes, s.listMessages)
	s.route("GET", "/v1.0/mailboxes/:id/messages/:message", mailboxes, s.getMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/raw", mailboxes, s.getRawMessage)
	s.routeRaw("GET", "/v1.0/mailboxes/:id/messages/:message/attachments/:index", mailboxes, s.getMessageAttachment)
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
			s.problem(c, err)
			return
		}
		s.answer(c, status, body)
	})
}

// routeRaw is for answers that are not JSON.
func (s *Server) routeRaw(method, path string, n need, h gin.HandlerFunc) {
	s.table = append(s.table, Route{Method: method, Path: path, Open: n.open, Full: n.full, Login: n.login, Scope: n.scope, Also: n.also})
	if n.open {
		s.engine.Handle(method, path, h)
		return
	}
	s.engine.Handle(method, path, s.authenticate, s.authorize(n), h)
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
		s.problem(c, errNoRoute)
	case !get:
		s.problem(c, errSlash)
	default:
		to := *c.Request.URL
		to.Path, to.RawPath = path, strings.TrimRight(to.RawPath, "/")
		c.Redirect(http.StatusPermanentRedirect, s.opts.PublicURL+to.RequestURI())
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
