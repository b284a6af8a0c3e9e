package inbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// blockBytes is what a message takes of the memory at once.
	blockBytes = 32 << 10
	// maxBlocks is how many a message may hold: a larger one goes to a file, so that
	// some of them do not take the memory from all the small ones.
	maxBlocks = 32
	// spoolPattern names the files (os.CreateTemp).
	spoolPattern = "postrider-inbound-*.spool"
)

// spoolMemory bounds what all messages that are received hold in memory.
//
//  1. A message is collected in blocks of the budget while there are some, up to 1 MiB.
//  2. After that, or when the budget is used up, it is collected in a file.
//  3. To be stored, it is read into memory in one piece. For that it waits until the
//     messages that are being stored leave enough room.
//
// Collecting takes at most budget bytes and a block for each connection; storing as many
// again, or one message if that is larger. All files together take at most disk bytes, of
// which an address has at most as many as are free afterwards, half of them if it is alone.
type spoolMemory struct {
	dir     string // for files; empty is the system's
	storing *semaphore.Weighted
	room    int64 // of storing
	disk    int64

	mu     sync.Mutex
	free   int64
	onDisk int64
	of     map[string]int64 // of onDisk, by address
}

func newSpoolMemory(cfg Config) *spoolMemory {
	room := max(cfg.MemoryBytes, cfg.MaxMessageBytes)
	return &spoolMemory{dir: cfg.SpoolDir, storing: semaphore.NewWeighted(room), room: room, free: cfg.MemoryBytes,
		disk: max(cfg.SpoolBytes, 2*cfg.MaxMessageBytes), of: map[string]int64{}}
}

// takeDisk counts n bytes that go to a file, if an address may have them.
func (m *spoolMemory) takeDisk(address string, n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of[address]+n > m.disk-m.onDisk-n {
		return false
	}
	m.of[address] += n
	m.onDisk += n
	return true
}

func (m *spoolMemory) giveDisk(address string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onDisk -= n
	if m.of[address] -= n; m.of[address] == 0 {
		delete(m.of, address)
	}
}

func (m *spoolMemory) take() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free < blockBytes {
		return false
	}
	m.free -= blockBytes
	return true
}

func (m *spoolMemory) give(blocks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free += int64(blocks) * blockBytes
}

// prepare makes sure that files can be made, and removes those that a process left behind that was killed between making
// one and removing its name. A file in use by another process has no name anymore
// or is about to lose it, so that nothing is taken from anybody.
func (m *spoolMemory) prepare() error {
	probe := spool{memory: m}
	if err := probe.spill(); err != nil {
		return errors.Join(err, probe.Close())
	}
	if err := probe.Close(); err != nil {
		return err
	}
	dir := m.dir
	if dir == "" {
		dir = os.TempDir()
	}
	left, err := filepath.Glob(filepath.Join(dir, spoolPattern))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove an old file of a message (POSTRIDER_INBOUND_SPOOL_DIR): %w", err))
		}
	}
	return errors.Join(errs...)
}

// spool collects one message, which is at most limit bytes. Close it on every way
// out. It is for one goroutine.
type spool struct {
	memory  *spoolMemory
	address string // whose message it is
	limit   int64

	size   int64
	onDisk int64
	blocks [][]byte // those but the last are full; each is counted in the budget
	file   *os.File // has what comes before tail
	tail   []byte   // what is not yet in the file
}

func (m *spoolMemory) spool(address string, limit int64) *spool {
	return &spool{memory: m, address: address, limit: limit}
}

var (
	// errTooLarge: a message has more bytes than the limit.
	errTooLarge = errors.New("message over the limit")
	// errNoDisk: the files have all the bytes that they, or those of an address, may have.
	errNoDisk = errors.New("files of messages over their limit (POSTRIDER_INBOUND_SPOOL_BYTES)")
)

// Write keeps p or fails for good: with errTooLarge, errNoDisk, or with what the disk says.
func (s *spool) Write(p []byte) (int, error) {
	if s.size+int64(len(p)) > s.limit {
		return 0, errTooLarge
	}
	s.size += int64(len(p))
	for rest := p; len(rest) > 0; {
		room, err := s.roomFor()
		if err != nil {
			return 0, err
		}
		n := min(len(rest), cap(*room)-len(*room))
		*room = append(*room, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

// roomFor is a block that is not full.
func (s *spool) roomFor() (*[]byte, error) {
	if s.file == nil {
		if n := len(s.blocks); n > 0 && len(s.blocks[n-1]) < blockBytes {
			return &s.blocks[n-1], nil
		}
		if len(s.blocks) < maxBlocks && s.memory.take() {
			s.blocks = append(s.blocks, make([]byte, 0, blockBytes))
			return &s.blocks[len(s.blocks)-1], nil
		}
		if err := s.spill(); err != nil {
			return nil, err
		}
	}
	if len(s.tail) == cap(s.tail) {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	return &s.tail, nil
}

// spill moves what there is into a file, whose name is removed at once: the system
// frees it when it is closed, however this process ends.
func (s *spool) spill() error {
	file, err := os.CreateTemp(s.memory.dir, spoolPattern)
	if err != nil {
		return fmt.Errorf("make a file for a message (POSTRIDER_INBOUND_SPOOL_DIR): %w", err)
	}
	s.file, s.tail = file, make([]byte, 0, blockBytes)
	// A process that starts may have removed it already (prepare).
	if err := os.Remove(file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the name of a message's file: %w", err)
	}
	for _, b := range s.blocks {
		if err := s.writeFile(b); err != nil {
			return err
		}
	}
	s.freeBlocks()
	return nil
}

func (s *spool) flush() error {
	if err := s.writeFile(s.tail); err != nil {
		return err
	}
	s.tail = s.tail[:0]
	return nil
}

func (s *spool) writeFile(b []byte) error {
	if !s.memory.takeDisk(s.address, int64(len(b))) {
		return errNoDisk
	}
	s.onDisk += int64(len(b))
	if _, err := s.file.Write(b); err != nil {
		return fmt.Errorf("write a message to its file: %w", err)
	}
	return nil
}

func (s *spool) freeBlocks() {
	s.memory.give(len(s.blocks))
	s.blocks = nil
}

// load returns the message in one piece, once there is room for it among those that
// are being stored; ctx bounds the wait. Until done is called it counts as such a one.
// The spool is empty afterwards.
func (s *spool) load(ctx context.Context) (raw []byte, done func(), err error) {
	weight := min(s.size, s.memory.room)
	if err := s.memory.storing.Acquire(ctx, weight); err != nil {
		return nil, nil, fmt.Errorf("wait for memory for a message of %d bytes: %w", s.size, err)
	}
	done = func() { s.memory.storing.Release(weight) }
	raw = make([]byte, 0, s.size)
	if s.file == nil {
		for _, b := range s.blocks {
			raw = append(raw, b...)
		}
		s.freeBlocks()
		return raw, done, nil
	}
	raw = raw[:s.size-int64(len(s.tail))]
	if _, err := s.file.ReadAt(raw, 0); err != nil && !(errors.Is(err, io.EOF) && len(raw) == 0) {
		done()
		return nil, nil, fmt.Errorf("read a message from its file: %w", err)
	}
	return append(raw, s.tail...), done, s.Close()
}

// Close frees what the message takes. It can be called again.
func (s *spool) Close() error {
	s.freeBlocks()
	file := s.file
	s.file, s.tail = nil, nil
	if file == nil {
		return nil
	}
	err := file.Close()
	s.memory.giveDisk(s.address, s.onDisk)
	s.onDisk = 0
	if err != nil {
		return fmt.Errorf("close a message's file: %w", err)
	}
	return nil
}
