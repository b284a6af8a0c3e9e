package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// call is one request, however often it is tried.
type call struct {
	method string
	// path are the elements behind /v1.0; every second one is an id.
	path  []string
	query url.Values
	// body becomes JSON; nil means there is none.
	body any
	// contentType of json, where body is a []byte that is sent as it is; empty is JSON.
	contentType string
	// key is the Idempotency-Key; empty means none.
	key string
	// wait is how long the server was asked to hold back its answer.
	wait time.Duration
	// stream is a body that is sent as it is read; nil means there is none. Its type is contentType.
	stream io.Reader
	// patience is how long the server may take to answer, beyond the timeout.
	patience time.Duration
	// once: it is tried once, although it may arrive twice.
	once bool

	url  string
	json []byte
}

// repeatable calls may arrive twice.
func (r *call) repeatable() bool { return !r.once && (r.method == http.MethodGet || r.key != "") }

// do carries a call out and reads its answer: into a *[]byte as it is, into an io.Writer as it arrives,
// into anything else as JSON.
func (c *Client) do(ctx context.Context, r call, out any) (http.Header, error) {
	if err := c.prepare(&r); err != nil {
		return nil, err
	}
	unsent := true // by any try
	for n := 1; ; n++ {
		header, again, err := c.try(ctx, r, out)
		if unsent = unsent && noConnection(err); unsent {
			err = notSent{err}
		}
		if err == nil || !again || !r.repeatable() || n >= c.retry.Tries {
			return header, err
		}
		pause, ok := c.retry.pause(n, err)
		if deadline, bounded := ctx.Deadline(); !ok || bounded && time.Until(deadline) <= pause {
			return nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w, after %w", ended(ctx), err)
		}
	}
}

// notSent is an error of a call none of whose tries reached the server.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// noConnection tells the errors that come before a request is written: the name was not
// found, the connection was refused or not answered, the certificate was not trusted.
func noConnection(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op == "dial"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// NotSent reports that a call failed before any of its tries had a connection: the name was
// not found, the connection was refused, or the certificate was not trusted. The server did nothing. Of any other
// error that is not an *Error it is not known what the server did.
func NotSent(err error) bool {
	_, ok := errors.AsType[notSent](err)
	return ok
}

// idShape is what an id or a number in a path looks like. Anything else, and most
// of all an empty one, would name another resource.
var idShape = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// domainShape is what a domain in a path looks like: labels with letters, digits and
// hyphens, so that none is . or ..
var domainShape = regexp.MustCompile(`^[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*$`)

func (c *Client) prepare(r *call) error {
	for i, element := range r.path {
		if i%2 == 1 && r.path[i-1] == "domains" && domainShape.MatchString(element) {
			continue
		}
		if i%2 == 1 && !idShape.MatchString(element) {
			return fmt.Errorf("%s in /%s: %q is not an id", r.method, r.path[i-1], element)
		}
	}
	u := c.base.JoinPath(append([]string{"v1.0"}, r.path...)...)
	query := maps.Clone(r.query)
	if query == nil {
		query = url.Values{}
	}
	if r.wait > 0 {
		query.Set("wait", r.wait.String())
	}
	if c.actsFor != "" {
		query.Set("customer_id", c.actsFor)
	}
	u.RawQuery = query.Encode()
	r.url = u.String()
	if r.body == nil {
		return nil
	}
	if raw, ok := r.body.([]byte); ok && r.contentType != "" {
		r.json = raw
		return nil
	}
	r.contentType = "application/json"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // HTML mail would grow by a third
	if err := enc.Encode(r.body); err != nil {
		return fmt.Errorf("%s %s: request body: %w", r.method, u.Path, err)
	}
	r.json = b.Bytes()
	return nil
}

// errStalled ends a try in which nothing moves.
var errStalled = errors.New("no answer")

// try sends a call once. again says that another try may succeed.
func (c *Client) try(ctx context.Context, r call, out any) (_ http.Header, again bool, err error) {
	limit := c.timeout + r.wait + r.patience
	tryCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(limit, func() { cancel(errStalled) })
	defer timer.Stop()
	watch := func(from io.Reader) io.Reader { return &watched{from: from, timer: timer, limit: limit} }

	var body io.Reader
	switch {
	case r.stream != nil:
		body = watch(r.stream)
	case r.json != nil:
		body = watch(bytes.NewReader(r.json))
	}
	req, err := http.NewRequestWithContext(tryCtx, r.method, r.url, body)
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("User-Agent", "postrider-go")
	if r.json != nil {
		req.ContentLength = int64(len(r.json))
	}
	if body != nil {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	// failed tells the reasons of a try without an answer apart.
	failed := func(err error) (http.Header, bool, error) {
		switch {
		case ctx.Err() != nil:
			return nil, false, fmt.Errorf("%s %s: %w", r.method, req.URL.Path, ended(ctx))
		case errors.Is(context.Cause(tryCtx), errStalled):
			err = fmt.Errorf("%w within %s", errStalled, limit)
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // it repeats what we say
		}
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		return nil, !untrusted, fmt.Errorf("%s %s: %w", r.method, req.URL.Path, err)
	}

	res, err := c.http.Do(req)
	if err != nil {
		return failed(err)
	}
	if to, ok := out.(io.Writer); ok && res.StatusCode == http.StatusOK {
		_, err := io.Copy(to, watch(res.Body))
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return failed(err)
		}
		return res.Header, false, nil
	}
	answer, err := io.ReadAll(watch(res.Body))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return failed(err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		e := refusal(res, answer)
		return nil, e.temporary(), e
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = answer
		return res.Header, false, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, false, fmt.Errorf("%s %s: answered %d with %s that cannot be read: %w", r.method, req.URL.Path, res.StatusCode, res.Header.Get("Content-Type"), err)
	}
	return res.Header, false, nil
}

// watched puts off a timer as long as bytes move, so that a limit holds for small
// and large messages alike. The transport may still read from it when the answer is
// there; putting off a timer whose context has ended does nothing.
type watched struct {
	from  io.Reader
	timer *time.Timer
	limit time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if n > 0 {
		w.timer.Reset(w.limit)
	}
	return n, err
}

// ended is why a context has, with the cause that its owner gave.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}

// pause is how long to wait after the n-th try; not ok means that it is too long.
func (r Retry) pause(n int, err error) (_ time.Duration, ok bool) {
	d := r.Max
	if shift := n - 1; shift < 30 && r.First<<shift > 0 {
		d = min(d, r.First<<shift)
	}
	d = jitter(d)
	e, isAnswer := errors.AsType[*Error](err)
	if !isAnswer || e.RetryAfter == 0 {
		return d, true
	}
	// Clients that were refused at the same time must not come back at the same time.
	return max(d, e.RetryAfter+jitter(r.First)), e.RetryAfter <= r.Max
}

// jitter is between half of d and all of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
