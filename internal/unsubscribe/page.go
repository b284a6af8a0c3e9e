package unsubscribe

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
)

// State is what a recipient's subscription is.
type State string

// The states.
const (
	// Subscribed: such mail is sent to the recipient.
	Subscribed State = "subscribed"
	// Unsubscribed: the recipient has unsubscribed by the link of this e-mail, and may undo that by it.
	Unsubscribed State = "unsubscribed"
	// Settled: the recipient has unsubscribed by this link, and has undone that so often that only the sender can
	// do it again.
	Settled State = "settled"
	// Elsewhere: the recipient gets no such mail, for another reason. This link cannot undo it.
	Elsewhere State = "elsewhere"
)

// Subscription is what a link is about.
type Subscription struct {
	// Recipient is the masked address.
	Recipient string
	// Sender is the domain that the e-mail is from.
	Sender string
	// Topic is what the mail is about; empty for all broadcast mail of the customer.
	Topic string
	State State
}

// The fields of the page's forms. A mailbox provider's request has neither.
const (
	// FieldPage says that a person has pressed a button, and reads the answer.
	FieldPage = "page"
	// FieldUndo takes the unsubscription back.
	FieldUndo = "undo"
)

const style = `body{font:18px/1.5 system-ui,sans-serif;max-width:34em;margin:12vh auto 0;padding:0 1em;color:#1c1e21;background:#fff}
h1{font-size:1.4em}button{font:inherit;padding:.5em 1.2em;border:1px solid #555;border-radius:.3em;background:#f2f2f2;color:#111;cursor:pointer}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181b}button{background:#2b2f36;color:#f2f2f2}}`

// Policy is the pages' Content-Security-Policy: nothing is loaded, no script runs, and forms go to where
// the page is from.
var Policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// The form names no address, so it goes to that of the page, below any prefix that a proxy adds.
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex, nofollow">
<title>{{.Title}}</title><style>{{.Style}}</style></head>
<body><main>
<h1>{{.Title}}</h1>
{{- with .Subscription}}
{{- if eq .State "subscribed"}}
<p>Stop {{template "mail" .}} to {{.Recipient}}?</p>
<form method="post"><input type="hidden" name="page" value="1"><button>Unsubscribe</button></form>
{{- else if eq .State "unsubscribed"}}
<p>{{.Recipient}} gets no more {{template "mail" .}}.</p>
<form method="post"><input type="hidden" name="page" value="1"><input type="hidden" name="undo" value="1"><button>Undo: subscribe again</button></form>
{{- else if eq .State "settled"}}
<p>{{.Recipient}} gets no more {{template "mail" .}}. To get it again, ask the sender.</p>
{{- else}}
<p>{{.Recipient}} gets no {{template "mail" .}}. That was not done by this link, so this link cannot undo it: ask the sender.</p>
{{- end}}
{{- else}}
<p>This link to unsubscribe is not complete, or not valid any more. Use the link in a later mail, or ask the sender.</p>
{{- end}}
</main></body></html>
{{define "mail"}}{{if .Topic}}mail about “{{.Topic}}” from {{.Sender}}{{else}}newsletters and other bulk mail from {{.Sender}}{{end}}{{end}}`))

type pageView struct {
	Title        string
	Style        template.CSS
	Subscription *Subscription
}

// Page is the page of a link; nil is a link that is not valid.
func Page(s *Subscription) ([]byte, error) {
	v := pageView{Title: "Link not valid", Style: style, Subscription: s}
	if s != nil {
		v.Title = map[State]string{Subscribed: "Unsubscribe", Unsubscribed: "Unsubscribed", Settled: "Unsubscribed", Elsewhere: "Not subscribed"}[s.State]
	}
	var out bytes.Buffer
	err := page.Execute(&out, v)
	return out.Bytes(), err
}
