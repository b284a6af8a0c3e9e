// Package attachment fetches what an attachment refers to. There is one file
// per kind of reference; Resolvers picks the one that an attachment needs.
//
// Errors come in two kinds. An *email.Failure is for good: the thing does not
// exist, is not the customer's, is too large, or its kind is not set up here.
// Any other error may pass; the caller tries again.
package attachment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/postrider/postrider/email"
)

// Content is what a reference stands for. Its reader closes Body.
type Content struct {
	// Filename is safe to put into a header: no path, no control characters.
	Filename string
	// Type is a media type (RFC 2046).
	Type string
	// Body fails with an *email.Failure where it goes past the size limit.
	Body io.ReadCloser
	// Size in bytes, -1 if the source did not say.
	Size int64
}

// Resolver fetches attachments of one kind of reference. The customer is the
// one the e-mail belongs to: a source must not give out another's content.
type Resolver func(ctx context.Context, customerID string, a email.Attachment) (Content, error)

// Resolvers holds a Resolver for each kind of reference that is set up.
type Resolvers map[email.ReferenceType]Resolver

// Resolve fetches an attachment whole and returns it with its content, size,
// digest, and the name and type that it has at its source. It may be repeated.
func (rs Resolvers) Resolve(ctx context.Context, customerID string, a email.Attachment) (email.Attachment, error) {
	resolve, ok := rs[a.ReferenceType]
	if !ok {
		return a, email.Fail(email.CodeInvalidRequest, "attachments of type %q are not set up on this installation", a.ReferenceType)
	}
	c, err := resolve(ctx, customerID, a)
	if err != nil {
		return a, err
	}
	var buf bytes.Buffer // its bytes are never nil after ReadFrom: an empty file is content
	buf.Grow(int(min(max(c.Size, 0), email.DefaultMaxMessageBytes)))
	_, err = buf.ReadFrom(c.Body)
	if err = errors.Join(err, c.Body.Close()); err != nil {
		return a, fmt.Errorf("read %s %s: %w", a.ReferenceType, a.ReferenceID, err)
	}
	sum := sha256.Sum256(buf.Bytes())
	a.Filename, a.Type = c.Filename, c.Type
	a.Content, a.Size, a.SHA256 = buf.Bytes(), int64(buf.Len()), hex.EncodeToString(sum[:])
	return a, nil
}

// capped reads at most limit bytes and fails on the next.
type capped struct {
	io.ReadCloser
	limit int64
	read  int64
}

func (c *capped) Read(p []byte) (int, error) {
	if over := c.limit - c.read + 1; int64(len(p)) > over {
		p = p[:over]
	}
	n, err := c.ReadCloser.Read(p)
	c.read += int64(n)
	if c.read > c.limit {
		return n - int(c.read-c.limit), email.Fail(email.CodeTooLarge, "the attachment has more than %d bytes, which is the limit", c.limit)
	}
	return n, err
}
