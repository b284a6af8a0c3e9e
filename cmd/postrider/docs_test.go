package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/nodetest"
)

// programs are the blocks of docs/temporal.md in a language that are whole programs,
// which begin with one of the words.
func programs(t *testing.T, language, begin string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/temporal.md")
	require.NoError(t, err)
	var out []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```\n").FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(m[1], begin) {
			out = append(out, m[1])
		}
	}
	require.NotEmpty(t, out, "docs/temporal.md has a program in %s", language)
	return out
}

// TestTemporalGuideGoCompiles builds what the guide prints, as printed.
func TestTemporalGuideGoCompiles(t *testing.T) {
	t.Parallel()
	for _, program := range programs(t, "go", "package main") {
		file := filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
		root, err := filepath.Abs("../..")
		require.NoError(t, err)
		replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "docs", "snippet", "main.go"): file}})
		require.NoError(t, err)
		overlay := filepath.Join(t.TempDir(), "overlay.json")
		require.NoError(t, os.WriteFile(overlay, replaced, 0o600))
		cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", filepath.Join(t.TempDir(), "program"), "./docs/snippet")
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
}

// TestTemporalGuideTypeScriptCompiles compiles what the guide prints, as printed,
// beside the types of examples/typescript.
func TestTemporalGuideTypeScriptCompiles(t *testing.T) {
	t.Parallel()
	for _, program := range programs(t, "ts", "import ") {
		for _, use := range []string{".start<", ".signal(", ".query<", ".executeUpdate<"} {
			require.Contains(t, program, use)
		}
		nodetest.Build(t, "../../examples/typescript", map[string]string{"guide.ts": program})
	}
}
