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

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fencedCode   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	heading      = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	linkText     = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	noAnchor     = regexp.MustCompile(`[^\pL\pN_ -]`)
)

// anchors are the headings of a page as GitHub writes them in links.
func anchors(page string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fencedCode.ReplaceAllString(page, ""), -1) {
		text := strings.ToLower(strings.TrimSpace(linkText.ReplaceAllString(m[1], "$1")))
		out[strings.ReplaceAll(noAnchor.ReplaceAllString(text, ""), " ", "-")] = true
	}
	return out
}

// TestTheLinksOfTheDocsLeadSomewhere checks the files and headings that pages link to.
func TestTheLinksOfTheDocsLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range append(pages, "../../README.md", "../../CHANGELOG.md", "../../deploy/README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range markdownLink.FindAllStringSubmatch(fencedCode.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), filepath.FromSlash(file))
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", page, m[1])
			if anchor != "" {
				linked, err := os.ReadFile(target)
				require.NoError(t, err)
				require.True(t, anchors(string(linked))[anchor], "%s links to %s: there is no such heading", page, m[1])
			}
		}
	}
}
