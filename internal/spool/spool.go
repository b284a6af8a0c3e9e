// Package spool collects what comes from the network or goes to it, at the pace of the
// other end: in memory while it is small, then in a file without a name.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

const (
	// BlockBytes is what a spool takes of the memory at once, and all that it takes beside
	// its file.
	BlockBytes = 32 << 10
	// MaxBlocks is how many a spool may hold: a larger one goes to a file, so that some of
	// them do not take the memory from all the small ones.
	MaxBlocks = 32
)

// Config of a Pool.
type Config struct {
	// Name begins the names of the files, which they have for a moment only.
	Name string
	// Dir is where the files are; empty is the system's directory for temporary files.
	Dir string
	// MemoryBytes is what all spools hold in memory before they go to files; with 0 each
	// has a file and a block from its first byte.
	MemoryBytes int64
	// DiskBytes is what all files have together, in bytes.
	DiskBytes int64
	// DirSetting and DiskSetting are named in errors.
	DirSetting, DiskSetting string
}

// Pool bounds what its spools take.
//
//  1. A spool is in blocks of the pool's memory while there are some, up to 1 MiB.
//  2. After that, or when the memory is used up, it is in a file.
//
// All files together take at most DiskBytes. An owner has at most as many of them as are
// free afterwards: half of them if it is alone.
type Pool struct {
	cfg Config

	mu     sync.Mutex
	free   int64
	onDisk int64
	of     map[string]int64 // of onDisk, by owner
}

// New makes a Pool.
func New(cfg Config) *Pool {
	return &Pool{cfg: cfg, free: cfg.MemoryBytes, of: map[string]int64{}}
}

// Use is what all spools take now, in bytes.
type Use struct{ FreeMemory, Disk int64 }

// Use tells what all spools take now.
func (p *Pool) Use() Use {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Use{FreeMemory: p.free, Disk: p.onDisk}
}

// takeDisk counts n bytes that go to a file, if an owner may have them.
func (p *Pool) takeDisk(owner string, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[owner]+n > p.cfg.DiskBytes-p.onDisk-n {
		return false
	}
	p.of[owner] += n
	p.onDisk += n
	return true
}

// Room says whether a spool of an owner would find room for n bytes now, in memory or in a
// file. For n = 0, whose size is not known yet, it says whether there is room for anything.
func (p *Pool) Room(owner string, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = max(n, 1)
	if n <= min(p.free, MaxBlocks*BlockBytes) && p.free >= BlockBytes {
		return true
	}
	return p.of[owner]+n <= p.cfg.DiskBytes-p.onDisk-n
}

func (p *Pool) giveDisk(owner string, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onDisk -= n
	if p.of[owner] -= n; p.of[owner] == 0 {
		delete(p.of, owner)
	}
}

func (p *Pool) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free < BlockBytes {
		return false
	}
	p.free -= BlockBytes
	return true
}

func (p *Pool) give(blocks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free += int64(blocks) * BlockBytes
}

// suffix ends the names of the files.
const suffix = ".spool"

// Prepare makes sure that files can be made. It removes files of processes that were killed
// between making one and removing its name. A file in use by another process has no name
// anymore or is about to lose it, so that process loses nothing.
func (p *Pool) Prepare() error {
	probe := p.Spool("", 0)
	if err := probe.spill(); err != nil {
		return errors.Join(err, probe.Close())
	}
	if err := probe.Close(); err != nil {
		return err
	}
	dir := p.cfg.Dir
	if dir == "" {
		dir = os.TempDir()
	}
	left, err := filepath.Glob(filepath.Join(dir, p.cfg.Name+"-*"+suffix))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove an old file (%s): %w", p.cfg.DirSetting, err))
		}
	}
	return errors.Join(errs...)
}

// Spool collects at most limit bytes. Close it on every way out. It is for one goroutine.
type Spool struct {
	pool  *Pool
	owner string // whose it is
	limit int64

	size   int64
	onDisk int64
	blocks [][]byte // those but the last are full; each is counted in the pool's memory
	file   *os.File // has what comes before tail
	tail   []byte   // what is not yet in the file
}

// Spool makes an empty one.
func (p *Pool) Spool(owner string, limit int64) *Spool {
	return &Spool{pool: p, owner: owner, limit: limit}
}

var (
	// ErrTooLarge: a spool would have more bytes than its limit.
	ErrTooLarge = errors.New("over the limit")
	// ErrNoDisk: the files have all the bytes that they, or those of an owner, may have.
	ErrNoDisk = errors.New("files over their limit")
)

// Size is how many bytes there are.
func (s *Spool) Size() int64 { return s.size }

// Write keeps p or fails for good: with ErrTooLarge, ErrNoDisk, or with what the disk says.
func (s *Spool) Write(p []byte) (int, error) {
	if s.size+int64(len(p)) > s.limit {
		return 0, ErrTooLarge
	}
	s.size += int64(len(p))
	for rest := p; len(rest) > 0; {
		room, err := s.room()
		if err != nil {
			return 0, err
		}
		n := min(len(rest), cap(*room)-len(*room))
		*room = append(*room, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

// ReadFrom keeps all that r has, without a buffer besides the spool's block. An error of r
// is returned as it is; others are those of Write.
func (s *Spool) ReadFrom(r io.Reader) (read int64, err error) {
	for {
		room, err := s.room()
		if err != nil {
			return read, err
		}
		n, ended := r.Read((*room)[len(*room):cap(*room)])
		if s.size+int64(n) > s.limit {
			return read, ErrTooLarge
		}
		*room = (*room)[:len(*room)+n]
		s.size += int64(n)
		read += int64(n)
		if ended == io.EOF { // not one that is wrapped: that one broke off
			return read, nil
		}
		if ended != nil {
			return read, ended
		}
	}
}

// room is a block that is not full.
func (s *Spool) room() (*[]byte, error) {
	if s.file == nil {
		if n := len(s.blocks); n > 0 && len(s.blocks[n-1]) < BlockBytes {
			return &s.blocks[n-1], nil
		}
		if len(s.blocks) < MaxBlocks && s.pool.take() {
			s.blocks = append(s.blocks, make([]byte, 0, BlockBytes))
			return &s.blocks[len(s.blocks)-1], nil
		}
		if err := s.spill(); err != nil {
			return nil, err
		}
	}
	if s.tail == nil {
		s.tail = make([]byte, 0, BlockBytes)
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
func (s *Spool) spill() error {
	file, err := os.CreateTemp(s.pool.cfg.Dir, s.pool.cfg.Name+"-*"+suffix)
	if err != nil {
		return fmt.Errorf("make a file (%s): %w", s.pool.cfg.DirSetting, err)
	}
	s.file = file
	// A process that starts may have removed it already (Prepare).
	if err := os.Remove(file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the name of a file (%s): %w", s.pool.cfg.DirSetting, err)
	}
	for _, b := range s.blocks {
		if err := s.writeFile(b); err != nil {
			return err
		}
	}
	s.freeBlocks()
	return nil
}

func (s *Spool) flush() error {
	if err := s.writeFile(s.tail); err != nil {
		return err
	}
	s.tail = s.tail[:0]
	return nil
}

func (s *Spool) writeFile(b []byte) error {
	if !s.pool.takeDisk(s.owner, int64(len(b))) {
		return fmt.Errorf("%w (%s)", ErrNoDisk, s.pool.cfg.DiskSetting)
	}
	s.onDisk += int64(len(b))
	if _, err := s.file.Write(b); err != nil {
		return fmt.Errorf("write to a file (%s): %w", s.pool.cfg.DirSetting, err)
	}
	return nil
}

func (s *Spool) freeBlocks() {
	s.pool.give(len(s.blocks))
	s.blocks = nil
}

// Bytes returns all in one piece, and closes the spool.
func (s *Spool) Bytes() ([]byte, error) {
	all := make([]byte, s.size)
	_, err := io.ReadFull(s.Reader(), all)
	return all, errors.Join(err, s.Close())
}

// Reader reads all from the beginning, as often as it is called, until the spool is written
// to or closed.
func (s *Spool) Reader() io.Reader {
	if s.file == nil {
		parts := make([]io.Reader, len(s.blocks))
		for i, b := range s.blocks {
			parts[i] = &slice{b}
		}
		return io.MultiReader(parts...)
	}
	return io.MultiReader(&fileReader{file: s.file, left: s.onDisk, setting: s.pool.cfg.DirSetting}, &slice{s.tail})
}

// Settle says that nothing is written anymore: what there is in memory of a spool with a
// file goes to it.
func (s *Spool) Settle() error {
	if s.file == nil {
		return nil
	}
	err := s.flush()
	s.tail = nil
	return err
}

type slice struct{ left []byte }

func (s *slice) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// fileReader reads what has been written to a file.
type fileReader struct {
	file     *os.File
	at, left int64
	setting  string
}

func (r *fileReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.file.ReadAt(p[:min(int64(len(p)), r.left)], r.at)
	r.at, r.left = r.at+int64(n), r.left-int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("read from a file (%s): %w", r.setting, err)
	}
	if n == 0 && err != nil {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// Close frees what the spool takes. It can be called again.
func (s *Spool) Close() error {
	s.freeBlocks()
	file := s.file
	s.file, s.tail = nil, nil
	if file == nil {
		return nil
	}
	err := file.Close()
	s.pool.giveDisk(s.owner, s.onDisk)
	s.onDisk = 0
	if err != nil {
		return fmt.Errorf("close a file (%s): %w", s.pool.cfg.DirSetting, err)
	}
	return nil
}
