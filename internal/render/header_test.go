package render_test

import (
	"fmt"
	"mime"
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

// headerOf parses a rendering's header with the standard library.
func headerOf(t *testing.T, raw []byte) netmail.Header {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(string(raw)))
	require.NoError(t, err)
	return m.Header
}

func decoded(t *testing.T, value string) string {
	t.Helper()
	out, err := new(mime.WordDecoder).DecodeHeader(value)
	require.NoError(t, err)
	return out
}

func TestHeaderValuesComeBack(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "plain", "a b  c   d", " leading", "trailing ", "=?utf-8?q?not_a_word?=", "tab\there", "Größe 📦", strings.Repeat("ü", 400), strings.Repeat("📦", 240),
		strings.Repeat("word ", 190) + "end", strings.Repeat("x", 998), strings.Repeat("x", 900), strings.Repeat("x  ", 330) + "y", strings.Repeat(" ", 500) + "x", "a\u00a0b", "ends in =", "\x7f",
	} {
		m := basic()
		m.Subject, m.Headers = value, []email.Header{{Name: "X-Value", Value: value}, {Name: strings.Repeat("X", 64), Value: value}}
		h := headerOf(t, rendered(t, m))
		require.Equal(t, value, decoded(t, h.Get("Subject")))
		require.Equal(t, value, decoded(t, h.Get("X-Value")))
		require.Equal(t, value, decoded(t, h.Get(strings.Repeat("X", 64))))
	}
}

func TestHeadersAreFoldedWhereTheyCanBe(t *testing.T) {
	t.Parallel()
	m := full()
	m.Subject = strings.Repeat("folded words ", 30) + "end"
	for i := range 30 {
		m.To = append(m.To, email.Address{Email: fmt.Sprintf("somebody-%d@example.net", i), Name: "Some Body Ü"})
	}
	raw := rendered(t, m)
	header, _, _ := strings.Cut(string(raw), "\r\n\r\n")
	for line := range strings.SplitSeq(header, "\r\n") {
		require.LessOrEqual(t, len(line), 78, line)
	}
	require.Equal(t, m.Subject, headerOf(t, raw).Get("Subject"))
	to, err := headerOf(t, raw).AddressList("To")
	require.NoError(t, err)
	require.Len(t, to, len(m.To))
	require.Equal(t, "Some Body Ü", to[5].Name)
}

func TestTheClientsHeadersKeepOrderAndSpelling(t *testing.T) {
	t.Parallel()
	require.Contains(t, string(rendered(t, full())), "\r\nX-SecondOne: =?utf-8?b?endlaSDDnA==?=\r\nX-First: 1\r\nList-Unsubscribe: <https://example.com/u?a=1>\r\n")
}

func TestFileNamesComeBack(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.pdf", "a b  c.pdf", `q"\.pdf`, "Größe 📦.pdf", "a;b=c,d.pdf", strings.Repeat("ü", 127), strings.Repeat("x", 255), "=?utf-8?b?eA==?=.pdf", "a=?utf-8?q?.exe?= b+c.pdf", "a'b%20.pdf", ""} {
		m := basic()
		m.Text, m.HTML = "t", ""
		m.Attachments = []email.Attachment{{Filename: name, Type: "application/pdf", Content: []byte{}}}
		raw := string(rendered(t, m))
		_, after, ok := strings.Cut(raw, "\r\nContent-Disposition: ")
		require.True(t, ok)
		field, _, ok := strings.Cut(after, "\r\nContent-Transfer-Encoding")
		require.True(t, ok)
		disposition, params, err := mime.ParseMediaType(strings.ReplaceAll(field, "\r\n ", " "))
		require.NoError(t, err, field)
		require.Equal(t, "attachment", disposition)
		require.Equal(t, name, params["filename"])
		require.NotContains(t, field, "=?", "no program decodes it again")
	}
}

func TestTypesThatMayNotBeInBase64(t *testing.T) {
	t.Parallel()
	for _, given := range []string{"", "nonsense", "multipart/mixed; boundary=x", "message/rfc822", "a/b; c"} {
		m := basic()
		m.Attachments = []email.Attachment{{Filename: "a", Type: given, Content: []byte("x")}}
		require.Contains(t, string(rendered(t, m)), "\r\nContent-Type: application/octet-stream\r\n", given)
	}
}

func TestAFileHasOneName(t *testing.T) {
	t.Parallel()
	m := basic()
	m.Attachments = []email.Attachment{{Filename: "a.pdf", Type: `application/pdf; name="a.exe"; x=y`, Content: []byte("x")}}
	raw := string(rendered(t, m))
	require.Contains(t, raw, "\r\nContent-Type: application/pdf; x=y\r\n")
	require.NotContains(t, raw, "a.exe")
}

func TestNothingBreaksOutOfAHeader(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*email.Message){
		"subject":           func(m *email.Message) { m.Subject = "a\r\nBcc: eve@example.net" },
		"sender's name":     func(m *email.Message) { m.From.Name = "a\nb" },
		"name in cc":        func(m *email.Message) { m.Cc = []email.Address{{Email: "a@b.test", Name: "a\rb"}} },
		"name in reply_to":  func(m *email.Message) { m.ReplyTo = []email.Address{{Email: "a@b.test", Name: "a\x00b"}} },
		"address":           func(m *email.Message) { m.To[0].Email = "a@b\r\nX: y" },
		"address list":      func(m *email.Message) { m.To[0].Email = "a@b.test>, <c@d.test" },
		"quoted address":    func(m *email.Message) { m.To[0].Email = `"a b"@c.test` },
		"address parameter": func(m *email.Message) { m.To[0].Email = "a@b.test SIZE=1" },
		"two domains":       func(m *email.Message) { m.To[0].Email = "a@b.test@c.test" },
		"no address":        func(m *email.Message) { m.From.Email = "" },
		"domain not ASCII":  func(m *email.Message) { m.To[0].Email = "a@bücher.test" },
		"header value":      func(m *email.Message) { m.Headers = []email.Header{{Name: "X-A", Value: "a\rb"}} },
		"header name":       func(m *email.Message) { m.Headers = []email.Header{{Name: "X-A: b\r\nX-C", Value: "d"}} },
		"odd name":          func(m *email.Message) { m.Headers = []email.Header{{Name: "X A", Value: "d"}} },
		"no name":           func(m *email.Message) { m.Headers = []email.Header{{Value: "d"}} },
		"a Bcc header":      func(m *email.Message) { m.Headers = []email.Header{{Name: "bCC", Value: "d"}} },
		"a second From":     func(m *email.Message) { m.Headers = []email.Header{{Name: "From", Value: "d"}} },
		"a MIME header":     func(m *email.Message) { m.Headers = []email.Header{{Name: "Content-Type", Value: "d"}} },
		"filename":          func(m *email.Message) { m.Attachments = []email.Attachment{{Filename: "a\r\nb"}} },
		"content id":        func(m *email.Message) { m.Attachments = []email.Attachment{{ContentID: "a\r\nb"}} },
		"content id's end":  func(m *email.Message) { m.Attachments = []email.Attachment{{ContentID: "a>b"}} },
		"type":              func(m *email.Message) { m.Attachments = []email.Attachment{{Type: "a/b\r\nX: y"}} },
		"NUL":               func(m *email.Message) { m.Subject = "a\x00b" },
		"not UTF-8":         func(m *email.Message) { m.Subject = "\xff" },
	} {
		m := basic()
		change(&m)
		_, err := render.Render(m, composition)
		require.ErrorIs(t, err, render.ErrUnsafe, name)
	}
	c := composition
	c.MessageID = "a@b>\r\nX: y"
	_, err := render.Render(basic(), c)
	require.ErrorIs(t, err, render.ErrUnsafe)
}

func TestNoMessageWithoutItsAttachment(t *testing.T) {
	t.Parallel()
	m := basic()
	m.Attachments = []email.Attachment{{Filename: "a", Type: "application/pdf", BlobID: "x", Size: 5}}
	_, err := render.Render(m, composition)
	require.ErrorIs(t, err, render.ErrUnresolved)
}
