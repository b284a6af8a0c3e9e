package unsubscribe_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/unsubscribe"
)

func links(fill byte) unsubscribe.Links {
	return unsubscribe.NewLinks([]byte(strings.Repeat(string(fill), unsubscribe.SecretBytes)))
}

const id = "01a20894-d574-79b4-a163-2c334f1ed74c"

func TestATokenIsOfOneEmailAndOneInstallation(t *testing.T) {
	t.Parallel()
	token := links('a').Token(id)
	require.Regexp(t, "^[a-z2-7]{42}$", token)
	got, ok := links('a').EmailOf(token)
	require.True(t, ok)
	require.Equal(t, id, got)
	got, ok = links('a').EmailOf(strings.ToUpper(token))
	require.True(t, ok, "a server may change the case")
	require.Equal(t, id, got)
	require.Equal(t, "https://x.test/p/u/"+token, links('a').URL("https://x.test/p", id))

	wrong := []string{"", "x", token[:41], token + "a", token + "=", "../" + token, links('b').Token(id), links('a').Token("not an id"), unsubscribe.Links{}.Token(id), unsubscribe.Preview.Token(id)}
	for i := range token {
		for _, c := range "a7" {
			if changed := token[:i] + string(c) + token[i+1:]; changed != token {
				wrong = append(wrong, changed)
			}
		}
	}
	for _, w := range wrong {
		_, ok := links('a').EmailOf(w)
		require.False(t, ok, w)
	}
	_, ok = unsubscribe.Links{}.EmailOf(token)
	require.False(t, ok, "without a secret, no token is good")
}

func TestIsBase(t *testing.T) {
	t.Parallel()
	for base, want := range map[string][2]bool{
		"https://mail.example.com":           {true, true},
		"https://mail.example.com/postrider": {true, true},
		"https://mail.example.com:8443":      {true, true},
		"http://127.0.0.1:8080":              {false, true},
		"http://[::1]:8080":                  {false, true},
		"http://localhost:8080":              {false, true},
		"http://mail.example.com":            {false, false},
		"http://10.0.0.1":                    {false, false},
		"https://":                           {false, false},
		"https://u:p@x.test":                 {false, false},
		"https://x.test/?a=b":                {false, false},
		"https://x.test/<b>":                 {false, false},
		"https://bücher.test":                {false, false},
		"https://x.test/a b":                 {false, false},
		"":                                   {false, false},
		"https://x.test/" + strings.Repeat("a", unsubscribe.MaxBaseBytes): {false, false},
	} {
		require.Equal(t, want, [2]bool{unsubscribe.IsBase(base, false), unsubscribe.IsBase(base, true)}, base)
	}
}

func TestFieldsOfAMessage(t *testing.T) {
	t.Parallel()
	require.Equal(t, "<news.list.acme.test>", unsubscribe.ListID("news", "broadcast", "acme.test"))
	require.Equal(t, "<broadcast.list.acme.test>", unsubscribe.ListID("", "broadcast", "acme.test"))
	customer := uuid.NewString()
	require.Regexp(t, "^news:"+customer+":[a-z2-7]{12}$", links('a').FeedbackID("news", "broadcast", customer))
	require.NotEqual(t, links('a').FeedbackID("", "broadcast", customer), links('b').FeedbackID("", "broadcast", customer))
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	text := "a {{unsubscribe_url}} b {{ \u00a0unsubscribe_url\t}} c {{unsubscribe_urls}} {unsubscribe_url}"
	require.Equal(t, 2, unsubscribe.Count(text))
	require.Equal(t, "a $1 b $1 c {{unsubscribe_urls}} {unsubscribe_url}", unsubscribe.Fill(text, "$1"))
	require.Equal(t, unsubscribe.MaxPlaceholders+1, unsubscribe.Count(strings.Repeat(unsubscribe.Placeholder, 1000)))
}

func TestPages(t *testing.T) {
	t.Parallel()
	for state, want := range map[unsubscribe.State]string{
		unsubscribe.Subscribed: "Stop mail about “news” from acme.test to j***@x.test?", unsubscribe.Unsubscribed: "subscribe again", unsubscribe.Elsewhere: "ask the sender",
	} {
		page, err := unsubscribe.Page(&unsubscribe.Subscription{Recipient: "j***@x.test", Sender: "acme.test", Topic: "news", State: state})
		require.NoError(t, err)
		require.Contains(t, string(page), want)
		require.Equal(t, state == unsubscribe.Unsubscribed, strings.Contains(string(page), `name="`+unsubscribe.FieldUndo+`"`))
		require.Equal(t, state != unsubscribe.Elsewhere, strings.Contains(string(page), `name="`+unsubscribe.FieldPage+`"`))
		for _, not := range []string{"<script", "http:", "https:", "src=", "href=", "action="} {
			require.NotContains(t, string(page), not)
		}
	}
	page, err := unsubscribe.Page(&unsubscribe.Subscription{Recipient: `<b>"x`, Sender: "<i>", State: unsubscribe.Subscribed})
	require.NoError(t, err)
	require.NotContains(t, string(page), "<b>")
	require.NotContains(t, string(page), "<i>")
	require.Contains(t, string(page), "newsletters and other bulk mail")
	page, err = unsubscribe.Page(nil)
	require.NoError(t, err)
	require.Contains(t, string(page), "not valid any more")
	require.NotContains(t, string(page), "<form")
}
