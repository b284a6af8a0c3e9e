package advice_test

import (
	"testing"

	"github.com/postrider/postrider/internal/advice"
)

func TestInlineCSS(t *testing.T) {
	t.Parallel()
	examine(t, "inline_css", []row{
		{name: "no HTML", message: said("Hello", "Text")},
		{name: "in the elements", message: good(), level: advice.LevelOK},
		{name: "a stylesheet", message: htmled(`<LINK href=x.css REL="Alternate StyleSheet">`), level: advice.LevelWarning, detail: "1 external stylesheet (<link rel=stylesheet>)", where: "<LINK href=x.css"},
		{name: "another link", message: htmled(`<link rel=icon href=x.png>`), level: advice.LevelOK},
		{name: "an import", message: htmled("<style>@charset \"utf-8\"; @IMPORT url('a;b.css');</style>"), level: advice.LevelWarning, detail: "@import", where: "@IMPORT url('a;b.css')"},
		{name: "an import in a comment", message: htmled("<style>/* @import 'a.css'; */</style><!-- <link rel=stylesheet> -->"), level: advice.LevelOK},
		{name: "rules", message: htmled("<style type=text/css><!-- p { color: red } .b { color: blue } --></style>"), level: advice.LevelAdvice, detail: "2 rules", where: "p"},
		{name: "rules that cannot be elsewhere", message: htmled("<style>@media (max-width: 600px) { p { color: red } } a:hover { color: red } @font-face { src: url(x) }</style>"), level: advice.LevelOK},
		{name: "rules behind conditional ones", message: htmled("<style>@media print { p { color: red } } p { color: blue }</style>"), level: advice.LevelAdvice, detail: "1 rule ", where: "p"},
	})
}

func TestActiveContent(t *testing.T) {
	t.Parallel()
	examine(t, "active_content", []row{
		{name: "none", message: htmled(`<p>script, form</p><!-- <script> --><p title="<script>">`), level: advice.LevelOK},
		{name: "a script", message: htmled("<script>alert(1)</script>"), level: advice.LevelWarning, detail: "1 active element (<script>)", where: "<script>"},
		{name: "one that closes itself", message: htmled("<sCript src=https://example.com/a.js />"), level: advice.LevelWarning, detail: "<script>", where: "<sCript"},
		{name: "several", message: htmled("<form action=x><iframe src=y></iframe><form>"), level: advice.LevelWarning, detail: "3 active elements (<form>, <iframe>)", where: "<form action=x>"},
		{name: "an event", message: htmled(`<p onclick="x()">`), level: advice.LevelWarning, detail: "event attributes", where: "<p onclick"},
		{name: "inside a script", message: htmled(`<script>"<iframe>"</script>`), level: advice.LevelWarning, detail: "1 active element (<script>)", where: "<script>"},
	})
}

func TestLayout(t *testing.T) {
	t.Parallel()
	bad := func(name, html, kind, where string) row {
		return row{name: name, message: htmled(html), level: advice.LevelWarning, detail: kind, where: where}
	}
	fine := func(name, html string) row { return row{name: name, message: htmled(html), level: advice.LevelOK} }
	examine(t, "layout", []row{
		{name: "no HTML", message: said("Hello", "Text")},
		bad("float", `<p style="color:red; FLOAT : Left">`, "1 place of layout by float", `<p style="color:red; FLOAT`),
		bad("flex", `<p style="display:inline-flex!important">`, "flex", "<p"),
		bad("grid", `<style>.a{color:red;display:grid}</style>`, "grid", "display:grid"),
		bad("position", `<style>p { position:/* x */absolute }</style>`, "position", "position: absolute"),
		bad("behind a string", `<p style="font-family:'a;}b';float:left">`, "float", "<p"),
		bad("behind an open string", "<style>p{content:'a\n;float:left}</style>", "float", "float:left"),
		bad("behind an address", `<p style="background:url(data:image/png;base64,AA==);float:left">`, "float", "<p"),
		bad("behind closing braces", `<style>}}}p{float:left}</style>`, "float", "float:left"),
		bad("behind a conditional block", `<style>@media x{p{color:red}}p{float:left}</style>`, "float", "float:left"),
		bad("several", `<p style="float:left"><p style="display:flex"><p style="float:right">`, "3 places of layout by float, flex", "<p"),
		fine("set back", `<p style="float:none;position:static;display:block"><p style="display:none">`),
		fine("as a value", `<p style="transition:float 1s;--x:flex">`),
		fine("as a string", `<p style="content:'a;float:left'">`),
		fine("in an address", `<p style="background:url(https://example.com/a;float:left)">`),
		fine("as a text", `<p>float: left; display: flex</p>`),
		fine("in a comment", `<style>/* p{float:left} */</style>`),
		fine("for programs that understand it", `<style>@media (min-width:600px){.a{display:flex}} @supports (display:grid){.a{display:grid}}</style>`),
		fine("a name without a value", `<p style="float">`),
	})
}
