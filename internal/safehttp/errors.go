package safehttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
)

// CallError says why a call failed, in words that may be shown to the user who
// gave the URL: the host as it was given, no path, no query, no address of ours
// or of our name server. The chain below it is for logs.
type CallError struct {
	Method string
	Host   string
	Err    error
}

func callError(req *http.Request, err error) error {
	// url.Error prints the whole URL, secrets in its query included.
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return &CallError{Method: req.Method, Host: req.URL.Host, Err: err}
}

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.Err }

func (e *CallError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Method, e.Host, describe(e.Err))
}

// describe names the causes we know. The rest stays unnamed: a parser's error
// quotes what the peer said, and the peer may be a private one.
func describe(err error) string {
	if b, ok := errors.AsType[*BlockedError](err); ok {
		return b.Error()
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok {
		if d.IsNotFound {
			return "no such host"
		}
		return "the name lookup failed"
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return "timed out"
	}
	if c, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return c.Error()
	}
	if s, ok := errors.AsType[*os.SyscallError](err); ok { // inside an OpError, which prints both ends' addresses
		return s.Err.Error()
	}
	if o, ok := errors.AsType[*net.OpError](err); ok {
		return o.Err.Error()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the host answers http to an https call"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended before the answer did"
	}
	return "the answer is not valid HTTP"
}
