package smtp

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
)

// refusal reports whether a code says no (RFC 5321 section 4.2.1). Where an
// answer is neither yes nor no, we and the server no longer agree on what is
// being said.
func refusal(code int) bool { return code/100 == 4 || code/100 == 5 }

// enhancedCode is an RFC 3463 code at the beginning of a reply's text.
var enhancedCode = regexp.MustCompile(`^([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)`)

// markedCode is one behind the text, as qmail and its kin write it, or before it as
// Cisco's servers do: (#5.7.1), #5.1.0.
var markedCode = regexp.MustCompile(`#([45]\.\d{1,3}\.\d{1,3})\b`)

// reply splits a reply into code, enhanced code and text: a code on every line
// of a long answer is dropped from each. The text is valid UTF-8 on one line
// for any bytes.
func reply(code int, text string) email.Reply {
	r := email.Reply{Code: code}
	var parts []string
	for line := range strings.SplitSeq(text, "\n") {
		if m := enhancedCode.FindString(line); m != "" {
			if r.Enhanced == "" {
				r.Enhanced = strings.TrimSpace(m)
			}
			line = line[len(m):]
		}
		if line = strings.TrimSpace(Printable(line)); line != "" {
			parts = append(parts, line)
		}
	}
	r.Text = joinLines(parts)
	if m := markedCode.FindStringSubmatch(r.Text); r.Enhanced == "" && m != nil && refusal(code) {
		r.Enhanced = m[1]
	}
	r.Text = plaintext.Cut(r.Text, email.MaxReplyText)
	return r
}

// joinLines makes one line of a reply's lines. A refusal in Postfix's form is one line: what follows
// are sentences of their own. So is a line that begins with a question: it gives no reason.
func joinLines(lines []string) string {
	for i := 1; i < len(lines); i++ {
		ofForm := i == 1 && rejection.MatchString(lines[0])
		if (ofForm || question.MatchString(". "+lines[i])) && !strings.HasSuffix(lines[i-1], ".") {
			lines[i-1] += "."
		}
	}
	return strings.Join(lines, " ")
}

// Printable makes text fit for a database, a log and a screen: valid UTF-8 on one line.
// White space becomes a space. Invisible characters that change how the rest is read are escaped:
// control characters (\x1b), marks of direction and zero width (\u202e).
func Printable(s string) string {
	var b strings.Builder
	for _, c := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsSpace(c):
			b.WriteByte(' ')
		case unicode.IsPrint(c) || unicode.Is(unicode.Co, c):
			b.WriteRune(c)
		case c < 0x80:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// Bounds of what "try again in N" may ask for.
const (
	minHint = 10 * time.Second
	maxHint = 12 * time.Hour
)

var hintText = regexp.MustCompile(`(?i)\b(?:in|after|wait|another|for)\s+(\d{1,6})\s*(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b|\b(\d{1,6})\s+(seconds?|minutes?|hours?)\b`)

// retryHint reads "try again in N seconds" out of a reply; 0 if there is none.
func retryHint(r email.Reply) time.Duration {
	m := hintText.FindStringSubmatch(saidByServer(r))
	if m == nil {
		return 0
	}
	number, unit := m[1]+m[3], strings.ToLower(m[2]+m[4])
	n, err := strconv.Atoi(number)
	if err != nil || n == 0 {
		return 0
	}
	d := time.Duration(n) * time.Second
	switch unit[0] {
	case 'm':
		d *= 60
	case 'h':
		d *= 3600
	}
	return min(max(d, minHint), maxHint)
}
