package intake

import (
	"strings"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/suppression"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// unsubscribe decides whether the recipient gets a link to unsubscribe by. It is to be called when the rest of
// the message is read. Broadcast mail gets one unless the request says false, or brings its own header.
func (c *Checks) unsubscribe(m *Decoded, in *unsubscribing) {
	c.placeholdersOutside(m)
	own := ownListHeader(m.Headers)
	wanted := in != nil && !(in.plain && !in.on)
	switch {
	case wanted:
		if !c.unsubscribable(m.Message, *in, own) {
			return
		}
		m.Topic = text(in.Topic)
	case in == nil && m.Stream == email.StreamBroadcast && c.limits.LinkBase != "" && own == "":
	default:
		c.noPlaceholders(m)
		return
	}
	m.Unsubscribe = true
	if n := len(m.To) + len(m.Cc) + len(m.Bcc); n > 1 {
		c.Refuse("/unsubscribe", CodeTooMany, `the link to unsubscribe by is one recipient's, and there are %d: send each a copy with POST /v1.0/emails/batch, or say "unsubscribe": false`, n)
	}
	if unsubscribe.Count(m.Text) > unsubscribe.MaxPlaceholders || unsubscribe.Count(m.HTML) > unsubscribe.MaxPlaceholders {
		c.Refuse("/content", CodeTooMany, "%s stands there more than %d times in text or HTML; leave some out", unsubscribe.Placeholder, unsubscribe.MaxPlaceholders)
	}
}

// unsubscribable reports whether a request may ask for a link. own is the request's header that has one.
func (c *Checks) unsubscribable(m email.Message, in unsubscribing, own string) bool {
	switch topic := text(in.Topic); {
	case !in.plain && in.Topic == nil:
		c.Refuse("/unsubscribe/topic", CodeMissing, `give the topic, as {"topic": "news"}, or say "unsubscribe": true`)
	case !in.plain && !suppression.TopicShape.MatchString(topic):
		c.Refuse("/unsubscribe/topic", CodeInvalid, "a topic has 1 to 50 of the characters a-z 0-9 -")
	case c.limits.LinkBase == "":
		c.Refuse("/unsubscribe", CodeUnsupported, "there are no links to unsubscribe by, because this installation has no public https address: ask the operator to set POSTRIDER_PUBLIC_URL, or remove it")
	case own != "":
		c.Refuse(Member("/headers", own), CodeNamedTwice, `this header is written for you; remove it, or "unsubscribe"`)
	case in.plain && m.Stream != email.StreamBroadcast:
		c.Refuse("/unsubscribe", CodeInvalid, `transactional mail goes to people who have unsubscribed from broadcast mail: give "stream": "broadcast", or a topic to unsubscribe from, as {"topic": "news"}`)
	default:
		return true
	}
	return false
}

// ownListHeader is the header by which a client's message brings its own way to unsubscribe; empty if none does.
func ownListHeader(headers []email.Header) string {
	for _, h := range headers {
		if name := strings.ToLower(h.Name); name == "list-unsubscribe" || name == "list-unsubscribe-post" {
			return h.Name
		}
	}
	return ""
}

// placeholdersOutside refuses placeholders where no link is put in.
func (c *Checks) placeholdersOutside(m *Decoded) {
	const detail = "%s stands in text and HTML only; remove it here"
	if unsubscribe.Count(m.Subject) > 0 {
		c.Refuse("/subject", CodeUnsupported, detail, unsubscribe.Placeholder)
	}
	for _, h := range m.Headers {
		if unsubscribe.Count(h.Value) > 0 {
			c.Refuse(Member("/headers", h.Name), CodeUnsupported, detail, unsubscribe.Placeholder)
		}
	}
}

// noPlaceholders refuses placeholders that nothing is put in for.
func (c *Checks) noPlaceholders(m *Decoded) {
	const detail = `%s needs "unsubscribe": true with "stream": "broadcast", or a topic, as "unsubscribe": {"topic": "news"}`
	if !m.TextFromHTML && unsubscribe.Count(m.Text) > 0 {
		c.Refuse(m.TextPointer, CodeInvalid, detail, unsubscribe.Placeholder)
	}
	if unsubscribe.Count(m.HTML) > 0 {
		c.Refuse("/content/html", CodeInvalid, detail, unsubscribe.Placeholder)
	}
}
