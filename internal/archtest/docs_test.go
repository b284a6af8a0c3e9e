package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	namedTest    = regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?`")
	declaredTest = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
)

// TestThePromisesOfTheDocsAreTested: a promise whose test is gone is no promise.
func TestThePromisesOfTheDocsAreTested(t *testing.T) {
	t.Parallel()
	declared, code := map[string]bool{}, strings.Builder{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declaredTest.FindAllSubmatch(text, -1) {
			declared[string(m[1])] = true
		}
		code.Write(text)
		return err
	}))
	for page, least := range map[string]int{"guarantees.md": 20, "security.md": 60} {
		text, err := os.ReadFile("../../docs/" + page)
		require.NoError(t, err)
		named := namedTest.FindAllStringSubmatch(string(text), -1)
		require.Greater(t, len(named), least, page)
		for _, m := range named {
			require.True(t, declared[m[1]], "docs/%s names %s, which is not there", page, m[1])
			if m[2] != "" {
				require.Contains(t, code.String(), `"`+m[2]+`"`, "docs/%s names a part of %s", page, m[1])
			}
		}
	}
	// Each row of security.md names what holds its control.
	text, err := os.ReadFile("../../docs/security.md")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| control ") {
			require.Regexp(t, "`(Test[A-Za-z0-9]+|make [a-z]+)`", strings.Split(line, " | ")[1], line)
		}
	}
}
