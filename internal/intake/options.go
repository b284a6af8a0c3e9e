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
	maxHeaders = 50
	// MaxHeaderBytes bounds the value of one header.
	MaxHeaderBytes = 32 << 10
	// MaxHeadersBytes bounds all names and values together: mail servers limit the size of the
	// whole header.
	MaxHeadersBytes = 64 << 10
	maxMetadata     = 50
	maxMetadataName = 64
	// MaxMetadataBytes bounds one value of metadata.
	MaxMetadataBytes = 512

	maxTags          = 20
	maxCallbackBytes = 2048
)

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// owned are the header fields that Postrider or a mail server writes, with the member of the
// request that sets them; empty if there is none.
var owned = map[string]string{
	"from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to", "subject": "subject",
	"sender": "", "date": "", "message-id": "", "mime-version": "", "return-path": "", "received": "",
	"dkim-signature": "", "domainkey-signature": "", "authentication-results": "", "received-spf": "",
	"delivered-to": "", "envelope-to": "", "apparently-to": "", "x-original-to": "",
}

// ownedPrefixes are the prefixes of more such fields.
var ownedPrefixes = []string{"content-", "resent-", "arc-", "x-postrider-"}

// relayControl are the prefixes of header fields that control a relay, which removes them from
// the message. They add recipients, choose accounts and rules, or switch tracking on. The relays
// are SendGrid, Amazon SES, Mailgun, Postmark, Mailjet, Mandrill, SparkPost, SMTP2GO, Brevo and
// Exchange.
var relayControl = []string{"x-smtpapi", "x-ses-", "x-mailgun-", "x-pm-", "x-mj-", "x-mailjet-", "x-mc-", "x-msys-", "x-smtp2go-", "x-sib-", "x-mailin-",
	"x-elasticemail", "x-ms-exchange-", "x-ms-oob-", "x-forefront-", "x-microsoft-antispam"}

// callback checks the URL that is called with the e-mail's events.
func (c *Checks) callback(raw *string) string {
	u := text(raw)
	switch check := c.limits.CheckURL; {
	case u == "":
	case len(u) > maxCallbackBytes:
		c.Refuse("/callback_url", CodeTooLong, "the URL has %d bytes, the limit is %d", len(u), maxCallbackBytes)
	case check == nil:
		c.Refuse("/callback_url", CodeUnsupported, "callbacks are not made here")
	default:
		if err := check(u); err != nil {
			c.Refuse("/callback_url", CodeInvalid, "%s", err)
		}
	}
	return u
}

// ignoreSuppressions checks whether the message may be sent to suppressed addresses, where no credential
// says so.
func (c *Checks) ignoreSuppressions(wanted bool) bool {
	if wanted && c.limits.NoIgnoreSuppressions {
		c.Refuse("/ignore_suppressions", CodeUnsupported, "it takes a credential with the scope suppressions:ignore, and a start by Temporal has none: send the message with POST /v1.0/emails")
	}
	return wanted
}

func hasPrefixOf(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// headers checks the client's own header fields and keeps their order.
func (c *Checks) headers(hs headers) []email.Header {
	if len(hs) > maxHeaders {
		c.Refuse("/headers", CodeTooMany, "there are %d headers, the limit is %d", len(hs), maxHeaders)
		return nil
	}
	seen := map[string]bool{}
	var out []email.Header
	size := 0
	for _, h := range hs {
		size += len(h.name) + len(text(h.value))
		pointer, name, value := Member("/headers", h.name), strings.ToLower(h.name), strings.TrimSpace(text(h.value))
		member, isOwned := owned[name]
		isOwned = isOwned || hasPrefixOf(name, ownedPrefixes)
		controlsRelay := !c.limits.AllowRelayHeaders && hasPrefixOf(name, relayControl)
		switch {
		case !headerName.MatchString(h.name):
			c.Refuse("/headers", CodeInvalidName, "a header's name has 1 to 64 of the characters A-Z a-z 0-9 -")
		case isOwned && member != "":
			c.Refuse(pointer, CodeReserved, "this header is written for you; use the member %s", member)
		case isOwned:
			c.Refuse(pointer, CodeReserved, "this header is written by Postrider or by mail servers; remove it")
		case controlsRelay:
			c.Refuse(pointer, CodeReserved, "this header gives orders to a relay, such as other recipients; remove it, or have the operator set POSTRIDER_ALLOW_RELAY_HEADERS=true")
		case seen[name]:
			c.Refuse(pointer, CodeNamedTwice, "the header is named twice in different case; remove one of them")
		case h.value == nil:
			c.Refuse(pointer, CodeWrongType, "the value has the wrong type; give a string")
		case HeaderControl(text(h.value)):
			c.Refuse(pointer, CodeControl, "remove line breaks and other control characters")
		case len(value) > MaxHeaderBytes:
			c.Refuse(pointer, CodeTooLong, "the value has %d bytes, the limit is %d", len(value), MaxHeaderBytes)
		default:
			out = append(out, email.Header{Name: h.name, Value: value})
			if err := header.Check(h.name, value); errors.Is(err, header.ErrTooLong) {
				c.Refuse(pointer, CodeTooLong, "%s", err)
			} else if err != nil {
				c.Refuse(pointer, CodeInvalid, "%s", err)
			}
		}
		seen[name] = true
	}
	if size > MaxHeadersBytes {
		c.Refuse("/headers", CodeTooLong, "the headers have %d bytes together, the limit is %d", size, MaxHeadersBytes)
	}
	return out
}

// HeaderControl is Control, except that it allows the tab, which is white space in a header
// (RFC 5322 section 3.2.2).
func HeaderControl(s string) bool { return Control(strings.ReplaceAll(s, "\t", " ")) }

func (c *Checks) metadata(in map[string]*string) map[string]string {
	if len(in) > maxMetadata {
		c.Refuse("/metadata", CodeTooMany, "there are %d members, the limit is %d", len(in), maxMetadata)
		return nil
	}
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		pointer, value := Member("/metadata", name), in[name]
		switch {
		case name == "" || len(name) > maxMetadataName || Control(name):
			c.Refuse("/metadata", CodeInvalidName, "a name has 1 to %d bytes, without control characters", maxMetadataName)
		case c.Value(pointer, value, MaxMetadataBytes):
			out[name] = *value
		}
	}
	return out
}

var tagShape = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

// tags checks the tags, and removes repeated ones.
func (c *Checks) tags(in []*string) []string {
	if len(in) > maxTags {
		c.Refuse("/tags", CodeTooMany, "there are %d tags, the limit is %d", len(in), maxTags)
		return nil
	}
	var out []string
	for i, t := range in {
		pointer := fmt.Sprintf("/tags/%d", i)
		switch {
		case t == nil:
			c.Refuse(pointer, CodeWrongType, "the value has the wrong type; give a string")
		case !tagShape.MatchString(*t):
			c.Refuse(pointer, CodeInvalid, "a tag has 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
		case !slices.Contains(out, *t):
			out = append(out, *t)
		}
	}
	return out
}

// times reads send_at and expires_at. A send_at in the past means now. It is stored all the
// same, so that a repeated request has the same fingerprint.
func (c *Checks) times(req request) (sendAt, expiresAt time.Time) {
	now := c.limits.Now
	sendAt, sendOK := c.time("/send_at", req.SendAt)
	if sendAt.After(now.Add(email.MaxScheduleAhead)) {
		c.Refuse("/send_at", CodeTooLate, "give a time at most 366 days ahead")
		sendOK = false
	}
	if sendAt.Before(time.Unix(0, 0)) {
		sendAt = time.Time{} // it means now; years that Postgres cannot store are never stored
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
		c.Refuse("/expires_at", CodePast, "this time has passed; give one in the future")
	case !expiresAt.After(from):
		c.Refuse("/expires_at", CodeBeforeSendAt, "the e-mail would expire before it is sent; give a time after send_at")
	case expiresAt.After(from.Add(email.MaxScheduleAhead)):
		c.Refuse("/expires_at", CodeTooLate, "give a time at most 366 days after the first attempt")
	}
	return sendAt, expiresAt
}

// time reads a time in RFC 3339 format, and truncates it to microseconds, as Postgres does.
func (c *Checks) time(pointer string, s *string) (t time.Time, ok bool) {
	if s == nil {
		return time.Time{}, true
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		c.Refuse(pointer, CodeInvalid, "give a time in RFC 3339 format: 2026-01-02T15:04:05Z")
		return time.Time{}, false
	}
	return t.UTC().Truncate(time.Microsecond), true
}
