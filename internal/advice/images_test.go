package advice_test

import (
	"testing"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
)

func TestImageAlt(t *testing.T) {
	t.Parallel()
	examine(t, "image_alt", []row{
		{name: "no image", message: good()},
		{name: "a text", message: htmled(`<img src="https://example.com/a.png" alt="Our shop">`), level: advice.LevelOK, detail: "1 image"},
		{name: "decoration", message: htmled(`<img src="https://example.com/a.png" alt>`), level: advice.LevelOK},
		{name: "one of two without", message: htmled(`<img alt=a src=https://example.com/a><IMG src=https://example.com/b />`), level: advice.LevelWarning, detail: "1 image of 2", where: "<IMG src=https://example.com/b />"},
	})
}

func TestImageURLs(t *testing.T) {
	t.Parallel()
	bad := func(name, html, kind string) row {
		return row{name: name, message: htmled(html), level: advice.LevelWarning, detail: kind, where: "<"}
	}
	shown, escaped := htmled(`<img src="cid:logo" alt="">`), htmled(`<img src="CID:a%40b" alt="">`)
	shown.Attachments = []email.Attachment{{Filename: "a.png", ContentID: "logo", Content: []byte("x")}}
	escaped.Attachments = []email.Attachment{{Filename: "a.png", ContentID: "a@b", Content: []byte("x")}}
	examine(t, "image_urls", []row{
		{name: "no image", message: good()},
		{name: "absolute", message: htmled(`<img alt="" src=" HTTPS://example.com/a.png">`), level: advice.LevelOK},
		{name: "attached", message: shown, level: advice.LevelOK},
		{name: "attached under a name to be escaped", message: escaped, level: advice.LevelOK},
		{name: "not encrypted", message: htmled(`<img alt="" src="http://example.com/a.png">`), level: advice.LevelAdvice, detail: "http:", where: "<img"},
		bad("relative", `<img alt="" src="/a.png">`, "a relative address"),
		bad("relative with a colon", `<img alt="" src="./a:b.png">`, "a relative address"),
		bad("without a scheme", `<img alt="" src="//example.com/a.png">`, "without https:"),
		bad("none", `<img alt="">`, "no address"),
		bad("data", `<img alt="" src="data:image/png;base64,AA==">`, "data:"),
		bad("a file", `<img alt="" src="file:///c:/a.png">`, "not of the web"),
		bad("not attached", `<img alt="" src="cid:other">`, "not attached"),
		bad("a background", `<td background="a.png">`, "a relative address"),
		bad("a background in a style", `<td style="background: #fff url( 'a.png' ) no-repeat, url(https://example.com/b.png)">`, "a relative address"),
		bad("the second of a style", `<td style="background:url(https://example.com/b.png),url(b.png">`, "a relative address"),
		bad("the worse one counts", `<img alt="" src="http://example.com/a.png"><img alt="" src="a.png"><img alt="" src="b.png">`, "2 images will not be shown everywhere: a relative address."),
		{name: "a name in a style is no image", message: htmled(`<img alt="" src="https://example.com/a.png"><v:rect style="behavior:url(#default#VML)">`), level: advice.LevelOK},
	})
}

func TestInlineFiles(t *testing.T) {
	t.Parallel()
	with := func(html string, ids ...string) email.Message {
		m := htmled(html)
		for _, id := range ids {
			m.Attachments = append(m.Attachments, email.Attachment{Filename: "a.png", Type: "image/png", ContentID: id, Content: []byte("x")})
		}
		return m
	}
	examine(t, "inline_files", []row{
		{name: "none", message: with("<p>", "")},
		{name: "shown", message: with(`<img alt="" src="cid:a"><td background="cid:b">`, "", "a", "b"), level: advice.LevelOK, detail: "2 inline files"},
		{name: "not shown", message: with(`<img alt="" src="cid:a">`, "a", "b"), level: advice.LevelAdvice, where: "/attachments/1"},
		{name: "without HTML", message: with("", "a"), level: advice.LevelAdvice, where: "/attachments/0"},
	})
}
