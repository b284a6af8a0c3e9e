package inbound

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unstuffed is what copyData has to do, in terms of lines: it is the text of RFC 5321
// §4.1.1.4 and §4.5.2. ended is false where the end of the message does not come.
func unstuffed(stream string) (message, rest string, ended bool) {
	var b strings.Builder
	for {
		line, after, found := strings.Cut(stream, "\r\n")
		switch {
		case !found:
			return b.String(), "", false
		case line == ".":
			return b.String(), after, true
		}
		b.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
		stream = after
	}
}

// stuffed is what a client sends of a message after DATA, without its end.
func stuffed(message string) string {
	lines := strings.SplitAfter(message, "\r\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = "." + line
		}
	}
	return strings.Join(lines, "")
}

// pieces cuts s into pieces of these sizes, over and over.
func pieces(s string, sizes []byte) (out []string) {
	for i := 0; s != ""; i++ {
		n := len(s)
		if len(sizes) > 0 {
			n = min(n, 1+int(sizes[i%len(sizes)]))
		}
		out, s = append(out, s[:n]), s[n:]
	}
	return out
}

// streams are those that readers of messages have got wrong.
var streams = []string{
	".\r\n", "a\r\n.\r\n", "A\r\r\n.\r\n", "A\r\r\n..sig\r\nB\r\n.\r\n", "\r\r\n.\r\n", "\r\r\r\n.\r\n", "..\r\n.\r\n", "...\r\n.\r\n",
	".\rX\r\n.\r\n", ".\r\r\n.\r\n", ".\n.\r\n.\r\n", "a\n.\n\r\n.\r\n", "a\n.\r\nb\r\n.\r\n", "a\r\n.\nb\r\n.\r\n", "a\r.\rb\r\n.\r\n", "a\r.\r\nb\r\n.\r\n",
	"a\r\n.\rb\r\n.\r\n", "a\r\n.\r\nNOOP\r\n", "\r\n\r\n.\r\n.\r\n", "\r", "\n", ".", ".\r", "\r\n.", "\r\n.\r", "a\x00\xff\r\n.\r\n",
	strings.Repeat("x", 4094) + "\r\n.\r\n", strings.Repeat("x", 4095) + "\r\n.\r\n", strings.Repeat("x", 4096) + "\r\n.\r\n", strings.Repeat("x", 4095) + "\r\r\n.\r\n",
	strings.Repeat("x", 15) + "\r\n.\r\n", strings.Repeat("x", 16) + "\n.\r\n\r\n.\r\n",
}

func FuzzDataAgainstTheModel(f *testing.F) {
	for _, s := range streams {
		f.Add([]byte(s), []byte{})
		f.Add([]byte(s), []byte{0})
		f.Add([]byte(s), []byte{2, 0, 5})
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		want, rest, ended := unstuffed(string(stream))
		for _, buffer := range []int{16, 4096} {
			var readers []io.Reader
			for _, p := range pieces(string(stream), sizes) {
				readers = append(readers, strings.NewReader(p))
			}
			src := bufio.NewReaderSize(io.MultiReader(readers...), buffer)
			var got bytes.Buffer
			stored, read := copyData(&got, src, func(error) int64 { return 0 })
			require.NoError(t, stored)
			if !ended {
				require.ErrorIs(t, read, io.ErrUnexpectedEOF)
				continue
			}
			require.NoError(t, read)
			require.Equal(t, want, got.String())
			behind, err := io.ReadAll(src)
			require.NoError(t, err)
			require.Equal(t, rest, string(behind))
		}
	})
}

// bounded takes no more than its bytes.
type bounded struct{ room int }

var errFull = errors.New("full")

func (w *bounded) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWhatCannotBeStoredIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	src := bufio.NewReader(strings.NewReader("one\r\ntwo\r\nthree\r\n.\r\nQUIT\r\n"))
	stored, read := copyData(&bounded{room: 6}, src, func(error) int64 { return 1 << 10 })
	require.ErrorIs(t, stored, errFull)
	require.NoError(t, read)
	rest, err := io.ReadAll(src)
	require.NoError(t, err)
	require.Equal(t, "QUIT\r\n", string(rest))
}

// sendBoth sends a message twice on one connection: with DATA and with BDAT, each cut
// into pieces. Commands follow it in the same write. Both have to be stored as they are.
func sendBoth(t *testing.T, message string, sizes []byte) {
	t.Helper()
	b := setup(t, Config{MemoryBytes: 1}) // everything goes through a file
	c := b.hello()
	c.envelope("a@x.test", "b@dev.test")
	for _, p := range pieces(stuffed(message)+".\r\nNOOP\r\nMAIL FROM:<c@x.test>\r\nRCPT TO:<b@dev.test>\r\n", sizes) {
		c.send(p)
	}
	c.expect("250 2.0.0 OK: stored as ")
	c.expect("250 2.0.0 I have") // NOOP
	c.expect("250")
	c.expect("250")
	var bdat strings.Builder
	for _, p := range pieces(message, sizes) {
		fmt.Fprintf(&bdat, "BDAT %d\r\n%s", len(p), p)
	}
	c.send(bdat.String() + "BDAT 0 LAST\r\nNOOP\r\n")
	for range pieces(message, sizes) {
		c.expect("250 2.0.0 Continue")
	}
	c.expect("250 2.0.0 OK: stored as ")
	c.expect("250 2.0.0 I have")
	all := b.store.all()
	require.Len(t, all, 2)
	require.Equal(t, message, string(all[0].Raw), "DATA")
	require.Equal(t, message, string(all[1].Raw), "BDAT")
}

func FuzzDataAndBDATStoreTheSame(f *testing.F) {
	for _, m := range []string{
		"", "Subject: x\r\n\r\nA\r\r\n", "Subject: x\r\n\r\nA\r\r\n.sig\r\nB\r\n", ".\r\n", ".\r\n.\r\n", "a\n.\n", "a\r\n.\rQUIT\r\n", "\r\r\r\n.\r\r\n",
		"BDAT 5\r\nRCPT TO:<postmaster>\r\n", strings.Repeat("long ", 3000), "a\rb\nc\x00\xff",
	} {
		f.Add([]byte(m), []byte{})
		f.Add([]byte(m), []byte{0, 7})
		f.Add([]byte(m), []byte{200})
	}
	f.Fuzz(func(t *testing.T, message, sizes []byte) {
		if len(message) > 64<<10 || len(message) > 2000 && len(sizes) > 0 && len(message)/(1+int(sizes[0])) > 2000 {
			return // nothing new, and slow
		}
		text := string(message)
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n" // DATA has no other messages
		}
		sendBoth(t, text, sizes)
	})
}
