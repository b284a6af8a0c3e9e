// Package archtest keeps the module's packages apart: its test reads the import
// declarations of the whole tree and compares them with the table below. A package
// that is not in the table fails the test: each new package has to say what it may
// import.
package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const module = "github.com/postrider/postrider"

// rule is what a package may import. Paths are relative to the module.
type rule struct {
	// may are the packages of this module. everything is all of them.
	may []string
	// tests are what its external tests (package x_test) may import besides: they
	// put real adapters together, as cmd does, and the package itself learns nothing
	// of them.
	tests []string
	// standardOnly refuses other modules, except those in plain and besides.
	standardOnly bool
	besides      []string
}

// everything in may lifts the restriction.
const everything = "*"

// plain are the other modules that domain packages may import all the same: one
// that only computes.
var plain = []string{"github.com/google/uuid"}

var (
	domain  = []string{"email", "internal/account", "internal/endpoint", "internal/mailbox"}
	helpers = []string{"internal/smtptest", "internal/intaketest", "internal/relaytest", "internal/logtest", "internal/memtest", "internal/dbtest", "db/internal/dbsetup", "internal/devstack", "internal/openapitest", "internal/payloadtest", "internal/nodetest", "internal/dnstest", "internal/dkimtest", "internal/archtest"}
)

// rules has a line for every package.
var rules = map[string]rule{
	"email":                {standardOnly: true},
	"internal/account":     {standardOnly: true},
	"internal/endpoint":    {standardOnly: true},
	"internal/mailbox":     {standardOnly: true},
	"internal/suppression": {may: []string{"email"}, standardOnly: true, tests: []string{"internal/intake"}},
	"internal/unsubscribe": {standardOnly: true},
	"internal/delivery":    {may: []string{"email"}, standardOnly: true},
	"internal/safehttp":    {},

	"internal/plaintext": {standardOnly: true},

	"internal/dnslookup": {may: []string{"internal/safehttp"}},
	// Of the DNS client it takes the answers only.
	"internal/senderdomain": {may: []string{"internal/dnslookup", "internal/plaintext"}, tests: []string{"internal/dkim"}},
	"internal/htmltext":     {},
	"internal/header":       {may: []string{"internal/plaintext"}},
	"internal/spool":        {},
	"internal/missing":      {standardOnly: true},
	"internal/turns":        {},
	"internal/fairqueue":    {standardOnly: true},
	"internal/membudget":    {standardOnly: true},
	"internal/intake":       {may: []string{"email", "internal/delivery", "internal/header", "internal/htmltext", "internal/suppression", "internal/unsubscribe"}},
	"internal/render":       {may: []string{"email", "internal/header", "internal/plaintext", "internal/unsubscribe"}, tests: []string{"internal/intake"}},
	"internal/dkim":         {standardOnly: true, tests: []string{"email", "internal/render"}},
	"internal/signing":      {may: []string{"internal/dkim"}, standardOnly: true},
	"internal/pacing":       {may: []string{"email", "internal/account"}, standardOnly: true},
	"internal/reputation":   {may: []string{"email"}, standardOnly: true},
	// The protocol knows nothing of the choice among relays. Its tests take sessions as mail does.
	"internal/smtp":  {may: []string{"email", "internal/delivery", "internal/plaintext"}, tests: []string{"internal/relay"}},
	"internal/relay": {may: []string{"email", "internal/delivery", "internal/smtp"}},
	"client":         {may: []string{"email"}, standardOnly: true},
	// Its advice depends on the message alone.
	"internal/advice": {may: []string{"email", "internal/plaintext", "internal/unsubscribe"}, standardOnly: true, besides: []string{"golang.org/x/net/html"}},

	// Many messages of one request, each of them read by intake.
	"internal/mailmerge": {may: []string{"email", "internal/delivery", "internal/intake", "internal/header", "internal/htmltext", "internal/plaintext", "internal/unsubscribe"}},

	"activities": {may: join(domain, "internal/delivery", "internal/intake", "internal/membudget", "internal/missing", "internal/dkim", "internal/dnslookup", "internal/senderdomain")},
	"workflows":  {may: []string{"email", "internal/delivery", "activities"}, tests: []string{"internal/senderdomain"}}, // of activities method references only
	"worker":     {may: []string{"workflows", "activities", "email"}},

	"internal/dispatch": {may: join(domain, "internal/delivery", "internal/fairqueue")},
	"internal/codec":    {},
	// db puts its parts together and has the migrations. A part imports parts that do not need it.
	"db":                  {may: []string{"db/internal/pg", "db/files", "db/mailboxes", "db/webhooks", "db/suppressions", "db/accounts", "db/mail", "db/reputation", "email", "internal/delivery", "internal/endpoint"}},
	"db/internal/pg":      {may: []string{"email", "internal/fairqueue", "internal/portion", "internal/plaintext"}},
	"db/internal/audit":   {may: []string{"db/internal/pg", "email", "internal/account"}},
	"db/internal/dbsetup": {may: []string{"db", "email", "internal/dbtest", "internal/delivery", "internal/endpoint"}},
	"db/files":            {may: []string{"db/internal/pg", "email"}},
	"db/webhooks":         {may: []string{"db/internal/pg", "db/internal/audit", "email", "internal/account", "internal/endpoint"}},
	"db/suppressions":     {may: []string{"db/internal/pg", "db/internal/audit", "email", "internal/suppression"}},
	"db/accounts":         {may: []string{"db/internal/pg", "db/internal/audit", "db/webhooks", "email", "internal/account", "internal/dkim", "internal/dnslookup", "internal/pacing", "internal/senderdomain"}, tests: []string{"db"}},
	"db/mail": {
		may:   []string{"db/internal/pg", "db/internal/audit", "db/files", "db/webhooks", "db/suppressions", "db/accounts", "email", "internal/account", "internal/delivery", "internal/endpoint", "internal/fairqueue", "internal/pacing", "internal/portion", "internal/reputation", "internal/senderdomain", "internal/suppression", "internal/unsubscribe"},
		tests: []string{"db", "internal/mailbox"}, // over the whole store
	},
	"db/reputation": {
		may:   []string{"db/internal/pg", "db/internal/audit", "db/webhooks", "db/mail", "email", "internal/account", "internal/reputation"},
		tests: []string{"db", "internal/delivery", "internal/endpoint"}, // over the whole store
	},
	"db/mailboxes":        {may: []string{"db/internal/pg", "db/files", "email", "internal/mailbox"}},
	"internal/inbound":    {may: join(domain, "internal/mailread", "internal/membudget", "internal/plaintext", "internal/spool", "internal/turns")},
	"internal/mailread":   {may: []string{"internal/mailbox", "internal/plaintext"}},
	"internal/metrics":    {may: join(domain, "internal/delivery", "internal/membudget")},
	"internal/attachment": {may: join(domain, "internal/safehttp", "internal/plaintext")},
	"internal/webhook":    {may: join(domain, "internal/safehttp", "internal/plaintext")},

	"api": {
		may:   join(domain, "internal/intake", "internal/mailmerge", "internal/advice", "internal/apidoc", "internal/spool", "internal/turns", "internal/membudget", "internal/missing", "internal/httpserver", "internal/portion", "internal/reputation", "internal/senderdomain", "internal/suppression", "internal/unsubscribe"),
		tests: []string{"db", "internal/delivery", "internal/inbound", "internal/render", "internal/safehttp", "internal/webhook"}, // the API over a real store
	},
	"internal/apidoc":     {},
	"internal/portion":    {},
	"internal/httpserver": {may: []string{"email"}, tests: []string{"internal/memtest"}},

	"internal/config": {},
	"cmd/postrider":   {may: []string{everything}},
	// A client of the REST API, in the same binary: it never sees the store.
	"internal/sendcli": {may: []string{"client", "email", "internal/config", "internal/mailmerge", "internal/plaintext"}},

	"internal/intaketest": {may: []string{"email", "internal/intake", "internal/memtest"}},
	"internal/relaytest":  {may: []string{"email", "internal/delivery", "internal/relay", "internal/smtptest"}},
	"internal/logtest":    {},

	"internal/devstack":    {},
	"internal/smtptest":    {},
	"internal/openapitest": {},
	"internal/dbtest":      {may: []string{"db", "internal/devstack"}},
	"internal/archtest":    {},
	"internal/memtest":     {},
	"internal/nodetest":    {},
	"internal/dnstest":     {},
	"internal/dkimtest":    {},
	"internal/payloadtest": {},

	"tools/prose":       {},
	"tools/temporalcli": {may: []string{"internal/devstack"}},
	"deploy":            {may: []string{"internal/config", "internal/devstack", "db"}}, // tests of the compose file and its scripts
	"docs/schema":       {may: []string{"email"}},                                      // a test that makes the schemas
}

// onlyBy names the packages that only a few others may import; no other rule allows more.
var onlyBy = map[string][]string{
	"internal/config": {"cmd/postrider", "internal/sendcli", "deploy"},
	// The parts of db are put together there; all others take them from db.Open.
	"db/files":      {"db", "db/mailboxes", "db/mail"},
	"db/mailboxes":  {"db"},
	"db/webhooks":   {"db", "db/accounts", "db/mail", "db/reputation"},
	"db/accounts":   {"db", "db/mail"},
	"db/mail":       {"db", "db/reputation"},
	"db/reputation": {"db"},
}

func join(list []string, more ...string) []string { return append(slices.Clone(list), more...) }

// check compares the tree below root with the rules. It returns what is wrong, in
// order, and the packages that it saw.
func check(root string, rules map[string]rule) (wrong, seen []string, err error) {
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if file != root && skipped(file, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if !slices.Contains(seen, pkg) {
			seen = append(seen, pkg)
			if _, ok := rules[pkg]; !ok {
				wrong = append(wrong, fmt.Sprintf("%s is not in the table of internal/archtest: add it, and say what it may import", pkg))
			}
		}
		found, err := checkFile(root, file, pkg, rules)
		wrong = append(wrong, found...)
		return err
	})
	sort.Strings(wrong)
	return wrong, seen, err
}

// stale are the packages that have a rule and are not in the tree.
func stale(rules map[string]rule, seen []string) (wrong []string) {
	for pkg := range rules {
		if !slices.Contains(seen, pkg) {
			wrong = append(wrong, fmt.Sprintf("%s is in the table of internal/archtest and not in the tree: take it out", pkg))
		}
	}
	sort.Strings(wrong)
	return wrong
}

// skipped are directories that the go tool does not build into this module.
func skipped(dir, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "vendor" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil // another module
}

func checkFile(root, file, pkg string, rules map[string]rule) (wrong []string, err error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, file)
	if err != nil {
		return nil, err
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		f := place{pkg: pkg, test: strings.HasSuffix(file, "_test.go"), external: strings.HasSuffix(parsed.Name.Name, "_test")}
		if why := refuse(rules, f, imported); why != "" {
			wrong = append(wrong, filepath.ToSlash(rel)+": "+why)
		}
	}
	return wrong, nil
}

// place is where an import stands.
type place struct {
	pkg string
	// test is a file for go test, external one of a package x_test.
	test, external bool
}

// refuse says why a file may not import a package, or nothing.
func refuse(rules map[string]rule, from place, imported string) string {
	pkg, test := from.pkg, from.test
	r, ok := rules[pkg]
	if !ok {
		return "" // said once for the whole package
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case imported == module:
		return "nothing is at the root of the module"
	case ours && target == pkg: // an external test of itself
		return ""
	case ours && test && slices.Contains(helpers, target), ours && test && from.external && slices.Contains(r.tests, target):
		return ""
	case ours && onlyBy[target] != nil && !slices.Contains(onlyBy[target], pkg):
		return fmt.Sprintf("%s is imported by %s only, not by %s", target, strings.Join(onlyBy[target], " and "), pkg)
	case ours && slices.Contains(r.may, everything), ours && slices.Contains(r.may, target):
		return ""
	case ours && len(r.may) == 0:
		return fmt.Sprintf("%s may import nothing of this module, but imports %s", pkg, target)
	case ours:
		return fmt.Sprintf("%s may import %s, but not %s", pkg, strings.Join(r.may, ", "), target)
	case !test && !ours && r.standardOnly && !standard(imported) && !slices.Contains(join(plain, r.besides...), imported):
		return fmt.Sprintf("%s may import the standard library and %s only, but imports %s", pkg, strings.Join(join(plain, r.besides...), ", "), imported)
	}
	return ""
}

// standard tells the standard library by its first element, which has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(path.Clean(imported), "/")
	return !strings.Contains(first, ".") && first != "C"
}
