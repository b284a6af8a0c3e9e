// Package nodetest installs and builds the repository's programs for Node.js, so
// that tests can run them: what a package.json and its lock pin, from npm, into a
// directory of the test's.
package nodetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Required is the environment variable that makes a missing node a failure. .ci/run
// sets it.
const Required = "POSTRIDER_TEST_NODE"

// patience is for one step: npm fetches, on a machine that is busy.
const patience = 12 * time.Minute

// Build does what Install does and compiles what tsconfig.json names.
func Build(t testing.TB, project string, more map[string]string) (dir string) {
	t.Helper()
	dir = Install(t, project, more)
	run(t, dir, "node", "node_modules/typescript/bin/tsc", "--project", ".")
	return dir
}

// Install copies the files of a project, and more of them by name, and installs
// what package-lock.json pins. It returns where. Without a node the test is
// skipped, unless Required is set.
func Install(t testing.TB, project string, more map[string]string) (dir string) {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv(Required) != "" {
				t.Fatalf("%s is required and is not on PATH", tool)
			}
			t.Skipf("%s is not on PATH: the programs of %s are not tried; install Node.js, or see .ci/run", tool, project)
		}
	}
	dir = t.TempDir()
	entries, err := os.ReadDir(project)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if !e.Type().IsRegular() { // node_modules, and what tsc made of it
			continue
		}
		text, err := os.ReadFile(filepath.Join(project, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	for _, set := range []map[string]string{files, more} {
		for name, text := range set {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=5")
	return dir
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out.String())
	}
}
