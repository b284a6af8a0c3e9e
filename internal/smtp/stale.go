package smtp

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Stale reports whether a session between two transactions is no longer usable: the server has
// said something that no command asked for, or has closed the connection. If such a session were
// used, each command would get the reply to the one before, and one recipient the verdict of
// another.
func (s *Session) Stale() bool {
	if s.text.R.Buffered() > 0 || s.conn.SetDeadline(time.Time{}) != nil || hasUnreadInput(s.conn) {
		return true
	}
	if !s.encrypted {
		return false
	}
	// TLS may have read a record off the socket that it has not handed on yet. The
	// deadline is over, so that nothing is waited for.
	if s.conn.SetReadDeadline(time.Unix(1, 0)) != nil {
		return true
	}
	_, err := s.text.R.Peek(1)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// hasUnreadInput reports whether a socket has bytes to be read, or has been closed or broken. It
// neither waits nor reads. On a TLS connection that says nothing, it reports false too.
func hasUnreadInput(conn any) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	found := true
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			found = !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EWOULDBLOCK)
			return true
		}
	})
	return err != nil || found
}
