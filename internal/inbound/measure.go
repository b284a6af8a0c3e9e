package inbound

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-message"

	"github.com/postrider/postrider/internal/mailbox"
)

// Caps of a structure that is taken apart.
const (
	maxDepth       = 20
	maxParts       = 500
	maxHeaderBytes = 1 << 20
	// maxBrokenDepth is how often a message whose structure breaks off may say
	// "multipart/". What comes after the break is not measured, and enmime's time
	// doubles with every level that is not closed.
	maxBrokenDepth = 10
)

// measured is what measure found out about a message within the caps.
type measured struct {
	// closing are the end delimiters of the multiparts that the last part is in.
	// Read after the message they close what was left open, and are an epilogue,
	// which nobody shows, where nothing was. enmime needs them: it takes twice the
	// time for each open level, more than a second at 20.
	closing string
	// broken is why go-message could not read to the end, nil if it could.
	broken error
}

// measure holds a message to the caps with a parser that reads no part into
// memory. It comes before enmime, which has no caps: 20,000 empty parts cost
// that 2.5 GB.
func measure(raw []byte, deadline time.Time) (measured, error) {
	if n := headerEnd(raw); n > maxHeaderBytes {
		return measured{}, fmt.Errorf("header: %d bytes, limit %d: %w", n, maxHeaderBytes, mailbox.ErrTooComplex)
	}
	open, broken := walk(timed(bytes.NewReader(raw), deadline))
	if isFinal(broken) {
		return measured{}, broken
	}
	m := measured{closing: closing(open), broken: broken}
	if broken == nil {
		return m, nil
	}
	if !time.Now().Before(deadline) {
		return measured{}, mailbox.ErrTooSlow // go-message hides it in another error
	}
	_, err := walk(timed(m.reader(raw), deadline))
	if err == nil || isFinal(err) {
		return m, err // without the end missing, all of it was measured
	}
	// enmime reads on where go-message stops. Every part and every level needs a line
	// that begins with "--", every level a type, so those bound what follows.
	if n := boundaryLines(raw); n > maxParts {
		return measured{}, fmt.Errorf("broken structure of up to %d parts, limit %d: %w", n, maxParts, mailbox.ErrTooComplex)
	}
	if n := bytes.Count(bytes.ToLower(raw), []byte("multipart/")); n > maxBrokenDepth {
		return measured{}, fmt.Errorf("broken structure of up to %d levels, limit %d: %w", n, maxBrokenDepth, mailbox.ErrTooComplex)
	}
	return m, nil
}

// reader is the message with everything closed.
func (m measured) reader(raw []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(raw), strings.NewReader(m.closing))
}

// isFinal: the caps or the deadline have decided.
func isFinal(err error) bool {
	return errors.Is(err, mailbox.ErrTooComplex) || errors.Is(err, mailbox.ErrTooSlow)
}

// walk visits all parts and returns the boundaries of the multiparts that the
// last one is in, the outermost first.
func walk(r io.Reader) (open []string, err error) {
	root, err := message.ReadWithOptions(r, &message.ReadOptions{MaxHeaderBytes: maxHeaderBytes})
	if root == nil {
		return nil, err
	}
	parts := 0
	err = root.Walk(func(path []int, e *message.Entity, _ error) error {
		if parts++; parts > maxParts {
			return fmt.Errorf("more than %d parts: %w", maxParts, mailbox.ErrTooComplex)
		}
		if len(path) > maxDepth {
			return fmt.Errorf("more than %d levels of parts: %w", maxDepth, mailbox.ErrTooComplex)
		}
		open = open[:min(len(path), len(open))]
		boundary, err := boundaryOf(e)
		if boundary != "" {
			open = append(open, boundary)
		}
		return err
	})
	return open, err
}

// boundaryOf is empty for what is not a multipart. A multipart in an encoding
// of its own is forbidden (RFC 2045 §6.4), and go-message would decode where
// enmime does not: they would see different parts.
func boundaryOf(e *message.Entity) (string, error) {
	kind, params, err := e.Header.ContentType()
	if err != nil || !strings.HasPrefix(strings.ToLower(kind), "multipart/") {
		return "", nil // a type that cannot be read is text to both parsers
	}
	switch encoding := strings.ToLower(strings.TrimSpace(e.Header.Get("Content-Transfer-Encoding"))); encoding {
	case "", "7bit", "8bit", "binary":
		return params["boundary"], nil
	default:
		return "", fmt.Errorf("multipart with a transfer encoding: %w", mailbox.ErrTooComplex)
	}
}

func closing(boundaries []string) string {
	var b strings.Builder
	for i := len(boundaries) - 1; i >= 0; i-- {
		b.WriteString("\r\n--" + boundaries[i] + "--")
	}
	if b.Len() > 0 {
		b.WriteString("\r\n")
	}
	return b.String()
}

func boundaryLines(raw []byte) int {
	n := bytes.Count(raw, []byte("\n--"))
	if bytes.HasPrefix(raw, []byte("--")) {
		n++
	}
	return n
}

// timedReader fails once its time is up. Both parsers pull all they do from
// their reader, so that none outlives its deadline by more than the work on one
// part.
type timedReader struct {
	r        io.Reader
	deadline time.Time
}

func timed(r io.Reader, deadline time.Time) io.Reader {
	return &timedReader{r: r, deadline: deadline}
}

func (t *timedReader) Read(b []byte) (int, error) {
	if !time.Now().Before(t.deadline) {
		return 0, mailbox.ErrTooSlow
	}
	return t.r.Read(b)
}
