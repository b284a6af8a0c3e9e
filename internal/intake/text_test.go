package intake_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func fromHTML(t *testing.T, html string) email.Message {
	t.Helper()
	quoted, err := json.Marshal(html)
	require.NoError(t, err)
	return decode(t, `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"html":`+string(quoted)+`}}`)
}

func TestDecodeTextFromHTML(t *testing.T) {
	t.Parallel()
	const html = `<p>Hello <b>you</b><p><a href="https://x.test">there</a>`
	m := fromHTML(t, html)
	require.True(t, m.TextFromHTML)
	require.Equal(t, "Hello you\n\nthere <https://x.test>", m.Text)
	require.Equal(t, html, m.HTML)
}

func TestDecodeKeepsText(t *testing.T) {
	t.Parallel()
	m := decode(t, `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"text":" ","html":"<p>x"}}`)
	require.False(t, m.TextFromHTML)
	require.Equal(t, " ", m.Text)
}

// TestDecodeRefusesLongTags: also if the message has a text of its own.
func TestDecodeRefusesLongTags(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", `"text":"t",`} {
		_, err := intake.Decode([]byte(`{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":{`+text+`"html":"<p `+strings.Repeat("x ", 40_000)+`>"}}`), limits())
		f := failure(t, err)
		require.Len(t, f.Fields, 1)
		require.Equal(t, "/content/html", f.Fields[0].Pointer)
		require.Equal(t, "too_long", f.Fields[0].Code)
		require.Contains(t, f.Fields[0].Detail, "65536 bytes besides its quoted values")
	}
}
