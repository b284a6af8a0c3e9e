// Package httpserver runs the HTTP ports of a process: it limits their connections, the size of
// headers, and how slowly clients may send and read. Clients that use up connections without
// progress lose theirs.
package httpserver

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Pace is the slowest that a client may send and read. The server closes slower connections, which
// frees the memory of their requests.
type Pace struct {
	// A body must begin to arrive within BodyGrace. Then it must arrive at BodyRate bytes per
	// second, counted from the first read, and be complete within BodyMax.
	BodyGrace time.Duration
	BodyRate  int64
	BodyMax   time.Duration
	// A client must read each AnswerPiece bytes of an answer within AnswerTime.
	AnswerPiece int
	AnswerTime  time.Duration
}

// defaultPace requires 64 kbit/s of a body and 52 kbit/s of a reader. A body of 35 MB must be
// complete in 5 minutes, which is 1 Mbit/s.
var defaultPace = Pace{BodyGrace: 10 * time.Second, BodyRate: 8 << 10, BodyMax: 5 * time.Minute, AnswerPiece: 128 << 10, AnswerTime: 20 * time.Second}

// Limits of a connection besides its Pace: a header must arrive within 10 s, and a connection is
// closed after 2 minutes without a request.
//
// A header, with the query, has at most 12 KiB: net/http accepts 4 KiB more than MaxHeaderBytes.
// Each connection may hold one before its request is authenticated, until the request is answered.
// MaxConnections of them fit a process of 512 MB.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 8 << 10
)

// New returns a server for h with the limits that a public port needs.
func New(h http.Handler) *http.Server { return NewPaced(h, defaultPace) }

// NewPaced is New with a given Pace.
func NewPaced(h http.Handler, p Pace) *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(h, w, r) }),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: p.BodyMax, WriteTimeout: p.BodyMax, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ConnContext: withConn, ConnState: trackState,
	}
}

func (p Pace) serve(h http.Handler, w http.ResponseWriter, r *http.Request) {
	conn := http.NewResponseController(w)
	body := &pacedBody{on: connOf(r), ReadCloser: r.Body, pace: p, conn: conn, request: r, ended: r.Body == http.NoBody}
	r.Trailer = nil // the names that the header announces
	if !body.ended {
		r.Body = body
	}
	answer := &pacedAnswer{ResponseWriter: w, pace: p, conn: conn, body: body}
	h.ServeHTTP(answer, r)
	nextHeader(r)
	// net/http now reads the rest of the body, and writes the rest of the answer.
	now := time.Now()
	if !body.ended {
		if body.on != nil {
			body.on.owner.begin(body.on, discarding)
		}
		grace := p.BodyGrace
		if answer.refused {
			grace = min(grace, refusedGrace)
		}
		_ = conn.SetReadDeadline(now.Add(grace)) // an error means that the connection is closed
	}
	_ = conn.SetWriteDeadline(now.Add(p.AnswerTime)) // likewise
}

// refusedGrace is how long the rest of a body may take after the request is refused.
const refusedGrace = time.Second

// pacedBody moves the connection's read deadline as bytes arrive. It drops the trailer of a chunked
// body, which no handler reads (RFC 9110 section 6.5.1): net/http makes a map of its 4 KiB, which
// is twenty times as large and stays as long as the request.
type pacedBody struct {
	io.ReadCloser
	pace    Pace
	conn    *http.ResponseController
	request *http.Request
	on      *trackedConn // nil if the listener is not LimitConnections'
	since   time.Time
	got     int64
	ended   bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	if b.since.IsZero() {
		b.since = time.Now()
	}
	allowed := min(b.pace.BodyGrace+time.Duration(b.got*int64(time.Second)/b.pace.BodyRate), b.pace.BodyMax)
	if err := b.conn.SetReadDeadline(b.since.Add(allowed)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := b.read(p)
	b.got += int64(n)
	if errors.Is(err, io.EOF) {
		// From now on net/http reads to notice a closed connection, and would take a deadline for
		// one.
		b.ended = true
		b.request.Trailer = nil
		if derr := b.conn.SetReadDeadline(time.Time{}); derr != nil && !errors.Is(derr, http.ErrNotSupported) {
			return n, derr
		}
	}
	return n, err
}

func (b *pacedBody) read(p []byte) (int, error) {
	if b.on == nil {
		return b.ReadCloser.Read(p)
	}
	before := b.on.owner.begin(b.on, readingBody)
	n, err := b.ReadCloser.Read(p)
	b.on.owner.end(b.on, n, before)
	return n, err
}

// pacedAnswer writes in pieces and moves the connection's write deadline with each. If a request is
// refused before its body is complete, it closes the connection after the answer. Otherwise
// net/http would wait for the body before it sends the answer.
type pacedAnswer struct {
	http.ResponseWriter
	pace    Pace
	conn    *http.ResponseController
	body    *pacedBody
	refused bool
}

// WriteHeader implements http.ResponseWriter.
func (a *pacedAnswer) WriteHeader(status int) {
	if status >= http.StatusBadRequest && !a.body.ended {
		a.refused = true
		a.Header().Set("Connection", "close")
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *pacedAnswer) Write(p []byte) (written int, err error) {
	for {
		piece := p[written:min(len(p), written+a.pace.AnswerPiece)]
		if err := a.conn.SetWriteDeadline(time.Now().Add(a.pace.AnswerTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return written, err
		}
		n, err := a.ResponseWriter.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Flush implements http.Flusher.
func (a *pacedAnswer) Flush() {
	_ = a.conn.SetWriteDeadline(time.Now().Add(a.pace.AnswerTime)) // the next Write returns the error
	_ = a.conn.Flush()                                             // likewise
}

// Unwrap is called by http.ResponseController.
func (a *pacedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
