package email

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the stable name of a refusal or a failure. It is part of the API
// (problem+json "code") and of the Temporal contract (application error type).
type Code string

// The codes. An error without one of them is an internal error.
const (
	CodeMalformedJSON        Code = "malformed_json"
	CodeInvalidRequest       Code = "invalid_request"
	CodeUnauthorized         Code = "unauthorized"
	CodeForbidden            Code = "forbidden"
	CodeNotFound             Code = "not_found"
	CodeConflict             Code = "conflict"
	CodeTooLarge             Code = "too_large"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeDomainUnverified     Code = "sender_domain_unverified"
	// CodeBlocked is the code of a field error: the file's type is not sent (Blocklist).
	CodeBlocked     Code = "attachment_blocked"
	CodeUnavailable Code = "unavailable"
	// CodeCredits: the customer's prepaid credits are used up.
	CodeCredits Code = "credits_exhausted"
	// CodeTooMany: a rate limit is reached; try again after the header Retry-After.
	CodeTooMany             Code = "too_many_requests"
	CodeIdempotencyConflict Code = "idempotency_conflict"
)

// FieldError is one problem of a request.
type FieldError struct {
	// Pointer is a JSON Pointer (RFC 6901) into the body; for a query
	// parameter, a header or a direct start's own members its name, without a slash.
	Pointer string `json:"pointer"`
	// Code is the stable name of the problem, for example "missing".
	Code string `json:"code"`
	// Detail says how to correct it. It never repeats the value.
	Detail string `json:"detail"`
}

// Failure is an error that the caller can act upon: it has a stable code, and a detail that
// says what to do. Any other error is an internal one: clients get no text of it.
type Failure struct {
	Code   Code
	Detail string
	Fields []FieldError
	// Err is the cause, for logs only.
	Err error
}

// Fail makes a Failure.
func Fail(code Code, format string, args ...any) *Failure {
	return &Failure{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Error is for logs; clients get Code, Detail and Fields.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(string(f.Code))
	if f.Detail != "" {
		b.WriteString(": " + f.Detail)
	}
	for _, e := range f.Fields {
		fmt.Fprintf(&b, "; %s: %s", e.Pointer, e.Detail)
	}
	if f.Err != nil {
		// The code is not repeated if the cause has the same.
		b.WriteString(": " + strings.TrimPrefix(f.Err.Error(), string(f.Code)+": "))
	}
	return b.String()
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// FailureCode is the code of the first Failure in err's chain, or "".
func FailureCode(err error) Code {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Code
	}
	return ""
}
