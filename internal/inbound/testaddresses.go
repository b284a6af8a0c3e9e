package inbound

import (
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
)

// steering is what the local part of a recipient asks for in development:
//
//	bounce@  550 5.1.1 at RCPT
//	defer@   451 4.7.1 at RCPT, twice for each message, then accepted
//	NNN@     that reply code at RCPT, 400 to 599
//	slow@    stored, then the final reply waits 15 seconds
//	drop@    stored, then the connection is reset instead of a reply
//
// A suffix after + or - changes nothing: bounce+42@ is bounce@. The first three
// concern their recipient alone, except 421, after which SMTP ends the
// connection; the others are about the reply to the message, which has one for
// all its recipients.
type steering struct {
	refuse     error
	deferred   bool
	slow, drop bool
}

func steer(addr string) steering {
	local := addr[:strings.LastIndexByte(addr, '@')]
	if i := strings.IndexAny(local, "+-"); i >= 0 {
		local = local[:i]
	}
	switch strings.ToLower(local) {
	case "bounce":
		return steering{refuse: errUnknownMailbox}
	case "defer":
		return steering{deferred: true}
	case "slow":
		return steering{slow: true}
	case "drop":
		return steering{drop: true}
	}
	if len(local) != 3 {
		return steering{}
	}
	code, err := strconv.ParseUint(local, 10, 16)
	if err != nil || code < 400 || code > 599 {
		return steering{} // an ordinary local part
	}
	return steering{refuse: &gosmtp.SMTPError{
		Code: int(code), EnhancedCode: enhancedFor(int(code)), Message: "Refused on request",
	}}
}

// enhanced codes (RFC 3463, RFC 5248) for basic ones at RCPT. 451 and 452 name
// the mailbox, not the system: 4.3.x would be about the server as a whole.
var enhanced = map[int]gosmtp.EnhancedCode{
	421: {4, 3, 2}, 450: {4, 2, 1}, 451: {4, 7, 1}, 452: {4, 2, 2}, 454: {4, 7, 0}, 455: {4, 5, 4},
	500: {5, 5, 2}, 501: {5, 5, 4}, 502: {5, 5, 1}, 503: {5, 5, 1}, 504: {5, 5, 4},
	521: {5, 3, 2}, 523: {5, 7, 10}, 530: {5, 7, 0}, 535: {5, 7, 8}, 538: {5, 7, 11},
	550: {5, 1, 1}, 551: {5, 1, 6}, 552: {5, 2, 2}, 553: {5, 1, 3}, 554: {5, 7, 1}, 555: {5, 5, 4}, 556: {5, 1, 10},
}

func enhancedFor(code int) gosmtp.EnhancedCode {
	if e, ok := enhanced[code]; ok {
		return e
	}
	return gosmtp.EnhancedCode{code / 100, 0, 0}
}
