package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGeneratedClientSendsEmail generates a client from the served OpenAPI document, compiles
// testdata/client with it, and runs that program.
func TestGeneratedClientSendsEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	srv := httptest.NewServer(b.server)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/client")))
	description := filepath.Join(t.TempDir(), "openapi.json")
	require.NoError(t, os.WriteFile(description, served(t, b.server, "/openapi.json").Body.Bytes(), 0o600))
	execute(t, dir, nil, generator(t), "-generate", "types,client", "-package", "main", "-o", "client.gen.go", description)
	goBuild(t, dir, filepath.Join(dir, "client"), ".")

	out := execute(t, dir, []string{"POSTRIDER_URL=" + srv.URL, "POSTRIDER_ACCESSKEY=" + b.key}, filepath.Join(dir, "client"), "shop@acme.test", "bob@x.test")
	var got struct {
		ID, Status, Content string
		Metadata            map[string]string
	}
	require.NoError(t, json.Unmarshal(out, &got))
	require.Equal(t, "queued", got.Status)
	require.Equal(t, "Thanks", got.Content)
	require.Equal(t, map[string]string{"order": "12345"}, got.Metadata)
	accepted := b.dispatch.accepted()
	require.Len(t, accepted, 2, "the e-mail and the batch")
	require.Equal(t, got.ID, accepted[0])
	require.Equal(t, "held", b.batch(accepted[1]).Status)
	// Go writes times without trailing zeros of their fraction.
	plain := func(s string) string { return untimed(fractionZeros.ReplaceAllString(s, "${1}Z")) }
	require.JSONEq(t, plain(b.as("GET", "/v1.0/emails/"+got.ID, "").body), plain(string(out)), "the client loses nothing")
}

var fractionZeros = regexp.MustCompile(`(:\d\d(?:\.\d*[1-9])?)\.?0*Z`)

var generatorVersion = regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/oapi-codegen/oapi-codegen/v2 v(\S+)`)

// generator builds the program that tools/oapi-codegen pins, once. The file is renamed to its name
// when it is complete.
func generator(t *testing.T) string {
	t.Helper()
	module, err := filepath.Abs("../tools/oapi-codegen")
	require.NoError(t, err)
	gomod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	require.NoError(t, err)
	version := generatorVersion.FindSubmatch(gomod)
	require.NotNil(t, version, string(gomod))
	cache, err := filepath.Abs("../.postrider/tools")
	require.NoError(t, err)
	path := filepath.Join(cache, "oapi-codegen-"+string(version[1]))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	require.NoError(t, os.MkdirAll(cache, 0o755))
	building := path + "." + strconv.Itoa(os.Getpid())
	goBuild(t, module, building, "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen")
	require.NoError(t, os.Rename(building, path))
	return path
}

// goBuild builds a package of another module, without our workspace and flags. Trimmed paths let
// the next temporary directory use the build cache.
func goBuild(t *testing.T, dir, out, pkg string) {
	t.Helper()
	execute(t, dir, []string{"GOWORK=off", "GOFLAGS="}, "go", "build", "-buildvcs=false", "-trimpath", "-o", out, pkg)
}

// execute runs a command and returns its standard output. A first build downloads modules, which
// may take minutes.
func execute(t *testing.T, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), &out, &errs
	require.NoError(t, cmd.Run(), "%s %v: %s", name, args, errs.String())
	return out.Bytes()
}
