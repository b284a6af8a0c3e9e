package advice

import "strings"

// css reads a style attribute, or what stands in <style>. It is no parser of CSS
// (CSS Syntax Module Level 3): it knows comments, strings, brackets and blocks, so
// that it finds where a declaration begins and ends.
func (r *reader) css(text string, inline bool, where string) {
	s := sheet{r: r, inline: inline, where: where}
	text = withoutComments(text)
	start := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"', '\'':
			i = endOfString(text, i)
		case '(':
			i = endOfBrackets(text, i)
		case '{':
			s.open(text[start:i])
			start = i + 1
		case ';':
			s.declare(text[start:i])
			start = i + 1
		case '}':
			s.declare(text[start:i])
			s.close()
			start = i + 1
		}
	}
	s.declare(text[start:])
}

// withoutComments also drops the marks that hid styles from ancient browsers.
func withoutComments(text string) string {
	if !strings.Contains(text, "/*") && !strings.Contains(text, "<!--") {
		return text
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "/*")
		out.WriteString(before)
		if !found {
			break
		}
		_, text, _ = strings.Cut(rest, "*/") // an open one hides the rest
		out.WriteByte(' ')
	}
	return strings.NewReplacer("<!--", " ", "-->", " ").Replace(out.String())
}

// endOfString is where the string that begins at i ends: at its quote, or at the
// end of the line.
func endOfString(text string, i int) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		switch text[i] {
		case quote, '\n':
			return i
		case '\\':
			i++
		}
	}
	return i
}

// endOfBrackets is where the bracket that opens at i closes. Those in between do
// not count: a url() may hold anything.
func endOfBrackets(text string, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case ')':
			return i
		case '\\':
			i++
		case '"', '\'':
			i = endOfString(text, i)
		}
	}
	return i
}

// sheet follows the blocks of a style.
type sheet struct {
	r      *reader
	inline bool
	where  string
	depth  int
	// skipped is the depth of the conditional block we are in; 0 is none. Its styles
	// are for programs that understand the condition.
	skipped int
}

func (s *sheet) open(prelude string) {
	s.depth++
	prelude = strings.TrimSpace(prelude)
	switch {
	case s.skipped > 0:
	case strings.HasPrefix(prelude, "@"):
		s.skipped = s.depth
	case !s.inline && !strings.Contains(prelude, ":"): // a:hover cannot stand in an element
		s.r.rules.add(excerpt(prelude), "rules in <style>")
	}
}

func (s *sheet) close() {
	if s.depth == s.skipped {
		s.skipped = 0
	}
	s.depth = max(0, s.depth-1)
}

// spread are the values of position, float and display that leave things as they are.
var spread = words("none static initial inherit unset revert")

func (s *sheet) declare(d string) {
	if s.skipped > 0 {
		return
	}
	d = strings.TrimSpace(d)
	if at := "@import"; len(d) >= len(at) && strings.EqualFold(d[:len(at)], at) {
		s.r.stylesheets.add(excerpt(d), "@import")
		return
	}
	name, value, found := strings.Cut(d, ":")
	if !found {
		return
	}
	where := s.where
	if !s.inline {
		where = excerpt(d)
	}
	name = strings.ToLower(strings.TrimSpace(name))
	switch name {
	case "float", "position", "display":
		value = strings.ToLower(strings.TrimSpace(value))
		value, _, _ = strings.Cut(value, "!")
		value = strings.TrimSpace(value)
		switch {
		case spread[value] || value == "":
		case name != "display":
			s.r.layout.add(where, name)
		case strings.Contains(value, "flex"):
			s.r.layout.add(where, "flex")
		case strings.Contains(value, "grid"):
			s.r.layout.add(where, "grid")
		}
	default:
		s.urls(value, where)
	}
}

// urls looks at the images that a value names.
func (s *sheet) urls(value, where string) {
	for {
		i := strings.Index(value, "url(")
		if i < 0 {
			return
		}
		value = value[i+len("url"):]
		end := endOfBrackets(value, 0)
		s.r.imageURL(strings.Trim(strings.TrimSpace(value[1:min(end, len(value))]), `"'`), where)
		value = value[min(end, len(value)):]
	}
}
