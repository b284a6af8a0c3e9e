package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cluster is the directory of a private Postgres:
//
//	data/         the data directory
//	password      of the superuser
//	server.log    of the running server; server.log.previous of the one before
//	lock          held by the processes of the server
type cluster struct {
	dir            string
	password       string
	account        *account // owns dir
	durable        bool
	maxConnections int
	temporary      bool
	lock           *os.File
	// handle is dir, open, for a server that may not enter dir's parents. Nil if
	// it may.
	handle *os.File
}

// handlePath is dir as such a server sees it: its own descriptor 4.
const handlePath = "/proc/self/fd/4"

// openCluster creates the directory if need be, locks it, and finds out how the
// server can reach it.
func openCluster(ctx context.Context, options PostgresOptions) (*cluster, error) {
	account, err := unprivileged()
	if err != nil {
		return nil, err
	}
	c := &cluster{account: account, durable: options.Durable, maxConnections: options.MaxConnections, temporary: options.Dir == ""}
	if c.dir, err = makeDir(options.Dir); err != nil {
		return nil, err
	}
	if err := c.open(ctx, options.DirSetting); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func makeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "postrider-postgres-*")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "postgres"))
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func (c *cluster) open(ctx context.Context, setting string) error {
	if err := c.account.own(c.dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(ctx, c.dir)
	if errors.Is(err, errLocked) {
		if pid := c.postmaster(); pid != 0 {
			return fmt.Errorf("the server with pid %d is running in %s: stop it first: %w", pid, c.dir, err)
		}
	}
	if err != nil {
		return err
	}
	c.lock = lock
	return c.reach(ctx, setting)
}

// reach makes sure that the server's user can get at dir.
func (c *cluster) reach(ctx context.Context, setting string) error {
	ok, err := c.account.canEnter(ctx, c.dir, nil)
	if err != nil || ok {
		return err
	}
	if c.handle, err = os.Open(c.dir); err != nil {
		return err
	}
	if ok, err = c.account.canEnter(ctx, handlePath, c.handle); err != nil || ok {
		return err
	}
	barrier, err := c.account.barrier(ctx, c.dir)
	if err != nil {
		return err
	}
	advice := "choose another directory"
	if setting != "" {
		advice = "set " + setting + " to a directory it may enter"
	}
	return fmt.Errorf("%s, as whom postgres runs because it refuses root, may not enter %s: %s", c.account, barrier, advice)
}

// close gives the directory back. The server has ended.
func (c *cluster) close() error {
	var errs []error
	if c.lock != nil {
		errs = append(errs, unlockDir(c.lock))
	}
	if c.handle != nil {
		errs = append(errs, c.handle.Close())
	}
	if c.temporary && c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	c.lock, c.handle = nil, nil
	return errors.Join(errs...)
}

// prepare leaves a data directory that the binaries can serve.
func (c *cluster) prepare(ctx context.Context, binaries binaries, log io.Writer) error {
	major, err := c.dataVersion()
	if err != nil {
		return err
	}
	if major == "" {
		fmt.Fprintf(log, "postgres: creating a database cluster in %s\n", c.dir)
		return c.create(ctx, binaries)
	}
	if major != binaries.major() {
		return fmt.Errorf("%s was made by Postgres %s, but %s is Postgres %s: set PG_BIN to the directory with the binaries of %s, "+
			"or move the data away to begin anew", c.path("data"), major, binaries.dir, binaries.version, major)
	}
	password, err := os.ReadFile(c.path("password"))
	if err != nil {
		return fmt.Errorf("the password of %s is lost, move the data away to begin anew: %w", c.path("data"), err)
	}
	c.password = strings.TrimSpace(string(password))
	return c.clearStale(log)
}

// create makes a new data directory. It appears under its name when it is
// complete, so a process killed in between leaves nothing half-made.
func (c *cluster) create(ctx context.Context, binaries binaries) (err error) {
	c.password = rand.Text()
	if err := os.WriteFile(c.path("password"), []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.account.own(c.path("password"), 0o600); err != nil {
		return err
	}
	if err := os.RemoveAll(c.path("data.new")); err != nil {
		return err
	}
	args := []string{"-D", c.seen("data.new"), "-U", postgresUser, "--pwfile", c.seen("password"),
		"-A", "scram-sha-256", "--encoding=UTF8", "--locale=C"}
	if !c.durable {
		args = append(args, "--no-sync")
	}
	output, err := openLog("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, output.close()) }()
	initdb := command{name: "initdb", path: binaries.path("initdb"), args: args, env: c.environment(), stop: "TERM",
		account: c.account, files: c.files()}
	if err := initdb.run(ctx, output); err != nil {
		return err
	}
	return os.Rename(c.path("data.new"), c.path("data"))
}

// dataVersion returns the major version that made the data, or "" without data.
func (c *cluster) dataVersion() (string, error) {
	version, err := os.ReadFile(c.path("data", "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(version)), err
}

// clearStale removes the postmaster.pid of a server that was killed. Postgres does
// so too, but not if its number meanwhile belongs to another process, as is
// common in containers. We hold the lock, so only a server that was started by
// hand can be running here.
func (c *cluster) clearStale(log io.Writer) error {
	pid := c.postmaster()
	if pid == 0 || !alive(pid) {
		return nil
	}
	name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err == nil && strings.TrimSpace(string(name)) != "postgres" {
		fmt.Fprintf(log, "postgres: removing a stale postmaster.pid, process %d is now %s\n", pid, strings.TrimSpace(string(name)))
		return os.Remove(c.path("data", "postmaster.pid"))
	}
	return fmt.Errorf("the server with pid %d is running in %s: stop it first", pid, c.path("data"))
}

// postmaster returns the process that postmaster.pid names, or 0 without one.
func (c *cluster) postmaster() int {
	content, err := os.ReadFile(c.path("data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return pid
}

func (c *cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// seen is path as the server sees it.
func (c *cluster) seen(name string) string {
	if c.handle != nil {
		return filepath.Join(handlePath, name)
	}
	return c.path(name)
}

// logPath is empty for a temporary cluster: its log outlives the directory.
func (c *cluster) logPath() string {
	if c.temporary {
		return ""
	}
	return c.path("server.log")
}

// files are the descriptors the server inherits.
func (c *cluster) files() []*os.File { return []*os.File{c.lock, c.handle} }

// environment keeps our PG* variables, which Postgres would obey, from it.
func (c *cluster) environment() []string {
	path, ok := os.LookupEnv("PATH")
	if !ok {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := []string{"PATH=" + path, "HOME=" + c.seen(""), "TMPDIR=" + c.seen(""), "LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
