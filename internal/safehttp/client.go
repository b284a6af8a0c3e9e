// Package safehttp is the one HTTP client that may call addresses which users
// give us: webhook endpoints, callbacks, attachments by URL. A user must not be
// able to make Postrider talk to what only Postrider can reach.
//
//  1. CheckURL refuses shapes that have no honest use, when a URL is stored.
//  2. Do resolves the name and judges the concrete address in the dialer's
//     Control hook, after the last name lookup and before the first packet. A
//     name that resolves differently the next time is judged again.
//  3. IPv4 addresses wrapped in IPv6 ones are unwrapped first.
//  4. Metadata and link-local addresses are always out of reach. Private ones are,
//     unless the operator lists their range.
//  5. No redirect is followed, no proxy asked, no certificate left unverified.
package safehttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// Defaults and fixed limits of a call.
const (
	DefaultTimeout = 15 * time.Second

	dialTimeout    = 5 * time.Second
	tlsTimeout     = 5 * time.Second
	idleTimeout    = 30 * time.Second
	maxHeaderBytes = 64 << 10
)

// Options shape a Client. The zero value calls public addresses over https.
type Options struct {
	// AllowPrivate are ranges that may be called although they are not public:
	// POSTRIDER_ALLOW_PRIVATE_CIDRS. Metadata addresses stay blocked.
	AllowPrivate []netip.Prefix
	// AllowHTTP lets URLs start with http:// too.
	AllowHTTP bool
	// AllowLoopback is for `postrider dev`, where receivers run next to it.
	AllowLoopback bool
	// Timeout bounds a call from the name lookup to the last byte read, unless
	// the context ends sooner. Zero means DefaultTimeout.
	Timeout time.Duration
	// Resolver looks names up; nil means the system's.
	Resolver *net.Resolver
	// RootCAs verify certificates; nil means the system's.
	RootCAs *x509.CertPool
}

// Client calls addresses that users give us. It is safe for concurrent use.
type Client struct {
	http      *http.Client
	policy    policy
	allowHTTP bool
	timeout   time.Duration
}

// New makes a Client.
func New(opts Options) *Client {
	c := &Client{
		policy:    policy{listed: opts.AllowPrivate, allowLoopback: opts.AllowLoopback},
		allowHTTP: opts.AllowHTTP,
		timeout:   opts.Timeout,
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	dialer := &net.Dialer{Timeout: dialTimeout, Resolver: opts.Resolver, Control: c.control}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would resolve and dial behind the back of Control
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs},
			TLSHandshakeTimeout:    tlsTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // limits count bytes of the wire
			MaxIdleConnsPerHost:    5,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// control sees every address right before it is connected to.
func (c *Client) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &BlockedError{Reason: "not TCP"}
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &BlockedError{Reason: "unreadable"}
	}
	_, err = c.policy.check(ap.Addr())
	return err
}

// Response is what came back.
type Response struct {
	// Status is 0 if no answer came.
	Status int
	Header http.Header
	// Body is at most what was asked for; Truncated says that there was more.
	Body      []byte
	Truncated bool
	// Private: the answer came from a range that only the operator's list makes
	// reachable. Customers must not read it.
	Private bool
}

// Do makes one call and reads at most maxBody bytes of the answer; a redirect
// is an answer like any other. Errors are *URLError before anything is done,
// else *CallError, around a *BlockedError or context.DeadlineExceeded where
// that is the cause. Where the answer breaks off, Status and Header are set
// beside the error.
func (c *Client) Do(ctx context.Context, req *http.Request, maxBody int64) (Response, error) {
	s, err := c.Open(ctx, req)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = s.Body.Close() }() // all that is wanted of it was read
	out := Response{Status: s.Status, Header: s.Header, Private: s.Private}
	body, err := io.ReadAll(io.LimitReader(s.Body, maxBody+1))
	if int64(len(body)) > maxBody {
		body, out.Truncated = body[:maxBody], true
	}
	out.Body = body
	return out, err
}

// Stream is an answer whose body is still on its way.
type Stream struct {
	Status int
	Header http.Header
	// Length of the body, -1 if the peer did not say.
	Length int64
	// Private is as in Response.
	Private bool
	// Body has no bound but the call's time, which ends with Close. Its errors are
	// *CallError.
	Body io.ReadCloser
}

// Open makes one call as Do does, and hands the answer's body out unread. The
// caller closes it.
func (c *Client) Open(ctx context.Context, req *http.Request) (Stream, error) {
	if err := c.check(req.URL); err != nil {
		return Stream{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	var remote atomic.Value
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { remote.Store(info.Conn.RemoteAddr().String()) }}
	resp, err := c.http.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace))) //nolint:bodyclose // the caller does
	if err != nil {
		cancel()
		return Stream{}, callError(req, err)
	}
	return Stream{
		Status: resp.StatusCode, Header: resp.Header, Length: resp.ContentLength, Private: c.private(remote.Load()),
		Body: &streamBody{body: resp.Body, req: req, cancel: cancel},
	}, nil
}

// streamBody ends the call's time when it is closed, and words its errors.
type streamBody struct {
	body   io.ReadCloser
	req    *http.Request
	cancel context.CancelFunc
}

func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = callError(b.req, err)
	}
	return n, err
}

func (b *streamBody) Close() error {
	defer b.cancel()
	return b.body.Close()
}

// private reports whether only the operator's list lets us talk to remote. An unknown
// address counts as private.
func (c *Client) private(remote any) bool {
	s, _ := remote.(string)
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return true
	}
	viaList, err := c.policy.check(ap.Addr())
	return viaList || err != nil
}
