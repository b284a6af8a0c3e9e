package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxWords is how many words a sentence may have. Code in backticks counts as one
	// word; a colon and a semicolon end a sentence.
	maxWords = 25
	// minInverted is from how many words on a sentence must not begin with "Who" or
	// "What": a shorter one is a title.
	minInverted = 4
)

// banned are words and phrases that make a reader guess, each with the reason and what to
// write instead. They are compared without regard to case, as whole words.
var banned = []struct{ words, why string }{
	{"whoever|whomever|whosoever", "name the subject: a caller, a client, a worker"},
	{"whatever|whichever|whatsoever", "name the things that are meant"},
	{"somebody|someone|anybody|anyone", "name the subject: a customer, an operator, a process"},
	{"nobody|no one", "say which subject does not: no caller, no worker"},
	{"ever after|for ever", "say until when"},
	{"let be|lets be|is let be|are let be", "say what the program does: ignores, keeps, skips"},
	{"told|heard out", "say what is sent, returned, logged or shown"},
	{"is none of its business|would have it|sees to it", "say what the program does"},
	{"thereby|therein|thereof|thereupon|herein|hereby|whereby|wherein|whereupon", "make two sentences"},
	{"the seed|seed api", "there is no seed in this repository: name VoIPBIN's e-mail API"},
	{"in vain|of old|at leisure|in its stead|in their stead", "use an everyday word"},
}

var bannedPatterns = func() (out []*regexp.Regexp) {
	for _, b := range banned {
		out = append(out, regexp.MustCompile(`(?i)(^|[^\w-])(`+b.words+`)($|[^\w-])`))
	}
	return out
}()

// finding is what is wrong at a line.
type finding struct {
	line int
	what string
}

// check compares blocks with the rules.
func check(blocks []block) []finding {
	var out []finding
	for _, b := range blocks {
		out = append(out, b.check()...)
	}
	slices.SortStableFunc(out, func(a, b finding) int { return cmp.Compare(a.line, b.line) })
	return out
}

var (
	code      = regexp.MustCompile("`[^`]*`")
	link      = regexp.MustCompile(`\]\([^)]*\)`)
	textToken = regexp.MustCompile(`\S+`)
	// abbreviation is a full stop that does not end a sentence.
	abbreviation = regexp.MustCompile(`(?i)(^|\W)(e\.g|i\.e|etc|no|cf|vs|st|approx|incl|resp)\.$`)
	ending       = regexp.MustCompile(`[.!?:;]["')\]*_]*$`)
	word         = regexp.MustCompile(`[\pL\pN]`)
)

func (b block) check() []finding {
	var out []finding
	// A code span may hold anything; it is one word. It may go over a line's end, so
	// it is replaced in the whole block, with its line ends kept.
	text := code.ReplaceAllStringFunc(strings.Join(b.lines, "\n"), func(s string) string {
		return "`code`" + strings.Repeat("\n", strings.Count(s, "\n"))
	})
	text = link.ReplaceAllString(text, "]")
	for i, pattern := range bannedPatterns {
		for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
			line := b.first + strings.Count(text[:at[4]], "\n")
			out = append(out, finding{line, fmt.Sprintf("%q: %s", text[at[4]:at[5]], banned[i].why)})
		}
	}
	sentence := sentence{heading: b.heading}
	for i, line := range strings.Split(text, "\n") {
		for _, t := range textToken.FindAllString(line, -1) {
			sentence.add(t, b.first+i)
			if ending.MatchString(t) && !abbreviation.MatchString(t) {
				out = append(out, sentence.end()...)
			}
		}
	}
	return append(out, sentence.end()...)
}

// sentence is one that is being read.
type sentence struct {
	heading     bool
	words, line int
	first, last string
}

func (s *sentence) add(t string, line int) {
	if s.last = t; !word.MatchString(t) {
		return
	}
	if s.words++; s.words == 1 {
		s.line, s.first = line, strings.Trim(t, "*_\"'()")
	}
}

// end checks the sentence and begins the next.
func (s *sentence) end() (out []finding) {
	if s.words > maxWords {
		out = append(out, finding{s.line, fmt.Sprintf("a sentence of %d words, at most %d: make two of it", s.words, maxWords)})
	}
	question := strings.Contains(s.last, "?")
	if (s.first == "Who" || s.first == "What") && s.words >= minInverted && !question && !s.heading {
		out = append(out, finding{s.line, fmt.Sprintf("a sentence begins with %q: begin with the subject", s.first)})
	}
	*s = sentence{heading: s.heading}
	return out
}
