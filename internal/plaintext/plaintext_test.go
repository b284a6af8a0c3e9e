package plaintext_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/plaintext"
)

func TestStorable(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"aéb", 2, "a"},
		{"aéb", 3, "aé"},
		{"😀", 3, ""},
		{"a\x00b", 9, "a\ufffdb"},
		{"a\xff\xfeb", 9, "a\ufffdb"},
		{"a\xffb", 3, "a"},
		{"abc", 0, ""},
		{"abc", -1, ""},
	} {
		require.Equal(t, row.want, plaintext.Storable(row.in, row.n), "%q %d", row.in, row.n)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b  c", plaintext.Line("\r\n a\tb\u0085\x7fc\x1b ", 100))
	require.Equal(t, "a\ufffdb", plaintext.Line("a\xffb", 100))
	require.Equal(t, "ab", plaintext.Line("ab\nc", 3))
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a?[31mé?", plaintext.Printable("a\x1b[31mé\u202e"))
}

func TestCount(t *testing.T) {
	t.Parallel()
	require.Equal(t, "0 copies, 1 copy, 2 copies", plaintext.Count(0, "copy", "copies")+", "+plaintext.Count(1, "copy", "copies")+", "+plaintext.Count(2, "copy", "copies"))
}

func TestASCII(t *testing.T) {
	t.Parallel()
	require.True(t, plaintext.ASCII(""))
	require.True(t, plaintext.ASCII("a\x7f\x00"))
	require.True(t, plaintext.ASCII([]byte("ab")))
	require.False(t, plaintext.ASCII("aé"))
	require.False(t, plaintext.ASCII([]byte{0x80}))
}

// FuzzStorable: what is kept is valid, bounded, and the same when it is kept again.
func FuzzStorable(f *testing.F) {
	for _, s := range []string{"", "aé😀", "\x00\xff", "\xf0\x9f\x98", strings.Repeat("é", 40)} {
		f.Add(s, 7)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		out := plaintext.Storable(s, n)
		require.True(t, utf8.ValidString(out))
		require.NotContains(t, out, "\x00")
		require.LessOrEqual(t, len(out), max(n, 0))
		require.Equal(t, out, plaintext.Storable(out, n))
		require.True(t, strings.HasPrefix(plaintext.Valid(s), out))
		line := plaintext.Line(s, n)
		require.True(t, utf8.ValidString(line))
		require.Negative(t, strings.IndexFunc(line, unicode.IsControl))
		require.LessOrEqual(t, len(line), max(n, 0))
	})
}
