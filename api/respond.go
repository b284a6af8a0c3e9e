package api

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/postrider/postrider/internal/spool"
)

// responder writes answers: JSON, contents of files and messages, and problems (problem.go).
type responder struct{ log *slog.Logger }

// made is an answer until it has been sent: in memory up to inMemory, else in a file.
type made struct {
	pool  *spool.Pool
	owner string
	small []byte
	large *spool.Spool
}

func (r responder) newAnswer(c *gin.Context) *made {
	return &made{pool: budgetOf(c).spool, owner: shareOf(c)}
}

// maxAnswer bounds an answer; none comes near it.
const maxAnswer = 1 << 30

func (m *made) Write(p []byte) (int, error) {
	if m.large == nil && len(m.small)+len(p) <= inMemory {
		m.small = append(m.small, p...)
		return len(p), nil
	}
	if m.large == nil {
		m.large = m.pool.Spool(m.owner, maxAnswer)
		if _, err := m.large.Write(m.small); err != nil {
			return 0, err
		}
		m.small = nil
	}
	return m.large.Write(p)
}

// settle says that all is there.
func (m *made) settle() error {
	if m.large == nil {
		return nil
	}
	return m.large.Settle()
}

func (m *made) size() int64 {
	if m.large == nil {
		return int64(len(m.small))
	}
	return m.large.Size()
}

func (m *made) Close() error {
	if m.large == nil {
		return nil
	}
	return m.large.Close()
}

// sendBytes is what is in memory of an answer in a file, beside what the connection has.
const sendBytes = 8 << 10

// send lets all go that the answer was made of, and sends it at the client's pace.
func (r responder) send(c *gin.Context, status int, contentType string, m *made) {
	releaseAll(c)
	if m.large == nil {
		c.Data(status, contentType, m.small)
		return
	}
	c.Header("Content-Type", contentType)
	c.Header("Content-Length", strconv.FormatInt(m.size(), 10))
	c.Status(status)
	_, err := io.CopyBuffer(onlyWriter{c.Writer}, m.large.Reader(), make([]byte, sendBytes))
	if err != nil {
		// What is announced and does not come tells the client; the status is sent.
		r.log.WarnContext(c.Request.Context(), "http.interrupted", "route", c.FullPath(), "request_id", requestID(c), "error", err)
	}
}

// onlyWriter has no ReadFrom, which would take a buffer of its own.
type onlyWriter struct{ io.Writer }

func (r responder) closeAnswer(c *gin.Context, m *made) {
	if err := m.Close(); err != nil {
		r.log.WarnContext(c.Request.Context(), "http.interrupted", "route", c.FullPath(), "request_id", requestID(c), "error", err)
	}
}

// stream answers with what is read from Postgres or memory, at the client's pace.
func (r responder) stream(c *gin.Context, contentType string, size int64, content io.Reader) {
	m := r.newAnswer(c)
	defer r.closeAnswer(c, m)
	source := &incoming{from: content}
	_, err := io.CopyBuffer(onlyWriter{m}, source, make([]byte, sendBytes))
	if err == nil {
		err = m.settle()
	}
	switch {
	case source.err != nil:
		err = source.err
	case err != nil:
		err = noDisk(err)
	case m.size() != size:
		err = fmt.Errorf("read an answer: %d bytes, expected %d", m.size(), size)
	default:
		r.send(c, http.StatusOK, contentType, m)
		return
	}
	for _, name := range []string{"Content-Security-Policy", "Content-Disposition"} { // they are the content's
		c.Writer.Header().Del(name)
	}
	r.problem(c, err)
}

// answer writes JSON.
func (r responder) answer(c *gin.Context, status int, body any) {
	m := r.newAnswer(c)
	defer func() { r.closeAnswer(c, m) }()
	err := encode(m, body)
	if err == nil {
		err = m.settle()
	}
	if err != nil {
		if m.large == nil {
			r.problem(c, fmt.Errorf("encode answer: %w", err))
			return
		}
		if c.Request.Method == http.MethodGet {
			r.problem(c, noDisk(err))
			return
		}
		// What was asked for is done, and is not to be asked for again: the answer is
		// as in a list, with the beginning of the texts.
		r.log.ErrorContext(c.Request.Context(), "http.shortened", "request_id", requestID(c), "route", c.FullPath(), "error", err)
		r.closeAnswer(c, m)
		m = r.newAnswer(c)
		m.small, err = encoded(shortened(body))
		if err != nil {
			r.problem(c, fmt.Errorf("encode answer: %w", err))
			return
		}
	}
	r.send(c, status, "application/json; charset=utf-8", m)
}

// shortened is an answer without most of what makes it large.
func shortened(body any) any {
	one, is := body.(singleJSON)
	if !is {
		return body
	}
	one.Content, one.ContentTruncated = beginning(one.Content), true
	one.ContentHTML = beginning(one.ContentHTML)
	one.ContentCalendar = nil
	return one
}

// listedBytes is how much of a text a list has.
const listedBytes = 4 << 10

func beginning(text string) string { return text[:whole(text, listedBytes)] }

// whole is the last boundary between characters in the first n bytes of a text.
func whole(text string, n int) int {
	if n >= len(text) {
		return len(text)
	}
	for at := n; at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(text[at]) {
			return at
		}
	}
	return n // it is no UTF-8
}

// encode writes JSON as encoded has it. The texts of an e-mail are written in pieces: an
// encoder has a whole text in memory, and a buffer that grows has it twice.
func encode(w io.Writer, body any) error {
	one, is := body.(singleJSON)
	if !is || len(one.Content)+len(one.ContentHTML) <= inMemory {
		return json.MarshalWrite(w, body, asV1)
	}
	// No text has a NUL.
	texts := []struct{ mark, text string }{{"\x00content", one.Content}, {"\x00html", one.ContentHTML}}
	one.Content, one.ContentHTML = texts[0].mark, texts[1].mark
	rest, err := encoded(one)
	if err != nil {
		return err
	}
	for _, t := range texts {
		mark, err := jsontext.AppendQuote(nil, t.mark)
		if err != nil {
			return err
		}
		before, after, found := bytes.Cut(rest, mark)
		if !found {
			return fmt.Errorf("%q is not in the answer", t.mark)
		}
		if _, err := w.Write(before); err != nil {
			return err
		}
		if err := quote(w, t.text); err != nil {
			return err
		}
		rest = after
	}
	_, err = w.Write(rest)
	return err
}

// quote writes a JSON string in pieces.
func quote(w io.Writer, text string) error {
	if _, err := io.WriteString(w, `"`); err != nil {
		return err
	}
	var piece []byte
	for text != "" {
		n := whole(text, 16<<10)
		var err error
		if piece, err = jsontext.AppendQuote(piece[:0], text[:n]); err != nil {
			return err
		}
		if _, err := w.Write(piece[1 : len(piece)-1]); err != nil {
			return err
		}
		text = text[n:]
	}
	_, err := io.WriteString(w, `"`)
	return err
}

var asV1 = json.JoinOptions(jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))

// encoded is JSON as encoding/json writes it, but for what it escapes for HTML and
// JavaScript: HTML would be five times as large, and no text is larger than it was in the
// request that brought it.
func encoded(body any) ([]byte, error) {
	var buf bytes.Buffer
	err := json.MarshalWrite(&buf, body, asV1)
	return buf.Bytes(), err
}
