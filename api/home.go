package api

import (
	"bytes"
	"html/template"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// Home is what GET / shows besides the API's own addresses.
type Home struct {
	// TemporalUI is the address of Temporal's UI, Inbox that of the SMTP server for received
	// mail. Both are empty outside of development, because GET / needs no credential.
	TemporalUI, Inbox string
}

// homeHandlers answers /.
type homeHandlers struct {
	home    Home
	links   links
	respond responder
}

// homeJSON is the answer of GET / for programs.
type homeJSON struct {
	API        string `json:"api"`
	Docs       string `json:"docs"`
	OpenAPI    string `json:"openapi"`
	TemporalUI string `json:"temporal_ui,omitempty"`
	Inbox      string `json:"inbox,omitempty"`
	// Messages is the address of the list of mailboxes.
	Messages string `json:"messages,omitempty"`
}

var homePage = template.Must(template.New("home").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Postrider</title></head>
<body><h1>Postrider</h1>
<ul>
<li>API: <code>{{.API}}</code>, described at <a href="{{.Docs}}">{{.Docs}}</a> and <a href="{{.OpenAPI}}">{{.OpenAPI}}</a></li>
{{- if .TemporalUI}}
<li>Temporal UI: <a href="{{.TemporalUI}}">{{.TemporalUI}}</a></li>
{{- end}}
{{- if .Inbox}}
<li>Inbox: <code>{{.Inbox}}</code>; every mail of the demo customer arrives in it. Read it with <code>GET {{.Messages}}</code> and <code>GET {{.Messages}}/{id}/messages</code>.</li>
{{- end}}
</ul></body></html>
`))

// get answers with an HTML page if the client accepts one, else with JSON.
func (h *homeHandlers) get(c *gin.Context) {
	base := h.links.publicURL
	out := homeJSON{API: base + "/v1.0", Docs: base + "/docs", OpenAPI: base + "/openapi.json", TemporalUI: h.home.TemporalUI, Inbox: h.home.Inbox}
	if out.Inbox != "" {
		out.Messages = base + "/v1.0/mailboxes"
	}
	c.Header("Vary", "Accept")
	c.Header("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
	if !strings.Contains(c.GetHeader("Accept"), "text/html") {
		c.JSON(http.StatusOK, out)
		return
	}
	var page bytes.Buffer
	if err := homePage.Execute(&page, out); err != nil {
		h.respond.problem(c, err)
		return
	}
	c.Data(http.StatusOK, "text/html; charset=utf-8", page.Bytes())
}
