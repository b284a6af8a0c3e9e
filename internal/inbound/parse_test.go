package inbound

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/mailread"
)

// full has all that Parse knows; lines end in LF here and in CRLF in crlf(full).
const full = `Received: from a (b)
	by c; Mon, 2 Jan 2023 15:04:05 +0100
Received: from d
From: =?iso-8859-1?q?M=FCller=2C_Eva?= <eva@x.test>
To: Bob <bob@dev.test>, "Ann, B." <ann@dev.test>
Cc: cc@dev.test
Reply-To: help@x.test
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?q?_hier?=
Message-ID: <42@x.test>
Date: Mon, 2 Jan 2023 15:04:05 +0100
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

caf=E9
--a
Content-Type: multipart/related; boundary=r

--r
Content-Type: text/html; charset=utf-8

<b>café</b><img src="cid:pic@x">
--r
Content-Type: image/png
Content-ID: <pic@x>
Content-Disposition: inline; filename="pic.png"
Content-Transfer-Encoding: base64

iVBORw==
--r--
--a--
--m
Content-Type: application/pdf; name="x"
Content-Disposition: attachment; filename*=utf-8''..%2F..%5Cr%C3%A9sum%C3%A9.pdf
Content-Transfer-Encoding: base64

JVBERi0=
--m
Content-Type: message/rfc822

Subject: inner

inner text
--m--
`

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func digest(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string][]byte{"CRLF": crlf(full), "LF": []byte(full)} {
		t.Run("all parts of a message: "+name, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(raw)
			require.NoError(t, err)
			require.Empty(t, p.Problems)
			require.Equal(t, "Grüße hier", p.Subject)
			require.Equal(t, []mailbox.Address{{Name: "Müller, Eva", Email: "eva@x.test"}}, p.From)
			require.Equal(t, []mailbox.Address{{Name: "Bob", Email: "bob@dev.test"}, {Name: "Ann, B.", Email: "ann@dev.test"}}, p.To)
			require.Equal(t, []mailbox.Address{{Email: "cc@dev.test"}}, p.Cc)
			require.Equal(t, []mailbox.Address{{Email: "help@x.test"}}, p.ReplyTo)
			require.Equal(t, "42@x.test", p.MessageID)
			require.Equal(t, "Mon, 2 Jan 2023 15:04:05 +0100", p.Date)
			require.Equal(t, time.Date(2023, 1, 2, 14, 4, 5, 0, time.UTC), p.DatedAt)
			require.Equal(t, "café", strings.TrimSpace(p.Text))
			require.Equal(t, `<b>café</b><img src="cid:pic@x">`, strings.TrimSpace(p.HTML))
			require.Equal(t, []mailbox.Header{
				{Name: "Received", Value: "from a (b) by c; Mon, 2 Jan 2023 15:04:05 +0100"},
				{Name: "Received", Value: "from d"},
				{Name: "From", Value: "Müller, Eva <eva@x.test>"},
			}, p.Headers[:3])
			require.Len(t, p.Headers, 11)
			require.Len(t, p.Attachments, 3)
			require.Equal(t, mailbox.Part{
				Filename: "pic.png", Type: "image/png", ContentID: "pic@x", Disposition: "inline", Size: 4, SHA256: digest("\x89PNG"),
			}, p.Attachments[0])
			require.Equal(t, mailbox.Part{
				Index: 1, Filename: "résumé.pdf", Type: "application/pdf", Disposition: "attachment", Size: 5, SHA256: digest("%PDF-"),
			}, p.Attachments[1])
			require.Equal(t, "message/rfc822", p.Attachments[2].Type)

			part, content, err := Attachment(raw, 1)
			require.NoError(t, err)
			require.Equal(t, p.Attachments[1], part)
			require.Equal(t, "%PDF-", string(content))
			_, content, err = Parser{}.Attachment(raw, 2)
			require.NoError(t, err)
			require.Contains(t, string(content), "Subject: inner")
			for _, index := range []int{-1, 3} {
				_, _, err = Attachment(raw, index)
				require.ErrorIs(t, err, mailbox.ErrNoAttachment)
			}
		})
	}
	t.Run("text is not made from HTML", func(t *testing.T) {
		t.Parallel()
		p, err := Parser{}.Parse(crlf("Content-Type: text/html\n\n<p>Hi</p>"))
		require.NoError(t, err)
		require.Empty(t, p.Text)
		require.Equal(t, "<p>Hi</p>", p.HTML)
	})
	t.Run("what is broken is told and the rest read", func(t *testing.T) {
		t.Parallel()
		p, err := Parse(crlf("From: <<>>\nDate: yesterday\nSubject: =?x-none?q?a?= \xff\x00\n" +
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=x-none\n\nfirst\x00\n" +
			"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=a\n\n!!!*\n"))
		require.NoError(t, err)
		require.Nil(t, p.From)
		require.True(t, p.DatedAt.IsZero())
		require.Equal(t, "yesterday", p.Date)
		require.Equal(t, "=?x-none?q?a?= ÿ\uFFFD", p.Subject, "a byte without a charset is windows-1252")
		require.Contains(t, p.Text, "first\uFFFD")
		require.Len(t, p.Attachments, 1)
		all := strings.Join(p.Problems, "\n")
		require.Contains(t, all, "From: not a list")
		require.Contains(t, all, "Date: not a date")
	})
	t.Run("very long text is cut and says so", func(t *testing.T) {
		t.Parallel()
		p, err := Parse([]byte("Subject: s\r\n\r\n" + strings.Repeat("é ", maxShownText/2)))
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.Text), maxShownText)
		require.Contains(t, strings.Join(p.Problems, "\n"), "text: ")
	})
	t.Run("past the deadline the headers are there", func(t *testing.T) {
		t.Parallel()
		p, err := parseBy(crlf(full), time.Now())
		require.ErrorIs(t, err, mailbox.ErrTooSlow)
		require.Equal(t, "Grüße hier", p.Subject)
	})
}

// multi is a message of n parts under a Content-Type.
func multi(contentType string, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Subject: many\r\nContent-Type: %s\r\n\r\n", contentType)
	for range n {
		b.WriteString("--b\r\n\r\nx\r\n")
	}
	b.WriteString("--b--\r\n")
	return b.Bytes()
}

func nested(depth int) []byte {
	var b bytes.Buffer
	b.WriteString("Subject: deep\r\n")
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nbottom\r\n")
	return b.Bytes()
}

// alike opens as many multiparts as may be open, all with boundaries that begin
// with the same 60 characters.
func alike() []byte {
	var b bytes.Buffer
	for i := range mailread.MaxDepth {
		boundary := strings.Repeat("b", 60) + strings.Repeat("c", i+1)
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n", boundary, boundary)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func TestHostileMail(t *testing.T) {
	t.Parallel()
	// All of these take well under a second on an idle machine; the race detector on a
	// busy one takes much more. Quadratic code takes days.
	const bound = 5 * time.Minute
	broken := append([]byte("Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nnot a header\r\n"), multi("x", 20000)...)
	for _, tt := range []struct {
		name    string
		raw     []byte
		problem string // "" means none in particular
	}{
		{"20,000 parts", multi("multipart/mixed; boundary=b", 20000), "more than 500 parts"},
		{"20,000 parts under a malformed type", multi("multipart/mixed; boundary=b; ;;;=", 20000), "more than 500 parts"},
		{"20,000 parts after a broken one", broken, "500"},
		{"just over the parts", multi("multipart/mixed; boundary=b", mailread.MaxParts), "more than 500 parts"},
		{"1,500 levels", nested(1500), "levels"},
		{"just over the levels", nested(mailread.MaxDepth + 1), "more than 20 levels"},
		{"a header of 5 MB in one line", []byte("Subject: " + strings.Repeat("s", 5<<20) + "\r\n\r\nx"), "limit 1048576"},
		{"a header of 5 MB of encoded words", []byte("Subject: " + strings.Repeat("=?utf-8?q?a", 500000) + "\r\n\r\nx"), "limit 1048576"},
		{"a header of many fields", []byte(strings.Repeat("A: b\r\n", 100000) + "\r\nx"), "header"},
		{"a header with no end", []byte(strings.Repeat("a", 100000)), "header"},
		{"a To of many addresses", []byte("To: " + strings.Repeat("a@b,", 60000) + "\r\n\r\nx"), ""},
		{"comments in comments", []byte("To: " + strings.Repeat("(", 200000) + "\r\n\r\nx"), "To: not a list"},
		{"a break, then 400 levels left open", append([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nnot a header\r\n"), nested(400)...), "levels"},
		{"20,000 parts in a transfer encoding", append([]byte("Content-Transfer-Encoding: quoted-printable\r\n"), multi("multipart/mixed; boundary=b", 20000)...), "more than 500 parts"},
		{"NULs", bytes.Repeat([]byte{0}, 1<<20), "header"},
		{"empty", nil, ""},
		{"line ends only", []byte("\r\n\r\n\r\n"), ""},
		{"no boundary", []byte("Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n----\r\n"), ""},
		{"an empty boundary", []byte("Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx\r\n----\r\n"), ""},
		{"itself within itself", []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", 400)), ""},
		{"deep HTML", []byte("Content-Type: text/html\r\n\r\n" + strings.Repeat("<div>", 100000)), ""},
		{"20 open boundaries and lines that begin like all of them", append(alike(), bytes.Repeat([]byte("--"+strings.Repeat("b", 60)+"x\r\n"), 200000)...), ""},
		{"comments in a type", []byte("Content-Type: text/plain; " + strings.Repeat("(", 200000) + "\r\n\r\nx"), ""},
		{"quotes in a type", []byte("Content-Type: text/plain" + strings.Repeat(";a=\"b", 50000) + "\r\n\r\nx"), ""},
		{"words in a type", []byte("Content-Type: text/plain; name=" + strings.Repeat("a name=", 30000) + "\r\n\r\nx"), ""},
		{"segments of a name", []byte("Content-Type: text/plain" + strings.Repeat(";name*9=b", 25000) + "\r\n\r\nx"), ""},
		{"beginnings of words", []byte("Subject: " + strings.Repeat("=?utf-8?q?a", 22000) + "?=\r\n\r\nx"), ""},
		{"words", []byte("Subject: " + strings.Repeat("=?utf-8?b?w6?= ", 16000) + "\r\n\r\nx"), ""},
		{"open angle brackets", []byte("To: " + strings.Repeat("a <b@c ", 36000) + "\r\n\r\nx"), ""},
		{"quotes and colons in a To", []byte("To: " + strings.Repeat("\"a\\\":", 40000) + ";\r\n\r\nx"), ""},
		{"comments in a Date", []byte("Date: " + strings.Repeat("(a)", 80000) + "(((\r\n\r\nx"), "Date: not a date"},
		{"a header that is text", []byte("Subject: s\r\n" + strings.Repeat("no field\r\n", 90000) + "\r\nx"), "header"},
		{"20 MB of base64 padding", []byte("Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("=", 20<<20)), ""},
		{"20 MB of soft breaks", []byte("Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=\r\n", 7<<20)), ""},
		{"20 MB of UTF-7", []byte("Content-Type: text/plain; charset=utf-7\r\n\r\n" + strings.Repeat("+", 20<<20)), ""},
		{"20 MB of carriage returns", []byte("Subject: s\r\r" + strings.Repeat("x\r", 10<<20)), ""},
		{"lines of dashes", bytes.Repeat([]byte("\r\n--"), 500000), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			s := Summary(tt.raw)
			p, err := parseBy(tt.raw, start.Add(bound))
			took := time.Since(start)

			require.NoError(t, err)
			require.Contains(t, strings.Join(p.Problems, "\n"), tt.problem)
			require.Less(t, took, bound)
			for _, column := range []string{s.Subject, s.From, s.To, s.MessageID} {
				require.LessOrEqual(t, len(column), mailbox.SummaryBytes)
			}
			require.LessOrEqual(t, len(p.Headers), maxShownHeaders)
			require.LessOrEqual(t, len(p.Problems), maxProblems)
			require.LessOrEqual(t, len(p.Attachments), mailread.MaxParts)
		})
	}
	t.Run("what is left open is read as if it were closed", func(t *testing.T) {
		t.Parallel()
		whole := crlf(full)
		at := bytes.Index(whole, []byte("\r\n--m\r\nContent-Type: message"))
		p, err := Parse(whole[:at])
		require.NoError(t, err)
		require.Len(t, p.Attachments, 2)
		require.Equal(t, digest("%PDF-"), p.Attachments[1].SHA256)
		require.Contains(t, p.Text, "café")
	})
	t.Run("just within the caps is read", func(t *testing.T) {
		t.Parallel()
		p, err := Parse(multi("multipart/mixed; boundary=b", mailread.MaxParts-1))
		require.NoError(t, err)
		require.Empty(t, p.Problems)
		p, err = parseBy(nested(mailread.MaxDepth), time.Now().Add(bound))
		require.NoError(t, err)
		require.Contains(t, p.Text, "bottom")
	})
}

func TestSummary(t *testing.T) {
	t.Parallel()
	s := Summary([]byte("SUBJECT: a\x00b\tc\r\n d \xff\r\nfrom:x\r\nTo : " + strings.Repeat("é", 400) + "\r\nmessage-id: rubbish\r\n\r\nSubject: body"))
	require.Equal(t, "a\uFFFDb c d ÿ", s.Subject)
	require.Equal(t, "x", s.From)
	require.Equal(t, strings.Repeat("é", mailbox.SummaryBytes/2), s.To)
	require.Equal(t, "rubbish", s.MessageID)
	require.Equal(t, Digest{}, Summary(nil))
}

// FuzzParse looks for panics and for text that Postgres would refuse.
func FuzzParse(f *testing.F) {
	f.Add(crlf(full))
	f.Add([]byte(full))
	f.Add(nested(5))
	f.Add([]byte(note))
	for _, s := range corpus(f) {
		f.Add(s.message())
	}
	f.Fuzz(func(t *testing.T, raw []byte) { sound(t, raw) })
}
