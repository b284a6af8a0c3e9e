package email_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// payloads are what crosses the border to Temporal: what other programs send and
// get, and what stands in histories that have yet to be replayed.
var payloads = map[string]func() any{
	"SendEmailInput":       func() any { return &email.SendEmailInput{} },
	"SendEmailResult":      func() any { return &email.SendEmailResult{} },
	"State":                func() any { return &email.State{} },
	"RescheduleInput":      func() any { return &email.RescheduleInput{} },
	"ErrorDetails":         func() any { return &email.ErrorDetails{} },
	"SendBatchInput":       func() any { return &email.SendBatchInput{} },
	"SendBatchResult":      func() any { return &email.SendBatchResult{} },
	"DeliverWebhooksInput": func() any { return &email.DeliverWebhooksInput{} },
}

// TestPayloads: each golden payload is read without a member left over, and written
// the same again. A file is added for what a version can say anew; none is changed,
// because programs and histories hold payloads like it.
func TestPayloads(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/payloads/*.json")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		kind, _, _ := strings.Cut(filepath.Base(file), ".")
		require.Contains(t, payloads, kind, file)
		seen[kind] = true
		golden, err := os.ReadFile(file)
		require.NoError(t, err)
		into := payloads[kind]()
		d := json.NewDecoder(bytes.NewReader(golden))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(into), file)
		again, err := json.Marshal(into)
		require.NoError(t, err)
		require.JSONEq(t, string(golden), string(again), file)
	}
	for kind := range payloads {
		require.True(t, seen[kind], "a golden payload for %s", kind)
	}
}

// TestEveryPayloadIsListed: a type that ends in Input or Result crosses the border.
func TestEveryPayloadIsListed(t *testing.T) {
	t.Parallel()
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
				if name == "RecipientResult" { // part of others
					continue
				}
				if strings.HasSuffix(name, "Input") || strings.HasSuffix(name, "Result") {
					require.Contains(t, payloads, name, file)
				}
			}
		}
	}
}
