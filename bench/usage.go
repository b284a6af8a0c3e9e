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

// group is whom CPU time and memory are counted for.
type group string

const (
	groupPostrider group = "postrider"
	groupTemporal  group = "Temporal"
	groupPostgres  group = "Postgres"
	// groupTemporalPostgres are the sessions of the real Temporal server.
	groupTemporalPostgres group = "Postgres for Temporal"
	groupSink             group = "SMTP sink"
	// groupBench makes the load; bare workflows and River's workers run in it too.
	groupBench group = "load"
)

// ticks are the kernel's units of CPU time in /proc, on every Linux that Go runs on.
const ticks = 100

// process is a line of /proc.
type process struct {
	pid, parent int
	name        string
	// cpu is its own and that of the children it has waited for.
	cpu time.Duration
}

// processes are this one and all below it.
func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is a good one
	var all []process
	for _, dir := range dirs {
		if p, ok := readProcess(dir); ok {
			all = append(all, p)
		}
	}
	ours := map[int]bool{os.Getpid(): true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if ours[p.parent] && !ours[p.pid] {
				ours[p.pid], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p process) bool { return !ours[p.pid] })
}

func readProcess(dir string) (process, bool) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false // it has ended
	}
	stat := string(data)
	open, shut := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || shut < 0 {
		return process{}, false
	}
	fields := strings.Fields(stat[shut+1:])
	if len(fields) < 15 {
		return process{}, false
	}
	number := func(i int) int { n, _ := strconv.Atoi(fields[i]); return n }
	pid, _ := strconv.Atoi(filepath.Base(dir))
	t := number(11) + number(12) + number(13) + number(14)
	return process{pid: pid, parent: number(1), name: stat[open+1 : shut], cpu: time.Duration(t) * time.Second / ticks}, true
}

// temporalSession matches the titles of Postgres's processes: user, database and peer.
var temporalSession = regexp.MustCompile(`^postgres: \S+ temporal(_visibility)? `)

// title is a process's command line, or what it has written there.
func (p process) title() string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)) // none: it has ended
	return string(data)
}

func groupOf(p process) (group, bool) {
	switch {
	case p.pid == os.Getpid():
		return groupBench, true
	case strings.HasPrefix(p.name, "temporal"):
		return groupTemporal, true
	case p.name == "postgres" && temporalSession.MatchString(p.title()):
		return groupTemporalPostgres, true
	case p.name == "postgres":
		return groupPostgres, true
	case p.name == "postrider":
		return groupPostrider, true
	case p.name == "smtp-sink":
		return groupSink, true
	}
	return "", false
}

// cpu is the time that each group has used.
type cpu map[group]time.Duration

func readCPU() cpu {
	out := cpu{}
	for _, p := range processes() {
		if g, ok := groupOf(p); ok {
			out[g] += p.cpu
		}
	}
	return out
}

func (c cpu) since(earlier cpu) cpu {
	out := cpu{}
	for g, t := range c {
		out[g] = t - earlier[g]
	}
	return out
}

func (c cpu) total() (t time.Duration) {
	for _, v := range c {
		t += v
	}
	return t
}

const (
	// quietFor is for how long the processes have to use little CPU.
	quietFor = 500 * time.Millisecond
	// quietShare is a share of one core: little is so much more than when nothing happens.
	quietShare = 0.1
	quietWait  = 20 * time.Second
	// idleFor is how long the processes are watched while nothing happens.
	idleFor = 5 * time.Second
)

// idleShare is how much of a core all processes use while nothing happens: workers ask for tasks,
// and the servers keep house.
var idleShare float64

// measureIdle finds out idleShare.
func measureIdle() {
	before := readCPU()
	time.Sleep(idleFor)
	idleShare = readCPU().since(before).total().Seconds() / idleFor.Seconds()
	say("idle: %.2f of a core", idleShare)
}

// settle waits until what a round left to do in the background is done, so that
// it does not fall on the next one.
func settle(ctx context.Context) {
	end := time.Now().Add(quietWait)
	for time.Now().Before(end) && ctx.Err() == nil {
		before := readCPU()
		time.Sleep(quietFor)
		if readCPU().since(before).total().Seconds() < quietFor.Seconds()*(idleShare+quietShare) {
			return
		}
	}
}

// memory is a line of /proc/PID/status, in bytes: VmRSS, or VmHWM for its peak.
func memory(pid int, line string) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// proportional is a process's memory with a fair share of what it shares: for
// Postgres, whose sessions share most of theirs.
func proportional(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, "Pss:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// groupMemory sums a group's memory.
func groupMemory(g group) (n int64) {
	for _, p := range processes() {
		if have, ok := groupOf(p); ok && have == g {
			n += proportional(p.pid)
		}
	}
	return n
}
