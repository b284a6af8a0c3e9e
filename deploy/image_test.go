package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/stretchr/testify/require"
)

// buildContext copies the files that Docker would send to the builder into dir, by
// the library that Docker matches .dockerignore with, and returns their names.
func buildContext(t *testing.T, dir string) (names []string) {
	t.Helper()
	file, err := os.Open(filepath.Join(root, ".dockerignore"))
	require.NoError(t, err)
	patterns, err := ignorefile.ReadAll(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	matcher, err := patternmatcher.New(patterns)
	require.NoError(t, err)
	ignored := func(name string) bool {
		t.Helper()
		out, err := matcher.MatchesOrParentMatches(name)
		require.NoError(t, err)
		return out
	}
	for _, name := range []string{".git", ".postrider"} { // large, and skipped below
		require.True(t, ignored(name+"/a/b.go"), name)
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name == ".git" || name == ".postrider" {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.IsDir() || ignored(name) {
			return nil
		}
		names = append(names, filepath.ToSlash(name))
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o600)
	}))
	return names
}

// The image's binary is built by the Dockerfile's own command, from exactly the files
// of its build context. It knows the commit that compose passes.
func TestTheImageBuilds(t *testing.T) {
	t.Parallel()
	src, out := t.TempDir(), t.TempDir()
	names := buildContext(t, src)
	require.Contains(t, names, "go.mod")
	for _, name := range names {
		require.NotRegexp(t, `_test\.go$|(^|/)testdata/|(^|/)\.env$|^(docs|examples|tools|bench)/|\.md$`, name, "the image does not need it")
	}
	raw, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	build := regexp.MustCompile(`(?m)^RUN (go build .*)$`).FindSubmatch(raw)
	require.NotNil(t, build)
	// Without -trimpath and with cgo the dependencies come from the cache of the other
	// tests; which files are there to build from is the same.
	command := strings.NewReplacer("/out/", "$OUT/", "-trimpath ", "").Replace(string(build[1]))

	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "VERSION=0123456789ab", "OUT="+out)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	text, err = exec.CommandContext(t.Context(), filepath.Join(out, "postrider"), "--version").CombinedOutput()
	require.NoError(t, err, string(text))
	require.Contains(t, string(text), "0123456789ab")
}
