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

// payloads are the inputs and results that Temporal stores: other programs send and read them,
// and histories that will be replayed hold them.
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

// TestPayloads: each golden payload is decoded without an unknown member, and encodes to the
// same JSON. A new version adds files for new members. It changes no file, because programs
// and histories hold such payloads.
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

// TestPayloadsAreComplete: each type whose name ends in Input or Result is a payload.
func TestPayloadsAreComplete(t *testing.T) {
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
