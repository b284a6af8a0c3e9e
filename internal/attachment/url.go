package attachment

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/safehttp"
)

// URLTimeout bounds one fetch, to the last byte: 25 MiB at 2 Mbit/s. The client
// that URLs gets should have it.
const URLTimeout = 2 * time.Minute

// URLs fetches what customers give addresses of, as an anonymous stranger would:
// without credentials, and from public addresses only.
type URLs struct {
	client *safehttp.Client
	// own are the clients of customers to whom the operator opened private networks.
	own map[string]*safehttp.Client
	// userAgent tells a server's operator who is asking.
	userAgent string
}

// NewURLs makes a URLs. The client decides what may be called, and how long it may take.
// own has the clients of customers, by id, to whom the operator opened private networks.
func NewURLs(client *safehttp.Client, own map[string]*safehttp.Client, version string) *URLs {
	return &URLs{client: client, own: own, userAgent: "postrider/" + version}
}

// Check refuses a URL of a customer that has a shape which cannot be fetched, or names an
// address that may not be reached. It asks no name server.
func (u *URLs) Check(customerID, raw string) error { return u.of(customerID).CheckURL(raw) }

func (u *URLs) of(customerID string) *safehttp.Client {
	if own, ok := u.own[customerID]; ok {
		return own
	}
	return u.client
}

// Resolve opens what is at an attachment's URL.
func (u *URLs) Resolve(ctx context.Context, customerID string, a email.Attachment, maxBytes int64) (Content, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, nil)
	if err != nil { // its text holds the URL, which may hold a key
		return Content{}, email.Fail(email.CodeInvalidRequest, "the attachment's URL is not one")
	}
	req.Header.Set("User-Agent", u.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := u.of(customerID).Open(ctx, req)
	if err != nil {
		return Content{}, uncalled(err)
	}
	c, err := fetched(resp, req.URL, maxBytes)
	if err != nil {
		_ = resp.Body.Close() // what is left of the answer is of no use, and so is an error in closing it
		return Content{}, err
	}
	return c, nil
}

// uncalled words why no answer came. The client's own errors may be shown.
func uncalled(err error) error {
	f := email.Fail(email.CodeUnavailable, "the attachment could not be fetched: %s", err)
	if _, ok := errors.AsType[*safehttp.URLError](err); ok {
		f.Code = email.CodeInvalidRequest
	}
	if _, ok := errors.AsType[*safehttp.BlockedError](err); ok {
		f.Code = email.CodeForbidden
	}
	f.Err = errors.Unwrap(err)
	return f
}

func fetched(resp safehttp.Stream, from *url.URL, maxBytes int64) (Content, error) {
	if err := judgeURL(resp.Status, from.Host); err != nil {
		return Content{}, err
	}
	// The request did not ask for it, and mail programs would not decode it.
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return Content{}, email.Fail(email.CodeInvalidRequest, "%s sent the attachment compressed, although it was asked not to (Content-Encoding)", from.Host)
	}
	a := answer{what: "the attachment from " + from.Host, header: resp.Header, length: resp.Length, body: passing{resp.Body}}
	return a.content(maxBytes, func(mediaType string) string {
		name := safeName(path.Base(from.Path))
		switch {
		case name == "":
			return "attachment" + extension(mediaType)
		case path.Ext(name) == "":
			return name + extension(mediaType)
		}
		return name
	})
}

// passing marks what goes wrong in the middle of an answer as what it is: the
// connection may hold the next time.
type passing struct{ io.ReadCloser }

func (p passing) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = uncalled(err)
	}
	return n, err
}

// judgeURL tells what will not change from what may.
func judgeURL(status int, host string) error {
	fail := func(code email.Code, why string) error {
		return email.Fail(code, "the attachment could not be fetched: %s answered %d%s", host, status, why)
	}
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return fail(email.CodeNotFound, ", there is nothing at that URL")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fail(email.CodeForbidden, ", it may not be read without a credential: give a URL that holds one, or upload the file")
	case status >= 300 && status <= 399:
		return fail(email.CodeInvalidRequest, ", a redirect, which is not followed: give the URL that it leads to")
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
	case status >= 400 && status <= 499:
		return fail(email.CodeInvalidRequest, "")
	}
	return fail(email.CodeUnavailable, "") // 202 while it is being made, 429, 5xx
}
