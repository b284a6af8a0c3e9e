package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockPoll is how often a lock that is held is tried again.
const lockPoll = 100 * time.Millisecond

// errLocked means that another process holds the lock and is alive.
var errLocked = errors.New("in use")

// lockDir takes the lock of a server's directory. The file is to be handed to
// the server, which holds the lock until the last of its processes has ended.
//
// A lock whose owner is dead belongs to servers that are just being ended by
// their watchdogs: it is waited for. One whose owner lives is errLocked, at once.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*stopGrace)
	defer cancel()
	if err := waitLock(ctx, file, func() error {
		if owner := lockOwner(path); alive(owner) {
			return fmt.Errorf("%w by process %d", errLocked, owner)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, errors.Join(err, file.Close()))
	}
	// The lock itself needs no content; the owner is for whom it keeps out.
	if err := writeOwner(file); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, errors.Join(err, file.Close()))
	}
	return file, nil
}

// unlockDir gives up our part of the lock of a server that has ended. Without an
// owner, a process that finds the lock still held waits for the server's remaining
// processes instead of giving up.
func unlockDir(lock *os.File) error {
	return errors.Join(lock.Truncate(0), lock.Close())
}

// waitLock takes an exclusive lock on the file. It calls held each time another
// process holds the lock.
func waitLock(ctx context.Context, file *os.File, held func() error) error {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		if err := held(); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("still held by another process: %w", ctx.Err())
		}
	}
}

func writeOwner(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// lockOwner returns the process that took the lock, or 0 if the file does not
// say: then its owner is between taking the lock and writing its number.
func lockOwner(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0
	}
	return pid
}

// alive reports whether a process of any user exists.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
