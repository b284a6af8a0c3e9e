package intake

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/header"
)

// Limits of the options. Lengths are in bytes.
const (
	maxHeaders     = 50
	maxHeaderValue = 32 << 10
	// maxHeadersBytes bounds names and values together: mail servers have limits for
	// a whole header.
	maxHeadersBytes  = 64 << 10
	maxMetadata      = 50
	maxMetadataName  = 64
	maxMetadataValue = 512
	maxTags          = 20
	maxCallbackBytes = 2048
)

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// owned are the header fields that Postrider or a mail server writes, with the
// member that sets them where there is one.
var owned = map[string]string{
	"from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to", "subject": "subject",
	"sender": "", "date": "", "message-id": "", "mime-version": "", "return-path": "", "received": "",
	"dkim-signature": "", "domainkey-signature": "", "authentication-results": "", "received-spf": "",
	"delivered-to": "", "envelope-to": "", "apparently-to": "", "x-original-to": "",
}

// ownedPrefixes are families of them.
var ownedPrefixes = []string{"content-", "resent-", "arc-", "x-postrider-"}

// steering begins the names of headers that relays obey and take out of the message: they
// add recipients, choose accounts and rules, or switch tracking on. SendGrid, Amazon SES,
// Mailgun, Postmark, Mailjet, Mandrill, SparkPost, SMTP2GO, Brevo and Exchange.
var steering = []string{"x-smtpapi", "x-ses-", "x-mailgun-", "x-pm-", "x-mj-", "x-mailjet-", "x-mc-", "x-msys-", "x-smtp2go-", "x-sib-", "x-mailin-",
	"x-elasticemail", "x-ms-exchange-", "x-ms-oob-", "x-forefront-", "x-microsoft-antispam"}

// callback checks the URL that is told of the e-mail.
func (c *checker) callback(raw *string) string {
	u := text(raw)
	switch check := c.limits.CheckURL; {
	case u == "":
	case len(u) > maxCallbackBytes:
		c.refuse("/callback_url", codeTooLong, "the URL has %d bytes, the limit is %d", len(u), maxCallbackBytes)
	case check == nil:
		c.refuse("/callback_url", codeUnsupported, "callbacks are not made here")
	default:
		if err := check(u); err != nil {
			c.refuse("/callback_url", codeInvalid, "%s", err)
		}
	}
	return u
}

func hasPrefixOf(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// headers checks the client's own header fields and keeps their order.
func (c *checker) headers(hs headers) []email.Header {
	if len(hs) > maxHeaders {
		c.refuse("/headers", codeTooMany, "there are %d headers, the limit is %d", len(hs), maxHeaders)
		return nil
	}
	seen := map[string]bool{}
	var out []email.Header
	size := 0
	for _, h := range hs {
		size += len(h.name) + len(text(h.value))
		pointer, name, value := member("/headers", h.name), strings.ToLower(h.name), strings.TrimSpace(text(h.value))
		instead, mine := owned[name]
		mine = mine || hasPrefixOf(name, ownedPrefixes)
		steers := !c.limits.AllowRelayHeaders && hasPrefixOf(name, steering)
		switch {
		case !headerName.MatchString(h.name):
			c.refuse("/headers", codeInvalidName, "a header's name has 1 to 64 of the characters A-Z a-z 0-9 -")
		case mine && instead != "":
			c.refuse(pointer, codeReserved, "this header is written for you; use the member %s", instead)
		case mine:
			c.refuse(pointer, codeReserved, "this header is written by Postrider or by mail servers; remove it")
		case steers:
			c.refuse(pointer, codeReserved, "this header gives orders to a relay, such as other recipients; remove it, or have the operator set POSTRIDER_ALLOW_RELAY_HEADERS=true")
		case seen[name]:
			c.refuse(pointer, codeNamedTwice, "the header is named twice in different case; remove one of them")
		case h.value == nil:
			c.refuse(pointer, codeWrongType, "the value has the wrong type; give a string")
		case headerControl(text(h.value)):
			c.refuse(pointer, codeControl, "remove line breaks and other control characters")
		case len(value) > maxHeaderValue:
			c.refuse(pointer, codeTooLong, "the value has %d bytes, the limit is %d", len(value), maxHeaderValue)
		default:
			out = append(out, email.Header{Name: h.name, Value: value})
			if _, err := header.Encode(h.name, value); errors.Is(err, header.ErrTooLong) {
				c.refuse(pointer, codeTooLong, "%s", err)
			} else if err != nil {
				c.refuse(pointer, codeInvalid, "%s", err)
			}
		}
		seen[name] = true
	}
	if size > maxHeadersBytes {
		c.refuse("/headers", codeTooLong, "the headers have %d bytes together, the limit is %d", size, maxHeadersBytes)
	}
	return out
}

// headerControl is control without the tab, which is white space in a header (RFC 5322
// section 3.2.2).
func headerControl(s string) bool { return control(strings.ReplaceAll(s, "\t", " ")) }

func (c *checker) metadata(in map[string]*string) map[string]string {
	if len(in) > maxMetadata {
		c.refuse("/metadata", codeTooMany, "there are %d members, the limit is %d", len(in), maxMetadata)
		return nil
	}
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		pointer, value := member("/metadata", name), in[name]
		switch {
		case name == "" || len(name) > maxMetadataName || control(name):
			c.refuse("/metadata", codeInvalidName, "a name has 1 to %d bytes, without control characters", maxMetadataName)
		case value == nil:
			c.refuse(pointer, codeWrongType, "the value has the wrong type; give a string")
		case strings.ContainsRune(*value, 0):
			c.refuse(pointer, codeControl, "remove the NUL characters")
		case len(*value) > maxMetadataValue:
			c.refuse(pointer, codeTooLong, "the value has %d bytes, the limit is %d", len(*value), maxMetadataValue)
		default:
			out[name] = *value
		}
	}
	return out
}

var tagShape = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

// tags checks labels; one that is given twice counts once.
func (c *checker) tags(in []*string) []string {
	if len(in) > maxTags {
		c.refuse("/tags", codeTooMany, "there are %d tags, the limit is %d", len(in), maxTags)
		return nil
	}
	var out []string
	for i, t := range in {
		pointer := fmt.Sprintf("/tags/%d", i)
		switch {
		case t == nil:
			c.refuse(pointer, codeWrongType, "the value has the wrong type; give a string")
		case !tagShape.MatchString(*t):
			c.refuse(pointer, codeInvalid, "a tag has 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
		case !slices.Contains(out, *t):
			out = append(out, *t)
		}
	}
	return out
}

// times reads send_at and expires_at. A send_at that has passed means now; it is
// kept, so that the same request has the same fingerprint later.
func (c *checker) times(req request) (sendAt, expiresAt time.Time) {
	now := c.limits.Now
	sendAt, sendOK := c.time("/send_at", req.SendAt)
	if sendAt.After(now.Add(email.MaxScheduleAhead)) {
		c.refuse("/send_at", codeTooLate, "give a time at most 366 days ahead")
		sendOK = false
	}
	if sendAt.Before(time.Unix(0, 0)) {
		sendAt = time.Time{} // no database needs to know
	}
	if req.ExpiresAt == nil {
		return sendAt, time.Time{}
	}
	expiresAt, ok := c.time("/expires_at", req.ExpiresAt)
	from := now
	if sendOK && sendAt.After(now) {
		from = sendAt
	}
	switch {
	case !ok:
	case !expiresAt.After(now):
		c.refuse("/expires_at", codePast, "this time has passed; give one in the future")
	case !expiresAt.After(from):
		c.refuse("/expires_at", codeBeforeSendAt, "the e-mail would expire before it is sent; give a time after send_at")
	case expiresAt.After(from.Add(email.MaxScheduleAhead)):
		c.refuse("/expires_at", codeTooLate, "give a time at most 366 days after the first attempt")
	}
	return sendAt, expiresAt
}

// time reads RFC 3339, to the microsecond that the database keeps.
func (c *checker) time(pointer string, s *string) (t time.Time, ok bool) {
	if s == nil {
		return time.Time{}, true
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		c.refuse(pointer, codeInvalid, "give a time as RFC 3339 has it: 2026-01-02T15:04:05Z")
		return time.Time{}, false
	}
	return t.UTC().Truncate(time.Microsecond), true
}
