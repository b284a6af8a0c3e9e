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
		if strings.Contains(value, "=?") { // a client's ASCII value is not encoded
			require.Equal(t, value, h.Get("X-Value"))
			continue
		}
		require.Equal(t, value, decoded(t, h.Get("X-Value")))
		require.Equal(t, value, decoded(t, h.Get(strings.Repeat("X", 64))))
	}
}

// The white space between two lines counts as it stands: unfolding takes the line ends away
// (RFC 5322 section 2.2.3).
func TestClientsHeadersOnTheWire(t *testing.T) {
	t.Parallel()
	var thread []string
	for i := range 200 {
		thread = append(thread, fmt.Sprintf("<%d.%s@mail.example.com>", i, strings.Repeat("x", 40)))
	}
	long := "<https://example.com/u/" + strings.Repeat("t", 960) + ">"
	for _, tt := range []struct{ name, value, want string }{
		{"List-Unsubscribe", "<https://example.com/u?next=?x&token=abc>", ""},
		{"List-Unsubscribe", "<https://example.com/unsub/dXNlcjE=?list=3>, <mailto:u@example.com?subject==?utf-8?q?x?=>", ""},
		{"List-Unsubscribe", "<https://example.com/u/üser?x=ü#é>", "<https://example.com/u/%C3%BCser?x=%C3%BC#%C3%A9>"},
		{"List-Unsubscribe", "<https://bücher.example:8443/ü>, <mailto:ü@bücher.example?subject=ü>", "<https://xn--bcher-kva.example:8443/%C3%BC>, <mailto:%C3%BC@xn--bcher-kva.example?subject=%C3%BC>"},
		{"List-Unsubscribe", long, ""},
		{"List-Archive", "(ältere) <https://example.com/a>", "(=?utf-8?b?w6RsdGVyZQ==?=) <https://example.com/a>"},
		{"List-Post", "NO (posting not allowed)", ""},
		{"References", "<a@example.com>\t<b@example.com>", ""},
		{"References", "<a@example.com> (a comment =?x) <b=?c@example.com>", ""},
		{"References", strings.Join(thread, " "), ""},
		{"References", strings.Join(thread, "\t"), ""},
		{"References", strings.Join(thread, ""), strings.Join(thread, "")},
		{"References", strings.Join(thread, "  "), ""},
		{"In-Reply-To", "<=?utf-8?q?x?=@example.com>", ""},
		{"List-Id", "Bücher und mehr <books.example.com>", "=?utf-8?b?QsO8Y2hlciB1bmQgbWVocg==?= <books.example.com>"},
		{"List-ID", `"Bücher, \"neu\"" <books.example.com>`, "=?utf-8?b?QsO8Y2hlciwgIm5ldSI=?= <books.example.com>"},
		{"Disposition-Notification-To", `Jörg Müller <j@example.com>, "A, B" <ab@example.com>, c@bücher.example`,
			`=?utf-8?b?SsO2cmcgTcO8bGxlcg==?= <j@example.com>, "A, B" <ab@example.com>, c@xn--bcher-kva.example`},
		{"Errors-To", "<fehler@bücher.example>", "<fehler@xn--bcher-kva.example>"},
		{"Keywords", "Bücher, books", "=?utf-8?b?QsO8Y2hlcg==?=, books"},
		{"Auto-Submitted", "auto-generated (für Sie)", "auto-generated (=?utf-8?b?ZsO8ciBTaWU=?=)"},
		{"X-Token", "YWJj=?abc", ""},
		{"X-Token", "a\tb", ""},
		{"X-Note", "zwei Wörter", "=?utf-8?b?endlaSBXw7ZydGVy?="},
	} {
		m := basic()
		m.Headers = []email.Header{{Name: tt.name, Value: tt.value}}
		raw := string(rendered(t, m))
		top, _, _ := strings.Cut(raw, "\r\n\r\n")
		for line := range strings.SplitSeq(top, "\r\n") {
			require.LessOrEqual(t, len(line), 998)
		}
		_, after, ok := strings.Cut(top, "\r\n"+tt.name+":")
		require.True(t, ok)
		after, _, _ = strings.Cut(after, "\r\nMIME-Version")
		got := strings.TrimPrefix(strings.ReplaceAll(after, "\r\n", ""), " ")
		if want := tt.want; want == "" {
			require.Equal(t, tt.value, got)
		} else if strings.Contains(tt.value, "><") {
			require.Equal(t, want, strings.ReplaceAll(got, " ", ""), "white space may stand between ids")
		} else {
			require.Equal(t, want, got)
		}
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
