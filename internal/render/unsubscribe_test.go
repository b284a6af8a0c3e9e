package render_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

func TestTheLinkToUnsubscribeBy(t *testing.T) {
	t.Parallel()
	m := basic()
	m.Stream, m.Unsubscribe = email.StreamBroadcast, true
	m.Text, m.HTML = "Leave: {{unsubscribe_url}}", `<a href="{{ unsubscribe_url }}">Leave</a>`
	c := render.Composition{EmailID: "1", MessageID: "1@x", FeedbackID: "broadcast:1:installation"}
	_, err := render.Render(m, c)
	require.ErrorIs(t, err, render.ErrNoLink)
	for _, bad := range []string{"https://x.test/u/a>,<https://evil.test/", "https://x.test/u/ a", "https://x.test/u/\r\nBcc: a@b.c", "https://x.test/" + strings.Repeat("a", 1000)} {
		c.UnsubscribeURL = bad
		_, err := render.Render(m, c)
		require.ErrorIs(t, err, render.ErrUnsafe, bad)
	}

	c.UnsubscribeURL = "https://x.test/p&q/u/abc"
	raw, err := render.Render(m, c)
	require.NoError(t, err)
	h := headerOf(t, raw)
	require.Equal(t, "<https://x.test/p&q/u/abc>", h.Get("List-Unsubscribe"))
	require.Equal(t, "List-Unsubscribe=One-Click", h.Get("List-Unsubscribe-Post"))
	require.Equal(t, "<broadcast.list."+m.From.Domain()+">", h.Get("List-Id"))
	require.Equal(t, "broadcast:1:installation", h.Get("Feedback-Id"))
	require.Contains(t, string(raw), "Leave: https://x.test/p&q/u/abc\r\n")
	require.Contains(t, strings.ReplaceAll(string(raw), "=\r\n", ""), `https://x.test/p&amp;q/u/abc`)

	m.Headers = []email.Header{{Name: "list-id", Value: "Ours <ours.x.test>"}, {Name: "Feedback-ID", Value: "a:b:c:sender"}}
	raw, err = render.Render(m, c)
	require.NoError(t, err)
	require.Equal(t, []string{"Ours <ours.x.test>"}, headerOf(t, raw)["List-Id"])
	require.Equal(t, []string{"a:b:c:sender"}, headerOf(t, raw)["Feedback-Id"])

	m.Unsubscribe, m.Headers = false, nil
	raw, err = render.Render(m, c)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "List-")
	require.Contains(t, string(raw), "{{unsubscribe_url}}")
}
