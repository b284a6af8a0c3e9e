package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/postrider/postrider/email"
)

var update = flag.Bool("update", false, "write the schemas anew: go test ./docs/schema -update")

// base is what the schemas are known by; nothing is there to be fetched.
const base = "https://postrider.example/schema/"

// published are the payloads that other programs send and get, and their files.
var published = map[string]any{
	"send-email-input":  email.SendEmailInput{},
	"send-email-result": email.SendEmailResult{},
	"state":             email.State{},
	"reschedule-input":  email.RescheduleInput{},
	"error-details":     email.ErrorDetails{},
}

// TestSchemas: the published schemas are those of the types and of the API's
// description, and the golden payloads keep to them.
func TestSchemas(t *testing.T) {
	t.Parallel()
	reflector := &jsonschema.Reflector{DoNotReference: true, ExpandedStruct: true, Mapper: enumeration}
	require.NoError(t, reflector.AddGoComments("github.com/postrider/postrider/docs/schema", "../../email", jsonschema.WithFullComment()))
	out := map[string][]byte{"message": message(t)}
	for name, value := range published {
		s := reflector.Reflect(value)
		s.ID = jsonschema.ID(base + name + ".json")
		closed(s, name == "send-email-input")
		switch name {
		case "send-email-input":
			s.OneOf = []*jsonschema.Schema{{Required: []string{"email_id"}, Not: &jsonschema.Schema{Required: []string{"message"}}}, {Required: []string{"customer_id", "message"}, Not: &jsonschema.Schema{Required: []string{"email_id"}}}}
			property(s, "message").Ref = "message.json"
		case "state":
			status := property(s, "status")
			status.Enum = append([]any{""}, status.Enum...)
			status.Description = "Empty while the message of a direct start is not accepted yet."
		}
		out[name] = write(t, s)
	}
	for name, text := range out {
		file := name + ".json"
		if *update {
			require.NoError(t, os.WriteFile(file, text, 0o644))
		}
		have, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(text), string(have), "%s is old: make schemas", file)
	}
	conform(t, out)
	compare(t, out)
}

// conform holds the golden payloads against the schemas, and some that are none.
func conform(t *testing.T, schemas map[string][]byte) {
	t.Helper()
	c := validator.NewCompiler()
	c.AssertFormat()
	for name, text := range schemas {
		doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		require.NoError(t, c.AddResource(base+name+".json", doc))
	}
	for name, value := range published {
		compiled, err := c.Compile(base + name + ".json")
		require.NoError(t, err)
		files, err := filepath.Glob("../../email/testdata/payloads/" + reflect.TypeOf(value).Name() + ".*")
		require.NoError(t, err)
		require.NotEmpty(t, files, name)
		for _, file := range files {
			golden, err := os.ReadFile(file)
			require.NoError(t, err)
			doc, err := validator.UnmarshalJSON(bytes.NewReader(golden))
			require.NoError(t, err)
			require.NoError(t, compiled.Validate(doc), file)
		}
	}
	input, err := c.Compile(base + "send-email-input.json")
	require.NoError(t, err)
	for _, bad := range []string{`{}`, `{"email_id":"x"}`, `{"customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b"}`, `{"customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","message":{"form":1}}`,
		`{"email_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","message":{}}`, `{"email_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","id":1}`,
		`{"email_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b","message":{"to":[{"email":"a@b.test"}],"subject":"","content":"x"}}`} {
		doc, err := validator.UnmarshalJSON(strings.NewReader(bad))
		require.NoError(t, err)
		require.Error(t, input.Validate(doc), bad)
	}
}

// enumeration lists the values of a type whose values do not grow.
func enumeration(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	switch t {
	case reflect.TypeFor[email.Status]():
		for _, v := range email.Statuses() {
			s.Enum = append(s.Enum, v)
		}
	case reflect.TypeFor[email.RecipientStatus]():
		for _, v := range email.RecipientStatuses() {
			s.Enum = append(s.Enum, v)
		}
	case reflect.TypeFor[email.Detail]():
		s.Description = "What the status leaves out. More values may come."
	case reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{}
	default:
		return nil
	}
	return s
}

func property(s *jsonschema.Schema, name string) *jsonschema.Schema {
	p, ok := s.Properties.Get(name)
	if !ok {
		panic("no property " + name)
	}
	return p
}

// closed says what is an id, and lets objects that we write have more members one
// day: programs that read them must not mind.
func closed(s *jsonschema.Schema, input bool) {
	if s == nil {
		return
	}
	if s.Type == "object" && !input {
		s.AdditionalProperties = nil
	}
	closed(s.Items, input)
	if s.Properties == nil {
		return
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Key == "email_id" || p.Key == "customer_id" || p.Key == "id" {
			p.Value.Format = "uuid"
		}
		if p.Key == "idempotency_key" {
			p.Value.Pattern = "^[!-~]([ -~]{0,254}[!-~])?$"
		}
		closed(p.Value, input)
	}
}

// message is the schema of the body of POST /v1.0/emails, with what it refers to.
func message(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../api/openapi.yaml")
	require.NoError(t, err)
	var doc struct {
		Components struct {
			Schemas map[string]any `yaml:"schemas"`
		} `yaml:"components"`
	}
	require.NoError(t, yaml.Unmarshal(text, &doc))
	defs := map[string]any{}
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				name := strings.TrimPrefix(ref, "#/components/schemas/")
				v["$ref"] = "#/$defs/" + name
				if _, seen := defs[name]; !seen {
					require.Contains(t, doc.Components.Schemas, name)
					defs[name] = doc.Components.Schemas[name]
					collect(defs[name])
				}
			}
			for _, member := range v {
				collect(member)
			}
		case []any:
			for _, item := range v {
				collect(item)
			}
		}
	}
	root, ok := doc.Components.Schemas["SendEmail"].(map[string]any)
	require.True(t, ok)
	collect(root)
	root["$schema"], root["$id"], root["$defs"] = "https://json-schema.org/draft/2020-12/schema", base+"message.json", defs
	return write(t, root)
}

func write(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	require.NoError(t, e.Encode(v))
	return out.Bytes()
}
