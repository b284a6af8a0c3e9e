package intake_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func unsubscribable(more, to, content string) []byte {
	return []byte(`{"from":{"email":"news@x.com"},"to":[` + to + `],"subject":"s","content":` + content + more + `}`)
}

const (
	one = `{"email":"a@y.com"}`
	two = one + `,{"email":"b@y.com"}`
)

func TestWhoGetsALinkToUnsubscribeBy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		more, to string
		noBase   bool
		want     bool
		topic    string
		// pointer and says are of the refusal.
		pointer, code, says string
	}{
		"transactional":                         {to: two},
		"broadcast":                             {more: `,"stream":"broadcast"`, to: one, want: true},
		"broadcast, null":                       {more: `,"stream":"broadcast","unsubscribe":null`, to: one, want: true},
		"broadcast without a public URL":        {more: `,"stream":"broadcast"`, to: two, noBase: true},
		"broadcast to two":                      {more: `,"stream":"broadcast"`, to: two, pointer: "/unsubscribe", code: "too_many", says: "/v1.0/emails/batch"},
		"broadcast to one, and a copy":          {more: `,"stream":"broadcast","bcc":[{"email":"c@y.com"}]`, to: one, pointer: "/unsubscribe", code: "too_many", says: "there are 2"},
		"broadcast to one who is named twice":   {more: `,"stream":"broadcast"`, to: one + "," + one, want: true},
		"broadcast to two that says false":      {more: `,"stream":"broadcast","unsubscribe":false`, to: two},
		"broadcast that says true":              {more: `,"stream":"broadcast","unsubscribe":true`, to: one, want: true},
		"true without a public URL":             {more: `,"stream":"broadcast","unsubscribe":true`, to: one, noBase: true, pointer: "/unsubscribe", code: "unsupported", says: "POSTRIDER_PUBLIC_URL"},
		"false without a public URL":            {more: `,"stream":"broadcast","unsubscribe":false`, to: one, noBase: true},
		"a topic":                               {more: `,"unsubscribe":{"topic":"weekly-news-2"}`, to: one, want: true, topic: "weekly-news-2"},
		"a topic to two":                        {more: `,"unsubscribe":{"topic":"news"}`, to: two, pointer: "/unsubscribe", code: "too_many"},
		"transactional without a topic":         {more: `,"unsubscribe":true`, to: one, pointer: "/unsubscribe", code: "invalid", says: `{"topic": "news"}`},
		"an own header":                         {more: `,"stream":"broadcast","headers":{"list-unsubscribe":"<https://x.com/u>"}`, to: two},
		"an own header and true":                {more: `,"stream":"broadcast","unsubscribe":true,"headers":{"list-Unsubscribe":"<https://x.com/u>"}`, to: one, pointer: "/headers/list-Unsubscribe", code: "named_twice"},
		"half an own header and a topic":        {more: `,"unsubscribe":{"topic":"a"},"headers":{"List-Unsubscribe-Post":"List-Unsubscribe=One-Click"}`, to: one, pointer: "/headers/List-Unsubscribe-Post", code: "named_twice"},
		"a topic in capitals":                   {more: `,"unsubscribe":{"topic":"News"}`, to: one, pointer: "/unsubscribe/topic", code: "invalid", says: "a-z 0-9 -"},
		"an empty topic":                        {more: `,"unsubscribe":{"topic":""}`, to: one, pointer: "/unsubscribe/topic", code: "invalid"},
		"a long topic":                          {more: `,"unsubscribe":{"topic":"` + strings.Repeat("a", 51) + `"}`, to: one, pointer: "/unsubscribe/topic", code: "invalid"},
		"an object without a topic":             {more: `,"unsubscribe":{}`, to: one, pointer: "/unsubscribe/topic", code: "missing"},
		"an object with something else":         {more: `,"unsubscribe":{"list":"a"}`, to: one, pointer: "/unsubscribe/list", code: "unknown"},
		"a text":                                {more: `,"unsubscribe":"news"`, to: one, pointer: "/unsubscribe", code: "wrong_type", says: "true or false"},
		"a placeholder without a link":          {more: `,"bcc":[],"stream":"transactional","content":"{{unsubscribe_url}}"`, to: one, pointer: "/content", code: "invalid", says: `"unsubscribe": true`},
		"a placeholder, and false":              {more: `,"stream":"broadcast","unsubscribe":false,"content":{"html":"<a href='{{ unsubscribe_url }}'>x</a>"}`, to: one, pointer: "/content/html", code: "invalid"},
		"too many placeholders":                 {more: `,"stream":"broadcast","content":"` + strings.Repeat("{{unsubscribe_url}}", 51) + `"`, to: one, pointer: "/content", code: "too_many"},
		"a placeholder in text and HTML":        {more: `,"stream":"broadcast","content":{"text":"{{unsubscribe_url}}","html":"<p>{{unsubscribe_url}}"}`, to: one, want: true},
		"VoIPBIN's shape":                       {more: `,"stream":"broadcast"`, to: `{"type":"email","target":"a@y.com"}`, want: true},
		"no recipient that is one, and no more": {more: `,"stream":"broadcast"`, to: `{"email":"x"}`, pointer: "/to/0/email", code: "invalid_address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			if !tt.noBase {
				l.LinkBase = "https://mail.x.com"
			}
			body := string(unsubscribable(tt.more, tt.to, `"c"`))
			if strings.Contains(tt.more, `"content"`) {
				body = strings.Replace(body, `"content":"c",`, "", 1)
			}
			m, err := intake.Decode([]byte(body), l)
			if tt.pointer == "" {
				require.NoError(t, err)
				require.Equal(t, tt.want, m.Unsubscribe)
				require.Equal(t, tt.topic, m.Topic)
				return
			}
			f := failure(t, err)
			require.NotEmpty(t, f.Fields)
			require.Equal(t, tt.pointer, f.Fields[0].Pointer)
			require.Equal(t, tt.code, f.Fields[0].Code)
			require.Contains(t, f.Fields[0].Detail, tt.says)
			require.Len(t, f.Fields, 1)
		})
	}
}

func TestTheTextOfHTMLKeepsThePlaceholder(t *testing.T) {
	t.Parallel()
	l := limits()
	l.LinkBase = "https://mail.x.com"
	m, err := intake.Decode(unsubscribable(`,"stream":"broadcast"`, one, `{"html":"<p>Hi</p><p><a href=\"{{ unsubscribe_url }}\">Leave</a> or {{unsubscribe_url}}</p>"}`), l)
	require.NoError(t, err)
	require.True(t, m.TextFromHTML)
	require.Equal(t, "Hi\n\nLeave <{{unsubscribe_url}}> or {{unsubscribe_url}}", strings.TrimSpace(m.Text))
}

func TestFingerprintsDifferInTheLink(t *testing.T) {
	t.Parallel()
	l := limits()
	l.LinkBase = "https://mail.x.com"
	seen := map[string]string{}
	for _, more := range []string{``, `,"unsubscribe":{"topic":"a"}`, `,"unsubscribe":{"topic":"b"}`} {
		m, err := intake.Decode(unsubscribable(`,"stream":"broadcast"`+more, one, `"c"`), l)
		require.NoError(t, err)
		seen[intake.Fingerprint(m.Message)] = more
	}
	require.Len(t, seen, 3)
	for _, more := range []string{`,"unsubscribe":true`, `,"unsubscribe":false`} {
		same, err := intake.Decode(unsubscribable(`,"stream":"broadcast"`+more, one, `"c"`), l)
		require.NoError(t, err)
		require.Equal(t, ``, seen[intake.Fingerprint(same.Message)], "as of a version without links")
	}
}

func TestThePlaceholderStandsInTextAndHTMLOnly(t *testing.T) {
	t.Parallel()
	l := limits()
	l.LinkBase = "https://mail.x.com"
	for pointer, member := range map[string]string{"/subject": `"subject":"{{unsubscribe_url}}"`, "/headers/X-A": `"subject":"s","headers":{"X-A":"{{ unsubscribe_url }}"}`} {
		for _, stream := range []string{"broadcast", "transactional"} {
			_, err := intake.Decode([]byte(`{"from":{"email":"shop@x.com"},"to":[{"email":"a@y.com"}],"content":"c","stream":"`+stream+`",`+member+`}`), l)
			f, ok := errors.AsType[*email.Failure](err)
			require.True(t, ok, pointer)
			require.Equal(t, []string{pointer, "unsupported"}, []string{f.Fields[0].Pointer, f.Fields[0].Code})
		}
	}
}
