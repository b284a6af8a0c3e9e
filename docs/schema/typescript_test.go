package schema_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/require"
)

// contract is where the TypeScript of the schemas is published.
const contract = "../../examples/typescript/postrider.ts"

// typescript makes the types of what an outside client sends and gets.
func typescript(t *testing.T, schemas map[string][]byte) string {
	t.Helper()
	out := "// What SendEmail takes and answers. Made from docs/schema by `make schemas`; a test compares.\n"
	for _, file := range []string{"send-email-input", "message", "send-email-result", "state", "reschedule-input", "error-details"} {
		var s jsonschema.Schema
		require.NoError(t, json.Unmarshal(schemas[file], &s))
		defs := make([]string, 0, len(s.Definitions))
		for name := range s.Definitions {
			defs = append(defs, name)
		}
		slices.Sort(defs)
		name := ""
		for word := range strings.SplitSeq(file, "-") {
			name += strings.ToUpper(word[:1]) + word[1:]
		}
		out += declare(t, name, &s)
		for _, def := range defs {
			out += declare(t, def, s.Definitions[def])
		}
	}
	return out + "\n/** SendEmail's type, for a typed client; its code is Postrider's. */\nexport type SendEmail = (input: SendEmailInput) => Promise<SendEmailResult>;\n"
}

func declare(t *testing.T, name string, s *jsonschema.Schema) string {
	return "\n" + remark(s, "") + fmt.Sprintf("export type %s = %s;\n", name, expression(t, s, ""))
}

// remark is a description as a comment.
func remark(s *jsonschema.Schema, indent string) string {
	text := strings.TrimSpace(s.Description)
	if text == "" {
		return ""
	}
	return indent + "/** " + strings.ReplaceAll(text, "\n", "\n"+indent+" * ") + " */\n"
}

// expression is a schema as a type. A type cannot express lengths and patterns; the
// check that SendEmail begins with covers them.
func expression(t *testing.T, s *jsonschema.Schema, indent string) string {
	t.Helper()
	switch {
	case s.Ref == "message.json":
		return "Message"
	case s.Ref != "":
		name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
		require.True(t, ok, s.Ref)
		return name
	case len(s.Enum) > 0:
		return literals(t, s.Enum)
	case s.Const != nil:
		return literals(t, []any{s.Const})
	case len(s.OneOf) > 0:
		var branches []string
		for _, b := range s.OneOf {
			if s.Properties == nil {
				branches = append(branches, expression(t, b, indent))
				continue
			}
			branches = append(branches, object(t, s, b, indent))
		}
		return strings.Join(branches, " | ")
	}
	switch s.Type {
	case "string", "boolean":
		return s.Type
	case "integer", "number":
		return "number"
	case "array":
		item := expression(t, s.Items, indent)
		if strings.Contains(item, " | ") && !strings.HasPrefix(item, "{") {
			item = "(" + item + ")"
		}
		return item + "[]"
	case "object":
		if s.Properties == nil {
			require.NotNil(t, s.AdditionalProperties)
			return "Record<string, " + expression(t, s.AdditionalProperties, indent) + ">"
		}
		return object(t, s, &jsonschema.Schema{}, indent)
	}
	require.FailNow(t, "a schema that has no type here", "%+v", s)
	return ""
}

// object has a schema's members, as one of its branches requires or forbids them.
func object(t *testing.T, s, branch *jsonschema.Schema, indent string) string {
	t.Helper()
	out := "{\n"
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if branch.Not != nil && slices.Contains(branch.Not.Required, p.Key) {
			continue
		}
		optional := "?"
		if slices.Contains(s.Required, p.Key) || slices.Contains(branch.Required, p.Key) {
			optional = ""
		}
		out += remark(p.Value, indent+"  ") + fmt.Sprintf("%s  %s%s: %s;\n", indent, p.Key, optional, expression(t, p.Value, indent+"  "))
	}
	return out + indent + "}"
}

func literals(t *testing.T, values []any) string {
	t.Helper()
	var out []string
	for _, v := range values {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		out = append(out, string(text))
	}
	return strings.Join(out, " | ")
}

// compare holds the published TypeScript against the schemas.
func compare(t *testing.T, schemas map[string][]byte) {
	t.Helper()
	text := typescript(t, schemas)
	if *update {
		require.NoError(t, os.WriteFile(contract, []byte(text), 0o644))
	}
	have, err := os.ReadFile(contract)
	require.NoError(t, err)
	require.Equal(t, text, string(have), "%s is old: make schemas", contract)
}
