package api_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
)

// source describes the source of the package, without its tests.
type source struct {
	routes   *ast.FuncDecl
	handlers map[string]string // field of the struct handlers: its type
	files    map[string]string // Type.Method: the file that it is in, without .go
}

func readSource(t *testing.T) source {
	t.Helper()
	src := source{handlers: map[string]string{}, files: map[string]string{}}
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil {
					src.files[typeName(n.Recv.List[0].Type)+"."+n.Name.Name] = strings.TrimSuffix(name, ".go")
				}
				if n.Name.Name == "routes" {
					src.routes = n
				}
			case *ast.TypeSpec:
				if fields, ok := n.Type.(*ast.StructType); ok && n.Name.Name == "handlers" {
					for _, field := range fields.Fields.List {
						src.handlers[field.Names[0].Name] = typeName(field.Type)
					}
				}
			}
			return true
		})
	}
	require.NotNil(t, src.routes)
	return src
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// handlerOf finds h.resource.method in the last argument of a line of the route table.
func handlerOf(e ast.Expr) (resource, method string) {
	ast.Inspect(e, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || resource != "" {
			return true
		}
		if of, ok := sel.X.(*ast.SelectorExpr); ok {
			resource, method = of.Sel.Name, sel.Sel.Name
		}
		return true
	})
	return resource, method
}

// The handler of each route is in a file with the name of a resource in the route's path.
func TestRoutes(t *testing.T) {
	t.Parallel()
	src := readSource(t)
	// These paths name no resource.
	unnamed := map[string]string{"/": "home", "/healthz": "health", "/readyz": "health", "/openapi.json": "docs", "/openapi.yaml": "docs", "/u/:token": "unsubscribe"}
	found := 0
	ast.Inspect(src.routes, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 4 {
			return true
		}
		found++
		path, err := strconv.Unquote(call.Args[1].(*ast.BasicLit).Value)
		require.NoError(t, err)
		if path == "/metrics" { // another package answers
			return true
		}
		resource, method := handlerOf(call.Args[3])
		file := src.files[src.handlers[resource]+"."+method]
		require.NotEmpty(t, file, "%s: there is no handler h.%s.%s", path, resource, method)
		if want, ok := unnamed[path]; ok {
			require.Equal(t, want, file, path)
			return true
		}
		names := strings.Split(strings.TrimPrefix(path, "/v1.0"), "/")
		for _, name := range names {
			names = append(names, name+"es") // POST /v1.0/emails/batch makes one of the batches
		}
		require.Contains(t, names, file, "%s is answered in %s.go", path, file)
		return true
	})
	require.Len(t, newServer(t, stubs(), api.Options{}).Routes(), found)
}

// Each struct of handlers holds at most one store, and each store is held by one struct. Webhooks
// hold a second one: a replay reads the events of e-mails, which another package of db has.
func TestHandlers(t *testing.T) {
	t.Parallel()
	stores := map[reflect.Type]string{}
	deps := reflect.TypeFor[api.Deps]()
	for i := range deps.NumField() {
		if f := deps.Field(i); f.Type.Kind() == reflect.Interface && f.Type.PkgPath() == deps.PkgPath() && f.Name != "Dispatcher" && f.Name != "Parser" {
			stores[f.Type] = f.Name
		}
	}
	holders := map[string][]string{"Credentials": {"credentials"}}
	for name, of := range api.HandlerTypes() {
		var held []string
		for i := range of.NumField() {
			if store, ok := stores[of.Field(i).Type]; ok {
				if store != "Replays" {
					held = append(held, store)
				}
				holders[store] = append(holders[store], name)
			}
			require.NotEqual(t, deps, of.Field(i).Type, "%s holds all dependencies", name)
		}
		require.LessOrEqual(t, len(held), 1, "%s holds %s", name, held)
	}
	for _, store := range stores {
		require.Len(t, holders[store], 1, "%s is held by %s", store, holders[store])
	}
}
