package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
)

const (
	headerRequestID = "X-Request-Id"
	keyRequestID    = "request_id"
)

var requestIDShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// identify gives a request the id in its X-Request-Id header if that has the form
// requestIDShape, else a new one. It also sets headers of all answers: they contain mail and
// tokens, so caches must not store them and browsers must not guess their type.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader(headerRequestID)
	if !requestIDShape.MatchString(id) {
		id = uuid.NewString()
	}
	c.Set(keyRequestID, id)
	c.Header(headerRequestID, id)
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
}

func requestID(c *gin.Context) string { return c.GetString(keyRequestID) }

// logged logs a line for each request, without the query, which may contain an access key.
func (s *Server) logged(c *gin.Context) {
	start := time.Now()
	c.Next()
	level := slog.LevelInfo
	if isProbe(c.FullPath()) && c.Writer.Status() < http.StatusInternalServerError {
		level = slog.LevelDebug // several a minute, all alike
	}
	s.log.Log(c.Request.Context(), level, "http.answered", "request_id", requestID(c), "method", c.Request.Method, "route", c.FullPath(),
		"status", c.Writer.Status(), "bytes", c.Writer.Size(), "ms", time.Since(start).Milliseconds(), "customer_id", c.GetString(keyCustomerID))
}

// isProbe reports whether monitoring requests a route regularly.
func isProbe(route string) bool {
	return route == "/healthz" || route == "/readyz" || route == "/metrics"
}

// Limits of a query. A parsed parameter of two bytes takes fifty times as much memory until the
// request ends.
const (
	maxQueryBytes = 8 << 10
	maxParameters = 100
)

// storable refuses queries over the limits before anything parses them, and paths and parameters
// that Postgres cannot store as text: NUL and invalid UTF-8.
func (s *Server) storable(c *gin.Context) {
	if q := c.Request.URL.RawQuery; len(q) > maxQueryBytes || strings.Count(q, "&") >= maxParameters {
		s.respond.problem(c, email.Fail(email.CodeInvalidRequest, "the query is too long: give at most %d parameters and %d bytes", maxParameters, maxQueryBytes))
		return
	}
	if !storableText(c.Request.URL.Path) {
		s.respond.problem(c, errNoRoute)
		return
	}
	for name, values := range c.Request.URL.Query() {
		for _, v := range append(values, name) {
			if !storableText(v) {
				s.respond.problem(c, invalid(strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", ""), ""), "control_character", "the parameter contains a NUL or is not UTF-8; remove that"))
				return
			}
		}
	}
}

// recovered answers 500 if a handler panics, and logs the stack. http.ErrAbortHandler is a handler's own
// way to cut an answer off that it has begun.
func (s *Server) recovered(c *gin.Context) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // it is this value, and no error of a call
			panic(p)
		} else if p != nil {
			s.respond.problem(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	c.Next()
}
