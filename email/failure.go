package email

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the stable name of a refusal or a failure. It is part of the API
// (problem+json "code") and of the Temporal contract (application error type).
type Code string

// The codes. What is not among them is a fault of our own.
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
	// CodeBlocked names a file that is not sent; as the code of a field.
	CodeBlocked     Code = "attachment_blocked"
	CodeUnavailable Code = "unavailable"
	// CodeCredits: what was prepaid is used up.
	CodeCredits Code = "credits_exhausted"
	// CodeTooMany: come again after RetryAfter.
	CodeTooMany             Code = "too_many_requests"
	CodeIdempotencyConflict Code = "idempotency_conflict"
)

// FieldError is one thing wrong with a request.
type FieldError struct {
	// Pointer is a JSON Pointer (RFC 6901) into the body; for a query
	// parameter, a header or a direct start's own members its name, without a slash.
	Pointer string `json:"pointer"`
	// Code is the stable name of what is wrong, for example "missing".
	Code string `json:"code"`
	// Detail says what to do. It never repeats the value.
	Detail string `json:"detail"`
}

// Failure is an error that its receiver can act upon: it carries a stable code
// and says in words what to do. Anything else is a fault of our own and is
// shown to clients as such, without its text.
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
		// A cause of the same code does not name it again.
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
