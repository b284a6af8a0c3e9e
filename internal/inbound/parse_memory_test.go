package inbound

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/memtest"
)

// TestReadingTakesLittleMoreThanTheMessage: reading any message allocates at most 40 MiB
// beside the message, freed memory included. With the race detector it is at most 64 MiB. An
// attachment is decoded once.
//
// Not parallel: other tests' memory would count.
func TestReadingTakesLittleMoreThanTheMessage(t *testing.T) {
	const size, most = 24 << 20, 64 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	part := func(header, content string) string {
		return "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + header + "\r\n\r\n" + content
	}
	file := func(encoding, content string) string {
		return part("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: "+encoding, content)
	}
	text := func(kind, encoding, content string) string {
		return part("Content-Type: text/"+kind+"\r\nContent-Transfer-Encoding: "+encoding, content)
	}
	parameters := func() string {
		var b strings.Builder
		for i := range 50_000 {
			fmt.Fprintf(&b, ";p%d=v", i)
		}
		return b.String()
	}()
	for _, tc := range []struct{ name, message string }{
		{"lines that end in CR", strings.ReplaceAll(file("quoted-printable", ""), "\r\n", "\r") + fill("\n")},
		{"lines that end in CR, not encoded", strings.ReplaceAll(file("8bit", ""), "\r\n", "\r") + fill("\n")},
		{"text whose lines end in CR", strings.ReplaceAll(text("plain", "8bit", ""), "\r\n", "\r") + fill("\n")},
		{"a file in base64", file("base64", fill("QUJD"))},
		{"a file in lines of base64", file("base64", fill(strings.Repeat("QUJD", 19)+"\r\n"))},
		{"a file in quoted-printable", file("quoted-printable", fill("=00=\n"))},
		{"a file in uuencode", file("uuencode", "begin 644 a\r\n"+fill("M"+strings.Repeat("#", 60)+"\r\n"))},
		{"a file in uuencode on one line", file("uuencode", "begin 644 a\r\n"+fill("M###"))},
		{"a file as it is", file("binary", fill("x"))},
		{"text in base64", text("plain", "base64", fill("QUJD"))},
		{"text of Latin-1", text("plain; charset=windows-1252", "8bit", fill("\x80"))},
		{"text of damaged UTF-8", text("plain; charset=utf-8", "8bit", fill("\u00e9\xff"))},
		{"text of UTF-7", text("plain; charset=utf-7", "8bit", fill("+AOk-"))},
		{"text of UTF-16", text("plain; charset=utf-16", "base64", fill("AGEA"))},
		{"text of ISO-2022-KR", text("plain; charset=iso-2022-kr", "8bit", fill("\x0e!!\x0f"))},
		{"text of NUL", text("plain; charset=utf-8", "8bit", fill("\x00"))},
		{"HTML of nothing declared", text("html", "quoted-printable", fill("=E9<b>"))},
		{"500 texts", part("a: b", "") + strings.Repeat("\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat("QUJD", 24_000), 245)},
		{"headers of many fields", part("a: b", "") + strings.Repeat("\r\n--b\r\n"+strings.Repeat("a:\n", 330_000)+"\r\n\r\n", 24)},
		{"headers of many fields of contents", part("a: b", "") + strings.Repeat("\r\n--b\r\n"+strings.Repeat("Content-ID:\n", 80_000)+"\r\n\r\n", 24)},
		{"headers of many parameters", part("a: b", "") + strings.Repeat("\r\n--b\r\nContent-Type: text/plain"+parameters+"\r\nContent-Disposition: attachment"+parameters+"\r\n\r\n", 24)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raw := []byte(tc.message)
			before := memtest.Allocated()
			p, err := parseBy(raw, time.Now().Add(patience))
			spent := memtest.Allocated() - before
			require.NoError(t, err)
			require.Equal(t, "s", p.Subject)
			require.LessOrEqual(t, len(p.Text)+len(p.HTML), 2*maxShownText)
			t.Logf("%d MB, %.1f MB to read it, problems %v", len(raw)>>20, float64(spent)/(1<<20), p.Problems)
			require.Less(t, spent, int64(most))
			if len(p.Attachments) == 0 {
				return
			}
			raw = []byte(tc.message)
			before = memtest.Allocated()
			part, content, err := attachmentBy(raw, 0, time.Now().Add(patience))
			spent = memtest.Allocated() - before
			require.NoError(t, err)
			require.Len(t, content, int(part.Size))
			require.Equal(t, p.Attachments[0], part)
			t.Logf("%.1f MB to take a file of %.1f MB", float64(spent)/(1<<20), float64(part.Size)/(1<<20))
			require.Less(t, spent, part.Size+most)
		})
	}
}

// Not parallel: other tests' memory would count.
func TestASmallAttachmentDoesNotKeepTheMessage(t *testing.T) {
	const size = 16 << 20
	before := memtest.Live()
	part, content, err := Attachment([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pdf\r\n\r\n"+
		strings.Repeat("%PDF", 20_000)+"\r\n--b\r\n\r\n"+strings.Repeat("x", size)), 0)
	require.NoError(t, err)
	require.EqualValues(t, 80_000, part.Size)
	require.Less(t, memtest.Live()-before, int64(size/2))
	require.Equal(t, "%PDF", string(content[:4]))
}
