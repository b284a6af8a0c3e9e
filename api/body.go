package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// maxSmallBody bounds every request body but a message's.
const maxSmallBody = 64 << 10

// readBody reads a JSON body of at most limit bytes. One that announces more is refused
// before it is read. While its client sends it, one of more than inMemory is in a file; it
// is in memory when it is whole, and there is room for times its size, for itself and what is
// made of it, which the request has until its answer is made.
func readBody(c *gin.Context, limit, times int64) (body []byte, err error) {
	if ct := c.ContentType(); ct != "" && ct != "application/json" && !strings.HasSuffix(ct, "+json") {
		return nil, email.Fail(email.CodeUnsupportedMediaType, "send the body as application/json")
	}
	if e := c.GetHeader("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, email.Fail(email.CodeUnsupportedMediaType, "send the body as it is, without a Content-Encoding")
	}
	if c.Request.ContentLength > limit {
		return nil, tooLarge(c.Request.ContentLength, limit)
	}
	n := c.Request.ContentLength
	if n < 0 || n > inMemory {
		n = inMemory
	}
	if err := hold(c, budgetOf(c).bodies, n); err != nil {
		return nil, err
	}
	source := &incoming{from: http.MaxBytesReader(c.Writer, c.Request.Body, limit)}
	start := make([]byte, n+1)
	switch n, err := io.ReadFull(source, start); {
	case source.err != nil:
		return nil, bodyFailure(source.err)
	case err != nil: // the end
		if times > 0 {
			err = hold(c, budgetOf(c).work, times*int64(n))
			return start[:n], err
		}
		return start[:n], nil
	}
	defer release(c, budgetOf(c).bodies)
	collected := budgetOf(c).spool.Spool(shareOf(c), limit)
	defer func() { err = errors.Join(err, collected.Close()) }()
	_, err = collected.Write(start)
	if start = nil; err == nil {
		_, err = collected.ReadFrom(source)
	}
	switch {
	case source.err != nil:
		return nil, bodyFailure(source.err)
	case err != nil:
		return nil, noDisk(err)
	}
	if err := hold(c, budgetOf(c).work, times*collected.Size()); err != nil {
		return nil, err
	}
	if body, err = collected.Bytes(); err != nil {
		return nil, noDisk(err)
	}
	return body, nil
}

// incoming notes what its source ended with, unless that is its end.
type incoming struct {
	from io.Reader
	err  error
}

func (i *incoming) Read(p []byte) (int, error) {
	n, err := i.from.Read(p)
	if err != nil && err != io.EOF { // not one that is wrapped: that body broke off
		i.err = err
	}
	return n, err
}

func bodyFailure(err error) error {
	if big, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(0, big.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return email.Fail(email.CodeMalformedJSON, "the body came too slowly: it must begin within 10 seconds, come at 8 KiB a second or more, and be whole in 5 minutes")
	}
	return email.Fail(email.CodeMalformedJSON, "the body did not arrive whole; send it again")
}

// noDisk is the answer where a file cannot be written. The log has the reason.
func noDisk(err error) error {
	f := email.Fail(email.CodeUnavailable, "there is no room for a request or an answer of this size at the moment; try again")
	f.Err = err
	return f
}

func tooLarge(size, limit int64) *email.Failure {
	if size > 0 {
		return email.Fail(email.CodeTooLarge, "the request body has %d bytes, the limit is %d: send large files as links", size, limit)
	}
	return email.Fail(email.CodeTooLarge, "the request body is larger than %d bytes: send large files as links", limit)
}
