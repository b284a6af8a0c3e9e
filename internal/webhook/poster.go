package webhook

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/safehttp"
)

const (
	// DefaultTimeout bounds an attempt for which no other time is given.
	DefaultTimeout = 15 * time.Second

	maxAnswerBytes  = 4 << 10
	maxExcerptBytes = 1 << 10
)

// Poster makes webhook calls. It is safe for concurrent use.
type Poster struct {
	client    *safehttp.Client
	userAgent string
	now       func() time.Time
}

// NewPoster makes a Poster that calls itself Postrider/version. The client's
// own timeout bounds that of an attempt.
func NewPoster(client *safehttp.Client, version string) *Poster {
	return &Poster{client: client, userAgent: "Postrider/" + version, now: time.Now}
}

// WithClock is a Poster that takes the time of a call from somewhere else.
func (p *Poster) WithClock(now func() time.Time) *Poster {
	return &Poster{client: p.client, userAgent: p.userAgent, now: now}
}

// Post makes one attempt. A timeout of 0 means DefaultTimeout. It may be
// repeated: receivers know a repetition by its webhook-id. The Result holds every
// failure.
func (p *Poster) Post(ctx context.Context, due endpoint.Due, timeout time.Duration) endpoint.Result {
	start := time.Now()
	res := p.attempt(ctx, due, cmp.Or(timeout, DefaultTimeout), p.now())
	res.Duration = time.Since(start)
	return res
}

func (p *Poster) attempt(ctx context.Context, due endpoint.Due, timeout time.Duration, now time.Time) endpoint.Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := p.request(ctx, due, now)
	if err != nil {
		return endpoint.Result{Verdict: endpoint.VerdictRetry, Error: err.Error()}
	}
	resp, err := p.client.Do(ctx, req, maxAnswerBytes)
	res := endpoint.Result{Status: resp.Status}
	res.Verdict, res.RetryAfter = endpoint.Classify(resp.Status, resp.Header.Get("Retry-After"), now)
	if !resp.Private {
		res.BodyExcerpt = plaintext.Storable(string(resp.Body), maxExcerptBytes)
	}
	switch {
	case res.Verdict == endpoint.VerdictDelivered:
		// An answer that breaks off behind its 2xx is still one.
	case resp.Status != 0:
		res.Error = fmt.Sprintf("answered %d %s", resp.Status, http.StatusText(resp.Status))
	case err != nil:
		res.Error = err.Error()
	}
	return res
}

// request builds the call. Its errors do not repeat the URL.
func (p *Poster) request(ctx context.Context, due endpoint.Due, now time.Time) (*http.Request, error) {
	d := due.Delivery
	signature := Sign(d.ID, now, d.Body, due.Endpoint.LiveSecrets(now)...)
	if signature == "" {
		return nil, fmt.Errorf("endpoint %s has no secret to sign with", due.Endpoint.ID)
	}
	if err := p.client.CheckURL(due.Endpoint.URL); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(due.Endpoint.Method, http.MethodPost), due.Endpoint.URL, bytes.NewReader(d.Body))
	if err != nil { // the URL has been judged, so it is the method
		return nil, fmt.Errorf("endpoint %s: method %q", due.Endpoint.ID, due.Endpoint.Method)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.userAgent)
	req.Header.Set(HeaderID, d.ID)
	req.Header.Set(HeaderTimestamp, timestamp(now))
	req.Header.Set(HeaderSignature, signature)
	req.Header.Set(HeaderAttempt, strconv.Itoa(d.Attempts+1))
	return req, nil
}
