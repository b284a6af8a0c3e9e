// Package client speaks Postrider's REST API, for programs that send mail through
// it. It imports nothing but the standard library and the domain's names.
//
//  1. A Client has a base URL and an access key. It may be used by any number of
//     goroutines; every call takes a context, which ends it.
//  2. Calls that are safe to repeat are repeated: every GET, and Send, which always goes
//     with an Idempotency-Key. They are tried again when there is no answer, and on
//     429, 502, 503 and 504; see Retry for how often. No other call is repeated. Only
//     the caller can find out what a lost answer to Cancel or Resend said.
//  3. A Send without a key of its own gets a random one, the same for all its
//     tries: it never sends twice. Calling Send again is another matter. A program
//     that may die and start over has to give a key that it can make again, such as
//     the order's number: IdempotencyKey.
//  4. A refusal is an *Error, to be found with errors.As: its Code is stable, its
//     Fields name what is wrong. Any other error means that no answer came.
//  5. Members of an answer that this package does not know are ignored.
package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultTimeout is for how long nothing may move, either way, before a try is
// given up. The time of a Wait comes on top.
const DefaultTimeout = 30 * time.Second

// Retry says how often a call is tried that can be repeated.
type Retry struct {
	// Tries counts the first one. 1 means that nothing is tried again; 0 means 6.
	Tries int
	// First is the longest wait before the second try. It doubles from try to try;
	// the wait is between half of it and all. 0 means 500ms: with 6 tries, the last
	// one comes 8 to 16 s after the first, if the answers come at once.
	First time.Duration
	// Max bounds the waits; 0 means 30s. A wait that the server asks for (Retry-After)
	// is kept. A server that asks for more than Max gets no other try: the Error holds
	// the time that it asked for.
	Max time.Duration
}

func (r Retry) withDefaults() Retry {
	if r.Tries <= 0 {
		r.Tries = 6
	}
	if r.First <= 0 {
		r.First = 500 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 30 * time.Second
	}
	return r
}

// Client calls one Postrider for one customer.
type Client struct {
	base    *url.URL
	key     string
	http    *http.Client
	timeout time.Duration
	retry   Retry
	// actsFor is the customer that calls act for; empty is the access key's.
	actsFor string
}

// Option changes how a Client works.
type Option func(*Client)

// WithHTTPClient has requests sent by another http.Client, for a proxy or a
// certificate of one's own. Its Timeout, if any, cuts off Wait and large messages.
func WithHTTPClient(h *http.Client) Option {
	return func(c *Client) {
		own := *h
		c.http = &own
	}
}

// WithTimeout replaces DefaultTimeout.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithRetry replaces the zero Retry.
func WithRetry(r Retry) Option { return func(c *Client) { c.retry = r.withDefaults() } }

// New makes a Client for the service at baseURL, the part before /v1.0. It sends
// nothing; an access key that is not known is found out by the first call.
func New(baseURL, accessKey string, opts ...Option) (*Client, error) {
	base, err := url.Parse(baseURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("base URL: %w", err)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, errors.New("base URL: give http:// or https:// and a host, as https://mail.example.com")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("base URL: leave out the user, the query and the fragment")
	case strings.HasSuffix(strings.TrimRight(base.Path, "/"), "/v1.0"):
		return nil, errors.New("base URL: leave out /v1.0")
	case accessKey == "":
		return nil, errors.New("access key: is empty")
	case strings.ContainsFunc(accessKey, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("access key: holds a space or another character that no key has")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // the standard library's own is one
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns       // all go to one host
	c := &Client{base: base, key: accessKey, timeout: DefaultTimeout, retry: Retry{}.withDefaults(), http: &http.Client{Transport: transport}}
	for _, o := range opts {
		o(c)
	}
	if c.http.CheckRedirect == nil {
		// A POST that is redirected becomes a GET, whose answer would be read as a success.
		c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return c, nil
}

// ActingFor returns a Client whose calls act for a customer, for operators. The access key has to have
// the scope admin. Calls that cannot act for another customer than the key's fail with the code
// invalid_request.
func (c *Client) ActingFor(customerID string) *Client {
	other := *c
	other.actsFor = customerID
	return &other
}

// Format keeps the access key out of logs for every verb.
func (c *Client) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "postrider client of "+c.base.String()) // fmt takes no error
}
