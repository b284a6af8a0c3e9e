package advice_test

import (
	"testing"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
)

func TestLinkURLs(t *testing.T) {
	t.Parallel()
	bad := func(name, href, kind string) row {
		return row{name: name, message: htmled(`<a href="` + href + `">x</a>`), level: advice.LevelWarning, detail: kind, where: "<a href"}
	}
	weak := func(name, href, kind string) row {
		return row{name: name, message: htmled(`<a href="` + href + `">x</a>`), level: advice.LevelAdvice, detail: kind, where: "<a href"}
	}
	fine := func(name, html string) row { return row{name: name, message: htmled(html), level: advice.LevelOK} }
	examine(t, "link_urls", []row{
		{name: "no HTML", message: said("Hello", "Text")},
		fine("absolute", `<a href=" https://example.com/?a=b&amp;c=d ">x</a>`),
		fine("others", `<a href="mailto:a@example.com">x</a><a href="tel:+491">x</a><a href="#top">x</a><a name="top">x</a><a href="myapp://x">x</a>`),
		bad("relative", "/orders", "a relative address"),
		bad("a placeholder", "{{url}}", "a relative address"),
		bad("without a scheme", "//example.com", "without https:"),
		bad("a script", "JavaScript:go()", "javascript:"),
		bad("data", "data:text/html,x", "data:"),
		bad("an address by number", "https://192.0.2.7/x", "an IP address"),
		bad("an address by number 6", "http://[2001:db8::1]/x", "an IP address"),
		bad("broken", "https://exa mple.com:x/", "cannot be read"),
		bad("no host", "https:///x", "cannot be read"),
		weak("not encrypted", "http://example.com/", "http:"),
		weak("nowhere", "#", "no target"),
		{name: "never closed", message: htmled(`<p><a href="x">x`), level: advice.LevelWarning, where: `<a href="x">`},
		{name: "nested", message: htmled(`<a href="x"><a href="https://example.com"></a></a>`), level: advice.LevelWarning, detail: "1 link ", where: `<a href="x">`},
		{name: "an attribute twice", message: htmled(`<a href="x" href="https://example.com">x</a>`), level: advice.LevelWarning, where: `<a href="x"`},
	})
}

func TestLinkText(t *testing.T) {
	t.Parallel()
	link := func(href, text string) email.Message { return htmled(`<a href="` + href + `">` + text + `</a>`) }
	bad := func(name, href, text, detail string) row {
		return row{name: name, message: link(href, text), level: advice.LevelWarning, detail: detail, where: "<a href"}
	}
	fine := func(name, href, text string) row {
		return row{name: name, message: link(href, text), level: advice.LevelOK}
	}
	examine(t, "link_text", []row{
		{name: "no HTML", message: said("Hello", "Text")},
		bad("an address", "https://evil.example/x", "https://www.bank.com/login", "www.bank.com leads to evil.example"),
		bad("a domain", "https://evil.example/x", "Bank.COM", "bank.com leads to evil.example"),
		bad("with a path", "https://evil.example/", "bank.com/login?x=1", "bank.com leads"),
		bad("among words", "https://evil.example/", "Go to (https://bank.com:443/), please", "bank.com leads"),
		bad("a www among words", "https://evil.example/", "Go to www.bank.com.", "www.bank.com leads"),
		bad("in parts", "https://evil.example/", "<b>ba</b>nk<i>.com</i>", "bank.com leads"),
		bad("a user that looks like a host", "https://bank.com@evil.example/", "bank.com", "bank.com leads to evil.example"),
		bad("the owner at the front", "https://bank.com.evil.example/", "bank.com", "bank.com leads"),
		bad("under a country's second level", "https://a.co.uk/", "b.co.uk", "b.co.uk leads to a.co.uk"),
		bad("in entities", "https://evil.example/", "bank&#46;com", "bank.com leads"),
		fine("the same", "https://example.com/x", "https://example.com"),
		fine("a subdomain", "https://click.mail.example.com/x", "www.example.com"),
		fine("a sibling", "https://click.example.co.uk/x", "shop.example.co.uk"),
		fine("words", "https://example.com/", "Look at your order."),
		fine("a sentence without a space", "https://example.com/", "Order now.Then wait"),
		fine("a file", "https://example.com/i", "invoice-12345.pdf"),
		fine("a version", "https://example.com/i", "1.2.3"),
		fine("a mailbox", "https://example.com/i", "help@other.com"),
		fine("not ASCII", "https://xn--bcher-kva.example/", "bücher.example"),
		fine("to write a mail", "mailto:a@b.example", "bank.com"),
		fine("behind the link", "https://example.com/", "x</a> bank.com <a>"),
	})
}

func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	const uri = "<https://example.com/u/1>, <mailto:u@example.com>"
	to := func(text, html string, headers ...string) email.Message {
		m := good()
		m.Stream, m.Text, m.HTML = email.StreamBroadcast, text, html
		for i := 0; i < len(headers); i += 2 {
			m.Headers = append(m.Headers, email.Header{Name: headers[i], Value: headers[i+1]})
		}
		return m
	}
	ours := func(text, html string) email.Message {
		m := to(text, html)
		m.Unsubscribe = true
		return m
	}
	linked := `<a href="https://example.com/u/1">Unsubscribe</a>`
	examine(t, "unsubscribe", []row{
		{name: "transactional", message: good()},
		{name: "nothing", message: to("Hello", "<p>Unsubscribe</p>"), level: advice.LevelWarning, detail: "marked as spam"},
		{name: "a link", message: to("Hello", linked), level: advice.LevelAdvice, detail: "no header"},
		{name: "a link by its address", message: to("Hello", `<a href="https://example.com/unsubscribe?x">here</a>`), level: advice.LevelAdvice, detail: "no header"},
		{name: "a link in another language", message: to("Hello", `<a href="https://example.com/u">Newsletter ABBESTELLEN</a>`), level: advice.LevelAdvice, detail: "no header"},
		{name: "in the text", message: to("Opt out: https://example.com/u", ""), level: advice.LevelAdvice, detail: "no header"},
		{name: "a header", message: to("Hello", linked, "List-Unsubscribe", uri), level: advice.LevelAdvice, detail: "more than one click", where: "/headers/List-Unsubscribe"},
		{name: "a header by mail", message: to("Hello", linked, "list-unsubscribe", "<mailto:u@example.com>", "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
			level: advice.LevelAdvice, detail: "more than one click", where: "/headers/list-unsubscribe"},
		{name: "a header that is not read", message: to("Hello", linked, "List-Unsubscribe", "https://example.com/u"), level: advice.LevelWarning, detail: "RFC 2369", where: "/headers/List-Unsubscribe"},
		{name: "headers without a link", message: to("Hello", "<p>", "List-Unsubscribe", uri, "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"), level: advice.LevelAdvice, detail: "Add a link"},
		{name: "headers of ours", message: ours("Hello", ""), level: advice.LevelAdvice, detail: "{{unsubscribe_url}}"},
		{name: "headers of ours and a link", message: ours("Leave: {{ unsubscribe_url }}", ""), level: advice.LevelOK},
		{name: "headers of ours and a link in HTML", message: ours("Hello", `<a href="{{unsubscribe_url}}">Leave</a>`), level: advice.LevelOK},
		{name: "all", message: to("Hello", linked, "List-Unsubscribe", uri, "List-Unsubscribe-Post", "list-unsubscribe=one-click"), level: advice.LevelOK},
	})
}
