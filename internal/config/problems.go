package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Problem is one problem of a variable.
type Problem struct {
	// Name is the variable's name.
	Name string
	// Wrong is the problem. It continues a sentence that begins with the name.
	Wrong string
	// Example is a valid value. Empty if there is none.
	Example string
}

func (p Problem) String() string {
	if p.Example == "" {
		return p.Name + " " + p.Wrong
	}
	return fmt.Sprintf("%s %s; example: %s", p.Name, p.Wrong, p.Example)
}

func (s Setting) problem(wrong string) Problem {
	return Problem{Name: s.Name, Wrong: strings.TrimSuffix(wrong, "."), Example: s.Example}
}

// Problems are all problems of an environment. As an error it is never empty.
type Problems []Problem

func (p Problems) Error() string {
	var b strings.Builder
	if len(p) == 1 {
		b.WriteString("1 setting is wrong:")
	} else {
		fmt.Fprintf(&b, "%d settings are wrong:", len(p))
	}
	for _, problem := range p {
		b.WriteString("\n  " + problem.String())
	}
	return b.String()
}

// sorted puts the problems in the order of the table, then those of unknown variables.
func (p Problems) sorted() Problems {
	rank := func(name string) int {
		if i := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == name || s.FileVariable() == name }); i >= 0 {
			return i
		}
		return len(settings)
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		if c := rank(a.Name) - rank(b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return p
}

const prefix = "POSTRIDER_"

// devVariables are the variables of dev.env that are not settings. A shell that has sourced
// dev.env can still start a process.
var devVariables = []string{
	"POSTRIDER_URL", "POSTRIDER_ACCESSKEY", "POSTRIDER_USERNAME", "POSTRIDER_PASSWORD", "POSTRIDER_FROM",
	"POSTRIDER_CUSTOMER_ID", "POSTRIDER_MAILBOX_ID", "POSTRIDER_WEBHOOK_SECRET",
}

// serviceLink matches variables that Kubernetes sets for a Service whose name begins with
// postrider. Those such as POSTRIDER_PORT are recognised by their value.
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// CheckNames reports variables that are not settings, as Load does. It is for a command that
// reads no settings. Its error is Problems.
func CheckNames(environ []string) error {
	if problems := unknown(environment(environ)); len(problems) > 0 {
		return problems.sorted()
	}
	return nil
}

// unknown finds the variables with the prefix POSTRIDER_ that are not settings.
func unknown(env map[string]string) Problems {
	var out Problems
	for name, value := range env {
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, prefix+"TEST_") ||
			slices.Contains(devVariables, name) || isServiceLink(name, value) ||
			slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name || s.FileVariable() == name }) {
			continue
		}
		wrong := "is not a setting"
		if meant := nearest(name); meant != "" {
			wrong += "; did you mean " + meant + "?"
		}
		out = append(out, Problem{Name: name, Wrong: wrong})
	}
	return out
}

// nearest is the name of the variable that was probably meant; empty if none is similar.
func nearest(name string) string {
	bare := strings.TrimPrefix(name, prefix)
	if bare == "DATABASE_URL" || bare == "DATABASE_URL_FILE" || slices.Contains(TemporalVariables(), bare) {
		return bare
	}
	best, meant := 1+max(1, len(bare)/4), "" // up to a quarter of the letters may differ
	names := slices.Clone(devVariables)
	for _, s := range settings {
		names = append(names, s.Name)
		if file := s.FileVariable(); file != "" {
			names = append(names, file)
		}
	}
	for _, known := range names {
		if d := distance(bare, strings.TrimPrefix(known, prefix)); d < best {
			best, meant = d, known
		}
	}
	return meant
}

// distance is the edit distance of two names: insertions, deletions, replacements, and swaps of
// neighbouring letters (Damerau-Levenshtein).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
