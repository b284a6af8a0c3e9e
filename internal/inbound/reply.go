package inbound

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
)

// Replies. go-smtp sends an *SMTPError as it is and anything else as 554, so
// that every way out of a session has to be one of these. Texts never carry an
// error of ours.
var (
	errUnknownMailbox = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox here"}
	errStoreDown      = &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "Temporary failure, try again later"}
	errDeferred       = &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 7, 1}, Message: "Deferred on request, come again"}
	// errClientGone answers a connection that is no longer there.
	errClientGone = &gosmtp.SMTPError{Code: 421, EnhancedCode: gosmtp.EnhancedCode{4, 4, 2}, Message: "Connection lost"}
)

// errNotOurs: a connection that did not come through our listener.
var errNotOurs = errors.New("inbound: connection without limits")

func tooLarge(limit int64) error {
	return &gosmtp.SMTPError{Code: 552, EnhancedCode: gosmtp.EnhancedCode{5, 3, 4}, Message: fmt.Sprintf("Message too large, limit %d bytes", limit)}
}

func lineTooLong(limit int) error {
	return &gosmtp.SMTPError{Code: 500, EnhancedCode: gosmtp.EnhancedCode{5, 6, 0}, Message: fmt.Sprintf("Line too long, limit %d bytes", limit)}
}

// accepted is the reply to a stored message. Its id is what support asks for.
func accepted(id uuid.UUID) error {
	return &gosmtp.SMTPError{Code: 250, EnhancedCode: gosmtp.EnhancedCode{2, 0, 0}, Message: "OK: stored as " + id.String()}
}

// Enhanced codes of a malformed address (RFC 3463 §3.2).
var (
	codeBadSender    = gosmtp.EnhancedCode{5, 1, 7}
	codeBadRecipient = gosmtp.EnhancedCode{5, 1, 3}
)

// maxAddressBytes: 64 for the local part, 1, 255 for the domain (RFC 5321
// §4.5.3.1). A longer local part with a shorter domain passes: VERP makes them.
const maxAddressBytes = 320

// checkAddress refuses what go-smtp lets through and no column should hold, and
// puts back the quotes that it takes off a local part.
func checkAddress(addr string, smtpUTF8 bool, bad gosmtp.EnhancedCode) (string, error) {
	refuse := func(code int, enhanced gosmtp.EnhancedCode, text string) (string, error) {
		return "", &gosmtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
	}
	if len(addr) > maxAddressBytes {
		return refuse(501, bad, fmt.Sprintf("Address of %d bytes, limit %d", len(addr), maxAddressBytes))
	}
	if !utf8.ValidString(addr) || strings.ContainsFunc(addr, isControl) {
		return refuse(501, bad, "Address with characters that are not allowed")
	}
	if !smtpUTF8 && strings.ContainsFunc(addr, func(r rune) bool { return r > 127 }) {
		return refuse(553, gosmtp.EnhancedCode{5, 6, 7}, "Address beyond ASCII without SMTPUTF8") // RFC 6531 §3.5
	}
	i := strings.LastIndexByte(addr, '@')
	local, domain := addr[:i], addr[i+1:]
	if strings.ContainsAny(local, " \t()<>[]:;@\\,\"") {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	return local + "@" + domain, nil
}

// isControl: C0, DEL and C1.
func isControl(r rune) bool { return r < ' ' || (r >= 0x7f && r < 0xa0) }
