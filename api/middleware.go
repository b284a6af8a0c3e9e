package api

import (
	"fmt"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

const (
	headerRequestID = "X-Request-Id"
	keyRequestID    = "request_id"
)

var requestIDShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// identify gives every request an id: the caller's, if it is a harmless one.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader(headerRequestID)
	if !requestIDShape.MatchString(id) {
		id = uuid.NewString()
	}
	c.Set(keyRequestID, id)
	c.Header(headerRequestID, id)
}

func requestID(c *gin.Context) string { return c.GetString(keyRequestID) }

// logged writes a line per request. The query is left out: it may hold a key.
func (s *Server) logged(c *gin.Context) {
	start := time.Now()
	c.Next()
	s.deps.Log.InfoContext(c.Request.Context(), "http.answered", "request_id", requestID(c), "method", c.Request.Method, "route", c.FullPath(),
		"status", c.Writer.Status(), "bytes", c.Writer.Size(), "ms", time.Since(start).Milliseconds(), "customer_id", c.GetString(keyCustomerID))
}

// recovered turns a panic into a 500 that the operator can find.
func (s *Server) recovered(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			s.problem(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	c.Next()
}
