package inbound

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/mailread"
	"github.com/postrider/postrider/internal/plaintext"
)

// mutation writes a message another way that means the same. It returns nil where
// it does not apply.
type mutation struct {
	name string
	// same are the fields of a reading that must stay.
	same   []string
	mutate func(raw []byte) []byte
}

var (
	contentFields = []string{"text", "html", "attachments"}
	headerFields  = []string{"subject", "date", "from", "to", "cc", "reply_to"}
	allFields     = append(contentFields[:3:3], headerFields...)

	knownName   = regexp.MustCompile(`(?m)^(From|To|Cc|Reply-To|Subject|Date|MIME-Version|Content-[A-Za-z-]+):`)
	lastEnd     = regexp.MustCompile(`\r\n--[^\r\n]*--(\r\n)?$`)
	contentLine = regexp.MustCompile(`(?i)^Content-(Type|Transfer-Encoding|Disposition|ID):`)
)

var mutations = []mutation{
	{"names in capitals", allFields, func(raw []byte) []byte { return knownName.ReplaceAllFunc(raw, bytes.ToUpper) }},
	{"white space before colons", allFields, func(raw []byte) []byte { return knownName.ReplaceAll(raw, []byte("$1 :")) }},
	{"no space behind colons", allFields, func(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte(": "), []byte(":")) }},
	{"values folded behind the colon", allFields, func(raw []byte) []byte { return knownName.ReplaceAll(raw, []byte("$1:\r\n ")) }},
	{"more fields", allFields, func(raw []byte) []byte {
		return append([]byte("Received: from a (b; c) by d;\r\n\tMon, 23 Nov 2026 10:00:00 +0100\r\nX-Odd: \"(;,<=?utf-8?Q?\r\n"), raw...)
	}},
	{"the From line of an mbox", allFields, func(raw []byte) []byte {
		return append([]byte("From bob@b.test Mon Nov 23 10:00:00 2026\r\n"), raw...)
	}},
	{"line ends of LF", headerFields, func(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")) }},
	{"line ends of CR", allFields, func(raw []byte) []byte {
		if !bytes.Contains(raw, []byte("\r\n\r\n")) {
			return nil
		}
		return bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\r"))
	}},
	{"the last delimiter missing", allFields, func(raw []byte) []byte {
		if !lastEnd.Match(raw) {
			return nil
		}
		return lastEnd.ReplaceAll(raw, nil)
	}},
	{"as the part of a multipart", contentFields, func(raw []byte) []byte { return wrapped(raw, "--wrap--\r\n") }},
	{"as the part of a multipart without an end", contentFields, func(raw []byte) []byte { return wrapped(raw, "") }},
	{"text in base64", contentFields, func(raw []byte) []byte {
		return encoded(raw, "base64", func(text []byte) []byte {
			return []byte(base64.StdEncoding.EncodeToString(text))
		})
	}},
	{"text in quoted-printable", contentFields, func(raw []byte) []byte {
		return encoded(raw, "quoted-printable", func(text []byte) []byte {
			var b bytes.Buffer
			w := quotedprintable.NewWriter(&b)
			_, _ = w.Write(text) // a bytes.Buffer takes all
			_ = w.Close()
			return b.Bytes()
		})
	}},
}

// wrapped puts a message's content into a multipart.
func wrapped(raw []byte, end string) []byte {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok || !regularHeader(head) {
		return nil
	}
	var outer, inner []string
	own := false
	for _, line := range strings.Split(string(head), "\r\n") {
		if line == "" || line[0] != ' ' && line[0] != '\t' {
			own = contentLine.MatchString(line)
		}
		if own {
			inner = append(inner, line)
		} else {
			outer = append(outer, line)
		}
	}
	return []byte(strings.Join(outer, "\r\n") + "\r\nContent-Type: multipart/mixed; boundary=wrap\r\n\r\npreamble\r\n--wrap\r\n" +
		strings.Join(append(inner, ""), "\r\n") + "\r\n" + string(body) + "\r\n" + end)
}

// encoded puts text that has no transfer encoding into one.
func encoded(raw []byte, name string, encode func([]byte) []byte) []byte {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok || !regularHeader(head) || regexp.MustCompile(`(?mi)^Content-Type: *multipart|^Content-Transfer-Encoding: *[^78 ]`).Match(head) {
		return nil
	}
	head = regexp.MustCompile(`(?mi)^Content-Transfer-Encoding:.*\r\n`).ReplaceAll(append(head, "\r\n"...), nil)
	return append([]byte(string(head)+"Content-Transfer-Encoding: "+name+"\r\n\r\n"), encode(body)...)
}

// regularHeader: all of it is fields.
func regularHeader(head []byte) bool {
	list, _, odd := mailread.Fields(append(head[:len(head):len(head)], "\r\n\r\n"...))
	return len(list) > 0 && !odd && head[0] != ' '
}

// isMutable: the first lines of a message are not what it is about, and mutations
// do not change the size of a message in it.
func isMutable(raw []byte) bool {
	head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	return regularHeader(head) && !bytes.Contains(raw, []byte("Subject: inner")) && !bytes.Contains(raw, []byte("rfc822-headers"))
}

// TestMutationsMeanTheSame writes every message of the corpus in other ways.
func TestMutationsMeanTheSame(t *testing.T) {
	t.Parallel()
	applied := map[string]int{}
	for _, s := range corpus(t) {
		raw := s.message()
		if !isMutable(raw) {
			continue
		}
		want := members(t, read(t, raw))
		for _, m := range mutations {
			other := m.mutate(raw)
			if other == nil {
				continue
			}
			applied[m.name]++
			got := members(t, read(t, other))
			for _, field := range m.same {
				require.JSONEq(t, string(want[field]), string(got[field]), "%s: %s: %s: %s\n%q", s.area, s.Name, m.name, field, other)
			}
		}
	}
	for _, m := range mutations {
		require.Greater(t, applied[m.name], 20, m.name)
	}
}

// fragments are put into messages by random mutations.
var fragments = []string{"\r\n", "\n", "\r", "\r\n\r\n", "--b1", "--b1--\r\n", "=", "=?utf-8?Q?", "?=", "\"", "(", ")", "<", ">", ",", ";", ":", "@", "\\", "\x00", "\xff",
	"\x1b$B", "+", " ", "\t", "%", "*", "'", "Content-Type: multipart/mixed; boundary=b1\r\n", "Content-Transfer-Encoding: base64\r\n", "charset=utf-7", "*0*="}

func mutated(r *rand.Rand, raw []byte) []byte {
	out := bytes.Clone(raw)
	for range 1 + r.IntN(6) {
		at := r.IntN(len(out) + 1)
		end := min(len(out), at+r.IntN(20))
		switch r.IntN(4) {
		case 0: // away with it
			out = append(out[:at:at], out[end:]...)
		case 1: // twice
			out = append(out[:end:end], out[at:]...)
		case 2: // something else
			out = append(append(out[:at:at], fragments[r.IntN(len(fragments))]...), out[at:]...)
		default: // one byte changed
			if at < len(out) {
				out[at] = byte(r.IntN(256))
			}
		}
	}
	return out
}

// sound is what holds for every message.
func sound(t testing.TB, raw []byte) {
	s := Summary(raw)
	for _, column := range []string{s.Subject, s.From, s.To, s.MessageID} {
		require.LessOrEqual(t, len(column), mailbox.SummaryBytes)
		require.True(t, storable(column), "%q: %q", column, raw)
	}
	p, err := Parse(raw)
	require.NoError(t, err, "%q", raw)
	require.NotContains(t, strings.Join(p.Problems, "\n"), "gave up", "%q", raw)
	require.Equal(t, plaintext.Line(p.Subject, mailbox.SummaryBytes), s.Subject)
	shown := []string{p.Subject, p.Text, p.HTML, p.MessageID}
	for _, list := range [][]mailbox.Address{p.From, p.To, p.Cc, p.ReplyTo} {
		for _, a := range list {
			shown = append(shown, a.Name, a.Email)
		}
	}
	for _, h := range p.Headers {
		shown = append(shown, h.Name, h.Value)
	}
	for i, want := range p.Attachments {
		require.Contains(t, []string{"", "inline", "attachment"}, want.Disposition)
		shown = append(shown, want.Filename, want.Type, want.ContentID)
		got, content, err := Attachment(raw, i)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, want.Size, int64(len(content)))
	}
	for _, text := range append(shown, p.Problems...) {
		require.True(t, storable(text), "%q: %q", text, raw)
	}
	if !p.DatedAt.IsZero() {
		_, err := json.Marshal(p.DatedAt)
		require.NoError(t, err, "%q", raw)
	}
}

func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// TestDamagedMail damages every message of the corpus at random, the same way on
// every run.
func TestDamagedMail(t *testing.T) {
	t.Parallel()
	for i, s := range corpus(t) {
		r := rand.New(rand.NewPCG(uint64(i), 1)) // repeatable on purpose
		for range 40 {
			sound(t, mutated(r, s.message()))
		}
	}
}

// TestTimeIsLinear reads what is repeated many times. Were it read in more than
// linear time, the deadline would pass: quadratic, each takes many minutes.
func TestTimeIsLinear(t *testing.T) {
	t.Parallel()
	for _, piece := range append(fragments, "--b1\r\nContent-Type: multipart/mixed\r\n\r\n", "a@b, ", "\"a\" <b@c>,", "(a", "=?u?q?a?= ", "=?utf-8?b?=", ";a=\"", ";name*0*=''", "<@a:", "a:;") {
		for _, field := range []string{"To", "From", "Subject", "Date", "Content-Type", "Content-Type: multipart/mixed; boundary=b1; name", "Content-Disposition", "Content-Transfer-Encoding", ""} {
			many := strings.Repeat(piece, maxShownHeaderBytes/len(piece))
			raw := fmt.Sprintf("%s: %s\r\n\r\n%s", field, many, many)
			p, err := parseBy([]byte(raw), time.Now().Add(patience))
			require.NoError(t, err, "%s %q", field, piece)
			require.LessOrEqual(t, len(p.Problems), maxProblems)
			Summary([]byte(raw))
		}
	}
}
