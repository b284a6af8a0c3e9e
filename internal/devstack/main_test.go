package devstack

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helperEnv makes the test binary a process that starts a server and waits to be
// killed: "postgres" or "temporal". Its first argument is the directory.
const helperEnv = "DEVSTACK_TEST_HELPER"

func TestMain(m *testing.M) {
	if kind := os.Getenv(helperEnv); kind != "" {
		if err := help(kind, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// help starts the server, prints its port, and blocks until it is killed.
func help(kind, dir, cli string) error {
	ctx := context.Background()
	switch kind {
	case "postgres":
		p, err := StartPostgres(ctx, PostgresOptions{Dir: dir})
		if err != nil {
			return err
		}
		fmt.Println(p.Port(), p.cluster.dir)
	case "temporal":
		t, err := StartTemporal(ctx, TemporalOptions{Dir: dir, CLI: cli})
		if err != nil {
			return err
		}
		fmt.Println(t.port, dir)
	}
	select {}
}

// helper is such a process, with its server ready.
type helper struct {
	cmd  *exec.Cmd
	port int
	dir  string
	pids []int // of all processes it started, directly or not
}

func startHelper(t *testing.T, kind, dir, cli string) *helper {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, dir, cli)
	cmd.Env = append(os.Environ(), helperEnv+"="+kind)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	h := &helper{cmd: cmd}
	t.Cleanup(h.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the helper ended at its start")
	port, place, _ := strings.Cut(strings.TrimSpace(line), " ")
	h.port, err = strconv.Atoi(port)
	require.NoError(t, err)
	h.dir = place
	h.pids = descendants(t, cmd.Process.Pid)
	require.GreaterOrEqual(t, len(h.pids), 3, "a watchdog, its guard and a server")
	return h
}

// kill ends the helper the hard way, as an out-of-memory killer would.
func (h *helper) kill() {
	if h.cmd.ProcessState == nil {
		_ = h.cmd.Process.Kill() // it has ended
		_ = h.cmd.Wait()         // "signal: killed"
	}
}

// requireGone waits until the port is closed and no process is left.
func (h *helper) requireGone(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		return checkPort("", h.port, "") == nil && len(living(h.pids)) == 0
	}, 8*time.Second, 20*time.Millisecond, "left behind: %v", h.pids)
}

// descendants lists the processes below pid, from /proc.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	children := map[int][]int{}
	for _, path := range stats {
		if child, parent, _, ok := readStat(path); ok {
			children[parent] = append(children[parent], child)
		}
	}
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// readStat returns what /proc/<pid>/stat says; not ok if the process is gone.
func readStat(path string) (pid, parent int, state string, ok bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, "", false
	}
	// 12 (name with (any) characters) S 1 …
	text := string(content)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	pid, err = strconv.Atoi(text[:strings.IndexByte(text, ' ')])
	if err != nil || len(fields) < 2 {
		return 0, 0, "", false
	}
	parent, err = strconv.Atoi(fields[1])
	return pid, parent, fields[0], err == nil
}

// living leaves out the processes that have ended.
func living(pids []int) []int {
	var left []int
	for _, pid := range pids {
		if _, _, state, ok := readStat(fmt.Sprintf("/proc/%d/stat", pid)); ok && state != "Z" && state != "X" {
			left = append(left, pid)
		}
	}
	return left
}

// requireOwnGroup checks that a terminal's Ctrl-C for us would not reach them.
func requireOwnGroup(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		group, err := syscall.Getpgid(pid)
		require.NoError(t, err)
		require.NotEqual(t, syscall.Getpgrp(), group)
	}
}

func requireLinux(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
}
