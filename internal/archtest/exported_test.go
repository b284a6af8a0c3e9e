package archtest

import (
	"bytes"
	"flag"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the lists of what is exported anew")

// published are the packages that other programs import.
var published = []string{"email", "client"}

// TestThePublishedAPI compares what the published packages export with api.txt in the
// testdata of each.
func TestThePublishedAPI(t *testing.T) {
	t.Parallel()
	load := loader(t)
	for _, pkg := range published {
		file := filepath.Join("../..", pkg, "testdata", "api.txt")
		got := exported(load(module + "/" + pkg))
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o600))
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		want := strings.Split(strings.TrimSpace(string(text)), "\n")
		var changes []string
		for _, line := range want {
			if !slices.Contains(got, line) {
				changes = append(changes, "gone: "+line)
			}
		}
		for _, line := range got {
			if !slices.Contains(want, line) {
				changes = append(changes, "new:  "+line)
			}
		}
		if len(changes) > 0 {
			t.Errorf("package %s exports other things than %s/testdata/api.txt says:\n\n%s\n\n"+
				"Other programs import this package. A line that is gone breaks those that use it; a new one is a promise to keep.\n"+
				"If only the server needs it, it belongs into internal/delivery. If the change is wanted: make api-golden, and a line in CHANGELOG.md.",
				pkg, pkg, strings.Join(changes, "\n"))
		}
		require.Equal(t, len(got), len(want), "%s/testdata/api.txt has a line twice: make api-golden", pkg)
	}
}

// loader reads packages as the compiler has exported them.
func loader(t *testing.T) func(path string) *types.Package {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, pkg := range published {
		args = append(args, "./"+pkg)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	return func(path string) *types.Package {
		pkg, err := from.Import(path)
		require.NoError(t, err)
		return pkg
	}
}

func TestExportedListsWhatProgramsCanName(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "a.go", "package a\n"+
		"const Word Kind = \"a\" + small\n"+
		"const small = \"b\"\n"+
		"var Err error\n"+
		"type Kind string\n"+
		"func (k Kind) Long() string { return string(k) }\n"+
		"func (k Kind) short() {}\n"+
		"type Same = Kind\n"+
		"type Doer interface{ Do(k Kind) error }\n"+
		"type Base struct{ ID string `json:\"id\"` }\n"+
		"type Pair struct { Base; K, L *Kind; hidden int }\n"+
		"func (p *Pair) Swap() {}\n"+
		"func Make[T any](t ...T) (*Pair, error) { return nil, nil }\n"+
		"func make2() {}\n", 0)
	require.NoError(t, err)
	pkg, err := (&types.Config{}).Check("a", fset, []*ast.File{file}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{
		"const Word Kind = \"ab\"",
		"field Base.ID string `json:\"id\"`",
		"field Pair.Base Base, embedded",
		"field Pair.K *Kind",
		"field Pair.L *Kind",
		"func (*Pair).Swap()",
		"func (Kind).Long() string",
		"func Make[T any](t ...T) (*Pair, error)",
		"type Base struct",
		"type Doer interface{Do(k Kind) error}",
		"type Kind string",
		"type Pair struct, with unexported fields",
		"type Same = Kind",
		"var Err error",
	}, exported(pkg))
}
