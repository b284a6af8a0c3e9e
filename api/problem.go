package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// statusOf maps failure codes to HTTP statuses. An error without a code of this table is
// answered 500, without its text.
var statusOf = map[email.Code]int{
	email.CodeMalformedJSON:        http.StatusBadRequest,
	email.CodeInvalidRequest:       http.StatusBadRequest,
	email.CodeUnauthorized:         http.StatusUnauthorized,
	email.CodeForbidden:            http.StatusForbidden,
	email.CodeDomainUnverified:     http.StatusForbidden,
	email.CodeNotFound:             http.StatusNotFound,
	codeMethodNotAllowed:           http.StatusMethodNotAllowed,
	email.CodeConflict:             http.StatusConflict,
	email.CodeIdempotencyConflict:  http.StatusConflict,
	email.CodeTooLarge:             http.StatusRequestEntityTooLarge,
	email.CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	codeTooComplex:                 http.StatusUnprocessableEntity,
	email.CodeCredits:              http.StatusPaymentRequired,
	email.CodeTooMany:              http.StatusTooManyRequests,
	email.CodeUnavailable:          http.StatusServiceUnavailable,
}

// Codes that only the API uses.
const (
	codeMethodNotAllowed email.Code = "method_not_allowed"
	codeInternal         email.Code = "internal"
	// codeTooComplex: a received message exceeds a limit of the parser.
	codeTooComplex email.Code = "message_too_complex"
)

// statusAbandoned is the status in the log if the client closed the connection before the answer,
// as nginx logs it.
const statusAbandoned = 499

var (
	errNoRoute  = email.Fail(email.CodeNotFound, "there is no such path; the API is under /v1.0 and described at /docs")
	errSlash    = email.Fail(email.CodeNotFound, "there is no such path; remove the slash at its end")
	errNoMethod = email.Fail(codeMethodNotAllowed, "this path does not have that method")
)

// problem is the body of an error (RFC 9457). It never repeats values of the request.
type problem struct {
	Type      string         `json:"type"`
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Code      email.Code     `json:"code"`
	Detail    string         `json:"detail,omitempty"`
	Errors    []problemField `json:"errors,omitempty"`
	RequestID string         `json:"request_id"`
	// Error is the same error in VoIPBIN's form, for customers with that profile.
	Error *voipbinError `json:"error,omitempty"`
}

type problemField struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

func problemFields(fields []email.FieldError) []problemField {
	var out []problemField
	for _, e := range fields {
		out = append(out, problemField(e))
	}
	return out
}

// problem answers with an error and stops the request's other handlers.
func (r responder) problem(c *gin.Context, err error) {
	if c.Request.Context().Err() != nil && errors.Is(err, context.Canceled) {
		// The client has closed the connection, and that caused the error.
		r.log.InfoContext(c.Request.Context(), "http.abandoned", "request_id", requestID(c), "method", c.Request.Method, "route", c.FullPath())
		c.AbortWithStatus(statusAbandoned)
		return
	}
	p := problem{Type: "about:blank", Status: http.StatusInternalServerError, Code: codeInternal, RequestID: requestID(c),
		Detail: "the server failed to answer this request; give the operator the request_id"}
	if f, ok := errors.AsType[*email.Failure](err); ok {
		if status, known := statusOf[f.Code]; known {
			p.Status, p.Code, p.Detail = status, f.Code, f.Detail
			p.Errors = problemFields(f.Fields)
		}
	}
	p.Title = http.StatusText(p.Status)
	if voipbin(c) {
		p.Error = &voipbinError{Status: p.Status, Reason: p.Code, Message: p.Detail, RequestID: p.RequestID}
	}
	switch p.Status {
	case http.StatusUnauthorized:
		c.Header("WWW-Authenticate", `Bearer realm="postrider"`)
	case http.StatusServiceUnavailable:
		c.Header("Retry-After", "5")
	}
	switch {
	case p.Status == http.StatusServiceUnavailable:
		r.unavailable(c, err)
	case p.Status >= http.StatusInternalServerError:
		r.log.ErrorContext(c.Request.Context(), "http.failed", "request_id", p.RequestID, "method", c.Request.Method, "route", c.FullPath(), "error", err)
	}
	body, merr := json.Marshal(p)
	if merr != nil {
		r.log.ErrorContext(c.Request.Context(), "http.problem", "request_id", p.RequestID, "error", merr)
		c.AbortWithStatus(p.Status)
		return
	}
	c.Abort()
	c.Data(p.Status, "application/problem+json", body)
}

// invalid refuses a request because of one member or parameter. pointer is a JSON Pointer into
// the body, or the name of a parameter or header.
func invalid(pointer, code, detail string) *email.Failure {
	f := email.Fail(email.CodeInvalidRequest, "the request is not valid; errors says where and why")
	f.Fields = []email.FieldError{{Pointer: pointer, Code: code, Detail: detail}}
	return f
}
