package mail_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/memtest"
)

// TestLargeTextsAreStoredAsTheyAre: what means something to COPY too, at every place of a piece.
func TestLargeTextsAreStoredAsTheyAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	odd := "\\N\n\\.\n\t\\\r\n'\"\\x41\\u0041é🙂\x01\x7f\b\f\v$$,;"
	m := dbsetup.Message("bob@x.test")
	m.Text = strings.Repeat(odd, (1<<20)/len(odd)+1)
	m.HTML = odd[1:] + strings.Repeat("x", 8<<10-5) + "é🙂\\" + odd
	m.Headers = []email.Header{{Name: "X-Odd", Value: `\t"'`}}
	m.Calendar = email.Calendar{Method: "REQUEST", ICS: odd}
	e := b.Get(b.Accept(m).ID)
	require.Equal(t, m.Text, e.Text)
	require.Equal(t, m.HTML, e.HTML)
	require.Equal(t, m.Calendar, e.Calendar)
	require.Equal(t, m.Headers, e.Headers)
	require.False(t, e.TextFromHTML)
	m.TextFromHTML, m.HTML = true, ""
	e = b.Get(b.Accept(m).ID)
	require.True(t, e.TextFromHTML)
	require.Empty(t, e.HTML)
}

// TestALargeTextIsStoredWithoutCopies. Not parallel: other tests' memory would count.
func TestALargeTextIsStoredWithoutCopies(t *testing.T) {
	b := setup(t)
	m := dbsetup.Message("bob@x.test")
	m.Text = strings.Repeat("it's\n", 4<<20)
	oneCopy := int64(len(m.Text))
	held := memtest.Peak(oneCopy, func() { b.Accept(m) })
	t.Logf("%d bytes", held)
	require.Less(t, held, oneCopy)
}
