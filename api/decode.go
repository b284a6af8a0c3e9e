package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
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

// decode reads a small JSON object strictly: unknown and duplicate members and
// wrong types are refused with a pointer. What the request changes by it may wait for a row's
// lock: it has a connection's share afterwards.
func decode(c *gin.Context, into any) error {
	body, err := readBody(c, maxSmallBody, 0)
	if err != nil {
		return err
	}
	if err := intake.Unmarshal(body, into); err != nil {
		return err
	}
	if err := noNUL(body); err != nil {
		return err
	}
	return holdChange(c)
}

// choices refuses a list of more than there is to choose from: some would be named twice.
func choices(pointer string, given, known int) error {
	if given > known {
		return invalid(pointer, "too_many", fmt.Sprintf("there are only %d to choose from: name each once", known))
	}
	return nil
}

// noNUL refuses texts that Postgres takes for none. The body is JSON.
func noNUL(body []byte) error {
	if !bytes.Contains(body, []byte(`\u0000`)) {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.ReadToken()
		if err != nil {
			return nil // the end
		}
		if t.Kind() == '"' && strings.Contains(t.String(), "\x00") {
			return invalid(string(d.StackPointer()), "control_character", "remove the NUL")
		}
	}
}

// pathID reads a UUID from the path. Anything else names nothing we have.
func pathID(c *gin.Context, name, what string) (string, error) {
	id, err := uuid.Parse(c.Param(name))
	if err != nil {
		return "", email.Fail(email.CodeNotFound, "there is no such %s", what)
	}
	return id.String(), nil
}

// Page sizes of lists, as in the seed API: larger ones are clamped.
const maxPageSize = 100

// pageSize reads page_size; a larger one is clamped.
func pageSize(c *gin.Context) (int, error) {
	raw := c.Query("page_size")
	if raw == "" {
		return maxPageSize, nil
	}
	n, err := parsePositive(raw)
	if err != nil {
		return 0, invalid("page_size", "invalid", "give a whole number from 1 to 100")
	}
	return min(n, maxPageSize), nil
}

// pageOf reads page_size and page_token.
func pageOf(c *gin.Context) (after email.Cursor, size int, err error) {
	if size, err = pageSize(c); err != nil {
		return after, 0, err
	}
	raw := c.Query("page_token")
	if raw == "" {
		return after, size, nil
	}
	bad := invalid("page_token", "invalid", "give the next_page_token of an earlier answer, or a time like 2025-03-14 19:04:01.160250")
	at, id, tied := strings.Cut(raw, ",")
	if after.At, err = time.Parse("2006-01-02 15:04:05.999999", at); err != nil || !storableTime(after.At) {
		return after, 0, bad
	}
	if tied {
		u, err := uuid.Parse(id)
		if err != nil {
			return after, 0, bad
		}
		after.ID = u.String()
	}
	return after, size, nil
}

// pageToken writes a cursor; nil is the end of the list.
func pageToken(next *email.Cursor) string {
	switch {
	case next == nil:
		return ""
	case next.ID == "":
		return next.At.UTC().Format(email.TimestampLayout)
	}
	return next.At.UTC().Format(email.TimestampLayout) + "," + next.ID
}

func parsePositive(s string) (int, error) {
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' || n > 1_000_000 {
			return 0, errors.New("not a positive number")
		}
		n = n*10 + int(r-'0')
	}
	if n == 0 {
		return 0, errors.New("not a positive number")
	}
	return n, nil
}

// listAnswer is a page of a list.
type listAnswer[T any] struct {
	Result        []T    `json:"result"`
	NextPageToken string `json:"next_page_token"`
}

// listed makes a page of what was read, each thing as its answer.
func listed[T, A any](read []T, next *email.Cursor, answer func(T) A) listAnswer[A] {
	out := listAnswer[A]{Result: make([]A, len(read)), NextPageToken: pageToken(next)}
	for i, r := range read {
		out.Result[i] = answer(r)
	}
	return out
}
