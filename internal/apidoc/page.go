package apidoc

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// Page renders the document for reading. The page has no script and needs no
// other file; policy is the Content-Security-Policy that lets its own style through
// and nothing else.
func (d Document) Page() (html []byte, policy string, err error) {
	p := renderer{Document: d}
	view := p.page()
	if p.err != nil {
		return nil, "", p.err
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, view); err != nil {
		return nil, "", fmt.Errorf("render the OpenAPI document: %w", err)
	}
	sum := sha256.Sum256([]byte(pageCSS))
	policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return out.Bytes(), policy, nil
}

// These types are the template's data.
type (
	pageView struct {
		Title, Summary, Version string
		CSS                     template.CSS
		Text                    template.HTML
		Credentials             []row
		Groups                  []group
		Schemas                 []schemaView
		Headers                 []row
	}
	group struct {
		Name, ID   string
		Text       template.HTML
		Operations []operation
	}
	operation struct {
		ID, Method, Path string
		Summary, Text    template.HTML
		Needs            template.HTML
		Parameters       []row
		Body             *body
		Answers          []answer
		Curl             []example
	}
	body struct {
		MediaType string
		Type      template.HTML
		Required  bool
	}
	example struct{ Summary, Text string }
	answer  struct {
		Status  string
		Text    template.HTML
		Content []content
		Headers []string
	}
	content struct {
		MediaType string
		Type      template.HTML
	}
	schemaView struct {
		Name    string
		Type    template.HTML
		Text    template.HTML
		Rows    []row
		Example string
	}
	row struct {
		Name     string
		Type     template.HTML
		In       string
		Required bool
		Text     template.HTML
	}
)

// renderer reads the document for the page. The first error stays.
type renderer struct {
	Document
	err error
}

func (p *renderer) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("render the OpenAPI document: "+format, args...)
	}
}

// resolve follows a reference within the document; others are as they are.
func (p *renderer) resolve(n *yaml.Node) *yaml.Node {
	ref := text(n, "$ref")
	if ref == "" {
		return n
	}
	path, ok := strings.CutPrefix(ref, "#/")
	target := get(p.root, strings.Split(path, "/")...)
	if !ok || target == nil {
		p.fail("there is no %s", ref)
	}
	return target
}

func (p *renderer) json(n *yaml.Node, indent string) string {
	out, err := marshal(n, indent)
	if err != nil {
		p.fail("%w", err)
	}
	return string(out)
}

func (p *renderer) page() pageView {
	info := get(p.root, "info")
	view := pageView{Title: text(info, "title"), Summary: text(info, "summary"), Version: text(info, "version"),
		CSS: template.CSS(pageCSS), Text: prose(text(info, "description"))}
	members(get(p.root, "components", "securitySchemes"), func(name string, n *yaml.Node) {
		how := "Authorization: Bearer …"
		if text(n, "in") == "query" {
			how = "?" + text(n, "name") + "=…"
		}
		view.Credentials = append(view.Credentials, row{Name: name, In: how, Text: prose(text(n, "description"))})
	})
	for _, tag := range items(get(p.root, "tags")) {
		name := text(tag, "name")
		view.Groups = append(view.Groups, group{Name: name, ID: anchor(name), Text: prose(text(tag, "description"))})
	}
	members(get(p.root, "paths"), func(path string, item *yaml.Node) {
		members(item, func(method string, op *yaml.Node) {
			if method == "parameters" {
				return
			}
			var tag string
			for _, n := range items(get(op, "tags")) {
				tag = n.Value
			}
			i := slices.IndexFunc(view.Groups, func(g group) bool { return g.Name == tag })
			if i < 0 {
				p.fail("%s %s: there is no tag %q", method, path, tag)
				return
			}
			view.Groups[i].Operations = append(view.Groups[i].Operations, p.operation(strings.ToUpper(method), path, get(item, "parameters"), op))
		})
	})
	members(get(p.root, "components", "schemas"), func(name string, n *yaml.Node) {
		s := schemaView{Name: name, Text: prose(text(n, "description")), Rows: p.properties(n)}
		if len(s.Rows) == 0 {
			s.Type = p.typeOf(n, false)
		}
		if examples := items(get(n, "examples")); len(examples) > 0 {
			s.Example = p.json(examples[0], "  ")
		}
		view.Schemas = append(view.Schemas, s)
	})
	members(get(p.root, "components", "headers"), func(name string, n *yaml.Node) {
		view.Headers = append(view.Headers, row{Name: name, Type: p.typeOf(get(n, "schema"), true), Text: prose(text(n, "description"))})
	})
	return view
}

func (p *renderer) operation(method, path string, shared, op *yaml.Node) operation {
	out := operation{ID: text(op, "operationId"), Method: method, Path: path, Summary: inline(text(op, "summary")),
		Text: prose(text(op, "description")), Needs: needs(get(op, "security"))}
	for _, n := range slices.Concat(items(shared), items(get(op, "parameters"))) {
		n = p.resolve(n)
		schema := get(n, "schema")
		described := text(n, "description")
		if described == "" {
			described = text(p.resolve(schema), "description")
		}
		out.Parameters = append(out.Parameters, row{Name: text(n, "name"), In: text(n, "in"), Required: text(n, "required") == "true",
			Type: p.typeOf(schema, true), Text: prose(described)})
	}
	request := get(op, "requestBody")
	members(get(request, "content"), func(mediaType string, n *yaml.Node) {
		out.Body = &body{MediaType: mediaType, Type: p.typeOf(get(n, "schema"), true), Required: text(request, "required") == "true"}
		if e := get(n, "example"); e != nil {
			out.Curl = append(out.Curl, example{Text: p.curl(out, e)})
		}
		members(get(n, "examples"), func(_ string, e *yaml.Node) {
			out.Curl = append(out.Curl, example{Summary: text(e, "summary"), Text: p.curl(out, get(e, "value"))})
		})
	})
	if len(out.Curl) == 0 {
		out.Curl = []example{{Text: p.curl(out, nil)}}
	}
	members(get(op, "responses"), func(status string, n *yaml.Node) {
		n = p.resolve(n)
		a := answer{Status: status, Text: prose(text(n, "description"))}
		members(get(n, "content"), func(mediaType string, c *yaml.Node) {
			a.Content = append(a.Content, content{MediaType: mediaType, Type: p.typeOf(get(c, "schema"), true)})
		})
		members(get(n, "headers"), func(name string, _ *yaml.Node) { a.Headers = append(a.Headers, name) })
		out.Answers = append(out.Answers, a)
	})
	return out
}

// needs says what a credential has to have, from an operation's own security.
func needs(security *yaml.Node) template.HTML {
	alternatives := items(security)
	if security != nil && len(alternatives) == 0 {
		return "Takes no credential."
	}
	var out template.HTML
	for _, alternative := range alternatives {
		members(alternative, func(_ string, roles *yaml.Node) {
			var scopes []string
			for _, role := range items(roles) {
				scopes = append(scopes, "`"+role.Value+"`")
			}
			switch {
			case len(scopes) == 0:
			case slices.Equal(scopes, []string{"`admin`"}):
				out = "Takes the scope " + inline("`admin`") + "."
			case len(scopes) == 1:
				out = "Takes the scope " + inline(scopes[0]) + ", or a credential without scopes."
			default:
				out = "Takes the scopes " + inline(strings.Join(scopes, " and ")) + ", or a credential without scopes."
			}
		})
	}
	return out
}

// curl writes a request as a command, with variables for what only the reader
// knows: curl takes braces for something else.
func (p *renderer) curl(op operation, sent *yaml.Node) string {
	var out strings.Builder
	out.WriteString("curl -s")
	if op.Method != "GET" && (op.Method != "POST" || op.Body == nil) {
		out.WriteString(" --request " + op.Method)
	}
	path := strings.NewReplacer("{id}", "$ID", "{message}", "$MESSAGE", "{index}", "0").Replace(op.Path)
	var query []string
	for _, param := range op.Parameters {
		if param.In == "query" && param.Required {
			query = append(query, param.Name+"=…")
		}
	}
	if !strings.HasPrefix(string(op.Needs), "Takes no") && strings.HasPrefix(path, "/v1.0/") {
		query = append(query, "accesskey=$POSTRIDER_ACCESSKEY")
	}
	out.WriteString(` "$POSTRIDER_URL` + path)
	if len(query) > 0 {
		out.WriteString("?" + strings.Join(query, "&"))
	}
	out.WriteString(`"`)
	switch {
	case op.Body == nil:
	case op.Body.MediaType == "multipart/form-data":
		out.WriteString(" --form file=@report.pdf")
	case sent != nil:
		quoted := strings.ReplaceAll(p.json(sent, "  "), "'", `'\''`)
		out.WriteString(" --header 'Content-Type: application/json' --data '" + quoted + "'")
	}
	return out.String()
}

func (p *renderer) properties(schema *yaml.Node) (out []row) {
	var required []string
	for _, n := range items(get(schema, "required")) {
		required = append(required, n.Value)
	}
	members(get(schema, "properties"), func(name string, n *yaml.Node) {
		described := text(n, "description")
		if described == "" && text(n, "$ref") == "" {
			described = text(p.resolve(n), "description")
		}
		out = append(out, row{Name: name, Type: p.typeOf(n, true), Required: slices.Contains(required, name), Text: prose(described)})
	})
	return out
}
