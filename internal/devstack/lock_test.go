package devstack

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hold starts a process that holds the lock as a server does: by inheritance.
func hold(t *testing.T, lock *os.File) (release func()) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{lock}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait()) // "signal: killed"
	})
	return func() { require.NoError(t, cmd.Process.Kill()) }
}

func TestLockIsWaitedForWhileItsServerEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockDir(t.Context(), dir)
	require.NoError(t, err)
	release := hold(t, lock)

	// We live, so it is ours.
	_, err = lockDir(t.Context(), dir)
	require.ErrorIs(t, err, errLocked)

	// We gave it up, and the process still has it.
	require.NoError(t, unlockDir(lock))
	short, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	_, err = lockDir(short, dir)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	taken := make(chan error, 1)
	go func() {
		lock, err := lockDir(context.Background(), dir)
		if err == nil {
			err = lock.Close()
		}
		taken <- err
	}()
	release()
	select {
	case err := <-taken:
		require.NoError(t, err)
	case <-time.After(5 * time.Second):
		require.Fail(t, "the lock is free and not taken")
	}
}
