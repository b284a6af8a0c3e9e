package api

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Pace is how slow a client may be. A connection that is slower is closed, so that what
// its request holds in memory is let go.
type Pace struct {
	// BodyGrace is how long a body may take to begin. After it, the body must have come at
	// BodyRate bytes a second, counted from the first read, and be whole in BodyMax.
	BodyGrace time.Duration
	BodyRate  int64
	BodyMax   time.Duration
	// AnswerPiece bytes of an answer must be taken in AnswerTime, then the next ones.
	AnswerPiece int
	AnswerTime  time.Duration
}

// defaultPace asks for 64 kbit/s of a body and 52 kbit/s of a reader. A body of 35 MB has
// 5 minutes, which is 1 Mbit/s.
var defaultPace = Pace{BodyGrace: 10 * time.Second, BodyRate: 8 << 10, BodyMax: 5 * time.Minute, AnswerPiece: 128 << 10, AnswerTime: 20 * time.Second}

// Limits of a connection besides its Pace: a header in 10 s, 2 minutes without a request.
//
// A header, which holds the query too, has at most 12 KiB: net/http takes 4 KiB more than
// it is told. Every connection may have one, before anybody knows whose it is, and keeps it
// until the request is answered: MaxConnections of them fit a process of 512 MB.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 8 << 10
)

// HTTPServer wraps a handler with the limits that a server in the open needs.
func HTTPServer(h http.Handler) *http.Server { return PacedServer(h, defaultPace) }

// PacedServer is HTTPServer with a Pace of one's own.
func PacedServer(h http.Handler, p Pace) *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(h, w, r) }),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: p.BodyMax, WriteTimeout: p.BodyMax, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ConnContext: withHeaderConn, ConnState: connState,
	}
}

func (p Pace) serve(h http.Handler, w http.ResponseWriter, r *http.Request) {
	conn := http.NewResponseController(w)
	body := &pacedBody{on: connOf(r), ReadCloser: r.Body, pace: p, conn: conn, request: r, ended: r.Body == http.NoBody}
	r.Trailer = nil // what the header announces
	if !body.ended {
		r.Body = body
	}
	answer := &pacedAnswer{ResponseWriter: w, pace: p, conn: conn, body: body}
	h.ServeHTTP(answer, r)
	nextHeader(r)
	// The server now reads what is left of a body, and writes what is left of the answer.
	now := time.Now()
	if !body.ended {
		if body.on != nil {
			body.on.owner.begin(body.on, forBody)
		}
		grace := p.BodyGrace
		if answer.refused {
			grace = min(grace, refusedGrace)
		}
		_ = conn.SetReadDeadline(now.Add(grace)) // an error means that the connection is closed
	}
	_ = conn.SetWriteDeadline(now.Add(p.AnswerTime)) // likewise
}

// refusedGrace is how long the rest of a body may take that the answer did not wait for.
const refusedGrace = time.Second

// pacedBody moves the connection's read deadline with what has come. It drops the trailer
// behind a chunked body, which nothing reads (RFC 9110 section 6.5.1): net/http makes a map
// of its 4 KiB, twenty times as large, and keeps it as long as the request.
type pacedBody struct {
	io.ReadCloser
	pace    Pace
	conn    *http.ResponseController
	request *http.Request
	on      *headerConn // nil if nothing counts the connection
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
		// The server watches for the client's end from now on; a deadline would look like one.
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
	before := b.on.owner.begin(b.on, forBody)
	n, err := b.ReadCloser.Read(p)
	b.on.owner.end(b.on, n, before)
	return n, err
}

// pacedAnswer writes in pieces and moves the connection's write deadline with each. A request
// that is refused before its body has come whole is answered at once, and its connection closed:
// net/http would wait for the body first.
type pacedAnswer struct {
	http.ResponseWriter
	pace    Pace
	conn    *http.ResponseController
	body    *pacedBody
	refused bool
}

// WriteHeader is http.ResponseWriter's.
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
	_ = a.conn.SetWriteDeadline(time.Now().Add(a.pace.AnswerTime)) // an error comes back at the next Write
	_ = a.conn.Flush()                                             // likewise
}

// Unwrap is for http.ResponseController.
func (a *pacedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
