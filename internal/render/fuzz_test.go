package render_test

import (
	"bytes"
	"io"
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

// FuzzRender looks for a header that the message does not name, and for values that a
// parser does not return as they were given.
func FuzzRender(f *testing.F) {
	f.Add("Subject", "Name", "text", "<p>html</p>", "X-Value", "file.pdf", "application/pdf", []byte("content"))
	f.Add("Größe\t 📦 ", `"q" <a@b>`, ".\r\n..\n\r--=_x", "", strings.Repeat("v ", 300), "Ü?;=\".pdf", "text/plain; charset=x", []byte("\r\n.\r\n"))
	f.Add("=?utf-8?q?x?=", "a, b", "注文を確認しました。", "=\r\n=20 \n", strings.Repeat("v", 990), strings.Repeat("ü", 120), "multipart/mixed", []byte{})
	f.Add("a\r\nb", "", "", "", "", "", "", []byte{0})
	f.Fuzz(func(t *testing.T, subject, name, text, html, value, file, mediaType string, content []byte) {
		if len(subject)+len(name)+len(value)+len(file)+len(mediaType) > 3000 {
			return // intake's limits on each are far below
		}
		m := email.Message{
			From: email.Address{Email: "a@example.com", Name: name}, To: []email.Address{{Email: "b@example.com"}}, Subject: subject, Text: text, HTML: html,
			Headers: []email.Header{{Name: "X-Fuzz", Value: value}}, Attachments: []email.Attachment{{Filename: file, Type: mediaType, Content: append([]byte{}, content...)}},
		}
		raw, err := render.Render(m, composition)
		if err != nil {
			require.ErrorIs(t, err, render.ErrUnsafe)
			return
		}
		again, err := render.Render(m, composition)
		require.NoError(t, err)
		require.True(t, bytes.Equal(raw, again), "the same bytes")
		require.True(t, bytes.HasSuffix(raw, []byte("\r\n")))
		require.Equal(t, bytes.Count(raw, []byte("\r\n")), bytes.Count(raw, []byte("\n")), "no bare LF")
		require.Equal(t, bytes.Count(raw, []byte("\r\n")), bytes.Count(raw, []byte("\r")), "no bare CR")

		header, _, _ := strings.Cut(string(raw), "\r\n\r\n")
		var keys []string
		for line := range strings.SplitSeq(header, "\r\n") {
			if line[0] == ' ' || line[0] == '\t' {
				continue
			}
			key, _, ok := strings.Cut(line, ":")
			require.True(t, ok, "%q", line)
			keys = append(keys, key)
		}
		require.Equal(t, []string{"From", "To", "Date", "Message-ID", "Subject", "X-Fuzz", "MIME-Version", "Content-Type"}, keys)

		h := headerOf(t, raw)
		require.Equal(t, subject, decoded(t, h.Get("Subject")))
		if got := h.Get("X-Fuzz"); got != value { // an ASCII value is not encoded
			require.Equal(t, value, decoded(t, got))
		}
		from, err := netmail.ParseAddress(h.Get("From"))
		require.NoError(t, err)
		require.Equal(t, netmail.Address{Name: name, Address: "a@example.com"}, *from)

		leaves := leavesOf(t, raw)
		want := []string{crlf(text), crlf(html), string(content)}
		if html == "" {
			want = []string{crlf(text), string(content)}
		} else if text == "" {
			want = want[1:]
		}
		require.Equal(t, want, leaves)
	})
}

// leavesOf reads the bodies of a message's parts, in order.
func leavesOf(t *testing.T, raw []byte) []string {
	t.Helper()
	root, err := message.Read(bytes.NewReader(raw))
	require.True(t, err == nil || message.IsUnknownCharset(err), "%v", err)
	var out []string
	require.NoError(t, root.Walk(func(_ []int, e *message.Entity, err error) error {
		// A client's own charset is its own affair: the bytes are compared.
		if err != nil && !message.IsUnknownCharset(err) {
			return err
		}
		if e.MultipartReader() != nil {
			return nil
		}
		body, err := io.ReadAll(e.Body)
		out = append(out, string(body))
		return err
	}))
	return out
}
