package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const (
	tailLines = 20
	tailBytes = 8 << 10
)

// serverLog keeps a server's output, for our errors and for the developer.
type serverLog struct {
	file *os.File
	path string // empty for a log without a name
}

// openLog opens the log at path anew; the one of the run before is kept as
// path.previous. An empty path gives a file without a name, which is gone with
// the last process that holds it.
func openLog(path string) (*serverLog, error) {
	if path == "" {
		file, err := os.CreateTemp("", "postrider-log-*")
		if err != nil {
			return nil, fmt.Errorf("open server log: %w", err)
		}
		if err := os.Remove(file.Name()); err != nil {
			return nil, fmt.Errorf("open server log: %w", errors.Join(err, file.Close()))
		}
		return &serverLog{file: file}, nil
	}
	if err := os.Rename(path, path+".previous"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keep the previous log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	return &serverLog{file: file, path: path}, nil
}

func (l *serverLog) close() error { return l.file.Close() }

// end returns the last tailBytes of the log.
func (l *serverLog) end() (string, error) {
	info, err := l.file.Stat()
	if err != nil {
		return "", err
	}
	from := max(0, info.Size()-tailBytes)
	text := make([]byte, info.Size()-from)
	// Another process appends, so the file never gets shorter than it was.
	if _, err := l.file.ReadAt(text, from); err != nil {
		return "", err
	}
	return string(text), nil
}

// tail returns the last lines of the log, ready to be appended to an error.
func (l *serverLog) tail() string {
	text, err := l.end()
	if err != nil {
		return fmt.Sprintf("; its log cannot be read: %v", err)
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return "; it printed nothing"
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	where := "it printed"
	if l.path != "" {
		where = "the end of " + l.path
	}
	return fmt.Sprintf("; %s:\n  %s", where, strings.Join(lines, "\n  "))
}
