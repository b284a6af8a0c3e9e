// Package openapitest holds what an API answers against its OpenAPI 3.1 document,
// so that neither changes without the other.
package openapitest

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Exchange is a request and its answer.
type Exchange struct {
	Method string
	// Target is path and query.
	Target string
	// ContentType and Sent are the request's body; Sent may be nil.
	ContentType string
	Sent        []byte
	// Lenient leaves the request unchecked: an API may take more than it documents.
	Lenient bool

	Status int
	Header http.Header
	Body   []byte
}

// Contract is an OpenAPI document to check with. It is safe for concurrent use.
type Contract struct {
	root     map[string]any
	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema
}

// base is where the compiler finds the document; nothing is fetched.
const base = "postrider:///openapi.json"

// Load reads a document in JSON.
func Load(document []byte) (*Contract, error) {
	read, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	root, ok := read.(map[string]any)
	if !ok {
		return nil, errors.New("read the OpenAPI document: it is not an object")
	}
	c := &Contract{root: root, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(base, read); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	return c, nil
}

// Check says where an exchange departs from the document, naming the route.
//
//  1. A path or method that is not there is answered with 404 or 405.
//  2. The status is among the operation's.
//  3. Headers that are required are there, those that are there are documented,
//     and their values fit.
//  4. The content type is documented and JSON fits its schema.
//  5. A request that was taken fits the document too, which is therefore not
//     stricter than the API.
func (c *Contract) Check(x Exchange) error {
	target, err := url.Parse(x.Target)
	if err != nil {
		return fmt.Errorf("%s: %w", x.Target, err)
	}
	route, item := c.find(target.Path)
	op, ok := member(item, strings.ToLower(x.Method))
	if !ok {
		if x.Status == http.StatusNotFound && item == nil || x.Status == http.StatusMethodNotAllowed && item != nil {
			return nil
		}
		return fmt.Errorf("%s %s is not in the OpenAPI document and was answered with %d", x.Method, target.Path, x.Status)
	}
	operation := place{c, "/paths/" + escape(route) + "/" + strings.ToLower(x.Method), op}
	if err := operation.answer(x); err != nil {
		return fmt.Errorf("%s %s answered with %d, which the OpenAPI document does not allow: %w\n%s", x.Method, route, x.Status, err, clip(x.Body))
	}
	if x.Lenient || x.Status >= http.StatusBadRequest {
		return nil
	}
	shared, _ := member(item, "parameters")
	if err := operation.request(x, shared, target.Query()); err != nil {
		return fmt.Errorf("%s %s took a request that the OpenAPI document does not allow: %w\n%s", x.Method, route, err, clip(x.Sent))
	}
	return nil
}

// place is a part of the document and where it is.
type place struct {
	*Contract
	at   string
	node any
}

// in is a member, behind its reference if it is one.
func (p place) in(names ...string) (place, bool) {
	for _, name := range names {
		next, ok := member(p.node, name)
		if !ok {
			return place{}, false
		}
		p = place{p.Contract, p.at + "/" + escape(name), next}.resolved()
	}
	return p, true
}

// resolved follows a reference, but not a schema's: that is the compiler's.
func (p place) resolved() place {
	ref, ok := member(p.node, "$ref")
	text, isText := ref.(string)
	if !ok || !isText || strings.HasPrefix(text, "#/components/schemas/") {
		return p
	}
	var node any = p.root
	for _, name := range strings.Split(strings.TrimPrefix(text, "#/"), "/") {
		node, _ = member(node, name)
	}
	return place{p.Contract, strings.TrimPrefix(text, "#"), node}
}

func (p place) answer(x Exchange) error {
	response, ok := p.in("responses", strconv.Itoa(x.Status))
	if !ok {
		return errors.New("there is no such status")
	}
	if err := response.headers(x.Header); err != nil {
		return err
	}
	content, ok := response.in("content")
	if !ok {
		if len(x.Body) > 0 {
			return errors.New("it has a body")
		}
		return nil
	}
	return content.fits(x.Header.Get("Content-Type"), x.Body)
}

// fits holds a body against a content map.
func (p place) fits(contentType string, body []byte) error {
	given, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("its Content-Type is %q", contentType)
	}
	media, ok := p.in(given)
	if !ok {
		media, ok = p.in("*/*")
	}
	if !ok {
		return fmt.Errorf("its Content-Type is %q", contentType)
	}
	schema, ok := media.in("schema")
	if !ok || given != "application/json" && !strings.HasSuffix(given, "+json") {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	return schema.valid(value)
}

// unlisted are headers that say nothing about this API.
var unlisted = []string{"Content-Type", "Content-Length", "Content-Encoding", "Vary", "Date", "Connection", "Transfer-Encoding",
	"Cache-Control", "X-Content-Type-Options"} // on every answer

func (p place) headers(header http.Header) error {
	documented, _ := p.in("headers")
	all, _ := documented.node.(map[string]any)
	for name := range all {
		h, _ := documented.in(name)
		if value := header.Get(name); value != "" {
			schema, _ := h.in("schema")
			if err := schema.valid(typed(schema, value)); err != nil {
				return fmt.Errorf("header %s: %w", name, err)
			}
		} else if required, _ := member(h.node, "required"); required == true {
			return fmt.Errorf("header %s is missing", name)
		}
	}
	for name := range header {
		if slices.Contains(unlisted, name) {
			continue
		}
		if !slices.ContainsFunc(keys(all), func(listed string) bool { return strings.EqualFold(listed, name) }) {
			return fmt.Errorf("header %s is not documented", name)
		}
	}
	return nil
}

// typed reads a header's text as what its schema says it is.
func typed(schema place, value string) any {
	if kind, _ := member(schema.node, "type"); kind == "integer" {
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n
		}
	}
	return value
}

func (p place) request(x Exchange, shared any, query url.Values) error {
	known := []string{"accesskey", "token"} // the credentials
	own, _ := member(p.node, "parameters")
	for _, list := range []any{shared, own} {
		parameters, _ := list.([]any)
		for _, node := range parameters {
			param := place{Contract: p.Contract, node: node}.resolved()
			if in, _ := member(param.node, "in"); in == "query" {
				name, _ := member(param.node, "name")
				known = append(known, fmt.Sprint(name))
			}
		}
	}
	for name := range query {
		if !slices.Contains(known, name) {
			return fmt.Errorf("query parameter %s is not documented", name)
		}
	}
	content, ok := p.in("requestBody", "content")
	if !ok {
		return nil // a body where none is asked for is not looked at
	}
	required, _ := p.in("requestBody", "required")
	if len(x.Sent) == 0 {
		if required.node == true {
			return errors.New("it has no body")
		}
		return nil
	}
	contentType := x.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	return content.fits(contentType, x.Sent)
}

// valid holds a value against the schema at a place.
func (p place) valid(value any) error {
	p.mu.Lock()
	defer p.mu.Unlock() // the compiler is not for concurrent use
	schema := p.schemas[p.at]
	if schema == nil {
		var err error
		if schema, err = p.compiler.Compile(base + "#" + (&url.URL{Fragment: p.at}).EscapedFragment()); err != nil {
			return fmt.Errorf("compile the schema: %w", err)
		}
		p.schemas[p.at] = schema
	}
	return schema.Validate(value)
}

// Route is the path of the document that a request's is an instance of, empty
// where there is none.
func (c *Contract) Route(target string) string {
	path, _, _ := strings.Cut(target, "?")
	route, _ := c.find(path)
	return route
}

// find is the path of the document that a request's is an instance of. Literal
// parts win over parameters.
func (c *Contract) find(path string) (route string, item any) {
	paths, _ := c.root["paths"].(map[string]any)
	literals := -1
	for candidate, node := range paths {
		if n := match(candidate, path); n > literals {
			route, item, literals = candidate, node, n
		}
	}
	return route, item
}

// match counts the literal parts of a template that a path is an instance of; -1
// where it is none.
func match(template, path string) int {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return -1
	}
	n := 0
	for i := range want {
		switch {
		case strings.HasPrefix(want[i], "{") && have[i] != "":
		case want[i] == have[i]:
			n++
		default:
			return -1
		}
	}
	return n
}

func member(node any, name string) (any, bool) {
	m, _ := node.(map[string]any)
	v, ok := m[name]
	return v, ok
}

func keys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	return out
}

// escape is a JSON Pointer's (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// clip bounds what a failure shows of a body.
func clip(body []byte) []byte {
	const most = 2000
	if len(body) > most {
		return append(slices.Clone(body[:most]), "…"...)
	}
	return body
}
