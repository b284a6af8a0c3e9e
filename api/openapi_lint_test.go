package api_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/nodetest"
)

// The OpenAPI document passes common linters, and the types that openapi-typescript generates from
// it accept common requests.
func TestOpenAPILinters(t *testing.T) {
	t.Parallel()
	description, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	dir := nodetest.Install(t, "testdata/lint", map[string]string{"openapi.yaml": string(description)})
	tool := func(script string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "node", append([]string{"node_modules/" + script}, args...)...)
		// No telemetry, no check for a newer version.
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "NO_COLOR=1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	run := func(script string, args ...string) string {
		t.Helper()
		out, err := tool(script, args...)
		require.NoError(t, err, out)
		return out
	}
	// The steps share the directory, so they go one after the other.
	const spectral, redocly = "@stoplight/spectral-cli/dist/index.js", "@redocly/cli/bin/cli.js"
	run(spectral, "lint", "openapi.yaml", "--ruleset", "spectral.json", "--fail-severity", "error")
	require.Contains(t, run(redocly, "lint", "openapi.yaml"), "valid")
	run("openapi-typescript/bin/cli.js", "openapi.yaml", "--output", "openapi.ts")
	run("typescript/bin/tsc", "--project", ".")

	// Each linter finds a mistake in a broken document.
	require.NoError(t, os.WriteFile(dir+"/openapi.yaml", bytes.Replace(description, []byte("type: object"), []byte("type: thing"), 1), 0o600))
	for _, args := range [][]string{{spectral, "lint", "openapi.yaml", "--ruleset", "spectral.json", "--fail-severity", "error"}, {redocly, "lint", "openapi.yaml"}} {
		out, err := tool(args[0], args[1:]...)
		require.Error(t, err, out)
	}
}
