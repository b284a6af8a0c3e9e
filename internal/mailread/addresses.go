package mailread

import (
	"strings"

	"github.com/postrider/postrider/internal/mailbox"
)

// Addresses reads a list of addresses (RFC 5322 §3.4, §4.4) from the value of a field,
// unfolded but not decoded: a comma in a decoded name would divide the entry. hint is
// as in Words. Addresses skips entries that are no address; bad is their number. Commas
// and semicolons separate entries. A name may have a comma in it without being quoted,
// and groups lose their name.
func Addresses(value, hint string) (list []mailbox.Address, bad int) {
	pending := "" // a first half of a name with a comma
	for _, e := range entries(value) {
		if specs := e.specs(); len(specs) > 1 {
			for _, spec := range specs {
				list = append(list, mailbox.Address{Email: plain(spec, hint)})
			}
			continue
		}
		a, ok := e.address(hint)
		switch {
		case ok && pending != "" && e.angle && a.Name != "":
			a.Name, bad, pending = Words(pending, hint)+", "+a.Name, bad-1, ""
			list = append(list, a)
		case ok:
			list, pending = append(list, a), ""
		case e.isEmpty():
		default:
			bad++
			pending = ""
			if !e.angle && len(e.comments) == 0 && !strings.Contains(strings.ToLower(e.words), "undisclosed") {
				pending = strings.TrimSpace(e.words)
			}
		}
	}
	return list, bad
}

// Sender reads a list of addresses as Addresses does. Of one in which nothing is
// an address it returns the names: notifications come from "MAILER-DAEMON (Mail
// Delivery System)".
func Sender(value, hint string) (list []mailbox.Address, bad int) {
	if list, bad = Addresses(value, hint); len(list) > 0 {
		return list, bad
	}
	for _, e := range entries(value) {
		local, name := strings.TrimSpace(e.words), ""
		if len(e.comments) > 0 {
			name = Words(strings.Join(e.comments, " "), hint)
		}
		isAtom := local != "" && !strings.ContainsAny(local, " \t\"=@<>[]")
		if !isAtom || name == "" && !strings.EqualFold(local, "MAILER-DAEMON") && !strings.EqualFold(local, "postmaster") && !strings.EqualFold(local, "root") {
			name, local = strings.TrimSpace(Words(unquote(local), hint)+" "+name), ""
		}
		if name != "" || local != "" {
			list = append(list, mailbox.Address{Name: tidy(name), Email: plain(local, hint)})
		}
		if local != "" {
			bad-- // an address without a domain (RFC 5321 §4.1.1.3 knows one, "postmaster")
		}
	}
	return list, bad
}

// entry is one element of a list, taken apart.
type entry struct {
	words    string // outside of angle brackets and comments
	spec     string // within angle brackets
	angle    bool
	comments []string
}

func (e entry) isEmpty() bool {
	return strings.TrimSpace(e.words) == "" && !e.angle && len(e.comments) == 0
}

// specs are addresses with nothing but white space between them.
func (e entry) specs() []string {
	if e.angle || strings.Count(e.words, "@") < 2 {
		return nil
	}
	words := strings.Fields(e.words)
	for _, w := range words {
		if !isSpec(w) {
			return nil
		}
	}
	return words
}

// scanner parts a list into entries in one pass.
type scanner struct {
	s        string
	list     []entry
	e        entry
	words    strings.Builder
	at       bool // an "@" is among words
	closed   int  // the length of words where the angle brackets ended
	lastSemi int  // the last semicolon: a colon before it may begin a group

	noQuote, noComment bool // no end follows any more
}

func entries(s string) []entry {
	r := scanner{s: s, lastSemi: strings.LastIndexByte(s, ';')}
	for i := 0; i < len(s); {
		i = r.take(i)
	}
	r.cut()
	return r.list
}

// cut ends an entry.
func (r *scanner) cut() {
	r.e.words = r.words.String()
	r.list, r.e, r.at = append(r.list, r.e), entry{}, false
	r.words.Reset()
}

// take reads one token at an offset and returns the next one's.
func (r *scanner) take(i int) int {
	switch c := r.s[i]; c {
	case '"':
		if end := r.quoteEnd(i); end > 0 {
			r.words.WriteString(r.s[i:end])
			return end
		}
	case '(':
		if end := r.commentEnd(i); end > 0 {
			r.e.comments = append(r.e.comments, strings.TrimSpace(unescape(r.s[i+1:end-1])))
			r.words.WriteByte(' ')
			return end
		}
	case '<':
		if r.e.angle && r.e.spec != "" {
			// The comma before this entry is missing.
			all := r.words.String()
			r.words.Reset()
			r.words.WriteString(all[:r.closed])
			r.cut()
			r.words.WriteString(all[r.closed:])
		}
		return r.takeAngle(i)
	case ',', ';':
		r.cut()
		return i + 1
	case ':':
		// A group's name goes (RFC 5322 §3.4); within a name it is a character.
		if i < r.lastSemi && !r.at && !r.e.angle {
			r.words.Reset()
			r.e = entry{}
			return i + 1
		}
	}
	if !r.e.angle || r.s[i] != '>' {
		r.at = r.at || r.s[i] == '@'
		r.words.WriteByte(r.s[i])
	}
	return i + 1
}

// takeAngle reads what is between angle brackets. A comma ends one that is left
// open, unless it belongs to a route (RFC 5322 §4.4).
func (r *scanner) takeAngle(i int) int {
	r.closed = r.words.Len()
	begin := i
	for begin < len(r.s) && r.s[begin] == '<' {
		begin++
	}
	route := begin < len(r.s) && r.s[begin] == '@'
	for j := begin; j < len(r.s); j++ {
		switch c := r.s[j]; {
		case c == '"':
			if end := r.quoteEnd(j); end > 0 {
				j = end - 1
			}
		case c == '>':
			r.e.angle, r.e.spec = true, r.s[begin:j]
			for j < len(r.s) && r.s[j] == '>' {
				j++
			}
			return j
		case c == '<' || (c == ',' || c == ';') && !route:
			r.e.angle, r.e.spec = true, r.s[begin:j]
			return j
		case c == ':':
			route = false
		}
	}
	r.e.angle, r.e.spec = true, r.s[begin:]
	return len(r.s)
}

// quoteEnd is the offset behind the quoted string at i, 0 where it has no end.
func (r *scanner) quoteEnd(i int) int {
	if r.noQuote {
		return 0
	}
	for j := i + 1; j < len(r.s); j++ {
		switch r.s[j] {
		case '\\':
			j++
		case '"':
			return j + 1
		}
	}
	r.noQuote = true
	return 0
}

func (r *scanner) commentEnd(i int) int {
	if r.noComment {
		return 0
	}
	if end := commentEnd(r.s[i:]); end > 0 {
		return i + end
	}
	r.noComment = true
	return 0
}

// address makes an address of an entry.
func (e entry) address(hint string) (mailbox.Address, bool) {
	name, spec := e.words, e.spec
	if !e.angle || e.spec == "" && strings.Contains(e.words, "@") {
		name, spec = splitWords(e.words)
	}
	spec = cleanSpec(spec)
	if !isSpec(spec) {
		// All of the entry may be encoded, which RFC 2047 §5 forbids.
		if decoded := Words(e.words, hint); !e.angle && strings.Contains(e.words, "=?") && strings.Contains(decoded, "@") {
			inner := entries(decoded)
			if a := inner[len(inner)-1]; !strings.Contains(decoded, "=?") {
				return a.address(hint)
			}
		}
		if !e.angle || spec == "" || strings.ContainsAny(spec, " \t@,;<>\"") {
			return mailbox.Address{}, false
		}
	}
	name = Words(unquote(name), hint)
	if strings.TrimSpace(name) == "" && len(e.comments) > 0 {
		name = Words(strings.Join(e.comments, " "), hint)
	}
	return mailbox.Address{Name: tidy(name), Email: plain(spec, hint)}, true
}

// splitWords finds the address among words without angle brackets: the last that
// has an "@" in it.
func splitWords(s string) (name, spec string) {
	s = joinSpec(strings.TrimSpace(s))
	if strings.HasPrefix(s, `"`) { // "a b"@c, or "a@b" alone
		if r := (scanner{s: s}); r.quoteEnd(0) > 0 {
			if end := r.quoteEnd(0); end == len(s) || s[end] == '@' && !strings.ContainsAny(s[end:], " \t") {
				return "", s
			}
		}
	}
	fields := strings.Fields(s)
	for i := len(fields) - 1; i >= 0; i-- {
		if strings.Contains(fields[i], "@") {
			spec = fields[i]
			return strings.Join(append(fields[:i:i], fields[i+1:]...), " "), spec
		}
	}
	return s, ""
}

// joinSpec removes white space around "@" (RFC 5322 §4.4), in linear time.
func joinSpec(s string) string {
	parts := strings.Split(s, "@")
	if len(parts) != 2 {
		return s
	}
	return strings.TrimRight(parts[0], " \t") + "@" + strings.TrimLeft(parts[1], " \t")
}

// cleanSpec takes from an address what does not belong to it: comments, a route,
// "mailto:", quotes and brackets around it.
func cleanSpec(spec string) string {
	spec = strings.TrimSpace(joinSpec(strings.TrimSpace(stripComments(spec))))
	if strings.HasPrefix(spec, "@") {
		if at := strings.LastIndexByte(spec, ':'); at >= 0 {
			spec = strings.TrimSpace(spec[at+1:])
		}
	}
	for {
		before := spec
		if len(spec) > 7 && strings.EqualFold(spec[:7], "mailto:") {
			spec = spec[7:]
		}
		for _, pair := range []string{`""`, "''", "[]", "<>", "()", "``"} {
			if len(spec) > 2 && spec[0] == pair[0] && spec[len(spec)-1] == pair[1] && isSpec(spec[1:len(spec)-1]) {
				spec = spec[1 : len(spec)-1]
			}
		}
		if spec = strings.Trim(spec, ",; \t"); spec == before {
			break
		}
	}
	local, domain, ok := strings.Cut(spec, "@")
	if ok && !strings.HasPrefix(local, `"`) && strings.Contains(local, " ") && strings.Contains(local, ".") {
		local = strings.ReplaceAll(strings.ReplaceAll(local, " .", "."), ". ", ".") // RFC 5322 §4.4 obs-local-part
	}
	if ok {
		spec = local + "@" + strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(domain, " .", "."), ". ", "."), ".")
	}
	return spec
}

// isSpec: something before and behind an "@", and nothing that parts addresses.
func isSpec(spec string) bool {
	at := strings.LastIndexByte(spec, '@')
	if at < 1 || at == len(spec)-1 {
		return false
	}
	local, domain := spec[:at], spec[at+1:]
	if strings.HasPrefix(local, `"`) && strings.HasSuffix(local, `"`) && len(local) > 1 {
		local = ""
	}
	return !hasOf(local, " \t<>,;:\"()[]@") && !hasOf(domain, " \t<>,;\"()@") && strings.Trim(domain, "[].") != ""
}

func hasOf(s, set string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f || strings.IndexByte(set, s[i]) >= 0 {
			return true
		}
	}
	return false
}

// unquote undoes quoted strings within a name.
func unquote(s string) string {
	if !strings.Contains(s, `"`) {
		return s
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			quoted = !quoted
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// tidy is a name as people read it: single spaces, no quotes around it.
func tidy(name string) string {
	name = strings.Join(strings.Fields(name), " ")
	for _, quote := range []string{"'", `"`} {
		if len(name) > 2 && strings.HasPrefix(name, quote) && strings.HasSuffix(name, quote) {
			name = strings.TrimSpace(name[1 : len(name)-1])
		}
	}
	return name
}
