package inbound

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/memtest"
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

func TestSpool(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789abcdef", 10_000)
	for name, budget := range map[string]int64{
		"in memory": 1 << 20, "in a file from the start": 1, "first in memory, then in a file": 2 * blockBytes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newSpoolMemory(Config{MemoryBytes: budget, MaxMessageBytes: 1 << 20, SpoolDir: t.TempDir()})
			for _, size := range []int{0, 1, blockBytes - 1, blockBytes, blockBytes + 1, 2 * blockBytes, 3*blockBytes + 5, len(text)} {
				s := m.spool("192.0.2.1", 1<<20)
				for _, p := range pieces(text[:size], []byte{255, 0, 76}) {
					_, err := s.Write([]byte(p))
					require.NoError(t, err)
				}
				require.Empty(t, names(t, m.dir), "a file has no name")
				raw, done, err := s.load(t.Context())
				require.NoError(t, err)
				require.Equal(t, text[:size], string(raw))
				done()
				require.NoError(t, s.Close())
				require.Equal(t, budget, m.free)
			}
		})
	}
	t.Run("over the limit", func(t *testing.T) {
		t.Parallel()
		m := newSpoolMemory(Config{MemoryBytes: 1 << 20, MaxMessageBytes: 100})
		s := m.spool("192.0.2.1", 100)
		_, err := s.Write(make([]byte, 60))
		require.NoError(t, err)
		_, err = s.Write(make([]byte, 41))
		require.ErrorIs(t, err, errTooLarge)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.EqualValues(t, 1<<20, m.free)
	})
	t.Run("one message does not take the memory of all", func(t *testing.T) {
		t.Parallel()
		m := newSpoolMemory(Config{MemoryBytes: 64 << 20, MaxMessageBytes: 64 << 20, SpoolDir: t.TempDir()})
		s := m.spool("192.0.2.1", 64<<20)
		_, err := s.Write(make([]byte, 8<<20))
		require.NoError(t, err)
		require.EqualValues(t, 64<<20, m.free)
		require.NoError(t, s.Close())
	})
	t.Run("messages wait for each other to be stored", func(t *testing.T) {
		t.Parallel()
		m := newSpoolMemory(Config{MemoryBytes: 100, MaxMessageBytes: 100, SpoolDir: t.TempDir()})
		one, two := m.spool("192.0.2.1", 100), m.spool("192.0.2.1", 100)
		for _, s := range []*spool{one, two} {
			_, err := s.Write(make([]byte, 60))
			require.NoError(t, err)
			defer s.Close()
		}
		_, done, err := one.load(t.Context())
		require.NoError(t, err)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = two.load(ended)
		require.ErrorIs(t, err, context.Canceled)
		done()
		_, done, err = two.load(t.Context())
		require.NoError(t, err)
		done()
	})
}

func TestFilesOfAProcessThatWasKilledAreRemovedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"postrider-inbound-123.spool", "other-123.spool"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	setup(t, Config{SpoolDir: dir})
	require.Equal(t, []string{"other-123.spool"}, names(t, dir))
}

func TestADirectoryThatCannotBeWrittenStopsTheStart(t *testing.T) {
	t.Parallel()
	s := New(Config{Addr: "127.0.0.1:0", SpoolDir: filepath.Join(t.TempDir(), "missing")}, newMemory(), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, s.Listen(), "POSTRIDER_INBOUND_SPOOL_DIR")
}

func TestADiskThatFailsDefers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.Mkdir(dir, 0o700))
	b := setup(t, Config{SpoolDir: dir, MemoryBytes: 1})
	require.NoError(t, os.Remove(dir))
	c := b.hello()
	c.envelope("a@x.test", "b@dev.test")
	c.send(note + note + ".\r\n")
	require.NotContains(t, c.expect("452 4.3.1 "), dir)
	require.NoError(t, os.Mkdir(dir, 0o700))
	c.envelope("a@x.test", "b@dev.test") // the refused one was read to its end
	c.send(note + ".\r\n")
	c.expect("250")
	require.Equal(t, note, string(b.store.all()[0].Raw))
	require.Contains(t, b.log.String(), "POSTRIDER_INBOUND_SPOOL_DIR")
}

func TestAMessageThatIsNotFinishedLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]string{"DATA": "DATA\r\n", "BDAT": "BDAT 500000\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const budget = 4 * blockBytes
			b := setup(t, Config{SpoolDir: t.TempDir(), MemoryBytes: budget})
			c := b.hello()
			c.cmd("MAIL FROM:<a@x.test>", "250")
			c.cmd("RCPT TO:<b@dev.test>", "250")
			c.send(start)
			if name == "DATA" {
				c.expect("354")
			}
			c.send(strings.Repeat("x", 200_000))
			require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
			_, err := io.ReadAll(c.r)
			require.NoError(t, err)
			require.NoError(t, b.server.Shutdown(t.Context()))
			require.Zero(t, b.store.calls)
			require.Eventually(t, func() bool { // with BDAT go-smtp does not wait for the session
				b.server.memory.mu.Lock()
				defer b.server.memory.mu.Unlock()
				return b.server.memory.free == budget
			}, patience, time.Millisecond)
			require.Empty(t, names(t, b.server.cfg.SpoolDir))
		})
	}
}

// discard is a Store that keeps nothing.
type discard struct {
	*memory
	weigh func()
}

func (d *discard) StoreMessages(_ context.Context, _ []mailbox.Message, raw []byte) error {
	d.weigh()
	runtime.KeepAlive(raw)
	return nil
}

// Not parallel: other tests' memory would count.
func TestManyLargeMessagesAtOnceStayWithinTheMemory(t *testing.T) {
	const clients, size, budget = 20, 20 << 20, 16 << 20
	var mu sync.Mutex
	var peak int64
	before := memtest.Live()
	weigh := func() {
		mu.Lock()
		defer mu.Unlock()
		peak = max(peak, memtest.Live()-before)
	}
	store := &discard{memory: newMemory(), weigh: weigh}
	s := New(Config{Addr: "127.0.0.1:0", Hostname: "mx.dev.test", MemoryBytes: budget, MaxMessageBytes: 24 << 20, SpoolDir: t.TempDir()},
		store, slog.New(slog.DiscardHandler))
	require.NoError(t, s.Listen())
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	b := &bench{t: t, store: store.memory, server: s}
	line := strings.Repeat("x", 1022) + "\r\n"
	var all []*client
	for range clients {
		c := b.hello()
		require.NoError(t, c.SetDeadline(time.Time{}))
		c.envelope("a@x.test", "b@dev.test")
		for range size / len(line) {
			c.send(line)
		}
		weigh()
		all = append(all, c)
	}
	var ends sync.WaitGroup
	for _, c := range all {
		ends.Go(func() { c.send(".\r\n"); c.expect("250") })
	}
	ends.Wait()
	t.Logf("%d messages of %d MB: %.1f MB at most", clients, size>>20, float64(peak)/(1<<20))
	require.Greater(t, peak, int64(size), "it was measured while a message was stored")
	require.Less(t, peak, int64(budget+24<<20+clients*2*blockBytes+4<<20))
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, <-served)
}

// TestFilesOfMessagesAreBounded: an address has half of what they may have, and another one
// half of what is left.
func TestFilesOfMessagesAreBounded(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	m := newSpoolMemory(Config{MemoryBytes: 1, MaxMessageBytes: 2 * mib, SpoolBytes: 12 * mib, SpoolDir: t.TempDir()})
	var open []*spool
	// taken fills messages of an address until one finds no more.
	taken := func(address string) (n int64) {
		for n < 20*mib {
			s := m.spool(address, 2*mib)
			open = append(open, s)
			for s.size < 2*mib {
				_, err := s.Write(make([]byte, blockBytes))
				if err != nil {
					require.ErrorIs(t, err, errNoDisk)
					return n
				}
				n += blockBytes
			}
		}
		return n
	}
	require.InDelta(t, 6*mib, taken("192.0.2.1"), 8*blockBytes)
	require.InDelta(t, 3*mib, taken("192.0.2.2"), 8*blockBytes)
	require.InDelta(t, 1.5*mib, taken("2001:db8::/64"), 8*blockBytes)
	require.LessOrEqual(t, m.onDisk, int64(12*mib))
	for _, s := range open {
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
	}
	require.Zero(t, m.onDisk)
	require.Empty(t, m.of)
}

func TestAMessageThatFindsNoDiskComesAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{SpoolDir: t.TempDir(), MemoryBytes: 1, MaxMessageBytes: 1 << 20, SpoolBytes: 1})
	large := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 900)
	first := b.hello()
	first.envelope("a@x.test", "b@dev.test")
	first.send(large)
	require.Eventually(t, func() bool {
		b.server.memory.mu.Lock()
		defer b.server.memory.mu.Unlock()
		return b.server.memory.onDisk > 800_000
	}, patience, time.Millisecond)
	second := b.hello()
	second.envelope("c@x.test", "b@dev.test")
	second.send(large + ".\r\n")
	second.expect("452 4.3.1 ")
	first.send(".\r\n")
	first.expect("250")
	second.envelope("c@x.test", "b@dev.test")
	second.send(large + ".\r\n")
	second.expect("250")
	require.Len(t, b.store.all(), 2)
}
