package header

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"

	"github.com/postrider/postrider/internal/plaintext"
)

// kind is what a field's value is made of.
type kind int

const (
	// unstructured values are any text (RFC 5322 section 3.2.5). Fields that are not
	// known are of this kind.
	unstructured kind = iota
	// urls stand in angle brackets (RFC 2369 section 2).
	urls
	// msgIDs stand in angle brackets (RFC 5322 section 3.6.4).
	msgIDs
	// listID is a phrase and an id in angle brackets (RFC 2919 section 2).
	listID
	// mailboxes are phrases and addresses in angle brackets, or bare addresses.
	mailboxes
	// phrases are separated by commas (RFC 5322 section 3.6.5).
	phrases
	// tokens are ASCII outside of comments.
	tokens
)

var kinds = map[string]kind{
	"list-help": urls, "list-unsubscribe": urls, "list-subscribe": urls, "list-post": urls, "list-owner": urls,
	"list-archive": urls, "archived-at": urls,

	"in-reply-to": msgIDs, "references": msgIDs, "original-message-id": msgIDs, "supersedes": msgIDs, "obsoletes": msgIDs,
	"x-original-message-id": msgIDs, "x-ms-exchange-parent-message-id": msgIDs,

	"list-id": listID,

	"disposition-notification-to": mailboxes, "return-receipt-to": mailboxes, "read-receipt-to": mailboxes,
	"x-confirm-reading-to": mailboxes, "errors-to": mailboxes, "mail-reply-to": mailboxes, "mail-followup-to": mailboxes,
	"original-from": mailboxes, "x-errors-to": mailboxes, "x-sender": mailboxes, "x-original-from": mailboxes,
	"author": mailboxes,

	"keywords": phrases,

	"auto-submitted": tokens, "precedence": tokens, "importance": tokens, "priority": tokens, "sensitivity": tokens,
	"x-priority": tokens, "x-msmail-priority": tokens, "list-unsubscribe-post": tokens, "feedback-id": tokens,
	"x-feedback-id": tokens, "x-auto-response-suppress": tokens, "disposition-notification-options": tokens, "original-recipient": tokens,
	"expires": tokens, "expiry-date": tokens, "reply-by": tokens, "deferred-delivery": tokens, "language": tokens,
	"accept-language": tokens, "autocrypt": tokens, "require-recipient-valid-since": tokens, "tls-required": tokens,
	"tls-report-domain": tokens, "tls-report-submitter": tokens, "bimi-selector": tokens, "vbr-info": tokens,
	"message-context": tokens, "message-type": tokens, "alternate-recipient": tokens, "conversion": tokens,
	"x-report-abuse-to": mailboxes, "x-abuse-reports-to": mailboxes,
}

// encode encodes what is not ASCII in a structured field. It reads comments, quoted strings
// and what stands in angle brackets, and what is between them as runs up to a delimiter.
func encode(name, value string, k kind) (string, error) {
	var out, run strings.Builder
	// flush writes the run. named says that an angle bracket or a group's colon follows,
	// which makes a phrase of it.
	flush := func(named bool) error {
		text := run.String()
		run.Reset()
		encoded, err := encodeRun(name, text, k, named)
		out.WriteString(encoded)
		return err
	}
	for i := 0; i < len(value); {
		c := value[i]
		n := 1
		switch c {
		case '"', '(', '<':
			if n = length(value[i:]); n == 0 {
				return "", errOpen
			}
		}
		part := value[i : i+n]
		i += n
		var err error
		switch {
		case c == '(':
			if err = flush(false); err == nil {
				out.WriteString(encodeComment(name, part))
			}
		case c == '<':
			if err = flush(true); err == nil {
				if part, err = encodeAngle(part, k); err == nil {
					out.WriteString(part)
				}
			}
		case c == ',' || c == ';' || c == ':' && k == mailboxes:
			err = flush(c == ':')
			out.WriteByte(c)
		default:
			run.WriteString(part)
		}
		if err != nil {
			return "", err
		}
	}
	err := flush(false)
	return out.String(), err
}

// length is that of the quoted string, comment or angle brackets that s begins with; 0 if
// they have no end.
func length(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && s[0] != '<':
			i++
		case s[0] == '(' && c == '(':
			depth++
		case s[0] == '(' && c == ')':
			if depth--; depth == 0 {
				return i + 1
			}
		case i > 0 && (s[0] == '"' && c == '"' || s[0] == '<' && c == '>'):
			return i + 1
		}
	}
	return 0
}

// encodeComment writes a comment that is not ASCII as one of encoded words (RFC 2047
// section 5 (2)).
func encodeComment(name, comment string) string {
	if plaintext.ASCII(comment) {
		return comment
	}
	return "(" + Words(name, unescape(comment[1:len(comment)-1])).String() + ")"
}

// encodeRun encodes a phrase, or a bare address.
func encodeRun(name, text string, k kind, named bool) (string, error) {
	core := strings.Trim(text, " \t")
	if plaintext.ASCII(core) {
		return text, nil
	}
	before, after, _ := strings.Cut(text, core)
	switch {
	case k == phrases, named && (k == listID || k == mailboxes):
		var plain strings.Builder
		for rest := core; rest != ""; {
			n := 1
			if rest[0] == '"' {
				n = length(rest)
				plain.WriteString(unescape(rest[1 : n-1]))
			} else {
				plain.WriteByte(rest[0])
			}
			rest = rest[n:]
		}
		return before + Words(name, plain.String()).String() + after, nil
	case k == mailboxes:
		address, err := encodeAddress(core)
		return before + address + after, err
	}
	return "", errNotASCII
}

// encodeAngle encodes what stands in angle brackets.
func encodeAngle(part string, k kind) (string, error) {
	if plaintext.ASCII(part) {
		return part, nil
	}
	inner := part[1 : len(part)-1]
	var err error
	switch k {
	case urls:
		inner, err = encodeURL(inner)
	case mailboxes:
		inner, err = encodeAddress(inner)
	case listID, msgIDs:
		err = errID
	default:
		err = errNotASCII
	}
	return "<" + inner + ">", err
}

// encodeAddress writes the domain of an address in A-labels.
func encodeAddress(address string) (string, error) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 || !plaintext.ASCII(address[:i]) {
		return "", errMailbox
	}
	domain, err := encodeDomain(address[i+1:])
	return address[:i+1] + domain, err
}

// domains turns a domain into A-labels as a lookup does (RFC 5891 section 5).
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

func encodeDomain(domain string) (string, error) {
	if plaintext.ASCII(domain) {
		return domain, nil
	}
	out, err := domains.ToASCII(domain)
	if err != nil {
		return "", errDomain
	}
	return out, nil
}

// encodeURL writes the host in A-labels, and every other byte that is not ASCII as a
// percent sign and two digits (RFC 3986 section 2.1).
func encodeURL(u string) (string, error) {
	scheme, rest, ok := strings.Cut(u, ":")
	if !ok || !plaintext.ASCII(scheme) {
		return "", errURL
	}
	before, host, after := scheme+":", "", rest
	if authority, isURL := strings.CutPrefix(rest, "//"); isURL {
		end := strings.IndexAny(authority, "/?#")
		if end < 0 {
			end = len(authority)
		}
		start := strings.LastIndexByte(authority[:end], '@') + 1
		port := end
		if i := strings.LastIndexByte(authority[start:end], ':'); i >= 0 {
			port = start + i
		}
		before, host, after = before+"//"+authority[:start], authority[start:port], authority[port:]
	} else if strings.EqualFold(scheme, "mailto") {
		address, _, _ := strings.Cut(rest, "?")
		if i := strings.LastIndexByte(address, '@'); i >= 0 {
			before, host, after = before+address[:i+1], address[i+1:], rest[len(address):]
		}
	}
	host, err := encodeDomain(host)
	return percent(before) + host + percent(after), err
}

func percent(s string) string {
	var out strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x80 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

// unescape takes the backslashes of quoted pairs away (RFC 5322 section 3.2.1).
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
