package mailmerge_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailmerge"
)

func linked(message, recipients string) []byte {
	return []byte(`{"message":{"from":{"email":"news@x.com"},"stream":"broadcast",` + message + `},"recipients":[` + recipients + `]}`)
}

// TestTheLinkIsFilledInLater: copies keep the placeholder, and need no variable for it.
func TestTheLinkIsFilledInLater(t *testing.T) {
	t.Parallel()
	l := limits()
	l.LinkBase = "https://mail.x.com"
	for name, tt := range map[string]struct{ content, text, html string }{
		"beside variables": {`{"text":"Hi {{name}}: {{ unsubscribe_url }}","html":"<b>{{name}}</b><a href='{{unsubscribe_url}}'>x</a>"}`, "Hi A: {{ unsubscribe_url }}", "<b>A</b><a href='{{unsubscribe_url}}'>x</a>"},
		"alone":            {`"{{unsubscribe_url}}"`, "{{unsubscribe_url}}", ""},
		"of HTML":          {`{"html":"<p>{{name}} <a href='{{unsubscribe_url}}'>x</a></p>"}`, "A x <{{unsubscribe_url}}>", "<p>A <a href='{{unsubscribe_url}}'>x</a></p>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := mailmerge.Decode(linked(`"subject":"s","unsubscribe":{"topic":"news"},"content":`+tt.content, `{"email":"a@y.com","name":"A"}`), l)
			require.NoError(t, err)
			m, err := b.Message(0)
			require.NoError(t, err)
			require.True(t, m.Unsubscribe)
			require.Equal(t, "news", m.Topic)
			require.Equal(t, tt.html, m.HTML)
			require.Equal(t, tt.text, m.Text)
			require.NotEmpty(t, b.Fingerprint())
		})
	}
}

func TestWhereTheLinkMayNotBe(t *testing.T) {
	t.Parallel()
	l := limits()
	l.LinkBase = "https://mail.x.com"
	for name, tt := range map[string]struct{ message, recipient, pointer, code string }{
		"the subject":               {`"subject":"{{unsubscribe_url}}","content":"c"`, ``, "/message/subject", "unsupported"},
		"a header":                  {`"subject":"s","content":"c","headers":{"X-A":"{{unsubscribe_url}}"}`, ``, "/message/headers/X-A", "unsupported"},
		"metadata":                  {`"subject":"s","content":"c","metadata":{"a":"{{ unsubscribe_url }}"}`, ``, "/message/metadata/a", "unsupported"},
		"mail without one":          {`"subject":"s","unsubscribe":false,"content":"{{unsubscribe_url}}"`, ``, "/message/content", "invalid"},
		"a variable of that name":   {`"subject":"s","content":"{{unsubscribe_url}}"`, `,"variables":{"unsubscribe_url":"https://evil.test"}`, "/recipients/0/variables/unsubscribe_url", "reserved"},
		"the value of a variable":   {`"subject":"s","content":"{{a}} {{unsubscribe_url}}"`, `,"variables":{"a":"{{unsubscribe_url}}"}`, "/recipients/0/variables", "reserved"},
		"the value of one in HTML":  {`"subject":"s","content":{"html":"{{a}}"}`, `,"variables":{"a":"{{unsubscribe_url}}"}`, "/recipients/0/variables", "reserved"},
		"put together of variables": {`"subject":"s","content":"{{a}}{{b}}"`, `,"variables":{"a":"{{unsub","b":"scribe_url}}"}`, "/recipients/0/variables", "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := mailmerge.Decode(linked(tt.message, `{"email":"a@y.com"`+tt.recipient+`}`), l)
			if err == nil {
				_, err = b.Message(0)
			}
			f := failure(t, err)
			require.Equal(t, tt.pointer, f.Fields[0].Pointer)
			require.Equal(t, tt.code, f.Fields[0].Code)
		})
	}
}
