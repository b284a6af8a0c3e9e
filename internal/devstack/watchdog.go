package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a server may take to end by itself, after which it is
// killed. Postgres writes a checkpoint in it.
const stopGrace = 10 * time.Second

// watchdogScript runs "$@" until its leash, standard input, says a line or
// closes. A line is an ordinary stop; closing without one means that our process
// died, and then what it would have removed is removed here.
//
// Descriptors 3 (lock) and 4 (directory) are for the server alone: a watchdog
// that kept them would hold the lock longer than the server lives. The server is
// a background job and so ignores SIGINT and SIGQUIT unless it installs handlers,
// which Postgres does; what does not is stopped with SIGTERM.
const watchdogScript = `
stop=$1 grace=$2 remove=$3
shift 3
exec 9<&0 </dev/null
"$@" 9<&- &
server=$!
(
	exec 3<&- 4<&-
	if read -r line <&9; then
		remove=
	else
		trap '' TERM
	fi
	kill -s "$stop" "$server" 2>/dev/null
	while [ "$grace" -gt 0 ] && kill -0 "$server" 2>/dev/null; do
		grace=$((grace - 1))
		sleep 1
	done
	kill -s KILL "$server" 2>/dev/null
	[ -z "$remove" ] || rm -rf "$remove"
) &
guard=$!
exec 3<&- 4<&- 9<&-
wait "$server"
code=$?
kill "$guard" 2>/dev/null
exit "$code"
`

// command is a program to be run under a watchdog.
type command struct {
	name    string // for messages: "postgres", "initdb"
	path    string
	args    []string
	env     []string
	dir     string     // working directory; empty is "/"
	stop    string     // the signal that ends it in good order, e.g. "TERM"
	account *account   // nil runs it as the current user
	files   []*os.File // descriptors 3 and 4; both are optional, in this order
	output  *os.File   // standard output and error
	remove  string     // removed after the program if our process died; empty removes nothing
}

// process is a running command.
type process struct {
	name  string
	cmd   *exec.Cmd
	leash *os.File      // nil once let go
	ended chan struct{} // closed when the program has ended, for any reason

	// Valid once ended is closed.
	asked bool  // by stop
	err   error // of Wait

	mu sync.Mutex // guards leash
}

// start runs the command. Its life is bound to stop and to the life of the
// current process, not to a context.
func (c command) start() (*process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	grace := strconv.Itoa(int(stopGrace / time.Second))
	args := append([]string{"-c", watchdogScript, "watchdog", c.stop, grace, c.remove, c.path}, c.args...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, c.output, c.output
	cmd.ExtraFiles = c.files
	cmd.Env = c.env
	cmd.Dir = c.dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	// Its own process group: a terminal's Ctrl-C reaches us, who then stop the
	// servers in order, and not the servers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.account.credential()}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, errors.Join(err, read.Close(), write.Close()))
	}
	p := &process{name: c.name, cmd: cmd, leash: write, ended: make(chan struct{})}
	closeErr := read.Close()
	go p.hold()
	if closeErr != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", c.name, closeErr), p.stop(context.Background()))
	}
	return p, nil
}

// hold keeps the leash while the program runs. Letting it go out of reach would
// close it, and end the program, at the next garbage collection.
func (p *process) hold() {
	err := p.cmd.Wait()
	p.mu.Lock()
	p.asked = p.leash == nil
	p.err = errors.Join(err, p.release())
	p.mu.Unlock()
	close(p.ended)
}

// wait returns when the program has ended, and whether it was asked to.
func (p *process) wait() (asked bool) {
	<-p.ended
	return p.asked
}

// release lets go of the leash. The caller holds mu.
func (p *process) release() error {
	if p.leash == nil {
		return nil
	}
	_, err := p.leash.WriteString("stop\n")
	if errors.Is(err, syscall.EPIPE) {
		err = nil // the watchdog has ended
	}
	err = errors.Join(err, p.leash.Close())
	p.leash = nil
	return err
}

// stop ends the program and waits for it. It takes at most stopGrace; when ctx
// ends earlier the program is killed and ctx's error returned. Calling it again,
// or after the program died, is safe.
func (p *process) stop(ctx context.Context) error {
	p.mu.Lock()
	err := p.release()
	p.mu.Unlock()
	select {
	case <-p.ended:
		return err
	case <-ctx.Done():
	}
	select {
	case <-p.ended: // both were ready
		return err
	default:
	}
	// The watchdog has not been waited for yet, so the group is still ours.
	killErr := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
	return errors.Join(fmt.Errorf("stop %s: killed: %w", p.name, ctx.Err()), err, killErr)
}

// failure describes how the program, which has ended, did so: "exit status 1".
func (p *process) failure() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// run starts the command and waits until it has ended by itself. A program that
// fails is an error with the end of its output.
func (c command) run(ctx context.Context, log *serverLog) error {
	c.output = log.file
	p, err := c.start()
	if err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s: %w", c.name, ctx.Err()), p.stop(context.WithoutCancel(ctx)))
	}
	if p.cmd.ProcessState.Success() {
		return nil
	}
	return fmt.Errorf("%s failed: %s%s", c.name, p.failure(), log.tail())
}

// orDiscard makes a nil progress writer usable.
func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
