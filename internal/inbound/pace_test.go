package inbound

import (
	"bufio"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/spool"
)

// TestAMessageAtFullSpeedIsReadAtARate: what a client sends beyond its rate stays in the
// kernel, and another client's message is stored meanwhile.
func TestAMessageAtFullSpeedIsReadAtARate(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{SpoolDir: t.TempDir(), MemoryBytes: 64 << 20, EachRate: 1, TotalRate: 64 << 20})
	fast := b.hello()
	fast.envelope("a@x.test", "b@dev.test")
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(fast.Conn, strings.Repeat(strings.Repeat("x", 998)+"\r\n", 64<<10))
		sent <- err
	}()
	used := func() int64 { return 64<<20 - b.server.memory.Use().FreeMemory }
	require.Eventually(t, func() bool { return used() >= spool.BlockBytes }, patience, time.Millisecond)
	other := b.dialFrom("127.0.0.2")
	other.expect("220")
	other.cmd("EHLO x.test", "250")
	other.envelope("c@x.test", "b@dev.test")
	other.send(note + ".\r\n")
	other.expect("250")
	require.LessOrEqual(t, used(), int64(paidBytes+readBytes+spool.BlockBytes), "one burst, and what was read before it was paid for")
	select {
	case err := <-sent:
		require.Fail(t, "all was read", err)
	default:
	}
}

// TestAddressesTakeTurnsToBeRead, however many connections each of them has.
func TestAddressesTakeTurnsToBeRead(t *testing.T) {
	t.Parallel()
	p := newPace(Config{EachRate: 1 << 30, TotalRate: 1 << 30})
	end, err := p.turns.Acquire(t.Context(), "a")
	require.NoError(t, err)
	var order []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, address := range []string{"a", "a", "a", "b", "a", "c"} {
		all.Go(func() {
			if err := p.pay(t.Context(), p.connection(), address, 1); err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, address)
		})
		require.Eventually(t, func() bool { return p.turns.Waiting() == i+1 }, patience, time.Millisecond)
	}
	end()
	all.Wait()
	require.Len(t, order, 6)
	require.ElementsMatch(t, []string{"a", "b", "c"}, order[:3], "each has one turn before a has its second")
}

// TestWhatFindsNoRoomIsNotReadToItsEnd: the client that goes on is cut off, and the next MAIL
// of its address is refused at once.
func TestWhatFindsNoRoomIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	const most = 4 << 20
	b := setup(t, Config{SpoolDir: t.TempDir(), MemoryBytes: 1, MaxMessageBytes: most, SpoolBytes: 2 * most, TotalRate: 1 << 30, EachRate: 1 << 30})
	line := strings.Repeat("x", 998) + "\r\n"
	first, second := b.hello(), b.hello()
	second.envelope("c@x.test", "b@dev.test")
	first.envelope("a@x.test", "b@dev.test")
	first.send(strings.Repeat(line, (most-1)/len(line)))
	require.Eventually(t, func() bool { return b.server.memory.Use().Disk > most-2*spool.BlockBytes }, patience, time.Millisecond)

	third := b.hello()
	third.cmd("MAIL FROM:<d@x.test> SIZE=1000000", "452 4.3.1 ")
	go func() { _, _ = io.WriteString(second.Conn, strings.Repeat(line, 8*restAfterNoDisk/len(line))) }() // the server closes
	reply, err := second.r.ReadString('\n')
	if err == nil { // the reset has not overtaken it
		require.Equal(t, replyNoRoom, reply)
	}
	require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "inbound.gave_up") }, patience, time.Millisecond)
	first.send(".\r\n")
	first.expect("250")
	third.cmd("MAIL FROM:<d@x.test> SIZE=1000000", "250")
}

// TestAMessageThatIsTooLargeIsNotReadForEver: twice the limit gets the reply, no end gets none.
func TestAMessageThatIsTooLargeIsNotReadForEver(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	for name, tc := range map[string]struct {
		size int64
		want error
	}{"less than twice": {3 << 20, nil}, "no end": {5 << 20, errRestTooLong}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dst := spool.New(spool.Config{Dir: t.TempDir(), DiskBytes: 64 << 20}).Spool("", limit)
			defer func() { require.NoError(t, dst.Close()) }()
			src := bufio.NewReaderSize(io.MultiReader(strings.NewReader(strings.Repeat("x", int(tc.size))+"\r\n.\r\n")), 4096)
			stored, read := copyData(dst, src, (&connections{maxMessage: limit}).rest)
			require.ErrorIs(t, stored, spool.ErrTooLarge)
			require.ErrorIs(t, read, tc.want)
		})
	}
}

// BenchmarkCopyData reads a message of lines of 72 bytes, as mail has them.
func BenchmarkCopyData(b *testing.B) {
	message := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 100_000) + ".\r\n"
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		if stored, read := copyData(io.Discard, bufio.NewReaderSize(strings.NewReader(message), readBytes), nil); stored != nil || read != nil {
			b.Fatal(stored, read)
		}
	}
}
