package advice

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/plaintext"
)

// spamPhrases are words of advertising that spam is full of and that ordinary mail
// seldom needs, in lower case. The list is our own and short: a filter weighs
// hundreds of signs, and what a customer can act upon is these.
var spamPhrases = []string{
	"100% free", "absolutely free", "act immediately", "act now", "be your own boss", "cash bonus", "casino",
	"click below", "click here", "congratulations! you", "dear friend", "double your", "earn extra cash", "earn money",
	"eliminate debt", "financial freedom", "free money", "get rich", "guaranteed winner", "investment opportunity",
	"limited time offer", "lose weight", "lottery", "lowest price", "make money", "miracle", "money back guarantee",
	"no catch", "no credit check", "no obligation", "no strings attached", "once in a lifetime", "pre-approved",
	"risk free", "risk-free", "this is not spam", "viagra", "why pay more", "work from home", "you are a winner", "you have won",
}

// manyPhrases in one mail are a warning.
const manyPhrases = 3

func (l *letter) spamWords() verdict {
	var inSubject, found []string
	var first string
	subject, body := plain(l.Subject), plain(l.readable())
	for _, p := range spamPhrases {
		in := index(subject, p) >= 0
		at := index(body, p)
		if in {
			inSubject = append(inSubject, p)
		}
		if at >= 0 && first == "" {
			first = around(body, at, len(p))
		}
		if in || at >= 0 {
			found = append(found, p)
		}
	}
	said := quoted(found)
	switch {
	case len(inSubject) > 0:
		return warn("/subject", "The mail says %s, the subject %s. Spam filters look at subjects first: say the same in other words.", said, quoted(inSubject))
	case len(found) >= manyPhrases:
		return warn(first, "The mail says %s. Each is harmless; together they look like spam. Say the same in other words.", said)
	case len(found) > 0:
		return advise(first, "The mail says %s, as much spam does. Other words may serve as well; a link is best named by what it leads to.", said)
	}
	return fine("None of the %d phrases of our list.", len(spamPhrases))
}

// quoted names at most five.
func quoted(list []string) string {
	var out []string
	for i, s := range list {
		if i == 5 {
			out = append(out, fmt.Sprintf("%d more", len(list)-5))
			break
		}
		out = append(out, "“"+s+"”")
	}
	return strings.Join(out, ", ")
}

// readable is what recipients read: the text and, where the client wrote both, the
// HTML's.
func (l *letter) readable() string {
	text := plaintext.Cut(l.Text, maxText)
	if !l.TextFromHTML {
		text += "\n" + l.page.text
	}
	return text
}

// plain is a text in lower case with single spaces.
func plain(s string) string { return strings.Join(strings.Fields(strings.ToLower(s)), " ") }

// index finds a phrase that is not part of longer words; -1 if there is none.
func index(text, phrase string) int {
	for from := 0; ; {
		i := strings.Index(text[from:], phrase)
		if i < 0 {
			return -1
		}
		i += from
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[i+len(phrase):])
		if !wordly(before) && !wordly(after) {
			return i
		}
		from = i + len(phrase)
	}
}

func wordly(r rune) bool { return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) }

// around is what stands around a place, for an excerpt.
func around(text string, at, length int) string {
	from := max(0, at-40)
	for from < at && !utf8.RuneStart(text[from]) {
		from++
	}
	out := plaintext.Cut(text[from:], at-from+length+40)
	if from > 0 {
		out = "…" + out
	}
	if from+len(strings.TrimPrefix(out, "…")) < len(text) {
		out += "…"
	}
	return out
}

// Runs of marks that are too long.
const (
	subjectRun = 2
	bodyRun    = 3
)

func (l *letter) punctuation() verdict {
	if _, found := marks(l.Subject, subjectRun); found || strings.Count(l.Subject, "!") > 1 {
		return warn("/subject", "The subject has several !, ? or currency signs, which spam filters count. One is enough, none is better.")
	}
	for _, text := range []string{plaintext.Cut(l.Text, maxText), l.page.text} {
		if at, found := marks(text, bodyRun); found {
			return advise(strings.TrimSpace(around(text, at, bodyRun)), "The text has rows of !, ? or currency signs, as much spam has. One is enough.")
		}
	}
	return fine("Neither subject nor text shouts.")
}

// marks finds a run of at least n loud marks.
func marks(text string, n int) (at int, found bool) {
	run := 0
	for i, r := range text {
		if !strings.ContainsRune("!?！？$€£", r) {
			run = 0
			continue
		}
		if run++; run == 1 {
			at = i
		}
		if run == n {
			return at, true
		}
	}
	return 0, false
}

// placeholder is how the common template languages write what is to be filled in.
var placeholder = regexp.MustCompile(`\{\{[^{}\n]{1,60}\}\}|\{%[^%\n]{1,60}%\}|\$\{[^{}\n]{1,60}\}|<%[^%\n]{1,60}%>|\*\|[A-Z0-9_:]{1,60}\|\*`)

func (l *letter) placeholders() verdict {
	if placeholder.MatchString(l.Subject) {
		return warn("/subject", "The subject holds a template's placeholder, and is sent as it is: fill it in before.")
	}
	for _, text := range []string{plaintext.Cut(l.Text, maxText), l.page.text, plaintext.Cut(l.HTML, maxText)} {
		if at := placeholder.FindStringIndex(text); at != nil {
			return warn(excerpt(text[at[0]:at[1]]), "The content holds a template's placeholder, and is sent as it is: fill it in before.")
		}
	}
	return fine("No placeholder of a template is left.")
}
