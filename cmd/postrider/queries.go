package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"go.temporal.io/sdk/client"
)

// query is a list filter for runs in the Temporal UI; docs/operating.md has the same ones.
type query struct{ title, text string }

// queries distinguish runs that the Temporal UI shows as "Completed" or "Running": a completed
// run may have ended in a bounce.
var queries = []query{
	{"open mail", `WorkflowType="SendEmail" AND ExecutionStatus="Running"`},
	{"deferred", `ExecutionStatus="Running" AND EmailStatus IN ("deferred","partial")`},
	{"held or paused", `ExecutionStatus="Running" AND EmailStatus="held"`},
	{"no relay", `ExecutionStatus="Running" AND EmailStatus IN ("relay_down","no_relay")`},
	{"not all reached", `WorkflowType="SendEmail" AND ExecutionStatus!="Running" AND EmailStatus!="delivered" AND EmailStatus!="canceled"`},
}

// link is the URL of a query in a Temporal UI.
func (q query) link(ui string) string {
	return strings.TrimRight(ui, "/") + "/namespaces/" + client.DefaultNamespace + "/workflows?query=" + url.QueryEscape(q.text)
}

func printQueries(w io.Writer, ui string) {
	if ui == "" {
		return
	}
	fmt.Fprintln(w, "Lists for operators (first add EmailStatus as a column, with the gear below the list):")
	fmt.Fprintln(w)
	for _, q := range queries {
		fmt.Fprintf(w, "  %-16s %s\n", q.title, q.link(ui))
	}
	fmt.Fprintln(w)
}
