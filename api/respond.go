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

// responder writes answers: JSON, the content of files and messages, and problems (problem.go).
type responder struct {
	log      *slog.Logger
	refusals *unavailable
}

// answerBuffer holds an answer until it is sent: up to maxInMemory bytes in memory, more in a file.
type answerBuffer struct {
	pool  *spool.Pool
	owner string
	small []byte
	large *spool.Spool
}

func (r responder) newAnswer(c *gin.Context) *answerBuffer {
	return &answerBuffer{pool: budgetOf(c).spool, owner: ownerOf(c)}
}

// maxAnswer limits an answer, in bytes. It is far above the largest message.
const maxAnswer = 1 << 30

func (m *answerBuffer) Write(p []byte) (int, error) {
	if m.large == nil && len(m.small)+len(p) <= maxInMemory {
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

// settle ends writing. The answer can be read afterwards.
func (m *answerBuffer) settle() error {
	if m.large == nil {
		return nil
	}
	return m.large.Settle()
}

func (m *answerBuffer) size() int64 {
	if m.large == nil {
		return int64(len(m.small))
	}
	return m.large.Size()
}

// reader reads the answer from its beginning, after settle.
func (m *answerBuffer) reader() io.Reader {
	if m.large == nil {
		return bytes.NewReader(m.small)
	}
	return m.large.Reader()
}

func (m *answerBuffer) Close() error {
	if m.large == nil {
		return nil
	}
	return m.large.Close()
}

// sendBytes is the buffer in which an answer is copied from its file to the connection.
const sendBytes = 8 << 10

// send releases what the request has reserved, then sends the answer as fast as the client reads.
func (r responder) send(c *gin.Context, status int, contentType string, m *answerBuffer) {
	releaseAll(c)
	if m.large == nil {
		c.Data(status, contentType, m.small)
		return
	}
	c.Header("Content-Type", contentType)
	c.Header("Content-Length", strconv.FormatInt(m.size(), 10))
	c.Status(status)
	_, err := io.CopyBuffer(onlyWriter{c.Writer}, m.reader(), make([]byte, sendBytes))
	if err != nil {
		// The status is already sent. The client sees that Content-Length bytes did not arrive.
		r.log.WarnContext(c.Request.Context(), "http.interrupted", "route", c.FullPath(), "request_id", requestID(c), "error", err)
	}
}

// onlyWriter hides the ReadFrom method of a writer, which allocates a buffer of its own.
type onlyWriter struct{ io.Writer }

func (r responder) closeAnswer(c *gin.Context, m *answerBuffer) {
	if err := m.Close(); err != nil {
		r.log.WarnContext(c.Request.Context(), "http.interrupted", "route", c.FullPath(), "request_id", requestID(c), "error", err)
	}
}

// stream answers with size bytes of content, which is in memory or is read from Postgres. The
// content is read to its end before the client receives the first byte.
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
	for _, name := range []string{"Content-Security-Policy", "Content-Disposition"} { // set for the content
		c.Writer.Header().Del(name)
	}
	r.problem(c, err)
}

// answer answers with body as JSON. If there is no disk space for the answer of a request that
// changed something, it answers with shortened texts: a 503 would make the client repeat the
// request.
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

// shortened returns the answer with its texts cut to listedBytes, as in a list.
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

// listedBytes is how many bytes of a text a list shows.
const listedBytes = 4 << 10

func beginning(text string) string { return text[:runeBoundary(text, listedBytes)] }

// runeBoundary returns the end of the last whole character in the first n bytes of a text.
func runeBoundary(text string, n int) int {
	if n >= len(text) {
		return len(text)
	}
	for at := n; at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(text[at]) {
			return at
		}
	}
	return n // the text is not UTF-8
}

// encode writes body as encoded does, but the texts of an e-mail in pieces. An encoder would hold a
// whole text in memory, and twice in its growing buffer.
func encode(w io.Writer, body any) error {
	one, is := body.(singleJSON)
	if !is || len(one.Content)+len(one.ContentHTML) <= maxInMemory {
		return json.MarshalWrite(w, body, asV1)
	}
	// Texts contain no NUL, so a mark with a NUL is unique.
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
			return fmt.Errorf("find the mark %q in the answer", t.mark)
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

// quote writes text as a JSON string, 16 KiB at a time.
func quote(w io.Writer, text string) error {
	if _, err := io.WriteString(w, `"`); err != nil {
		return err
	}
	var piece []byte
	for text != "" {
		n := runeBoundary(text, 16<<10)
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

// encoded returns body as encoding/json writes it, without its escapes for HTML and JavaScript.
// They make HTML up to five times as large; without them no text is larger than in the request
// that it came in.
func encoded(body any) ([]byte, error) {
	var buf bytes.Buffer
	err := json.MarshalWrite(&buf, body, asV1)
	return buf.Bytes(), err
}
