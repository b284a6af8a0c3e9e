package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the unprivileged user Postgres runs as when we are root. A nil
// account is the current user.
type account struct {
	name     string
	uid, gid int
}

// unprivileged returns nil for an ordinary user. For root it returns the user
// `postgres`, which distributions create with the package, else the user `nobody`.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var problems []error
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			problems = append(problems, fmt.Errorf("user %s: %w", name, err))
			continue
		}
		return &account{name: name, uid: uid, gid: gid}, nil
	}
	return nil, fmt.Errorf("postgres cannot run as root, and there is no user to run it as: %w", errors.Join(problems...))
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

func (a *account) String() string {
	if a == nil {
		return "the current user"
	}
	return "user " + a.name
}

// own makes the account the only owner of a file or directory.
func (a *account) own(path string, mode os.FileMode) error {
	if a != nil {
		if err := os.Chown(path, a.uid, a.gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

// canEnter reports whether the account may enter dir. It asks the system by
// trying, since access lists and mount options count as much as mode bits. file,
// if not nil, is descriptor 4 of the attempt.
func (a *account) canEnter(ctx context.Context, dir string, file *os.File) (bool, error) {
	if a == nil {
		return true, nil
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `cd "$1" 2>/dev/null`, "sh", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
	if file != nil {
		cmd.ExtraFiles = []*os.File{nil, file}
	}
	err := cmd.Run()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// barrier returns the uppermost directory on the way to path that the account may
// not enter, for the error that says so.
func (a *account) barrier(ctx context.Context, path string) (string, error) {
	var chain []string
	for dir := path; ; dir = filepath.Dir(dir) {
		chain = append(chain, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for i := len(chain) - 1; i >= 0; i-- {
		if ok, err := a.canEnter(ctx, chain[i], nil); err != nil || !ok {
			return chain[i], err
		}
	}
	return path, nil
}
