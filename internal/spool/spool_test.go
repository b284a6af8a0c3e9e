package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789abcdef", 10_000)
	for name, budget := range map[string]int64{
		"in memory": 1 << 20, "in a file from the start": 0, "first in memory, then in a file": 2 * BlockBytes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(Config{Dir: t.TempDir(), MemoryBytes: budget, DiskBytes: 1 << 20})
			for _, size := range []int{0, 1, BlockBytes - 1, BlockBytes, BlockBytes + 1, 2 * BlockBytes, 3*BlockBytes + 5, len(text)} {
				for _, step := range []int{1000, 76, BlockBytes, 1 << 20} {
					s := p.Spool("a", int64(len(text)))
					for rest := text[:size]; rest != ""; {
						n := min(step, len(rest))
						_, err := s.Write([]byte(rest[:n]))
						require.NoError(t, err)
						rest = rest[n:]
					}
					require.EqualValues(t, size, s.Size())
					require.Empty(t, names(t, p.cfg.Dir), "a file has no name")
					for range 2 {
						all, err := io.ReadAll(s.Reader())
						require.NoError(t, err)
						require.Equal(t, text[:size], string(all))
						require.NoError(t, s.Settle())
					}
					all, err := s.Bytes()
					require.NoError(t, err)
					require.Equal(t, text[:size], string(all))
					require.NoError(t, s.Close())
					require.Equal(t, Use{FreeMemory: budget}, p.Use())
				}
				s := p.Spool("a", int64(size))
				n, err := s.ReadFrom(iotest.HalfReader(strings.NewReader(text[:size])))
				require.NoError(t, err)
				require.EqualValues(t, size, n)
				all, err := s.Bytes()
				require.NoError(t, err)
				require.True(t, bytes.Equal([]byte(text[:size]), all))
			}
		})
	}
}

func TestASpoolHasItsLimit(t *testing.T) {
	t.Parallel()
	p := New(Config{MemoryBytes: 1 << 20})
	s := p.Spool("a", 100)
	_, err := s.Write(make([]byte, 60))
	require.NoError(t, err)
	_, err = s.Write(make([]byte, 41))
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = s.ReadFrom(bytes.NewReader(make([]byte, 41)))
	require.ErrorIs(t, err, ErrTooLarge)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.EqualValues(t, 1<<20, p.Use().FreeMemory)
}

func TestOneSpoolDoesNotTakeTheMemoryOfAll(t *testing.T) {
	t.Parallel()
	p := New(Config{MemoryBytes: 64 << 20, DiskBytes: 64 << 20, Dir: t.TempDir()})
	s := p.Spool("a", 64<<20)
	_, err := s.Write(make([]byte, 8<<20))
	require.NoError(t, err)
	require.EqualValues(t, 64<<20, p.Use().FreeMemory)
	require.NoError(t, s.Close())
}

// TestFilesAreBounded: an owner has half of what they may have, and another one half of
// what is left.
func TestFilesAreBounded(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	p := New(Config{DiskBytes: 12 * mib, Dir: t.TempDir(), DiskSetting: "THE_BYTES"})
	var open []*Spool
	// taken fills spools of an owner until one finds no more.
	taken := func(owner string) (n int64) {
		for n < 20*mib {
			s := p.Spool(owner, 2*mib)
			open = append(open, s)
			for s.size < 2*mib {
				if _, err := s.Write(make([]byte, BlockBytes)); err != nil {
					require.ErrorIs(t, err, ErrNoDisk)
					require.ErrorContains(t, err, "THE_BYTES")
					return n
				}
				n += BlockBytes
			}
		}
		return n
	}
	require.InDelta(t, 6*mib, taken("192.0.2.1"), 8*BlockBytes)
	require.InDelta(t, 3*mib, taken("192.0.2.2"), 8*BlockBytes)
	require.InDelta(t, 1.5*mib, taken("2001:db8::/64"), 8*BlockBytes)
	require.LessOrEqual(t, p.Use().Disk, int64(12*mib))
	for _, s := range open {
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
	}
	require.Zero(t, p.Use().Disk)
	require.Empty(t, p.of)
}

func TestAnErrorOfTheSourceIsItsOwn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := New(Config{Dir: t.TempDir(), DiskBytes: 1 << 20}).Spool("a", 100)
	defer s.Close()
	_, err := s.ReadFrom(io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
}

func TestOldFilesAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"mine-123.spool", "other-123.spool"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	require.NoError(t, New(Config{Name: "mine", Dir: dir}).Prepare())
	require.Equal(t, []string{"other-123.spool"}, names(t, dir))
	require.ErrorContains(t, New(Config{Name: "mine", Dir: filepath.Join(dir, "missing"), DirSetting: "THE_DIR"}).Prepare(), "THE_DIR")
}

// TestMappedBytesAreNoMemoryOfTheProcess and are the same.
func TestMappedBytesAreNoMemoryOfTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := New(Config{Dir: dir, DiskBytes: 4 << 20, MemoryBytes: 4 << 20})
	text := strings.Repeat("0123456789abcdef", 70_000)
	mapped, free, err := p.Map("a", []byte(text))
	require.NoError(t, err)
	require.Equal(t, text, string(mapped))
	require.Equal(t, Use{FreeMemory: 4 << 20, Disk: int64(len(text))}, p.Use())
	require.Empty(t, names(t, dir))
	_, _, err = p.Map("a", make([]byte, 2<<20))
	require.ErrorIs(t, err, ErrNoDisk)
	require.NoError(t, free())
	require.Zero(t, p.Use().Disk)
}
