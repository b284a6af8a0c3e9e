package attachment

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
)

const (
	// DefaultRecordingTimeout bounds one fetch, to the last byte.
	DefaultRecordingTimeout = 2 * time.Minute

	recordingDialTimeout   = 5 * time.Second
	recordingHeaderTimeout = 30 * time.Second
)

// RecordingOptions say where call recordings are.
type RecordingOptions struct {
	// URL is POSTRIDER_RECORDING_URL: a template in which {id} and
	// {customer_id} are replaced, percent-encoded. Both are required.
	URL string
	// Token is POSTRIDER_RECORDING_TOKEN, sent as a bearer token; empty means none.
	Token string
	// Timeout bounds one fetch. Zero means DefaultRecordingTimeout.
	Timeout time.Duration
}

// Recordings fetches call recordings from the operator's own server. That
// server is trusted: it may have a private address, answer over http, and
// redirect, as to a signed URL of an object store; the token goes to no other
// host than its own.
type Recordings struct {
	opts   RecordingOptions
	client *http.Client
}

// NewRecordings checks the template.
func NewRecordings(opts RecordingOptions) (*Recordings, error) {
	u, err := url.Parse(opts.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("the recording URL has to be an http or https URL with its placeholders behind the host")
	case !strings.Contains(opts.URL, "{id}"):
		return nil, errors.New("the recording URL has to contain {id}")
	case !strings.Contains(opts.URL, "{customer_id}"):
		return nil, errors.New("the recording URL has to contain {customer_id}: without it, the server cannot tell whose recording is asked for, and each customer could attach all others'")
	case u.Fragment != "":
		return nil, errors.New("the recording URL has a fragment (#…), which is never sent")
	case strings.ContainsAny(opts.Token, "\r\n"):
		return nil, errors.New("the recording token has a line break")
	case u.User != nil:
		return nil, errors.New("the recording URL holds a user name or password; use a recording token")
	}
	if opts.Timeout == 0 {
		opts.Timeout = DefaultRecordingTimeout
	}
	return &Recordings{opts: opts, client: &http.Client{
		Timeout: opts.Timeout,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: recordingDialTimeout}).DialContext,
			TLSHandshakeTimeout:   recordingDialTimeout,
			ResponseHeaderTimeout: recordingHeaderTimeout,
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       time.Minute,
		},
	}}, nil
}

// Resolve opens a recording of a customer.
func (r *Recordings) Resolve(ctx context.Context, customerID string, a email.Attachment, maxBytes int64) (Content, error) {
	id := a.ReferenceID
	if dots(id) || dots(customerID) { // empty, or a step up the path
		return Content{}, email.Fail(email.CodeNotFound, "the attachment names no recording")
	}
	target := strings.NewReplacer("{id}", escape(id), "{customer_id}", escape(customerID)).Replace(r.opts.URL)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil { // its text holds the URL
		return Content{}, email.Fail(email.CodeNotFound, "the attachment names no recording")
	}
	if r.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.opts.Token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL, which may hold a key
		}
		return Content{}, fmt.Errorf("fetch recording %s: %w", id, err)
	}
	c, err := r.content(resp, id, maxBytes)
	if err != nil {
		// The rest of the answer is of no use, and so is an error in closing it.
		_ = resp.Body.Close()
		return Content{}, err
	}
	return c, nil
}

func (r *Recordings) content(resp *http.Response, id string, maxBytes int64) (Content, error) {
	if err := judge(resp.StatusCode, id); err != nil {
		return Content{}, err
	}
	a := answer{what: "recording " + id, header: resp.Header, length: resp.ContentLength, body: resp.Body}
	return a.content(maxBytes, func(mediaType string) string {
		return safeName("recording-"+strings.NewReplacer("/", "_", `\`, "_").Replace(id)) + extension(mediaType)
	})
}

// judge tells what will not change from what may.
func judge(status int, id string) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return email.Fail(email.CodeNotFound, "recording %s does not exist, or is not this customer's", id)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return email.Fail(email.CodeForbidden, "the recording service refused recording %s with %d: it is not this customer's, or the installation may not read it", id, status)
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
	case status >= 400 && status <= 499:
		return email.Fail(email.CodeInvalidRequest, "the recording service refused recording %s with %d", id, status)
	}
	// 202 while it is being written, 429, 5xx.
	return fmt.Errorf("fetch recording %s: the recording service answered %d", id, status)
}

// escape encodes all but RFC 3986's unreserved characters, which is right in a
// path and in a query.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// dots reports whether nothing is left of s but full stops: as an element of a
// path it would lead elsewhere.
func dots(s string) bool { return strings.Trim(s, ".") == "" }
