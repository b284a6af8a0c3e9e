package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
)

// result is everything a run found out.
type result struct {
	began      time.Time
	took       time.Duration
	settings   settings
	machine    []string
	versions   []string
	contenders []*contender
	targets    []target
	idle       []time.Duration
	beside     []time.Duration
	// floods are what mail waited for behind floods, on the real server.
	floods     []flood
	memory     []string
	flat       []flatPoint
	statements []statement
}

// flooded are the shapes of a deployment that are flooded.
var flooded = []string{"one", "apart2"}

// flood is what mail waited for behind floods of broadcast mail.
type flood struct {
	title string
	// beside are transactional e-mails beside batches.
	beside []time.Duration
	behind
}

// target is something that issue or design promise of one run.
type target struct {
	what   string
	wanted string
	got    string
	met    bool
}

func measure(ctx context.Context, st *stack, s settings) (*result, error) {
	r := &result{began: time.Now(), settings: s}
	p, err := prepare(ctx, st)
	if err != nil {
		return nil, err
	}
	r.contenders = p.contenders
	if r.machine, err = machine(); err != nil {
		return nil, err
	}
	if r.versions, err = versions(ctx, st); err != nil {
		return nil, err
	}
	settle(ctx)
	measureIdle()
	say("idle: mails one after the other")
	if r.idle, err = p.one.idle(ctx, s.mails/4); err != nil {
		return nil, err
	}
	for _, c := range r.contenders {
		if slices.Contains(p.real, c.mails) && !strings.HasSuffix(c.id, "batch") {
			settle(ctx)
			if c.idle, err = c.mails.idle(ctx, s.mails/4); err != nil {
				return nil, err
			}
		}
	}
	// The first round finds caches empty and pools without connections.
	for i := range s.rounds + 1 {
		for _, c := range r.contenders {
			sm, err := c.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.id, err)
			}
			round := fmt.Sprintf("round %2d", i)
			if i == 0 {
				round = "warm-up"
			}
			say("%-8s %-14s %7.0f/s %s", round, c.id, sm.rate(), sm.notes())
			if i == 0 {
				continue
			}
			c.samples = append(c.samples, sm)
		}
	}
	deployments := slices.Concat([]*deployment{p.one}, p.real, values(p.old))
	if p.before != nil {
		deployments = append(deployments, p.before)
	}
	for _, d := range deployments {
		if err := d.allDelivered(ctx); err != nil {
			return nil, err
		}
	}
	if r.find("batch") != nil && s.before == "" {
		say("%s broadcast e-mails, and transactional ones beside them", thousands(besides))
		if r.beside, err = p.one.beside(ctx); err != nil {
			return nil, err
		}
	}
	for _, d := range p.real {
		if slices.Contains(flooded, strings.TrimPrefix(d.name, "real_")) {
			f := flood{title: p.title(d)}
			say("%s: %s broadcast e-mails of batches, and others beside them", d.name, thousands(besides))
			if f.beside, err = d.beside(ctx); err != nil {
				return nil, err
			}
			say("%s: %s single broadcast e-mails, and others behind them", d.name, thousands(besides))
			if f.behind, err = d.behind(ctx); err != nil {
				return nil, err
			}
			r.floods = append(r.floods, f)
		}
	}
	if r.statements, err = p.one.statements(ctx); err != nil {
		return nil, err
	}
	if s.profile != "" {
		if err := p.one.profile(ctx); err != nil {
			return nil, err
		}
	}
	if s.full {
		if r.flat, err = p.one.flat(ctx); err != nil {
			return nil, err
		}
	}
	for _, pid := range p.one.pids() {
		r.memory = append(r.memory, fmt.Sprintf("postrider serve --worker: %s, at its peak %s", mib(memory(pid, "VmRSS")), mib(memory(pid, "VmHWM"))))
	}
	r.memory = append(r.memory, "Temporal: "+mib(groupMemory(groupTemporal)), "Postgres, all sessions: "+mib(groupMemory(groupPostgres)))
	r.judge()
	return r, nil
}

func values(m map[int]*deployment) (out []*deployment) {
	for _, d := range m {
		out = append(out, d)
	}
	return out
}

func (r *result) find(id string) *contender {
	for _, c := range r.contenders {
		if c.id == id && len(c.samples) > 0 {
			return c
		}
	}
	return nil
}

// ratio is the median of the rounds' ratios, since what else goes on is the same
// within a round.
func (r *result) ratio(of, to string) (float64, bool) {
	a, b := r.find(of), r.find(to)
	if a == nil || b == nil {
		return 0, false
	}
	var all []float64
	for i := range min(len(a.samples), len(b.samples)) {
		all = append(all, a.samples[i].rate()/b.samples[i].rate())
	}
	return median(all), true
}

// judge compares with the targets.
func (r *result) judge() {
	atLeast := func(what, of, to string, wanted float64) {
		if got, ok := r.ratio(of, to); ok {
			r.targets = append(r.targets, target{what, fmt.Sprintf("≥ %.2f", wanted), fmt.Sprintf("%.2f", got), got >= wanted})
		}
	}
	below := func(what string, got, wanted time.Duration) {
		r.targets = append(r.targets, target{what, "< " + ms(wanted), ms(got), got < wanted})
	}
	atLeast("end to end, one process, to the bare eager workflow of our shape", "one", "bare-eager", 0.75)
	atLeast("end to end, API and worker apart, to the bare one that is not eager", "apart", "bare-apart", 0.90)
	atLeast("on the real server: one process, to the bare eager workflow", "real-one", "real-bare-eager", 0.75)
	atLeast("on the real server: `serve` and two workers, to the bare one that is not eager", "real-apart2", "real-bare-apart", 0.90)
	atLeast("… to the bare eager workflow (either is enough)", "real-apart2", "real-bare-eager", 0.75)
	if all := r.onReal(); len(all) > 0 {
		n := 0
		for _, c := range all {
			n += c.allTimeouts()
		}
		r.targets = append(r.targets, target{"on the real server: workflow tasks that timed out, in all rows", "0", fmt.Sprint(n), n == 0})
	}
	atLeast("end to end, one process, to the earlier commit", "one", "before-one", 0.98)
	atLeast("batch, end to end, to the earlier commit", "batch", "before-batch", 0.98)
	atLeast("accept to the earlier commit", "accept", "before-accept", 0.98)
	atLeast("accept over HTTP to River's insert", "accept", "river-insert", 0.60)
	if c := r.find("accept"); c != nil {
		below(fmt.Sprintf("accept, p99 at %d clients", clients), c.acceptPercentile(99), 100*time.Millisecond)
	}
	atLeast("single e-mails with both DKIM signatures, to those without", "one-both", "one", 0.95)
	atLeast("batch with both DKIM signatures, to the one without", "batch-both", "batch", 0.60)
	atLeast("batch with "+thousands(suppressed)+" suppressions, to the one without", "batch-suppressed", "batch", 0.97)
	atLeast("batch of copies with "+thousands(suppressed)+" suppressions, to the one without", "copies-suppressed", "copies", 0.97)
	atLeast("batch, end to end, to River's end to end", "batch", "river-send", 1.5)
	atLeast("batch of copies, end to end, to River's end to end", "copies", "river-send", 1.5)
	below("request to delivered on an idle system, p50", percentile(r.idle, 50), 40*time.Millisecond)
	if len(r.beside) > 0 {
		below(fmt.Sprintf("a transactional e-mail beside %s broadcast ones, the slowest of %d", thousands(besides), len(r.beside)), r.beside[len(r.beside)-1], 2*time.Second)
	}
	for _, f := range r.floods {
		for _, row := range f.rows() {
			below(row.what, row.took[len(row.took)-1], 2*time.Second)
		}
	}
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		atLeast("throughput with "+thousands(n)+" old e-mails to that with none", fmt.Sprintf("old-%d", n), "one", 0.90)
	}
	if len(r.flat) > 0 {
		first, last := r.flat[len(r.flat)/4].rss, r.flat[len(r.flat)-1].rss
		r.targets = append(r.targets, target{"memory of the worker over 100,000 mails, end to the first quarter", "≤ 1.10", fmt.Sprintf("%.2f", float64(last)/float64(first)), float64(last) <= 1.1*float64(first)})
	}
}

func (r *result) print(w io.Writer) error {
	_, err := io.WriteString(w, r.markdown())
	return err
}

// markdown is the part of the page that a run writes.
func (r *result) markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Measured on %s in %d s: %d rounds after one to warm up, %s mails or runs in each.", r.began.UTC().Format("2006-01-02"), int(r.took.Seconds()), r.settings.rounds, thousands(r.settings.mails))
	line("")
	for _, m := range r.machine {
		line("- %s", m)
	}
	for _, v := range r.versions {
		line("- %s", v)
	}
	line("")
	line("| target | wanted | got | |")
	line("|---|---|---|---|")
	for _, t := range r.targets {
		line("| %s | %s | %s | %s |", t.what, t.wanted, t.got, map[bool]string{true: "met", false: "**missed**"}[t.met])
	}
	line("")
	line("| what | a second, median | least – most | to the empty workflow | to the bare one of our shape | CPU ms each: postrider | Temporal | Postgres | load |")
	line("|---|---|---|---|---|---|---|---|---|")
	for _, c := range r.contenders {
		if len(c.samples) == 0 || isReal(c) {
			continue
		}
		rates := c.rates()
		line("| %s | %.0f | %.0f – %.0f | %s | %s | %s | %s | %s | %s |", c.title, median(rates), slices.Min(rates), slices.Max(rates),
			r.cell(c.id, "bare-empty"), r.cell(c.id, bareOf(c.id)), cpuCell(c, groupPostrider), cpuCell(c, groupTemporal), cpuCell(c, groupPostgres), cpuCell(c, groupBench))
	}
	r.realTable(line)
	line("")
	line("| latency | p50 | p99 |")
	line("|---|---|---|")
	for _, id := range []string{"accept", "one", "apart"} {
		if c := r.find(id); c != nil {
			line("| answer to a POST at %d clients: %s | %s | %s |", clients, c.title, ms(c.acceptPercentile(50)), ms(c.acceptPercentile(99)))
		}
	}
	line("| request to delivered, idle system, one process | %s | %s |", ms(percentile(r.idle, 50)), ms(percentile(r.idle, 99)))
	if len(r.beside) > 0 {
		line("| the same while %s broadcast e-mails go out | %s | %s |", thousands(besides), ms(percentile(r.beside, 50)), ms(percentile(r.beside, 99)))
	}
	for _, f := range r.floods {
		for _, row := range f.rows() {
			line("| %s | %s | %s |", row.what, ms(percentile(row.took, 50)), ms(percentile(row.took, 99)))
		}
	}
	line("")
	line("Memory: %s.", strings.Join(r.memory, "; "))
	total := statement{}
	for _, s := range r.statements {
		total.perMail += s.perMail
		total.ms += s.ms
	}
	line("")
	line("Postgres work for one e-mail, from the request to its end: %.0f statements, %.1f ms.", total.perMail, total.ms)
	line("")
	line("| statement | times | ms in all |")
	line("|---|---|---|")
	for _, s := range r.statements {
		line("| `%s` | %.1f | %.2f |", strings.ReplaceAll(s.text, "|", "\\|"), s.perMail, s.ms)
	}
	if len(r.flat) > 0 {
		line("")
		line("| mails sent in one go | memory of the worker | a second |")
		line("|---|---|---|")
		for _, f := range r.flat {
			line("| %s | %s | %.0f |", thousands(f.mails), mib(f.rss), f.rate)
		}
	}
	return b.String()
}

// isReal reports whether a contender is measured on the real server.
func isReal(c *contender) bool { return c.on != nil && c.on.id != "" }

// onReal are the contenders that were measured on the real server.
func (r *result) onReal() (out []*contender) {
	for _, c := range r.contenders {
		if isReal(c) && len(c.samples) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// realTable writes the rows of the real server.
func (r *result) realTable(line func(string, ...any)) {
	all := r.onReal()
	if len(all) == 0 {
		return
	}
	line("")
	line("On a real Temporal server on Postgres:")
	line("")
	line("| what | a second, median | least – most | to the bare eager one | to the bare one that is not | accept to delivered in a burst: p50 | p99 | idle: p50 | p99 | workflow task time-outs | CPU ms each: postrider | Temporal | Postgres for Temporal | Postgres for us |")
	line("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	times := func(of time.Duration) string {
		if of == 0 {
			return ""
		}
		return ms(of)
	}
	for _, c := range all {
		rates := c.rates()
		line("| %s | %.0f | %.0f – %.0f | %s | %s | %s | %s | %s | %s | %d | %s | %s | %s | %s |", c.title, median(rates), slices.Min(rates), slices.Max(rates),
			r.cell(c.id, "real-bare-eager"), r.cell(c.id, "real-bare-apart"), times(c.deliveredPercentile(50)), times(c.deliveredPercentile(99)),
			times(percentile(c.idle, 50)), times(percentile(c.idle, 99)), c.allTimeouts(),
			cpuCell(c, groupPostrider), cpuCell(c, groupTemporal), cpuCell(c, groupTemporalPostgres), cpuCell(c, groupPostgres))
	}
}

// waits is a row of how long mail took.
type waits struct {
	what string
	took []time.Duration
}

// rows are those of a flood.
func (f flood) rows() []waits {
	var out []waits
	add := func(what string, took []time.Duration) {
		if len(took) > 0 {
			out = append(out, waits{fmt.Sprintf("on the real server, %s: %s, the slowest of %d", f.title, what, len(took)), took})
		}
	}
	add("a transactional e-mail beside "+thousands(besides)+" broadcast ones of batches", f.beside)
	add("a transactional e-mail behind "+thousands(besides)+" single broadcast ones", f.urgent)
	add("another customer's e-mail behind them", f.others)
	return out
}

// notes say of a round what its rate does not.
func (s sample) notes() string {
	var out []string
	if len(s.delivered) > 0 {
		out = append(out, fmt.Sprintf("delivered after p50 %s, p99 %s", ms(percentile(s.delivered, 50)), ms(percentile(s.delivered, 99))))
	}
	if s.timeouts > 0 {
		out = append(out, fmt.Sprintf("%d workflow tasks timed out", s.timeouts))
	}
	return strings.Join(out, ", ")
}

// bareOf is the bare workflow that a contender is to be held against.
func bareOf(id string) string {
	if id == "apart" || id == "bare-apart" {
		return "bare-apart"
	}
	return "bare-eager"
}

func (r *result) cell(of, to string) string {
	got, ok := r.ratio(of, to)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%.2f", got)
}

func cpuCell(c *contender, g group) string {
	t := c.perMail(g)
	if t < 10*time.Microsecond {
		return ""
	}
	return fmt.Sprintf("%.2f", t.Seconds()*1000)
}

// The marks between which write puts the results.
const (
	markBegin = "<!-- results: written by make bench -->"
	markEnd   = "<!-- end of results -->"
)

// write replaces the results on the page and leaves the rest as it is.
func (r *result) write(doc string) error {
	if doc == "" {
		return nil
	}
	page, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	begin, end := bytes.Index(page, []byte(markBegin)), bytes.Index(page, []byte(markEnd))
	if begin < 0 || end < begin {
		return fmt.Errorf("%s: the marks %q and %q are not there", doc, markBegin, markEnd)
	}
	out := string(page[:begin]) + markBegin + "\n" + r.markdown() + string(page[end:])
	return os.WriteFile(doc, []byte(out), 0o644)
}

// machine describes what this ran on.
func machine() ([]string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	model := runtime.GOARCH
	for l := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(l, "model name"); ok {
			model = strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
			break
		}
	}
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	var kb int64
	if _, err := fmt.Sscanf(string(mem), "MemTotal: %d kB", &kb); err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("%d cores (%s), %d GiB of memory, %s/%s; everything, the load included, on the same machine", runtime.NumCPU(), model, kb>>20, runtime.GOOS, runtime.GOARCH)}, nil
}

// versions are of everything that takes part.
func versions(ctx context.Context, st *stack) ([]string, error) {
	out := []string{"Go " + strings.TrimPrefix(runtime.Version(), "go")}
	if commit, err := exec.CommandContext(ctx, "git", "-C", st.repo, "describe", "--tags", "--always").Output(); err == nil {
		out = append(out, "postrider "+strings.TrimSpace(string(commit)))
	}
	var pg string
	if err := st.admin.QueryRow(ctx, "SHOW server_version").Scan(&pg); err != nil {
		return nil, err
	}
	out = append(out, "Postgres "+strings.Fields(pg)[0])
	c, err := st.client(st.dev, "default")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	info, err := c.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	if err != nil {
		return nil, err
	}
	out = append(out, "Temporal dev server "+info.GetServerVersion()+" (SQLite in a file, WAL)")
	out = append(out, st.versions...)
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, errors.New("no build info")
	}
	for _, d := range build.Deps {
		if slices.Contains([]string{"go.temporal.io/sdk", "github.com/riverqueue/river", "github.com/wneessen/go-mail", "github.com/jackc/pgx/v5", "github.com/uptrace/bun"}, d.Path) {
			out = append(out, strings.TrimPrefix(d.Path, "github.com/")+" "+d.Version)
		}
	}
	return out, nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// thousands writes a number as 1,000,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// absolute paths for messages.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}
