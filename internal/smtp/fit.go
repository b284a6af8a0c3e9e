package smtp

import (
	"bytes"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/plaintext"
)

// Fit is how well a server takes a message.
type Fit int

const (
	FitsNobody Fit = iota
	// FitsSome: some of the recipients; or all, but the message has 8-bit bytes and the
	// server does not offer 8BITMIME.
	FitsSome
	FitsAll
)

// Fits says how much of a message the server takes: by what EHLO offered, and by what it has
// refused of late.
func (s *Session) Fits(env delivery.Envelope, message []byte, refuses Limits) Fit {
	if limit := s.sizeLimit(); limit > 0 && int64(len(message)) > limit {
		return FitsNobody
	}
	if refuses.Bytes > 0 && int64(len(message)) >= refuses.Bytes {
		return FitsNobody
	}
	if s.uses("SMTPUTF8") && !refuses.UTF8 {
		return FitsAll // a server that offers it takes eight bits (RFC 6531 section 3.1)
	}
	all := FitsAll
	if _, offered := s.extension("8BITMIME"); !offered && !plaintext.ASCII(message) {
		all = FitsSome
	}
	if needsUTF8(env.From, message) {
		return FitsNobody
	}
	taken := 0
	for _, r := range env.Recipients {
		if plaintext.ASCII(r.Address) {
			taken++
		}
	}
	switch taken {
	case len(env.Recipients):
		return all
	case 0:
		return FitsNobody
	}
	return FitsSome
}

// needsUTF8 reports whether a message can be sent with SMTPUTF8 only (RFC 6531), even to
// recipients whose addresses are ASCII.
func needsUTF8(from string, message []byte) bool {
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return !plaintext.ASCII(from) || !plaintext.ASCII(header)
}
