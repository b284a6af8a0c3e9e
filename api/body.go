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

// maxSmallBody limits the body of each request that holds no message, in bytes.
const maxSmallBody = 64 << 10

// maxLoginBody limits the body of a login, in bytes. A client without a credential may announce so
// much, from any number of addresses, and keep that part of the budget while it sends slowly. The
// longest password has 1024 bytes, in JSON at most 6144.
const maxLoginBody = 8 << 10

// readBody reads a JSON body of at most limit bytes. It refuses a body with a larger
// Content-Length before it reads any of it. While the client sends it, a body of more than
// maxInMemory bytes is in a file. When the body is complete, readBody reserves times its size, for
// the body and what is made of it. Then it reads the body into memory. The reservation lasts until
// the request is answered.
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
	if n < 0 || n > maxInMemory {
		n = maxInMemory
	}
	if err := reserve(c, budgetOf(c).bodies, n); err != nil {
		return nil, err
	}
	source := &incoming{from: http.MaxBytesReader(c.Writer, c.Request.Body, limit)}
	start := make([]byte, n+1)
	switch n, err := io.ReadFull(source, start); {
	case source.err != nil:
		return nil, bodyFailure(source.err)
	case err != nil: // io.EOF or io.ErrUnexpectedEOF: the body is complete
		if times > 0 {
			err = reserve(c, budgetOf(c).work, times*int64(n))
			return start[:n], err
		}
		return start[:n], nil
	}
	defer release(c, budgetOf(c).bodies)
	collected := budgetOf(c).spool.Spool(ownerOf(c), limit)
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
	if err := reserve(c, budgetOf(c).work, times*collected.Size()); err != nil {
		return nil, err
	}
	if body, err = collected.Bytes(); err != nil {
		return nil, noDisk(err)
	}
	return body, nil
}

// incoming is a reader that keeps the error of its source, unless it is io.EOF. So the caller of
// a copy can tell errors of the source from errors of the destination.
type incoming struct {
	from io.Reader
	err  error
}

func (i *incoming) Read(p []byte) (int, error) {
	n, err := i.from.Read(p)
	if err != nil && err != io.EOF { // a wrapped io.EOF means that the body is incomplete
		i.err = err
	}
	return n, err
}

// bodyFailure returns the failure to answer with for an error of reading a body.
func bodyFailure(err error) error {
	if big, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(0, big.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return email.Fail(email.CodeMalformedJSON, "the body arrived too slowly: it must begin within 10 seconds, arrive at 8 KiB a second or more, and be complete within 5 minutes")
	}
	return email.Fail(email.CodeMalformedJSON, "the body is incomplete; send it again")
}

const noDiskDetail = "there is no disk space for a request or an answer of this size at the moment; try again"

// noDisk returns the failure to answer with if a spool file cannot be written. err is logged.
func noDisk(err error) error {
	f := email.Fail(email.CodeUnavailable, noDiskDetail)
	f.Err = err
	return f
}

// tooLarge refuses a body of size bytes; 0 if the size is not known.
func tooLarge(size, limit int64) *email.Failure {
	if size > 0 {
		return email.Fail(email.CodeTooLarge, "the request body has %d bytes, the limit is %d: send large files as links", size, limit)
	}
	return email.Fail(email.CodeTooLarge, "the request body is larger than %d bytes: send large files as links", limit)
}
