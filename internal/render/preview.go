package render

import (
	"bytes"
	"fmt"

	"github.com/postrider/postrider/email"
)

// Preview is a message to be read by people.
type Preview struct {
	// Source is what Render makes, with a line in brackets in place of the content
	// of the attachments in Shortened.
	Source []byte
	// SizeBytes is the size of what Render makes. Attachments whose size is not known
	// yet count with their line, and stored messages (message/rfc822) as if they were
	// sent as they are stored.
	SizeBytes int64
	// Shortened are the indexes of the attachments whose content is not in Source,
	// in the order in which they stand there.
	Shortened []int
}

// MakePreview renders a message without the contents of more than maxContent
// bytes. Contents that are not resolved are left out instead of being refused. The error
// is ErrUnsafe.
func MakePreview(m email.Message, c Composition, maxContent int) (Preview, error) {
	s := &shortening{maxContent: maxContent}
	source, err := render(m, c, s)
	if err != nil {
		return Preview{}, err
	}
	return Preview{Source: source, SizeBytes: int64(len(source)) + s.leftOut, Shortened: s.indexes}, nil
}

// shortening replaces contents. A nil one replaces none.
type shortening struct {
	maxContent int
	indexes    []int
	// leftOut is how many bytes the source lacks.
	leftOut int64
}

func (s *shortening) leavesOut(a email.Attachment) bool {
	return s != nil && (a.Content == nil || len(a.Content) > s.maxContent)
}

func (s *shortening) shorten(index int, a email.Attachment, n *node) *node {
	if !s.leavesOut(a) {
		return n
	}
	size := max(a.Size, int64(len(a.Content)))
	line, written := fmt.Sprintf("[%d bytes in base64 are left out of this preview]", size), base64Len(size)
	if n.sevenBit {
		line, written = fmt.Sprintf("[%d bytes are left out of this preview]", size), max(a.Size, crlfLen(a.Content))
	}
	if a.Content == nil && a.BlobID == "" {
		line = fmt.Sprintf("[what this %s holds is fetched when the e-mail is due]", a.ReferenceType)
	} else {
		s.leftOut += written - int64(len(line))
	}
	s.indexes = append(s.indexes, index)
	n.body = func(out *bytes.Buffer) { out.WriteString(line) }
	return n
}

// base64Len is what writeBase64 writes for n bytes.
func base64Len(n int64) int64 { return (n+2)/3*4 + max(0, n-1)/base64Line*2 }
