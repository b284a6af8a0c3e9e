package openapitest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/openapitest"
)

const document = `{
	"openapi": "3.1.0", "info": {"title": "t", "version": "1"},
	"paths": {
		"/things": {"post": {
			"parameters": [{"$ref": "#/components/parameters/Dry"}],
			"requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
			"responses": {"201": {"description": "d",
				"headers": {"Location": {"required": true, "schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer", "minimum": 1}}},
				"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing", "required": ["at"]}}}}}
		}},
		"/things/{id}": {
			"parameters": [{"name": "id", "in": "path"}],
			"get": {"responses": {"200": {"$ref": "#/components/responses/Thing"}, "204": {"description": "d"}}}
		},
		"/things/all": {"get": {"responses": {"200": {"description": "d", "content": {"text/plain": {}}}}}}
	},
	"components": {
		"parameters": {"Dry": {"name": "dry", "in": "query"}},
		"responses": {"Thing": {"description": "d", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}},
		"schemas": {"Thing": {"type": "object", "additionalProperties": false, "required": ["id"],
			"properties": {"id": {"type": "string", "format": "uuid"}, "at": {"type": ["string", "null"], "format": "date-time"}}}}
	}
}`

const id = "019590f2-5d38-7b1c-8c5e-0a4f4b8f6b21"

func TestCheck(t *testing.T) {
	t.Parallel()
	c, err := openapitest.Load([]byte(document))
	require.NoError(t, err)
	post := func(change func(*openapitest.Exchange)) openapitest.Exchange {
		x := openapitest.Exchange{
			Method: "POST", Target: "/things?dry=1&accesskey=k", ContentType: "application/json", Sent: []byte(`{"id":"` + id + `"}`),
			Status: 201, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Location": {"/things/1"}}, Body: []byte(`{"id":"` + id + `","at":null}`),
		}
		change(&x)
		return x
	}
	get := func(target string, status int, contentType, body string) openapitest.Exchange {
		return openapitest.Exchange{Method: "GET", Target: target, Status: status, Header: http.Header{"Content-Type": {contentType}}, Body: []byte(body)}
	}
	for _, good := range []openapitest.Exchange{
		post(func(*openapitest.Exchange) {}),
		post(func(x *openapitest.Exchange) { x.Target, x.Lenient = "/things?wet=1", true }),
		post(func(x *openapitest.Exchange) { x.Header.Set("Retry-After", "5") }),
		get("/things/"+id, 200, "application/json", `{"id":"`+id+`"}`),
		get("/things/"+id, 204, "", ""),
		get("/things/all", 200, "text/plain; version=0.0.4", "x"),
		get("/nothing", 404, "", ""),
		{Method: "PATCH", Target: "/things/1", Status: 405},
	} {
		require.NoError(t, c.Check(good), "%s %s", good.Method, good.Target)
	}
	for want, bad := range map[string]openapitest.Exchange{
		"there is no such status":                       get("/things/"+id, 418, "", ""),
		"is not in the OpenAPI document":                get("/nothing", 200, "text/plain", ""),
		"it has a body":                                 get("/things/"+id, 204, "", "x"),
		`its Content-Type is "text/html"`:               get("/things/"+id, 200, "text/html", "x"),
		"it is not JSON":                                get("/things/"+id, 200, "application/json", "{"),
		"missing property 'id'":                         get("/things/"+id, 200, "application/json", "{}"),
		"'x' is not valid uuid":                         get("/things/"+id, 200, "application/json", `{"id":"x"}`),
		"additional properties 'more' not allowed":      get("/things/"+id, 200, "application/json", `{"id":"`+id+`","more":1}`),
		"missing property 'at'":                         post(func(x *openapitest.Exchange) { x.Body = []byte(`{"id":"` + id + `"}`) }),
		"header Location is missing":                    post(func(x *openapitest.Exchange) { x.Header.Del("Location") }),
		"header Retry-After: ":                          post(func(x *openapitest.Exchange) { x.Header.Set("Retry-After", "0") }),
		"header X-More is not documented":               post(func(x *openapitest.Exchange) { x.Header.Set("X-More", "1") }),
		"query parameter wet is not documented":         post(func(x *openapitest.Exchange) { x.Target = "/things?wet=1" }),
		"took a request that the OpenAPI document does": post(func(x *openapitest.Exchange) { x.Sent = []byte(`{}`) }),
		"it has no body":                                post(func(x *openapitest.Exchange) { x.Sent = nil }),
	} {
		err := c.Check(bad)
		require.ErrorContains(t, err, want)
		require.Contains(t, err.Error(), bad.Method+" /")
	}
	require.Equal(t, "/things/all", c.Route("/things/all?x=1"))
	require.Equal(t, "/things/{id}", c.Route("/things/other"))
	require.Empty(t, c.Route("/things/a/b"))
}

func TestLoadRefusesWhatIsNoDocument(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "[]", "{"} {
		_, err := openapitest.Load([]byte(text))
		require.ErrorContains(t, err, "read the OpenAPI document")
	}
	c, err := openapitest.Load([]byte(strings.Replace(document, `"#/components/schemas/Thing", "required"`, `"#/components/schemas/Nothing", "required"`, 1)))
	require.NoError(t, err)
	require.ErrorContains(t, c.Check(openapitest.Exchange{Method: "POST", Target: "/things", Status: 201,
		Header: http.Header{"Content-Type": {"application/json"}, "Location": {"/"}}, Body: []byte("{}")}), "compile the schema")
}
