package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	inBackticks = regexp.MustCompile("`([^`\n]+)`")
	// pathLike is a file or directory of this repository.
	pathLike = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)+$|^[\w-]+\.(go|md|yaml|yml|json|tsv|txt)$`)
	// identifier is a name in Go code; one with a dot is a name of another package.
	identifier = regexp.MustCompile(`^[A-Za-z]+$`)
	makeTarget = regexp.MustCompile(`^make ([a-z-]+)$`)
	goWord     = regexp.MustCompile(`[A-Za-z_][A-Za-z_0-9]*`)
	// inFile and ofFile are names that stand in the file beside them: "`a.go` (`One`, `two`)" and
	// "`one` in `a.go`".
	inFile = regexp.MustCompile("`([\\w./-]+\\.go)`\\s+\\(((?:`[A-Za-z]+`(?:,\\s+)?)+)\\)")
	ofFile = regexp.MustCompile("(`[A-Za-z]+`) in\\s+`([\\w./-]+\\.go)`")
)

// TestTheArchitecturePageIsTrue: each path, test, make target and identifier in backticks in
// docs/architecture.md exists, an identifier in the file that the page names for it. Each package of the import
// rules is on the page.
func TestTheArchitecturePageIsTrue(t *testing.T) {
	t.Parallel()
	const page = "docs/architecture.md"
	text := read(t, page)
	words, tests := goWords(t)
	for _, w := range goWord.FindAllString(read(t, "api/openapi.yaml"), -1) {
		words[w] = true
	}
	makefile := read(t, "Makefile")
	found, stale := 0, func(what, name string) { t.Errorf("%s names %s `%s`, which is not there", page, what, name) }
	for _, m := range inBackticks.FindAllStringSubmatch(withoutBlocks(text), -1) {
		name := m[1]
		target := makeTarget.FindStringSubmatch(name)
		switch {
		case strings.HasPrefix(name, "Test"):
			if !tests[name] {
				stale("the test", name)
			}
		case target != nil:
			if !strings.Contains(makefile, "\n"+target[1]+":") {
				stale("the target", name)
			}
		case pathLike.MatchString(name):
			if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
				stale("the path", name)
			}
		case identifier.MatchString(name):
			_, pkg := rules[name]
			if !words[name] && !pkg {
				stale("the identifier", name)
			}
		default:
			continue
		}
		found++
	}
	require.Greater(t, found, 200, "the patterns above find what is in backticks")
	type pair struct{ file, names string }
	var pairs []pair
	for _, m := range inFile.FindAllStringSubmatch(text, -1) {
		pairs = append(pairs, pair{m[1], m[2]})
	}
	for _, m := range ofFile.FindAllStringSubmatch(text, -1) {
		pairs = append(pairs, pair{m[2], m[1]})
	}
	require.Greater(t, len(pairs), 40, "the patterns above find names beside files")
	for _, p := range pairs {
		code, err := os.ReadFile(filepath.Join("../..", p.file))
		if err != nil {
			continue // said above
		}
		for _, m := range inBackticks.FindAllStringSubmatch(p.names, -1) {
			if !slices.Contains(goWord.FindAllString(string(code), -1), m[1]) {
				t.Errorf("%s names `%s` in %s, which has no such name", page, m[1], p.file)
			}
		}
	}
	for pkg := range rules {
		if !strings.Contains(text, "`"+pkg+"`") {
			t.Errorf("%s has no line for the package %s: say what it does", page, pkg)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", file))
	require.NoError(t, err)
	return string(text)
}

// withoutBlocks leaves out code blocks.
func withoutBlocks(text string) string {
	var out []string
	for i, part := range strings.Split(text, "\n```") {
		if i%2 == 0 {
			out = append(out, part)
		}
	}
	return strings.Join(out, "\n")
}

// goWords are all words of the Go files, and the names of the tests in them. This file
// counts for none: it would find what it names.
func goWords(t *testing.T) (words, tests map[string]bool) {
	t.Helper()
	words, tests = map[string]bool{}, map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || entry.Name() == "architecture_test.go":
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range declaredTest.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		if !strings.HasSuffix(path, "_test.go") {
			for _, w := range goWord.FindAllString(string(text), -1) {
				words[w] = true
			}
		}
		return err
	}))
	return words, tests
}
