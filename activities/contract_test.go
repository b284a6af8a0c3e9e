package activities

import (
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRegisteredActivities: a worker registers every exported method of
// Activities under its name, and runs of older versions ask for activities by name.
func TestRegisteredActivities(t *testing.T) {
	t.Parallel()
	var registered []string
	for m := range reflect.TypeFor[*Activities]().Methods() {
		registered = append(registered, m.Name)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../email/contract.go", nil, 0)
	require.NoError(t, err)
	var published []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if strings.HasPrefix(name.Name, "Activity") {
				text, err := strconv.Unquote(spec.Values[i].(*ast.BasicLit).Value)
				require.NoError(t, err)
				published = append(published, text)
			}
		}
		return true
	})
	require.ElementsMatch(t, published, registered)
	require.ElementsMatch(t, []string{"AcceptEmail", "ResolveAttachments", "SendSMTP", "RecordStatus", "FireWebhooks", "ControlEmail", "FollowEmail", "DeliverDueWebhooks",
		"PlanBatch", "SendBatchChunk", "RecordBatchChunk", "ControlBatch", "CheckDomain"}, published, "runs that are under way ask for these names")
}

func TestNewNamesMissingDependencies(t *testing.T) {
	t.Parallel()
	_, _, err := New(Deps{Log: slog.New(slog.DiscardHandler), Gate: &fakes{}})
	require.ErrorContains(t, err, "activities.Deps lacks Acceptor, Customers, Mail, Journal")
}
