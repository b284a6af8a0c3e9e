package smtp

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWriteStuffed(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"":                             "",
		"a\r\n":                        "a\r\n",
		"a":                            "a\r\n",
		".\r\n":                        "..\r\n",
		".":                            "..\r\n",
		"..\r\n.\r\n\r\n.a.\r\n":       "...\r\n..\r\n\r\n..a.\r\n",
		"a\r\n.":                       "a\r\n..\r\n",
		"\r\n":                         "\r\n",
		strings.Repeat("\r\n.", 1000):  strings.Repeat("\r\n..", 1000) + "\r\n",
		strings.Repeat("x", 200) + ".": strings.Repeat("x", 200) + ".\r\n",
	} {
		var b bytes.Buffer
		require.NoError(t, writeStuffed(&b, []byte(message)))
		require.Equal(t, want, b.String(), "%q", message)
	}
}

// The standard library's reader is the judge: what it takes out is what was put in.
func FuzzWriteStuffed(f *testing.F) {
	f.Add("a\n.\n..b\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "\r") {
			return
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		var b bytes.Buffer
		require.NoError(t, writeStuffed(&b, []byte(strings.ReplaceAll(text, "\n", "\r\n"))))
		got, err := io.ReadAll(textproto.NewReader(bufio.NewReader(io.MultiReader(&b, strings.NewReader(".\r\n")))).DotReader())
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	})
}

func TestBareLineEnd(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]int{"": -1, "a\r\nb\r\n": -1, "\n": 0, "\r": 0, "a\r\n\n": 3, "a\r\r\n": 1, "ab\r": 2} {
		require.Equal(t, want, bareLineEnd([]byte(message)), "%q", message)
	}
}

func TestBreaksOut(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"": false, "a@x.test": false, `"a b"@x.test`: false, `"a>b"@x.test`: false, `"a\"> c"@x.test`: false, "jürgen@x.test": false,
		"a@x.test> NOTIFY=NEVER": true, "a b@x.test": true, "a@x.test\r\nDATA": true, "a\x00@x.test": true, `"a@x.test`: true, "<a@x.test": true,
		`"a\\"> RCPT@x.test`: true,
	} {
		require.Equal(t, want, breaksOutOfCommand(addr), "%q", addr)
	}
}

func TestXtext(t *testing.T) {
	t.Parallel()
	require.Equal(t, "e-1+2B+3Dx+20y", xtext("e-1+=x y"))
}

// slowConn takes a block only after some time, and fails where the deadline that
// was set for it had passed.
type slowConn struct {
	net.Conn
	now, deadline time.Duration
	block         time.Duration
	got           int
}

func (c *slowConn) SetWriteDeadline(time.Time) error {
	c.deadline = c.now + time.Minute
	return nil
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.now += c.block
	if c.now > c.deadline {
		return 0, context.DeadlineExceeded
	}
	c.got += len(p)
	return len(p), nil
}

func TestTimeoutOfEachBlock(t *testing.T) {
	t.Parallel()
	c := &slowConn{block: 50 * time.Second}
	message := bytes.Repeat([]byte("x"), 1<<20)
	require.NoError(t, writeStuffed(blockWriter{w: c, conn: c, each: time.Minute}, message))
	require.Equal(t, 1<<20+2, c.got)
	require.Greater(t, c.now, 10*time.Minute)
	c = &slowConn{block: 70 * time.Second}
	require.ErrorIs(t, writeStuffed(blockWriter{w: c, conn: c, each: time.Minute}, message), context.DeadlineExceeded)
}
