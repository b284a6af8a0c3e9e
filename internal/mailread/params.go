package mailread

import (
	"strconv"
	"strings"
)

// Param is one parameter of a structured field.
type Param struct {
	// Value is as it was written, quotes and escapes undone; UTF-8 where Extended.
	Value string
	// Extended: the value named its charset (RFC 2231 §4) and has been decoded.
	Extended bool
}

// separators are the parameters before which a missing semicolon is forgiven.
var separators = map[string]bool{
	"boundary": true, "charset": true, "name": true, "filename": true, "type": true, "format": true, "delsp": true, "size": true,
	"creation-date": true, "modification-date": true, "start": true, "protocol": true, "micalg": true, "method": true, "report-type": true,
}

// maxParams bounds the parameters that are read of a field. A file name in segments has the
// most (RFC 2231 §3): 1,000 of them.
const maxParams = 1100

// Params reads the value of Content-Type or Content-Disposition (RFC 2045 §5.1,
// RFC 2183): its first token in lower case and its parameters, names in lower
// case. One malformed parameter does not cost the others: a value may lack its
// quotes or one of them, have spaces, "=" or quotes in it, or no semicolon after
// it. Segments and charsets of RFC 2231 are put together in any order.
func Params(value string) (token string, params map[string]Param) {
	p := paramReader{s: value, raw: map[string]string{}}
	token = p.token()
	for n := 0; n < maxParams && p.next(); n++ {
	}
	return token, join2231(p.raw)
}

type paramReader struct {
	s   string
	raw map[string]string

	noComment, noQuote bool // no end follows any more: looked for once, for linear time
}

// token takes what is before the first parameter.
func (p *paramReader) token() string {
	end := len(p.s)
	for i := range len(p.s) {
		if c := p.s[i]; c == ';' || c == '(' || c == '=' || i > 0 && (c == ' ' || c == '\t') && strings.TrimSpace(p.s[:i]) != "" {
			end = i
			break
		}
	}
	if end < len(p.s) && p.s[end] == '=' {
		return "" // the first token is missing: a parameter comes at once
	}
	token := strings.ToLower(strings.TrimSpace(p.s[:end]))
	p.s = p.s[end:]
	if strings.HasPrefix(strings.TrimLeft(p.s, " \t"), "/") { // "text / plain"
		rest := strings.TrimLeft(strings.TrimLeft(p.s, " \t")[1:], " \t")
		end := strings.IndexAny(rest, " \t;(")
		if end < 0 {
			end = len(rest)
		}
		token, p.s = token+"/"+strings.ToLower(rest[:end]), rest[end:]
	}
	return strings.Trim(token, `"'`)
}

// next reads one parameter and says whether there is more.
func (p *paramReader) next() bool {
	p.skip()
	if p.s == "" {
		return false
	}
	end := strings.IndexAny(p.s, "=;")
	if end < 0 {
		return false
	}
	if p.s[end] == ';' {
		p.s = p.s[end+1:]
		return true
	}
	name := strings.ToLower(strings.TrimSpace(p.s[:end]))
	if at := strings.LastIndexAny(name, " \t"); at >= 0 {
		name = name[at+1:] // words that belong to nothing
	}
	p.s = strings.TrimLeft(p.s[end+1:], " \t")
	var value string
	if strings.HasPrefix(p.s, `"`) {
		value = p.quoted()
	} else {
		value = p.bare(name)
	}
	if _, twice := p.raw[name]; !twice && name != "" {
		p.raw[name] = value
	}
	return true
}

// skip leaves white space, semicolons and comments behind.
func (p *paramReader) skip() {
	for {
		p.s = strings.TrimLeft(p.s, " \t;,")
		if p.noComment || !strings.HasPrefix(p.s, "(") {
			return
		}
		if end := commentEnd(p.s); end > 0 {
			p.s = p.s[end:]
		} else {
			p.noComment = true
		}
	}
}

// quoted reads a quoted string. A quote ends it where a parameter may end; any
// other one is a character of the value. A backslash escapes a quote or a
// backslash, and is itself in a path such as "C:\temp". A string without an end
// goes to the next parameter that is known, or to the end of the field.
func (p *paramReader) quoted() string {
	var b strings.Builder
	s := p.s[1:]
	for i := 0; i < len(s) && !p.noQuote; i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case c == '"' && endsParam(s[i+1:]):
			p.s = s[i+1:]
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	p.noQuote, p.s = true, s
	return p.bare("")
}

func endsParam(rest string) bool {
	trimmed := strings.TrimLeft(rest, " \t")
	return trimmed == "" || trimmed[0] == ';' || trimmed[0] == '(' || trimmed[0] == ',' || startsParam(trimmed)
}

// startsParam: a parameter that senders use begins here.
func startsParam(s string) bool {
	end := strings.IndexAny(s[:min(len(s), 40)], "=;\" ")
	if end <= 0 || s[end] != '=' {
		return false
	}
	name, _, _ := strings.Cut(strings.ToLower(s[:end]), "*")
	return separators[name]
}

// bare reads a value without quotes, spaces included, to the next semicolon or
// known parameter.
func (p *paramReader) bare(name string) string {
	end := len(p.s)
	for i := range len(p.s) {
		c := p.s[i]
		if c == ';' {
			end = i
			break
		}
		if (c == ' ' || c == '\t') && i+1 < len(p.s) {
			rest := p.s[i+1:]
			isName := strings.HasPrefix(name, "name") || strings.HasPrefix(name, "filename") || name == ""
			if startsParam(rest) || rest[0] == '(' && !isName {
				end = i
				break
			}
		}
	}
	value := strings.TrimSpace(p.s[:end])
	p.s = p.s[end:]
	return strings.TrimRight(value, `"`)
}

// join2231 puts segments together (RFC 2231 §3) and decodes charsets (§4). The
// extended form wins over the plain one.
func join2231(raw map[string]string) map[string]Param {
	out := map[string]Param{}
	segments := map[string]map[int]string{}
	coded := map[string]map[int]bool{}
	for name, value := range raw {
		base, rest, ok := strings.Cut(name, "*")
		if !ok {
			continue
		}
		number, isCoded := strings.CutSuffix(rest, "*")
		n := 0
		switch at, err := strconv.Atoi(number); {
		case rest == "":
			isCoded, n = true, -1 // name*=
		case err == nil && at >= 0 && at < 1000:
			n = at
		default:
			continue
		}
		if segments[base] == nil {
			segments[base], coded[base] = map[int]string{}, map[int]bool{}
		}
		segments[base][n], coded[base][n] = value, isCoded
	}
	for base, list := range segments {
		out[base] = joinSegments(list, coded[base])
	}
	for name, value := range raw {
		if _, done := out[name]; !done && !strings.Contains(name, "*") {
			out[name] = Param{Value: value}
		}
	}
	return out
}

func joinSegments(list map[int]string, coded map[int]bool) Param {
	if value, ok := list[-1]; ok {
		list, coded = map[int]string{0: value}, map[int]bool{0: true}
	}
	var bytes []byte
	charset, extended := "", false
	for n, left := 0, len(list); left > 0 && n < 1000; n++ {
		value, ok := list[n]
		if !ok {
			continue // a segment that got lost
		}
		left--
		if coded[n] {
			if parts := strings.SplitN(value, "'", 3); !extended && len(parts) == 3 {
				charset, value = parts[0], parts[2]
			}
			extended = true
			bytes = append(bytes, unpercent(value)...)
		} else {
			bytes = append(bytes, value...)
		}
	}
	if !extended {
		return Param{Value: string(bytes)}
	}
	text, _ := Text(bytes, charset)
	return Param{Value: text, Extended: true}
}

func unpercent(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// commentEnd is the offset behind the comment that s begins with, -1 where it
// has no end (RFC 5322 §3.2.2).
func commentEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
