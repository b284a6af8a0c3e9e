package inbound

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
)

// Replies. go-smtp sends an *SMTPError as it is and any other error as 554. So every
// error of a session has to be one of these. Texts never carry an error of ours.
var (
	errUnknownMailbox = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox here"}
	errStoreDown      = &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "Temporary failure, try again later"}
	errDeferred       = &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 7, 1}, Message: "Deferred on request, come again"}
	errSpool          = &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 3, 1}, Message: "Insufficient system storage, try again later"}
	errNestedMail     = &gosmtp.SMTPError{Code: 503, EnhancedCode: gosmtp.EnhancedCode{5, 5, 1}, Message: "A transaction is open already; RSET ends it"}
	// A program that takes this port for one to send mail through reads this reply.
	errNoSubmission = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 7, 1}, Message: "No mailbox here, and no relaying: this is the inbox of `postrider dev`, which sends nothing. Send with POST /v1.0/emails"}
	errNoLogin      = &gosmtp.SMTPError{Code: 535, EnhancedCode: gosmtp.EnhancedCode{5, 7, 8}, Message: "No login here: this is the inbox of `postrider dev`, which sends nothing. Send with POST /v1.0/emails and the access key"}
	// errClientGone answers a connection that is no longer there.
	errClientGone = &gosmtp.SMTPError{Code: 421, EnhancedCode: gosmtp.EnhancedCode{4, 4, 2}, Message: "Connection lost"}
)

// errNotOurs: a connection that did not come through our listener.
var errNotOurs = errors.New("inbound: connection without limits")

func tooLarge(limit int64) error {
	return &gosmtp.SMTPError{Code: 552, EnhancedCode: gosmtp.EnhancedCode{5, 3, 4}, Message: fmt.Sprintf("Message too large, limit %d bytes", limit)}
}

// Replies to a client that is cut off because it goes on sending what is not stored.
const replyNoRoom = "421 4.3.1 Insufficient system storage, try again later\r\n"

func replyTooLarge(limit int64) string {
	return fmt.Sprintf("552 5.3.4 Message too large, limit %d bytes\r\n", limit)
}

func replyTooManyErrors(limit int) string {
	return fmt.Sprintf("421 4.7.0 Too many errors, limit %d\r\n", limit)
}

// outOfSequence are the texts of replies for which go-smtp says 502, command not
// implemented, where the command is known but comes at a wrong time. That is 503
// (RFC 5321 §4.2.4, §4.3.2).
var outOfSequence = []string{
	"Please introduce yourself first.", "Missing MAIL FROM command.", "Missing RCPT TO command.",
	"MAIL not allowed during message transfer", "RCPT not allowed during message transfer", "DATA not allowed during message transfer",
	"DATA not allowed for BINARYMIME messages",
}

// withSequenceCode is a reply of go-smtp with the code that it should have.
func withSequenceCode(reply []byte) []byte {
	text, found := strings.CutPrefix(strings.TrimRight(string(reply), "\r\n"), "502 5.5.1 ")
	if !found || !slices.Contains(outOfSequence, text) {
		return reply
	}
	return []byte("503 5.5.1 " + text + "\r\n")
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
	if !utf8.ValidString(addr) || strings.ContainsFunc(addr, unicode.IsControl) {
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
