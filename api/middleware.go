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

// identify gives every request an id: the caller's, if it is a harmless one. Answers hold
// mail and tokens: no cache keeps them, and no browser guesses their type.
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

// logged writes a line per request. The query is left out: it may hold a key.
func (s *Server) logged(c *gin.Context) {
	start := time.Now()
	c.Next()
	level := slog.LevelInfo
	if probe(c.FullPath()) && c.Writer.Status() < http.StatusInternalServerError {
		level = slog.LevelDebug // several a minute, each the same
	}
	s.log.Log(c.Request.Context(), level, "http.answered", "request_id", requestID(c), "method", c.Request.Method, "route", c.FullPath(),
		"status", c.Writer.Status(), "bytes", c.Writer.Size(), "ms", time.Since(start).Milliseconds(), "customer_id", c.GetString(keyCustomerID))
}

// probe reports whether a route is asked by machines, all the time.
func probe(route string) bool {
	return route == "/healthz" || route == "/readyz" || route == "/metrics"
}

// Bounds of a query. What parsing makes of a parameter of two bytes takes fifty times as
// much memory, and stays while the request lasts.
const (
	maxQueryBytes = 8 << 10
	maxParameters = 100
)

// storable refuses queries that are too long, before anything parses them, and parameters
// that Postgres takes for no text: NUL and what is not UTF-8.
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
				s.respond.problem(c, invalid(strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", ""), ""), "control_character", "a parameter holds a NUL or is not UTF-8; remove that"))
				return
			}
		}
	}
}

// recovered turns a panic into a 500 that the operator can find.
func (s *Server) recovered(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			s.respond.problem(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	c.Next()
}
