package smtp

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadReply(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		code int
		text string
	}{
		"250 ok\r\n": {250, "ok"}, "250\r\n": {250, ""}, "250-a\r\n250 b\r\n": {250, "a\nb"}, "354 go\n": {354, "go"}, "999 x\r\n": {999, "x"},
		"250-" + strings.Repeat("x", 9000) + "\r\n250 y\r\n": {250, strings.Repeat("x", 9000) + "\ny"},
	} {
		code, text, err := readReply(bufio.NewReader(strings.NewReader(in)))
		require.NoError(t, err, in)
		require.Equal(t, want.code, code)
		require.Equal(t, want.text, text)
	}
	for in, want := range map[string]error{
		"250 accept": io.ErrUnexpectedEOF, "250": io.ErrUnexpectedEOF, "": io.ErrUnexpectedEOF, "250-a\r\n": io.ErrUnexpectedEOF,
		"250 " + strings.Repeat("x", maxReply): errReplyTooLong, strings.Repeat("250-x\r\n", maxReply/7+1): errReplyTooLong,
		"???\r\n": nil, "25 x\r\n": nil, "250x\r\n": nil, "250-a\r\n251 b\r\n": nil, "\r\n": nil, "099 x\r\n": nil, "-12 x\r\n": nil,
	} {
		_, _, err := readReply(bufio.NewReader(strings.NewReader(in)))
		require.Error(t, err, "%.50q", in)
		if want != nil {
			require.ErrorIs(t, err, want, "%.50q", in)
		}
	}
}
