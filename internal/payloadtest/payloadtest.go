// Package payloadtest checks the types whose JSON Temporal stores: the tests of the packages that
// have such types call it.
package payloadtest

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Types are a package's payloads by name; each makes an empty one.
type Types map[string]func() any

// RequireGolden decodes each file of testdata/payloads without an unknown member, and encodes it to
// the same JSON. A file's name begins with that of its type. A new version adds files for new
// members. It changes no file, because programs and histories hold such payloads.
func (types Types) RequireGolden(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("testdata/payloads/*.json")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		kind, _, _ := strings.Cut(filepath.Base(file), ".")
		require.Contains(t, types, kind, file)
		seen[kind] = true
		golden, err := os.ReadFile(file)
		require.NoError(t, err)
		into := types[kind]()
		d := json.NewDecoder(bytes.NewReader(golden))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(into), file)
		again, err := json.Marshal(into)
		require.NoError(t, err)
		require.JSONEq(t, string(golden), string(again), file)
	}
	for kind := range types {
		require.True(t, seen[kind], "a golden payload for %s", kind)
	}
}

// RequireComplete looks for each type of the package whose name ends in Input or Result, except
// those that are only part of others.
func (types Types) RequireComplete(t *testing.T, parts ...string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, decl := range parsed.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				name := spec.(*ast.TypeSpec).Name.Name
				if (strings.HasSuffix(name, "Input") || strings.HasSuffix(name, "Result")) && !slices.Contains(parts, name) {
					require.Contains(t, types, name, file)
				}
			}
		}
	}
}
