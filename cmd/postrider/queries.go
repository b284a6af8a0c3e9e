package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"go.temporal.io/sdk/client"
)

// query is a list of runs that an operator wants to see; docs/operating.md has
// the same.
type query struct{ title, text string }

// queries are what the Temporal UI's own "Completed" and "Running" do not tell
// apart: a run that completed may have ended in a bounce.
var queries = []query{
	{"open mail", `WorkflowType="SendEmail" AND ExecutionStatus="Running"`},
	{"deferred", `ExecutionStatus="Running" AND EmailStatus IN ("deferred","partial")`},
	{"held or paused", `ExecutionStatus="Running" AND EmailStatus="held"`},
	{"no relay", `ExecutionStatus="Running" AND EmailStatus IN ("relay_down","no_relay")`},
	{"not all reached", `WorkflowType="SendEmail" AND ExecutionStatus!="Running" AND EmailStatus!="delivered" AND EmailStatus!="canceled"`},
}

// link opens a query in a Temporal UI.
func (q query) link(ui string) string {
	return strings.TrimRight(ui, "/") + "/namespaces/" + client.DefaultNamespace + "/workflows?query=" + url.QueryEscape(q.text)
}

func printQueries(w io.Writer, ui string) {
	if ui == "" {
		return
	}
	fmt.Fprintln(w, "What operators look at (first add EmailStatus as a column, with the gear below the list):")
	fmt.Fprintln(w)
	for _, q := range queries {
		fmt.Fprintf(w, "  %-16s %s\n", q.title, q.link(ui))
	}
	fmt.Fprintln(w)
}
