package advice

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lengths of a subject, in characters.
const (
	// listedSubject is about what lists of mail show on a wide screen: 60 in
	// Outlook.com, 64 in Apple Mail, 70 in Gmail. Telephones show 35 to 40.
	listedSubject = 60
	// lineSubject is the length that a line should not exceed (RFC 5322 section
	// 2.1.1). Longer subjects are folded, which not every program undoes well.
	lineSubject = 78
)

func (l *letter) subjectLength() verdict {
	const at = "/subject"
	switch n := utf8.RuneCountInString(strings.TrimSpace(l.Subject)); {
	case n == 0:
		return warn(at, "The subject is empty. Say in a few words what the mail is about.")
	case n > lineSubject:
		return warn(at, "The subject has %d characters; lists of mail show about %d, and more than %d do not fit on a line of a header (RFC 5322). Shorten it.", n, listedSubject, lineSubject)
	case n > listedSubject:
		return advise(at, "The subject has %d characters; lists of mail show about %d, telephones 35 to 40. Put what matters first, or shorten it.", n, listedSubject)
	default:
		return fine("The subject has %d characters.", n)
	}
}

// fewLetters have no ratio: order numbers and abbreviations are in capitals.
const fewLetters = 10

func (l *letter) subjectCapitals() verdict {
	upper, lower := 0, 0
	for _, r := range l.Subject {
		switch {
		case unicode.IsUpper(r):
			upper++
		case unicode.IsLower(r):
			lower++
		}
	}
	if all := upper + lower; all >= fewLetters && upper*2 > all {
		return warn("/subject", "%d of the subject's %d letters are capitals, which spam filters count. Write it as a sentence.", upper, all)
	}
	return fine("The subject is not in capitals.")
}
