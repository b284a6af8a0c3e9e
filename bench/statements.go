package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// statement is what a deployment asks Postgres for, without its values.
type statement struct {
	text string
	// perMail is how often, ms how long all of them took together.
	perMail, ms float64
}

// statementMails are sent while every statement is logged.
const statementMails = 200

// statements sends mails with Postgres logging every statement, and counts them.
func (d *deployment) statements(ctx context.Context) ([]statement, error) {
	say("statements of %s", d.name)
	log := filepath.Join(d.st.dir, "postgres", "server.log")
	before, err := os.Stat(log)
	if err != nil {
		return nil, err
	}
	if err := d.st.logStatements(ctx, "0"); err != nil {
		return nil, err
	}
	// From few clients, so that what is measured is the statement, not the queue for
	// a core.
	if _, err := d.post(ctx, statementMails, 1); err != nil {
		return nil, err
	}
	if err := d.drained(ctx); err != nil {
		return nil, err
	}
	if err := d.st.logStatements(ctx, "-1"); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	// The others on this Postgres are Temporal, whose timers never rest.
	var ours []string
	if err := d.st.admin.QueryRow(ctx, "SELECT coalesce(array_agg('[' || pid || ']'), '{}') FROM pg_stat_activity WHERE datname = $1", d.name).Scan(&ours); err != nil {
		return nil, err
	}
	return count(string(data[before.Size():]), ours), nil
}

func (st *stack) logStatements(ctx context.Context, atLeast string) error {
	if _, err := st.admin.Exec(ctx, "ALTER SYSTEM SET log_min_duration_statement = "+atLeast); err != nil {
		return err
	}
	if _, err := st.admin.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // sessions read it when they are next idle
	return nil
}

var (
	logged   = regexp.MustCompile(`duration: ([0-9.]+) ms  (statement|execute|parse|bind)[^:]*: `)
	literals = regexp.MustCompile(`E?'(?:[^']|'')*'|\b[0-9]+(?:\.[0-9]+)?\b`)
	spaces   = regexp.MustCompile(`\s+`)
	tuples   = regexp.MustCompile(`(\([?, ]+\))(?:, \([?, ]+\))+`)
)

// count reads lines of the log as: time [pid] LOG:  duration: 0.1 ms  statement: SELECT …
// It counts those of some sessions.
func count(log string, sessions []string) []statement {
	by := map[string]*statement{}
	for _, entry := range regexp.MustCompile(`(?m)^[0-9-]{10} [0-9:.]+ UTC `).Split(log, -1) {
		m := logged.FindStringSubmatchIndex(entry)
		session, _, _ := strings.Cut(entry, " ")
		if m == nil || !slices.Contains(sessions, session) || strings.Contains(entry, "FROM emails WHERE status IN ('queued', 'sending')") && strings.Contains(entry, "count(*)") {
			continue // the last is how we wait
		}
		kind := entry[m[4]:m[5]]
		text := spaces.ReplaceAllString(literals.ReplaceAllString(entry[m[1]:], "?"), " ")
		text = tuples.ReplaceAllString(text, "$1")
		text = strings.TrimSpace(text)
		if len(text) > 150 {
			text = text[:150] + " …"
		}
		s := by[text]
		if s == nil {
			s = &statement{text: text}
			by[text] = s
		}
		took, _ := strconv.ParseFloat(entry[m[2]:m[3]], 64)
		s.ms += took / statementMails
		if kind == "statement" || kind == "execute" {
			s.perMail += 1.0 / statementMails
		}
	}
	var out []statement
	for _, s := range by {
		if s.perMail >= 0.1 {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b statement) int {
		return strings.Compare(fmt.Sprintf("%09.4f", b.ms), fmt.Sprintf("%09.4f", a.ms))
	})
	return out
}
