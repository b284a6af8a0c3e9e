package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// downloadVersion is the Postgres that is fetched where none is installed.
const downloadVersion = embeddedpostgres.V17

// sharedBinaries keeps a downloaded Postgres when we are root and the
// unprivileged user may not enter our own directories.
const sharedBinaries = "/var/cache/postrider"

// download fetches a Postgres (about 10 MB) once and keeps it. Processes that
// need it at the same time wait for the first.
func (c *cluster) download(ctx context.Context, options PostgresOptions, log io.Writer) (b binaries, err error) {
	parent, err := c.binariesDir(ctx, options.Dir)
	if err != nil {
		return b, err
	}
	dir := filepath.Join(parent, "postgres-"+string(downloadVersion))
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := waitLock(ctx, lock, func() error { return nil }); err != nil {
		return b, err
	}
	if !executable(filepath.Join(dir, "bin", "postgres")) {
		fmt.Fprintf(log, "postgres: none is installed, downloading %s into %s\n", downloadVersion, dir)
		if err := fetch(ctx, options.Repository, dir); err != nil {
			return b, fmt.Errorf("no Postgres is installed and none could be downloaded (install one, or set DATABASE_URL to use a running one): %w", err)
		}
	}
	return inspect(ctx, filepath.Join(dir, "bin"))
}

// binariesDir returns a directory for downloads that the account may enter.
func (c *cluster) binariesDir(ctx context.Context, dir string) (string, error) {
	if dir == "" && c.account == nil {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "postrider")
	}
	if dir == "" {
		return sharedBinaries, os.MkdirAll(sharedBinaries, 0o755)
	}
	dir, err := filepath.Abs(filepath.Join(dir, "binaries"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	err = c.account.mustEnter(ctx, dir)
	if errors.Is(err, errUnreachable) {
		return sharedBinaries, os.MkdirAll(sharedBinaries, 0o755)
	}
	return dir, err
}

// fetch downloads and unpacks into dir, which appears when it is complete.
//
// The library can do that only as the first steps of starting a server as the
// current user, which root may not. So it is given a data directory that cannot
// be: it fetches, unpacks, and gives up before it would run anything.
// The caller holds the lock, so what an earlier fetch left was interrupted.
func fetch(ctx context.Context, repository, dir string) error {
	interrupted, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".download-*"))
	if err != nil {
		return err
	}
	for _, path := range interrupted {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".download-*")
	if err != nil {
		return err
	}
	notADir := filepath.Join(work, "not-a-directory")
	if err := os.WriteFile(notADir, nil, 0o600); err != nil {
		return errors.Join(err, os.RemoveAll(work))
	}
	config := embeddedpostgres.DefaultConfig().Version(downloadVersion).Port(0).Logger(io.Discard).
		CachePath(filepath.Join(work, "cache")).RuntimePath(filepath.Join(work, "runtime")).
		BinariesPath(filepath.Join(work, "unpacked")).DataPath(filepath.Join(notADir, "data"))
	if repository != "" {
		config = config.BinaryRepositoryURL(repository)
	}
	before, err := libraryLogs()
	if err != nil {
		return errors.Join(err, os.RemoveAll(work))
	}
	done := make(chan error, 1)
	go func() {
		startErr := embeddedpostgres.NewDatabase(config).Start()
		done <- errors.Join(keep(filepath.Join(work, "unpacked"), dir, startErr), os.RemoveAll(work), removeNew(before))
	}()
	// The library knows no context: cancelled, it finishes on its own.
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep moves what was unpacked to its place. startErr is how the library ended:
// the cause, if nothing was unpacked.
func keep(unpacked, dir string, startErr error) error {
	if !executable(filepath.Join(unpacked, "bin", "postgres")) {
		if startErr == nil {
			startErr = errors.New("the archive holds no bin/postgres")
		}
		return startErr
	}
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(unpacked, dir)
}

// libraryLogs lists the log files the library leaves in the temporary directory.
func libraryLogs() ([]string, error) {
	return filepath.Glob(filepath.Join(os.TempDir(), "embedded_postgres_log*"))
}

// removeNew removes the library's log of the run since before. It is empty, for
// nothing was run; others are not ours.
func removeNew(before []string) error {
	after, err := libraryLogs()
	if err != nil {
		return err
	}
	for _, path := range after {
		info, err := os.Lstat(path)
		if err != nil || info.Size() > 0 || slices.Contains(before, path) {
			continue // gone already, or another program's
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
