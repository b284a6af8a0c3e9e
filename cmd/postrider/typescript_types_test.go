package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheTypeScriptTypesAreTheSchemas compares what examples/typescript declares with
// the published schemas: all of the result, and nothing else in the input.
func TestTheTypeScriptTypesAreTheSchemas(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../examples/typescript/postrider.ts")
	require.NoError(t, err)
	declared := func(name string) []string {
		_, body, found := strings.Cut(string(source), "export interface "+name+" {\n")
		require.True(t, found, name)
		body, _, _ = strings.Cut(body, "\n}\n")
		var members []string
		for _, m := range regexp.MustCompile(`(?m)^  (\w+)\??:`).FindAllStringSubmatch(body, -1) {
			members = append(members, m[1])
		}
		slices.Sort(members)
		return members
	}
	properties := func(file string) []string {
		data, err := os.ReadFile("../../docs/schema/" + file)
		require.NoError(t, err)
		var schema struct {
			Properties map[string]any `json:"properties"`
		}
		require.NoError(t, json.Unmarshal(data, &schema))
		return slices.Sorted(maps.Keys(schema.Properties))
	}
	require.Equal(t, properties("send-email-result.json"), declared("SendEmailResult"))
	require.Equal(t, properties("error-details.json"), declared("ErrorDetails"))
	require.Subset(t, properties("send-email-input.json"), declared("SendEmailInput"))
}
