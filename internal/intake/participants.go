package intake

import (
	"fmt"

	"github.com/postrider/postrider/email"
)

// maxReplyTo bounds the addresses in Reply-To.
const maxReplyTo = 10

// senderPointer is the pointer to the sender; empty if the request names none.
func (r request) senderPointer() string {
	switch {
	case r.From != nil:
		return "/from"
	case r.Source != nil:
		return "/source"
	}
	return ""
}

func (c *Checks) sender(req request) email.Address {
	switch {
	case req.From != nil && req.Source != nil:
		c.Refuse("/source", CodeNamedTwice, "the sender is named by from and by source; give one of them")
	case req.From != nil:
		return c.address(req.senderPointer(), *req.From)
	case req.Source != nil:
		return c.address(req.senderPointer(), *req.Source)
	case c.limits.DefaultSource != nil:
		return *c.limits.DefaultSource
	default:
		c.Refuse("/from", CodeMissing, `give the sender: {"email": "…", "name": "…"}`)
	}
	return email.Address{}
}

// recipients reads to or destinations, cc and bcc. A repeated address is one recipient: the
// first one is kept, in the order to, cc, bcc. Addresses whose local parts differ in case are
// different; the case of domains does not matter (RFC 5321 section 2.4).
func (c *Checks) recipients(m *email.Message, req request) {
	var to []address
	pointer := "/to"
	switch {
	case req.To != nil && req.Dest != nil:
		c.Refuse("/destinations", CodeNamedTwice, "the recipients are named by to and by destinations; give one of them")
		to = *req.To
	case req.To != nil:
		to = *req.To
	case req.Dest != nil:
		to, pointer = *req.Dest, "/destinations"
	}
	listed := len(to) + len(req.Cc) + len(req.Bcc)
	if listed == 0 {
		c.Refuse(pointer, CodeMissing, `give at least one recipient: [{"email": "…"}]`)
		return
	}
	if listed > c.limits.MaxRecipients {
		c.Refuse(pointer, CodeTooMany, "to, cc and bcc list %d recipients together, the limit is %d: send several e-mails", listed, c.limits.MaxRecipients)
		return
	}
	seen := map[string]bool{}
	unique := func(as []email.Address) (out []email.Address) {
		for _, a := range as {
			if !seen[a.Email] {
				seen[a.Email] = true
				out = append(out, a)
			}
		}
		return out
	}
	m.To = unique(c.addresses(pointer, to))
	m.Cc = unique(c.addresses("/cc", req.Cc))
	m.Bcc = unique(c.addresses("/bcc", req.Bcc))
}

func (c *Checks) replyTo(as []address) []email.Address {
	if len(as) > maxReplyTo {
		c.Refuse("/reply_to", CodeTooMany, "there are %d addresses, the limit is %d", len(as), maxReplyTo)
		return nil
	}
	return c.addresses("/reply_to", as)
}

func (c *Checks) addresses(pointer string, as []address) []email.Address {
	var out []email.Address
	for i, a := range as {
		out = append(out, c.address(fmt.Sprintf("%s/%d", pointer, i), a))
	}
	return out
}

// address reads either shape of an address. In the first, name is the display name. In the
// second, target_name is the display name and name is a label.
func (c *Checks) address(pointer string, a address) email.Address {
	atAddr, addr, atName, name := "/email", a.Email, "/name", text(a.Name)
	var label, detail string
	if a.Email == nil && (a.Target != nil || a.Type != nil) {
		atAddr, addr, atName, name = "/target", a.Target, "/target_name", text(a.TargetName)
		label, detail = text(a.Name), text(a.Detail)
	} else if a.Target != nil || a.TargetName != nil || a.Type != nil || a.Detail != nil {
		c.Refuse(pointer, CodeNamedTwice, "the address mixes its two forms; give email and name, or type, target, target_name, name and detail")
		return email.Address{}
	}
	var out email.Address
	var err error
	switch {
	case addr == nil:
		c.Refuse(pointer+atAddr, CodeMissing, "give the address")
	case a.Type != nil && *a.Type != "email":
		c.Refuse(pointer+"/type", CodeUnsupported, `only addresses of type "email" take mail`)
	default:
		if out.Email, err = addrSpec(*addr); err != nil {
			c.Refuse(pointer+atAddr, CodeInvalidAddress, "%s", err)
		}
	}
	out.Name = c.name(pointer+atName, name)
	if atAddr == "/target" {
		out.Label = c.name(pointer+"/name", label)
		out.Detail = c.name(pointer+"/detail", detail)
	}
	return out
}

func (c *Checks) name(pointer, s string) string {
	name, err := displayName(s)
	switch {
	case err == nil:
	case Control(s):
		c.Refuse(pointer, CodeControl, "%s", err)
	default:
		c.Refuse(pointer, CodeTooLong, "%s", err)
	}
	return name
}
