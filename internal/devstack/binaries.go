package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// binaries is an installed Postgres.
type binaries struct {
	dir     string // holds initdb and postgres
	version string // "15.18"
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// major is what PG_VERSION of its data says: "15".
func (b binaries) major() string {
	major, _, _ := strings.Cut(b.version, ".")
	return major
}

// findBinaries looks in $PG_BIN, then in /usr/lib/postgresql/*/bin (the highest
// version first), then asks pg_config, then PATH. The first one whose version is
// that of the data wins; without any of that version, the first one. Where there
// is none at all it downloads one.
func (c *cluster) findBinaries(ctx context.Context, options PostgresOptions, log io.Writer) (binaries, error) {
	wanted, err := c.dataVersion()
	if err != nil {
		return binaries{}, err
	}
	dirs := []string{os.Getenv("PG_BIN")}
	if dirs[0] == "" {
		if dirs, err = installedDirs(ctx); err != nil {
			return binaries{}, err
		}
	}
	var found []binaries
	for _, dir := range dirs {
		b, err := inspect(ctx, dir)
		if err != nil && os.Getenv("PG_BIN") != "" {
			return binaries{}, fmt.Errorf("PG_BIN: %w", err)
		}
		if err != nil {
			fmt.Fprintf(log, "postgres: %s is left out: %v\n", dir, err)
			continue
		}
		if b.major() == wanted {
			return b, c.account.mustEnter(ctx, b.dir)
		}
		found = append(found, b)
	}
	if len(found) > 0 {
		return found[0], c.account.mustEnter(ctx, found[0].dir)
	}
	return c.download(ctx, options, log)
}

// installedDirs lists the directories that hold a Postgres, the best first.
func installedDirs(ctx context.Context) ([]string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return nil, err
	}
	// Debian names the directory between for the major version.
	slices.SortFunc(dirs, func(a, b string) int { return debianMajor(b) - debianMajor(a) })
	if path, err := exec.LookPath("pg_config"); err == nil {
		// A pg_config that fails is a client library without a server.
		if out, err := exec.CommandContext(ctx, path, "--bindir").Output(); err == nil {
			dirs = append(dirs, strings.TrimSpace(string(out)))
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		// A link in PATH stands for the place where both programs are.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	var installed []string
	for _, dir := range dirs {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) && !slices.Contains(installed, dir) {
			installed = append(installed, dir)
		}
	}
	return installed, ctx.Err()
}

// debianMajor is the version in /usr/lib/postgresql/15/bin, or 0.
func debianMajor(dir string) int {
	major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return 0
	}
	return major
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// inspect asks the Postgres in dir for its version.
func inspect(ctx context.Context, dir string) (binaries, error) {
	for _, program := range []string{"initdb", "postgres"} {
		if !executable(filepath.Join(dir, program)) {
			return binaries{}, fmt.Errorf("no %s in %s", program, dir)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, fmt.Errorf("%s --version: %w", filepath.Join(dir, "postgres"), err)
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return binaries{}, fmt.Errorf("%s --version: unexpected answer %q", filepath.Join(dir, "postgres"), out)
	}
	return binaries{dir: dir, version: fields[2]}, nil
}

// errUnreachable means that the unprivileged user may not enter a directory.
var errUnreachable = errors.New("may not be entered")

// mustEnter is an error if the account may not enter dir.
func (a *account) mustEnter(ctx context.Context, dir string) error {
	ok, err := a.canEnter(ctx, dir, nil)
	if err != nil || ok {
		return err
	}
	barrier, err := a.barrier(ctx, dir)
	if err != nil {
		return err
	}
	return fmt.Errorf("the binaries in %s: %s %w by %s, as whom postgres runs because it refuses root", dir, barrier, errUnreachable, a)
}
