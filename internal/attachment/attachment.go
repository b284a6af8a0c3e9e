// Package attachment opens what an attachment refers to. There is one file per
// kind of reference; Resolvers picks the one that an attachment needs.
//
// Errors come in three kinds. An *email.Failure is for good: the thing does not
// exist, is not the customer's, is too large, is not sent by mail, or its kind is
// not set up here. One with email.CodeUnavailable may pass, and the customer may
// read why. Any other may pass, too, and its text is for logs.
package attachment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/postrider/postrider/email"
)

// Content is what a reference stands for.
type Content struct {
	// Filename is safe to put into a header: no path, no control characters.
	Filename string
	// Type is a media type (RFC 2046).
	Type string
	// Head are the first bytes, enough to tell a program.
	Head []byte
	// Body is all of it, with Head. Its reader closes it.
	Body io.ReadCloser
}

// Resolver opens attachments of one kind of reference, up to a size. The customer
// is the one the e-mail belongs to: a source must not give out another's content.
type Resolver func(ctx context.Context, customerID string, a email.Attachment, maxBytes int64) (Content, error)

// Resolvers open attachments of all kinds.
type Resolvers struct {
	// ByType holds a Resolver for each kind of reference that is set up.
	ByType map[email.ReferenceType]Resolver
	// Blocked are the files that are not sent. Only the fetched answer shows the name and
	// the type of a source's content.
	Blocked email.Blocklist
}

// Resolve opens an attachment and returns it with the name and type that it has at
// its source, unless it has its own. The caller closes the body; its errors are of
// the same kinds, and one for good says that it goes past maxBytes. It may be
// repeated.
func (rs Resolvers) Resolve(ctx context.Context, customerID string, a email.Attachment, maxBytes int64) (email.Attachment, io.ReadCloser, error) {
	resolve, ok := rs.ByType[a.ReferenceType]
	if !ok {
		return a, nil, email.Fail(email.CodeInvalidRequest, "attachments of type %q are not set up on this installation", a.ReferenceType)
	}
	c, err := resolve(ctx, customerID, a, maxBytes)
	if err != nil {
		return a, nil, err
	}
	if a.Filename == "" {
		a.Filename = c.Filename
	}
	if a.Type == "" {
		a.Type = c.Type
	}
	for _, why := range []string{rs.Blocked.Name(a.Filename), rs.Blocked.Type(c.Type), rs.Blocked.Content(c.Head)} {
		if why != "" {
			_ = c.Body.Close() // what is left of it is of no use, and so is an error in closing it
			return a, nil, email.Fail(email.CodeBlocked, "%s", why)
		}
	}
	return a, c.Body, nil
}

// sniffBytes tell a type.
const sniffBytes = 512

// answer is what a server gives out of an attachment.
type answer struct {
	// what it is of, in words.
	what   string
	header http.Header
	// length is -1 if the server did not say.
	length int64
	body   io.ReadCloser
}

// content names and bounds an answer's body. name makes one where the server has
// none. Where it fails, the body is still the caller's.
func (r answer) content(maxBytes int64, name func(mediaType string) string) (Content, error) {
	if r.length > maxBytes {
		return Content{}, email.Fail(email.CodeTooLarge, "%s: %d bytes, limit %d, which is what the message's limit leaves", r.what, r.length, maxBytes)
	}
	buffered := bufio.NewReaderSize(&capped{r: r.body, what: r.what, limit: maxBytes}, sniffBytes)
	head, err := buffered.Peek(sniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return Content{}, fmt.Errorf("read %s: %w", r.what, err)
	}
	c := Content{
		Filename: nameOf(r.header.Get("Content-Disposition")),
		Type:     typeOf(r.header.Get("Content-Type"), head),
		Head:     append([]byte(nil), head...), // reading on overwrites the buffer
		Body: struct {
			io.Reader
			io.Closer
		}{buffered, r.body},
	}
	if c.Filename == "" {
		c.Filename = name(c.Type)
	}
	return c, nil
}

// capped reads at most limit bytes and fails on the next.
type capped struct {
	r     io.Reader
	what  string
	limit int64
	read  int64
}

func (c *capped) Read(p []byte) (int, error) {
	if over := c.limit - c.read + 1; int64(len(p)) > over {
		p = p[:over]
	}
	n, err := c.r.Read(p)
	c.read += int64(n)
	if c.read > c.limit {
		return n - int(c.read-c.limit), email.Fail(email.CodeTooLarge, "%s has more than %d bytes, which is what the message's limit leaves", c.what, c.limit)
	}
	return n, err
}
