package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

// Error is an answer that is not a success: a problem as RFC 9457 has it, or what
// something between us and Postrider answered instead.
type Error struct {
	// Method and Path are of the request.
	Method, Path string
	// Status is HTTP's; 0 if nothing was sent, because the request makes no sense.
	Status int
	// Code is the stable name of what is wrong. Empty if the answer is not
	// Postrider's, but a proxy's.
	Code email.Code
	// Detail says in words what to do.
	Detail string
	// Fields are the places in the request that are wrong; often empty.
	Fields []email.FieldError
	// RequestID is what the operator finds in the log; may be empty.
	RequestID string
	// RetryAfter is how long the server asks to be left alone; 0 if it does not say.
	RetryAfter time.Duration
}

// Error has a line's worth of words. Values of the request are not among them.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s:", e.Method, e.Path)
	if e.Status != 0 {
		fmt.Fprintf(&b, " %d", e.Status)
	}
	if e.Code != "" {
		b.WriteString(" " + string(e.Code))
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: %s", f.Pointer, f.Detail)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// temporary tells the answers after which the same request may succeed.
func (e *Error) temporary() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// problem is what Postrider sends.
type problem struct {
	Code   email.Code `json:"code"`
	Detail string     `json:"detail"`
	Errors []struct {
		Pointer string `json:"pointer"`
		Code    string `json:"code"`
		Detail  string `json:"detail"`
	} `json:"errors"`
	RequestID string `json:"request_id"`
}

// refusal makes an Error of an answer. A body that is no problem is left out: it
// is a page for people.
func refusal(res *http.Response, body []byte) *Error {
	e := &Error{
		Method: res.Request.Method, Path: res.Request.URL.Path, Status: res.StatusCode,
		RequestID: res.Header.Get("X-Request-Id"), RetryAfter: retryAfter(res.Header.Get("Retry-After")),
	}
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		e.Detail = http.StatusText(res.StatusCode)
		if to := res.Header.Get("Location"); to != "" {
			e.Detail += ": the address has moved to " + to
		}
		return e
	}
	e.Code, e.Detail = p.Code, p.Detail
	if p.RequestID != "" {
		e.RequestID = p.RequestID
	}
	for _, f := range p.Errors {
		e.Fields = append(e.Fields, email.FieldError(f))
	}
	return e
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3); 0 if it is neither.
func retryAfter(s string) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
