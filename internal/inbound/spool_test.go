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
	"github.com/postrider/postrider/internal/spool"
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

func TestFilesOfAProcessThatWasKilledAreRemovedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"postrider-inbound-123.spool", "other-123.spool"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	setup(t, Config{SpoolDir: dir})
	require.Equal(t, []string{"other-123.spool"}, names(t, dir))
}

// TestMessagesWaitForEachOtherToBeStored: those that have room together, and a larger one
// until nothing else of its size is in memory.
func TestMessagesWaitForEachOtherToBeStored(t *testing.T) {
	t.Parallel()
	turn := make(chan struct{}, 1)
	alone := func(ctx context.Context, _ string) (func(), error) {
		select {
		case turn <- struct{}{}:
			return func() { <-turn }, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for name, tc := range map[string]struct {
		cfg  Config
		size int
	}{
		"room for one": {Config{MemoryBytes: 100, MaxMessageBytes: 100}, 60},
		"a larger one": {Config{MemoryBytes: 10, MaxMessageBytes: 100}, 60},
		"alone":        {Config{MemoryBytes: 50, MaxMessageBytes: 100, Alone: alone}, 60},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.SpoolDir = t.TempDir()
			m := newSpoolMemory(tc.cfg)
			m.Pool = spool.New(spool.Config{Dir: tc.cfg.SpoolDir, MemoryBytes: 1 << 20})
			one, two, small := m.Spool("192.0.2.1", 100), m.Spool("192.0.2.1", 100), m.Spool("192.0.2.1", 100)
			for _, s := range []*spool.Spool{one, two} {
				_, err := s.Write(make([]byte, tc.size))
				require.NoError(t, err)
			}
			_, done, err := m.load(t.Context(), "192.0.2.1", one)
			require.NoError(t, err)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_, _, err = m.load(ended, "192.0.2.1", two)
			require.ErrorIs(t, err, context.Canceled)
			_, err = small.Write(make([]byte, 10))
			require.NoError(t, err)
			if tc.cfg.Alone != nil {
				_, small, err := m.load(t.Context(), "192.0.2.1", small)
				require.NoError(t, err, "small ones go on beside it")
				small()
			}
			done()
			raw, done, err := m.load(t.Context(), "192.0.2.1", two)
			require.NoError(t, err)
			require.Len(t, raw, tc.size)
			done()
		})
	}
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
			const budget = 4 * spool.BlockBytes
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
				return b.server.memory.Use().FreeMemory == budget
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
	s := New(Config{Addr: "127.0.0.1:0", Hostname: "mx.dev.test", MemoryBytes: budget, MaxMessageBytes: 24 << 20, SpoolDir: t.TempDir(), EachRate: 1 << 30, TotalRate: 1 << 30},
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
	require.Less(t, peak, int64(budget+24<<20+clients*(2*spool.BlockBytes+readBytes)+4<<20))
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, <-served)
}

func TestAMessageThatFindsNoDiskComesAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{SpoolDir: t.TempDir(), MemoryBytes: 1, MaxMessageBytes: 1 << 20, SpoolBytes: 1})
	large := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 900)
	first := b.hello()
	first.envelope("a@x.test", "b@dev.test")
	first.send(large)
	require.Eventually(t, func() bool {
		return b.server.memory.Use().Disk > 800_000
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
