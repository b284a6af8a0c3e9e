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

// TestGuaranteesAreTested: a promise whose test is gone is no promise.
func TestGuaranteesAreTested(t *testing.T) {
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
	text, err := os.ReadFile("../../docs/guarantees.md")
	require.NoError(t, err)
	named := namedTest.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(named), 20)
	for _, m := range named {
		require.True(t, declared[m[1]], "docs/guarantees.md names %s, which is not there", m[1])
		if m[2] != "" {
			require.Contains(t, code.String(), `"`+m[2]+`"`, "docs/guarantees.md names a part of %s", m[1])
		}
	}
}
