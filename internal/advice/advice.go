// Package advice reads a message as its recipients' programs will, and says what
// to do about what they will not show, or not let pass.
//
//  1. page.go reads the HTML once. For any tags the time grows linearly with the
//     length. css.go does the same with styles.
//  2. The checks below judge what was found, each in the file of its group. They
//     refuse nothing: what must not be sent is refused by intake.
//
// Neither a server nor a link is asked: the same message gets the same advice.
package advice

import (
	"fmt"
	"slices"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// Level says how much a check found.
type Level string

// The levels. Advice: the mail would be better. Warning: some recipients will not
// see it as meant, or not get it.
const (
	LevelOK      Level = "ok"
	LevelAdvice  Level = "advice"
	LevelWarning Level = "warning"
)

// Check is the answer of one check.
type Check struct {
	// ID is stable, Title is for people.
	ID    string
	Level Level
	Title string
	// Detail says what was found and what to do.
	Detail string
	// Where is the first place: an excerpt, or a JSON Pointer into the request. It
	// is empty where the whole message is meant.
	Where string
}

// Facts are what a message does not say about itself.
type Facts struct {
	// SizeBytes is the size of the rendered message.
	SizeBytes int64
	// Senders are those of the customer's last e-mails of the same stream.
	Senders email.SenderUse
}

// checks run in the order of the answer. One that does not concern a message gives
// no verdict, and is left out.
var checks = []struct {
	id, title string
	judge     func(*letter) verdict
}{
	{"sender", "The stream's usual sender", (*letter).sender},
	{"unsubscribe", "A way to unsubscribe", (*letter).unsubscribe},

	{"subject_length", "A concise subject", (*letter).subjectLength},
	{"subject_capitals", "A subject that does not shout", (*letter).subjectCapitals},
	{"punctuation", "No excessive punctuation", (*letter).punctuation},
	{"spam_words", "No words that spam filters look for", (*letter).spamWords},
	{"placeholders", "Nothing left to fill in", (*letter).placeholders},

	{"both_versions", "Both HTML and plain text", (*letter).bothVersions},
	{"html_size", "HTML that is shown whole", (*letter).htmlSize},
	{"inline_css", "Inline CSS", (*letter).inlineCSS},
	{"active_content", "No scripts, frames or forms", (*letter).activeContent},
	{"layout", "A table-based layout", (*letter).layout},

	{"image_alt", "Images with alt text", (*letter).imageAlt},
	{"image_urls", "Images with absolute URLs", (*letter).imageURLs},
	{"inline_files", "Inline files that the HTML shows", (*letter).inlineFiles},
	{"link_urls", "Links that lead somewhere", (*letter).linkURLs},
	{"link_text", "Links that say where they lead", (*letter).linkText},

	{"attachment_types", "Attachments of common formats", (*letter).attachmentTypes},
	{"message_size", "A size that servers take", (*letter).messageSize},
	{"attachment_references", "Attachments looked at", (*letter).attachmentReferences},
}

// Checks looks at a message as intake gives it.
func Checks(m email.Message, f Facts) []Check {
	if m.Unsubscribe {
		m.Text, m.HTML = unsubscribe.Fill(m.Text, sampleLink), unsubscribe.Fill(m.HTML, sampleLink)
	}
	l := &letter{Message: m, facts: f, page: readPage(m)}
	var out []Check
	for _, c := range checks {
		if v := c.judge(l); v.level != "" {
			out = append(out, Check{ID: c.id, Level: v.level, Title: c.title, Detail: v.detail, Where: v.where})
		}
	}
	return out
}

// sampleLink stands for the link to unsubscribe by, which each recipient gets.
const sampleLink = "https://links.invalid" + unsubscribe.Path + "unsubscribe"

// letter is a message under examination.
type letter struct {
	email.Message
	facts Facts
	// page is what its HTML holds; empty without HTML.
	page page
}

// verdict is what a check says. The zero one says that it is not concerned.
type verdict struct {
	level         Level
	detail, where string
}

func fine(format string, args ...any) verdict {
	return verdict{level: LevelOK, detail: fmt.Sprintf(format, args...)}
}

func advise(where, format string, args ...any) verdict {
	return verdict{LevelAdvice, fmt.Sprintf(format, args...), where}
}

func warn(where, format string, args ...any) verdict {
	return verdict{LevelWarning, fmt.Sprintf(format, args...), where}
}

// finding counts what is wrong in one way.
type finding struct {
	count int
	// where is an excerpt of the first place.
	where string
	// kinds are what was found, each once, at most maxKinds.
	kinds []string
}

const maxKinds = 5

func (f *finding) add(where, kind string) {
	if f.count++; f.count == 1 {
		f.where = where
	}
	if len(f.kinds) < maxKinds && !slices.Contains(f.kinds, kind) {
		f.kinds = append(f.kinds, kind)
	}
}

// maxExcerpt is how long an excerpt may be, in bytes.
const maxExcerpt = 160

func excerpt(s string) string {
	if len(s) <= maxExcerpt {
		return s
	}
	return plaintext.Cut(s, maxExcerpt) + "…"
}

// times is "1 image" or "2 images".
func times(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
