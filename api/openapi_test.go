package api_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"gopkg.in/yaml.v3"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/mailbox"
)

// served returns the body of an answer.
func served(t *testing.T, s *api.Server, path string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	require.Equal(t, 200, rec.Code, rec.Body.String())
	return rec
}

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(served(t, newServer(t, stubs(), api.Options{}), "/openapi.json").Body.Bytes())
	require.NoError(t, err)
	return doc
}

func TestOpenAPIIsValid(t *testing.T) {
	t.Parallel()
	doc := document(t)
	require.Equal(t, "3.1.0", doc.OpenAPI)
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation()))
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil || op.RequestBody.Value.Content["application/json"] == nil {
				continue
			}
			body := op.RequestBody.Value.Content["application/json"]
			require.True(t, body.Example != nil || len(body.Examples) > 0, "%s %s: give an example of the body", method, path)
		}
	}
}

func TestOpenAPIServedFormsAgree(t *testing.T) {
	t.Parallel()
	server := newServer(t, stubs(), api.Options{PublicURL: "https://mail.example.com/x"})
	asJSON, asYAML := served(t, server, "/openapi.json"), served(t, server, "/openapi.yaml")
	require.Equal(t, "application/json", asJSON.Header().Get("Content-Type"))
	require.Equal(t, "application/yaml", asYAML.Header().Get("Content-Type"))
	var converted any
	require.NoError(t, yaml.Unmarshal(asYAML.Body.Bytes(), &converted))
	fromYAML, err := json.Marshal(converted)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(asJSON.Body.Bytes(), &converted))
	fromJSON, err := json.Marshal(converted)
	require.NoError(t, err)
	require.True(t, bytes.Equal(fromYAML, fromJSON))

	doc, err := openapi3.NewLoader().LoadFromData(asJSON.Body.Bytes())
	require.NoError(t, err)
	require.Equal(t, openapi3.Servers{{URL: "https://mail.example.com/x"}}, doc.Servers)
	require.Equal(t, openapi3.Servers{{URL: "/"}}, document(t).Servers)
}

// The OpenAPI document has the methods and paths of the route table, and what each requires of a
// credential.
func TestOpenAPIDescribesAllRoutes(t *testing.T) {
	t.Parallel()
	parameter := regexp.MustCompile(`:(\w+)`)
	want := map[string]string{}
	for _, r := range newServer(t, stubs(), api.Options{}).Routes() {
		needs := "any"
		switch {
		case r.Path == "/metrics":
			needs = "its own"
		case r.Public:
			needs = "none"
		case r.Login:
			needs = "login"
		case r.Unrestricted:
			needs = "full"
		case r.Also != "":
			needs = string(r.Scope) + " and " + string(r.Also)
		case r.Scope != "":
			needs = string(r.Scope)
		}
		want[r.Method+" "+parameter.ReplaceAllString(r.Path, "{$1}")] = needs
	}
	got := map[string]string{}
	for path, item := range document(t).Paths.Map() {
		for method, op := range item.Operations() {
			got[method+" "+path] = needs(t, op)
			require.Len(t, op.Tags, 1, path)
			declared := &openapi3.PathItem{}
			declared.Parameters = append(slices.Clone(item.Parameters), op.Parameters...)
			for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				require.NotNil(t, declared.Parameters.GetByInAndName("path", name[1]), "%s: %s is not described", path, name[1])
			}
		}
	}
	require.Equal(t, want, got)
}

// needs returns what an operation says about its credential.
func needs(t *testing.T, op *openapi3.Operation) string {
	t.Helper()
	switch {
	case op.Security == nil && strings.Contains(op.Description, "Takes a login, or an access key without scopes"):
		return "full"
	case op.Security == nil && strings.Contains(op.Description, "Takes a login's token, not an access key"):
		return "login"
	case op.Security == nil:
		require.Contains(t, op.Description, "Any credential will do")
		return "any"
	case len(*op.Security) == 0:
		return "none"
	case len((*op.Security)[0]) == 0:
		return "its own"
	}
	scopes := map[string]bool{}
	for _, alternative := range *op.Security {
		for scheme, roles := range alternative {
			require.Contains(t, []string{"bearer", "accesskey", "token"}, scheme)
			require.NotEmpty(t, roles)
			scopes[strings.Join(roles, " and ")] = true
		}
	}
	require.Len(t, scopes, 1, op.OperationID)
	return slices.Collect(maps.Keys(scopes))[0]
}

// The document has the codes of the table, each with its status.
func TestOpenAPIDescribesAllProblems(t *testing.T) {
	t.Parallel()
	doc := document(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(api.StatusOf())), enum[email.Code](doc, "ProblemCode"))
	statuses := map[*openapi3.Response]string{doc.Components.Responses["MethodNotAllowed"].Value: "405"}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for status, response := range op.Responses.Map() {
				statuses[response.Value] = status
			}
		}
	}
	described := map[email.Code]int{}
	for response, status := range statuses {
		n, err := strconv.Atoi(status)
		require.NoError(t, err)
		if response.Content["application/problem+json"] == nil {
			continue
		}
		for _, code := range regexp.MustCompile("`(\\w+)`: ").FindAllStringSubmatch(*response.Description+" ", -1) {
			described[email.Code(code[1])] = n
		}
	}
	require.Equal(t, api.StatusOf(), described)
}

func enum[T ~string](doc *openapi3.T, schema string) (out []T) {
	for _, v := range doc.Components.Schemas[schema].Value.Enum {
		out = append(out, T(v.(string)))
	}
	return out
}

// The enumerations of the document are the constants of the code.
func TestOpenAPIDescribesAllEnumValues(t *testing.T) {
	t.Parallel()
	doc := document(t)
	for _, c := range []struct {
		schema, directory, constants string
		besides                      []string
	}{
		{"Status", "../email", "Status", []string{"initiated", "processed", "deferred", "bounce", "dropped"}},
		{"StatusDetail", "../email", "Detail", []string{""}},
		{"RecipientStatus", "../email", "RecipientStatus", nil},
		{"EventType", "../email", "EventType", nil},
		{"Stream", "../email", "Stream", nil},
		{"PauseScope", "../email", "PauseScope", nil},
		{"Scope", "../internal/account", "Scope", nil},
		{"SuppressionScope", "../internal/suppression", "Scope", nil},
		{"SuppressionReason", "../internal/suppression", "Reason", nil},
		{"SuppressionSource", "../internal/suppression", "Source", nil},
		{"SuppressionFormat", "../internal/suppression", "Format", nil},
		{"CustomerStatus", "../internal/account", "Status", nil},
		{"Profile", "../internal/account", "Profile", nil},
		{"WebhookFormat", "../internal/endpoint", "Format", nil},
		{"DeliveryStatus", "../internal/endpoint", "Status", nil},
		// api has codes of its own.
		{"FieldErrorCode", "../internal/intake", "", []string{"attachment_blocked", "forbidden", "not_found", "sender_domain_unverified",
			"empty", "email_address", "url", "ip_address", "localhost", "single_label", "underscore", "wildcard", "label_too_long", "public_suffix"}},
	} {
		want := append(constants(t, c.directory, c.constants), c.besides...)
		require.ElementsMatch(t, want, enum[string](doc, c.schema), c.schema)
	}
	require.ElementsMatch(t, append(endpoint.Events(endpoint.FormatStandard), endpoint.Events(endpoint.FormatVoIPBIN)...), enum[string](doc, "WebhookEvent"))
	var known []string
	for _, p := range doc.Paths.Find("/v1.0/emails").Get.Parameters {
		if p.Value.Name != "page_size" && p.Value.Name != "page_token" {
			known = append(known, p.Value.Name)
		}
	}
	require.ElementsMatch(t, api.FilterNames, known)
}

// constants returns the values of a package's constants of a type. Without a type, it returns those
// of string literals whose names begin with Code.
func constants(t *testing.T, directory, typeName string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			named, _ := spec.Type.(*ast.Ident)
			value, literal := spec.Values[0].(*ast.BasicLit)
			if literal && value.Kind == token.STRING && (named != nil && named.Name == typeName || named == nil && typeName == "" && strings.HasPrefix(spec.Names[0].Name, "Code")) {
				text, err := strconv.Unquote(value.Value)
				require.NoError(t, err)
				out = append(out, text)
			}
			return true
		})
	}
	require.NotEmpty(t, out)
	return out
}

// TestOpenAPIDescribesAllAnswers makes a successful request to each operation. setup compares each
// answer with the document.
func TestOpenAPIDescribesAllAnswers(t *testing.T) {
	t.Parallel()
	for name, now := range dates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyOperationIsAnswered(t, setupFor(t, setupOptions{maxBytes: maxBytes, now: now, linkBase: linkBase}))
		})
	}
}

func everyOperationIsAnswered(t *testing.T, b *bench) {
	t.Helper()
	user := "/v1.0/customers/" + b.customer.ID + "/users/" + b.user("ann", false).ID
	b.user("bob", false)
	login := func(username string) []string {
		token := b.call("POST", "/auth/login", `{"username":"`+username+`","password":"correct horse"}`).field(t, "token")
		return []string{"Authorization", "Bearer " + token}
	}
	spare := b.as("POST", "/v1.0/accesskeys", `{"name":"spare"}`).field(t, "id")
	unused, _, err := b.store.Accounts.CreateCustomer(t.Context(), "Unused", "", "")
	require.NoError(t, err)
	sent := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	b.becomes(sent, email.RecipientDelivered)
	later := b.as("POST", "/v1.0/emails", strings.Replace(basic, "{", `{"send_at":"`+b.ahead(3)+`",`, 1)).field(t, "id")
	deferred := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	b.becomes(deferred, email.RecipientDeferred)
	file := b.uploaded("a.txt", "", []byte("hello")).ID
	box, message := b.received(t)
	key := b.as("POST", "/v1.0/accesskeys", `{"name":"other"}`).field(t, "id")
	upload, uploadType := form(t, "b.txt", "", []byte("x"))
	hook := "/v1.0/webhooks/" + b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com/mail"}`).field(t, "id")
	delivery := b.as("POST", hook+"/test", "").field(t, "id")

	domain := "/v1.0/domains/" + b.as("POST", "/v1.0/domains", `{"name":"mail.acme.test"}`).field(t, "id")
	batch := "/v1.0/batches/" + b.postBatch(messages(basic, basic)).ID
	suppressed := "/v1.0/suppressions/" + b.as("POST", "/v1.0/suppressions", `{"address":"gone@x.test"}`).field(t, "id")

	link := b.link(b.newsletter(""))
	inbox, one := "/v1.0/mailboxes/"+box+"/messages", "/v1.0/emails/"+later
	admin := []string{"Authorization", "Bearer " + b.adminKey()}
	calls := []struct {
		method, path, body string
		headers            []string
	}{
		{"POST", "/v1.0/auth/password", `{"password":"correct horse","new_password":"correct horse"}`, login("ann")},
		{"POST", "/v1.0/auth/revoke", "", login("bob")},
		{"GET", link, "", nil},
		{"HEAD", link, "", nil},
		{"POST", link, "List-Unsubscribe=One-Click", []string{"Content-Type", formType}},
		{"POST", "/v1.0/emails", basic, nil},
		{"GET", "/v1.0/emails", "", nil},
		{"POST", "/v1.0/emails/preview", basic, nil},
		{"POST", "/v1.0/emails/batch", copies("", ann, cid), nil},
		{"GET", "/v1.0/batches", "", nil},
		{"GET", batch, "", nil},
		{"POST", batch + "/hold", "", nil},
		{"POST", batch + "/resume", "", nil},
		{"POST", batch + "/cancel", "", nil},
		{"GET", "/v1.0/emails/stats", "", nil},
		{"GET", "/v1.0/emails/" + sent, "", nil},
		{"GET", "/v1.0/emails/" + sent + "/events", "", nil},
		{"GET", "/v1.0/emails/" + sent + "/attempts", "", nil},
		{"POST", "/v1.0/emails/" + sent + "/resend", "", nil},
		{"POST", "/v1.0/emails/" + deferred + "/retry-now", "", nil},
		{"POST", one + "/reschedule", `{"send_at":"` + b.ahead(4) + `"}`, nil},
		{"POST", one + "/hold", "", nil},
		{"POST", one + "/resume", "", nil},
		{"POST", one + "/cancel", "", nil},
		{"DELETE", one, "", nil},
		{"GET", "/v1.0/events", "", nil},
		{"POST", "/v1.0/files", upload, []string{"Content-Type", uploadType}},
		{"GET", "/v1.0/files", "", nil},
		{"GET", "/v1.0/files/" + file, "", nil},
		{"GET", "/v1.0/files/" + file + "/content", "", nil},
		{"DELETE", "/v1.0/files/" + file, "", nil},
		{"POST", "/v1.0/domains", `{"name":"mail.acme.test"}`, nil},
		{"GET", "/v1.0/domains", "", nil},
		{"GET", domain + "/reputation", "", nil},
		{"GET", domain, "", nil},
		{"POST", domain + "/verify", "", nil},
		{"POST", domain + "/rotate-dkim", "", nil},
		{"DELETE", domain, "", nil},
		{"POST", "/v1.0/suppressions", `{"address":"ann@x.test","reason":"unsubscribe","topic":"news","note":"by phone","expires_at":"` + b.ahead(1) + `"}`, nil},
		{"GET", "/v1.0/suppressions?reason=manual&scope=all&source=manual&address=gone@x.test", "", nil},
		{"POST", "/v1.0/suppressions/check", `{"addresses":["gone@x.test","bob@x.test"],"stream":"broadcast","topic":"news"}`, nil},
		{"POST", "/v1.0/suppressions/import", "address,reason\nb@x.test,complaint\nbad,complaint\n", []string{"Content-Type", "text/csv"}},
		{"GET", "/v1.0/suppressions/export", "", nil},
		{"GET", suppressed, "", nil},
		{"DELETE", suppressed, "", nil},
		{"POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com/mail"}`, nil},
		{"GET", "/v1.0/webhooks", "", nil},
		{"GET", hook, "", nil},
		{"PUT", hook, `{"streams":["broadcast"]}`, nil},
		{"POST", hook + "/enable", "", nil},
		{"POST", hook + "/rotate-secret", "", nil},
		{"POST", hook + "/test", "", nil},
		{"POST", hook + "/replay", `{"since":"` + b.ahead(-1) + `"}`, nil},
		{"GET", hook + "/deliveries", "", nil},
		{"POST", "/v1.0/deliveries/" + delivery + "/retry", "", nil},
		{"DELETE", hook, "", nil},
		{"GET", "/v1.0/mailboxes", "", nil},
		{"GET", inbox, "", nil},
		{"GET", inbox + "/" + message, "", nil},
		{"GET", inbox + "/" + message + "/raw", "", nil},
		{"GET", inbox + "/" + message + "/attachments/0", "", nil},
		{"POST", "/auth/login", `{"username":"ann","password":"correct horse"}`, []string{"Authorization", ""}},
		{"POST", "/v1.0/auth/login", `{"username":"ann","password":"correct horse"}`, []string{"Authorization", ""}},
		{"GET", "/v1.0/accesskeys", "", nil},
		{"POST", "/v1.0/accesskeys", `{"scopes":["emails:read"],"networks":["192.0.2.0/24"],"expire":60}`, nil},
		{"GET", "/v1.0/accesskeys/" + key, "", nil},
		{"POST", "/v1.0/accesskeys/" + key + "/rotate", "", nil},
		{"DELETE", "/v1.0/accesskeys/" + key, "", nil},
		{"GET", "/v1.0/usage", "", nil},
		{"GET", "/v1.0/audit", "", nil},
		{"GET", "/v1.0/customer", "", nil},
		{"PUT", "/v1.0/customer", `{"webhook_uri":"https://hooks.example.com/","default_source":{"email":"a@acme.test"}}`, nil},
		{"GET", "/v1.0/customers", "", nil},
		{"GET", "/v1.0/customers", "", admin},
		{"POST", "/v1.0/customers", `{"name":"New"}`, admin},
		{"GET", "/v1.0/customers/" + b.customer.ID, "", admin},
		{"PUT", "/v1.0/customers/" + b.customer.ID, `{"credits":1000}`, admin},
		{"POST", "/v1.0/customers/" + b.customer.ID + "/accesskeys", `{"name":"first"}`, admin},
		{"GET", "/v1.0/customers/" + b.customer.ID + "/accesskeys", "", admin},
		{"GET", "/v1.0/customers/" + b.customer.ID + "/accesskeys/" + spare, "", admin},
		{"DELETE", "/v1.0/customers/" + b.customer.ID + "/accesskeys/" + spare, "", admin},
		{"GET", "/v1.0/customers/" + b.customer.ID + "/users", "", admin},
		{"GET", user, "", admin},
		{"PUT", user + "/password", `{"password":"battery staple"}`, admin},
		{"POST", user + "/revoke", "", admin},
		{"DELETE", user, "", admin},
		{"DELETE", "/v1.0/customers/" + unused.ID, "", admin},
		{"POST", "/v1.0/customers/" + b.customer.ID + "/domains", `{"name":"more.test"}`, admin},
		{"GET", "/v1.0/customers/" + b.customer.ID + "/domains", "", admin},
		{"GET", "/v1.0/customers/" + b.customer.ID + "/domains/more.test", "", admin},
		{"PUT", "/v1.0/customers/" + b.customer.ID + "/domains/more.test", `{"verified":true}`, admin},
		{"PUT", "/v1.0/customers/" + b.customer.ID + "/domains/more.test/warmup", `{"plan":[50,100],"from":"` + b.ahead(1)[:len(time.DateOnly)] + `"}`, admin},
		{"GET", "/v1.0/customers/" + b.customer.ID + "/domains/more.test/warmup", "", admin},
		{"DELETE", "/v1.0/customers/" + b.customer.ID + "/domains/more.test/warmup", "", admin},
		{"DELETE", "/v1.0/customers/" + b.customer.ID + "/domains/more.test", "", admin},
		{"PUT", "/v1.0/pauses", `{"scope":"relay","key":"primary","reason":"maintenance"}`, admin},
		{"GET", "/v1.0/pauses", "", admin},
		{"DELETE", "/v1.0/pauses?scope=relay&key=primary", "", admin},
		{"GET", "/", "", nil},
		{"GET", "/healthz", "", nil},
		{"GET", "/readyz", "", nil},
		{"GET", "/metrics", "", nil},
		{"GET", "/openapi.json", "", nil},
		{"GET", "/openapi.yaml", "", nil},
		{"GET", "/docs", "", nil},
	}
	answered := map[string]bool{}
	paths := document(t).Paths
	for _, c := range calls {
		headers := append([]string{"Authorization", "Bearer " + b.key}, c.headers...)
		got := b.call(c.method, c.path, c.body, headers...)
		require.Less(t, got.status, 300, "%s %s: %s", c.method, c.path, got.body)
		answered[c.method+" "+contract.doc.Route(c.path)] = true
	}
	var missing []string
	for path, item := range paths.Map() {
		for method := range item.Operations() {
			if route := method + " " + path; !answered[route] {
				missing = append(missing, route)
			}
		}
	}
	require.Empty(t, missing)
}

// received stores a message with an attachment in a mailbox of the customer.
func (b *bench) received(t *testing.T) (box, message string) {
	t.Helper()
	m, err := b.store.Mailboxes.CatchAllMailbox(t.Context(), b.customer.ID, "inbox@acme.test")
	require.NoError(t, err)
	raw := strings.ReplaceAll(`From: Bob <bob@x.test>
To: inbox@acme.test
Subject: hello
Date: Mon, 02 Jan 2006 15:04:05 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

hello
--b
Content-Type: text/csv
Content-Disposition: attachment; filename=a.csv

a,b
--b--
`, "\n", "\r\n")
	got := mailbox.Message{ID: uuid.New(), MailboxID: m.ID, CustomerID: m.CustomerID, EnvelopeFrom: "bob@x.test", EnvelopeTo: []string{"inbox@acme.test"},
		Size: int64(len(raw)), SHA256: strings.Repeat("0", 64), ReceivedAt: time.Now()}
	require.NoError(t, b.store.Mailboxes.StoreMessages(t.Context(), []mailbox.Message{got}, []byte(raw)))
	return m.ID.String(), got.ID.String()
}

// The page refers to nothing outside of itself and this server, and has no script. All its links
// have a target.
func TestDocsPageLoadsNothing(t *testing.T) {
	t.Parallel()
	rec := served(t, newServer(t, stubs(), api.Options{}), "/docs")
	require.Equal(t, "text/html; charset=utf-8", rec.Header().Get("Content-Type"))
	require.Regexp(t, `^default-src 'none'; style-src 'sha256-[\w+/]+='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`, rec.Header().Get("Content-Security-Policy"))
	require.Less(t, rec.Body.Len(), 1<<20)

	page, err := html.Parse(strings.NewReader(rec.Body.String()))
	require.NoError(t, err)
	ids, links := map[string]bool{}, []string{}
	var styles int
	for n := range page.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		require.NotContains(t, []string{"script", "link", "img", "iframe", "object", "embed", "form", "base"}, n.Data)
		if n.Data == "style" {
			styles++
			require.NotRegexp(t, `url\(|@import|@font-face`, n.FirstChild.Data)
		}
		for _, a := range n.Attr {
			switch a.Key {
			case "id":
				require.False(t, ids[a.Val], "%s is there twice", a.Val)
				ids[a.Val] = true
			case "href":
				links = append(links, a.Val)
			default:
				require.Contains(t, []string{"lang", "charset", "name", "content", "class", "scope", "tabindex", "aria-label"}, a.Key)
			}
		}
	}
	require.Equal(t, 1, styles)
	for _, link := range links {
		if inside, ok := strings.CutPrefix(link, "#"); ok {
			require.True(t, ids[inside], "%s leads nowhere", link)
			continue
		}
		require.Contains(t, []string{"/openapi.json", "/openapi.yaml"}, link)
	}
	doc := document(t)
	for path, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			require.True(t, ids[op.OperationID], "%s is not on the page", path)
		}
	}
	for name := range doc.Components.Schemas {
		require.True(t, ids["schema-"+name], "%s is not on the page", name)
	}
}
