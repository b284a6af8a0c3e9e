package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// deps are the packages that a program gets with an import of some of ours, without the
// standard library's.
func deps(t *testing.T, pkgs ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, pkgs...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

// Other people's programs import the contract and the client: they get neither our
// web framework, nor our database driver, nor even Temporal's SDK by it.
func TestOutsideProgramsInheritNothing(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, []string{"github.com/google/uuid", module + "/email"}, deps(t, "./email"))
	require.ElementsMatch(t, []string{"github.com/google/uuid", module + "/email", module + "/client"}, deps(t, "./client"))
}

// TestTheCommandLineNeverSeesTheStore: `postrider send` imports neither the store, the server nor
// Temporal, directly or indirectly.
func TestTheCommandLineNeverSeesTheStore(t *testing.T) {
	t.Parallel()
	have := deps(t, "./internal/sendcli")
	require.Contains(t, have, module+"/client")
	for _, pkg := range have {
		ours, _ := strings.CutPrefix(pkg, module+"/")
		require.NotContains(t, []string{"db", "api", "workflows", "activities", "worker"}, ours)
		require.NotRegexp(t, "^(github.com/uptrace/bun|go.temporal.io|github.com/gin-gonic)(/|$)", pkg)
	}
}

// TestTheBinaryHoldsNoTools: packages for tests and generators are not in the binary.
func TestTheBinaryHoldsNoTools(t *testing.T) {
	t.Parallel()
	have := deps(t, "./cmd/postrider")
	require.Contains(t, have, module+"/workflows")
	for _, tool := range []string{"github.com/invopop/jsonschema", "github.com/santhosh-tekuri/jsonschema/v6", module + "/internal/smtptest"} {
		require.False(t, slices.Contains(have, tool), tool)
	}
}
