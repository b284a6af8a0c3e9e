package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/dispatch"
)

// stack is what every contender shares.
type stack struct {
	settings
	dir      string
	bin      string
	postgres *devstack.Postgres
	// dev is a Temporal dev server, real one on Postgres; nil with -short.
	dev, real *cluster
	sink      *exec.Cmd
	// versions are those of the servers.
	versions []string
	sinkPort int
	admin    *pgxpool.Pool
	// quit undoes what was started, the last first.
	quit []func() error
}

// startStack starts the servers as `postrider dev` does: Postgres with its own,
// durable settings, Temporal's state in a file.
func startStack(ctx context.Context, s settings) (st *stack, err error) {
	st = &stack{settings: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.stop())
		}
	}()
	if st.dir, err = os.MkdirTemp("", "postrider-bench-"); err != nil {
		return st, err
	}
	st.quit = append(st.quit, func() error { return os.RemoveAll(st.dir) })
	// The server of Postgres runs as a user of its own and has to get in.
	if err := os.Chmod(st.dir, 0o755); err != nil {
		return st, err
	}
	if st.bin, err = filepath.Abs(filepath.Join(s.repo, "bin", "postrider")); err != nil {
		return st, err
	}
	if _, err := os.Stat(st.bin); err != nil {
		return st, fmt.Errorf("%w: run `make build` first", err)
	}
	if s.before != "" {
		if _, err := os.Stat(s.before); err != nil {
			return st, fmt.Errorf("-before: %w", err)
		}
	}
	if st.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{Dir: st.dir, Durable: true, MaxConnections: manyConnections, Log: os.Stderr}); err != nil {
		return st, err
	}
	st.quit = append(st.quit, func() error { return st.postgres.Stop(context.Background()) })
	if st.admin, err = pgxpool.New(ctx, st.postgres.URL("postgres")); err != nil {
		return st, err
	}
	st.quit = append(st.quit, func() error { st.admin.Close(); return nil })
	cli, err := devstack.TemporalCLI(ctx, filepath.Join(s.repo, "tools", "temporal"), filepath.Join(s.repo, ".postrider", "tools"), os.Stderr)
	if err != nil {
		return st, err
	}
	temporal, err := devstack.StartTemporal(ctx, devstack.TemporalOptions{CLI: cli, Dir: st.dir, Headless: true, Log: os.Stderr})
	if err != nil {
		return st, err
	}
	st.quit = append(st.quit, func() error { return temporal.Stop(context.Background()) })
	st.dev = &cluster{address: temporal.Address()}
	if s.short {
		say("-short: no rows of a real Temporal server on Postgres")
	} else if st.real, err = st.startReal(ctx); err != nil {
		return st, err
	}
	return st, st.startSink(ctx)
}

// startSink runs postfix's smtp-sink, which takes everything and keeps nothing.
func (st *stack) startSink(ctx context.Context) error {
	path, err := exec.LookPath("smtp-sink")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/smtp-sink"); err != nil {
			return errors.New("smtp-sink is missing; it is in Debian's package postfix, which `make bench` installs where it may: as root, apt-get install postfix")
		}
	}
	if st.sinkPort, err = devstack.FreePort(); err != nil {
		return err
	}
	address := localAddress(st.sinkPort)
	args := []string{address, "1024"}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...)
	}
	st.sink = exec.Command(path, args...) // ended by stop, not by a context
	if err := st.sink.Start(); err != nil {
		return err
	}
	st.quit = append(st.quit, func() error { return end(st.sink) })
	return await(ctx, 10*time.Second, "the SMTP sink", func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// run starts a process whose output goes to a file of the stack's directory. stop ends it.
func (st *stack) run(cmd *exec.Cmd, logName string) error {
	log, err := os.Create(filepath.Join(st.dir, logName))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	st.quit = append(st.quit, func() error { return errors.Join(end(cmd), log.Close()) })
	return nil
}

// freePorts are n ports of this machine that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = devstack.FreePort(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

func localAddress(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// stop ends everything, the last first.
func (st *stack) stop() error {
	var errs []error
	for i := len(st.quit) - 1; i >= 0; i-- {
		errs = append(errs, st.quit[i]())
	}
	st.quit = nil
	return errors.Join(errs...)
}

// end asks a process to stop and waits for it.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := cmd.Wait()
	if cmd.ProcessState != nil && cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		return nil // the sink dies of the signal
	}
	return err
}

// await polls until ok returns nil.
func await(ctx context.Context, patience time.Duration, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", what, ctx.Err(), err)
		}
	}
}

// database makes an empty one.
func (st *stack) database(ctx context.Context, name string) (url string, err error) {
	_, err = st.admin.Exec(ctx, "CREATE DATABASE "+name)
	return st.postgres.URL(name), err
}

// namespace makes one of Temporal's, with our search attributes, so that
// deployments do not take each other's work.
func (st *stack) namespace(ctx context.Context, on *cluster, name string) error {
	c, err := st.client(on, name)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	// The server's parts learn of it one after the other.
	return await(ctx, 30*time.Second, "namespace "+name, func() error { return dispatch.EnsureSearchAttributes(ctx, c, name) })
}

func (st *stack) client(on *cluster, namespace string) (client.Client, error) {
	return client.NewLazyClient(client.Options{
		HostPort: on.address, Namespace: namespace, Logger: quiet{},
		ConnectionOptions: client.ConnectionOptions{GrpcCompression: &client.GrpcCompressionNone{}}, // as the product's
	})
}

// quiet is the SDK's logger: what matters comes back as an error.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// deployment is a Postrider with a database and a namespace of its own.
type deployment struct {
	st   *stack
	on   *cluster
	name string
	// bin is the program that all its processes run.
	bin string
	env []string
	// apis are the addresses of its API processes, which take turns.
	apis []string
	turn atomic.Int64
	key  string
	// pprof are the processes' profilers, the API's first.
	pprof []string
	procs []*exec.Cmd
	pool  *pgxpool.Pool
}

// deploy makes a database of that many old e-mails and runs postrider over it, a process for each of
// the commands. Without a cluster, Temporal's address is one where no server listens.
func (st *stack) deploy(ctx context.Context, on *cluster, name string, old int, commands ...[]string) (d *deployment, err error) {
	return st.deployOf(ctx, on, st.bin, name, old, commands...)
}

// deployOf is deploy with another program than this commit's.
func (st *stack) deployOf(ctx context.Context, on *cluster, bin, name string, old int, commands ...[]string) (d *deployment, err error) {
	say("deploying %s", name)
	d = &deployment{st: st, on: on, name: name, bin: bin}
	url, err := st.database(ctx, name)
	if err != nil {
		return nil, err
	}
	if d.pool, err = pgxpool.New(ctx, url); err != nil {
		return nil, err
	}
	st.quit = append(st.quit, func() error { d.pool.Close(); return nil })
	temporal := "127.0.0.1:1"
	if on != nil {
		if err := st.namespace(ctx, on, name); err != nil {
			return nil, err
		}
		temporal = on.address
	}
	d.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + st.dir, "DATABASE_URL=" + url, "TEMPORAL_ADDRESS=" + temporal, "TEMPORAL_NAMESPACE=" + name,
		fmt.Sprintf("POSTRIDER_SMTP_URLS=smtp://127.0.0.1:%d?name=sink&tls=none", st.sinkPort),
		"POSTRIDER_SECRET_KEY=" + strings.Repeat("ab", 32),
		// One key of one client is to be served as fast as it goes.
		"POSTRIDER_REQUEST_RATE=0", "POSTRIDER_CUSTOMER_REQUEST_RATE=0",
	}
	if _, err := d.command(ctx, "migrate", "up", "--skip-temporal"); err != nil {
		return nil, err
	}
	if d.key, err = d.customer(ctx, "bench", "acme.test"); err != nil {
		return nil, err
	}
	if err := d.fill(ctx, old); err != nil {
		return nil, err
	}
	for _, c := range commands {
		if err := d.start(c...); err != nil {
			return nil, err
		}
	}
	for range d.apis {
		if err := await(ctx, 30*time.Second, name+" answers", func() error { _, err := d.post(ctx, 1, 1); return err }); err != nil {
			return d, err
		}
	}
	if on != nil {
		// API, worker and relay are there if it arrives.
		waiting, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err = d.drained(waiting)
	}
	return d, err
}

// customer makes a customer with a sender domain, and returns its access key.
func (d *deployment) customer(ctx context.Context, name, domain string) (key string, err error) {
	if _, err := d.command(ctx, "customer", "create", "--name", name); err != nil {
		return "", err
	}
	// The first makes keys, which do not sign: their records are not published.
	if _, err := d.command(ctx, "domain", "add", domain, "--customer", name); err != nil {
		return "", err
	}
	if _, err := d.command(ctx, "domain", "add", domain, "--customer", name, "--verified"); err != nil {
		return "", err
	}
	return d.command(ctx, "key", "create", "--customer", name, "--name", name)
}

// command runs one of postrider's commands to its end, and returns its standard output.
func (d *deployment) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = d.env
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("postrider %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// manyConnections are enough for the pools of all deployments, which share one Postgres with Temporal.
const manyConnections = 1000

// start runs a process whose log goes to a file, as a service's would.
func (d *deployment) start(args ...string) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	health, pprof, api := localAddress(ports[0]), localAddress(ports[1]), localAddress(ports[2])
	cmd := exec.Command(d.bin, args...) // ended by stop, with a signal
	cmd.Env = append(append([]string{}, d.env...), "POSTRIDER_HEALTH_LISTEN="+health, "POSTRIDER_PPROF_LISTEN="+pprof, "POSTRIDER_LISTEN="+api)
	if err := d.st.run(cmd, fmt.Sprintf("%s-%d.log", d.name, len(d.procs))); err != nil {
		return err
	}
	if args[0] == "serve" {
		d.apis = append(d.apis, api)
	}
	d.procs, d.pprof = append(d.procs, cmd), append(d.pprof, pprof)
	return nil
}

// pids are those of its processes.
func (d *deployment) pids() []int {
	out := make([]int, len(d.procs))
	for i, p := range d.procs {
		out[i] = p.Process.Pid
	}
	return out
}

// logTail is the end of a process's log, for errors.
func (d *deployment) logTail() string {
	var b bytes.Buffer
	for i := range d.procs {
		f, err := os.Open(filepath.Join(d.st.dir, fmt.Sprintf("%s-%d.log", d.name, i)))
		if err != nil {
			continue
		}
		if end, err := f.Seek(0, io.SeekEnd); err == nil {
			_, _ = f.Seek(max(0, end-1500), io.SeekStart)
			_, _ = io.Copy(&b, f)
		}
		_ = f.Close()
	}
	return b.String()
}
