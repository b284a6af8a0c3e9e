package email_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

const program = "MZ\x90\x00\x03"

func TestBlocklist(t *testing.T) {
	t.Parallel()
	var builtIn email.Blocklist
	require.Contains(t, builtIn.Name("a.pdf.ExE. "), ".exe")
	require.Contains(t, builtIn.Type("Text/JavaScript; charset=utf-8"), "text/javascript")
	require.Contains(t, builtIn.Content([]byte(program)), "Windows")
	require.Equal(t, builtIn, email.Block(nil))
	for _, why := range []string{builtIn.Name("a.pdf"), builtIn.Name("exe"), builtIn.Name(""), builtIn.Type("application/pdf"), builtIn.Type(""), builtIn.Content(nil)} {
		require.Empty(t, why)
	}

	own := email.Block([]string{"docm", "js"})
	require.NotEmpty(t, own.Name("a.docm"))
	require.NotEmpty(t, own.Type("text/javascript"), "a media type goes with its extension")
	for _, why := range []string{own.Name("a.exe"), own.Type("application/x-msdownload"), own.Content([]byte(program))} {
		require.Empty(t, why, "an own list replaces the built-in one")
	}
	require.NotEmpty(t, email.Block([]string{"exe"}).Content([]byte(program)))

	nothing := email.Block([]string{})
	for _, why := range []string{nothing.Name("a.exe"), nothing.Type("application/x-msdownload"), nothing.Content([]byte(program))} {
		require.Empty(t, why)
	}
}

// docs/api.md shows the built-in list.
func TestBlocklistIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	require.Contains(t, strings.Join(strings.Fields(string(text)), " "), "`"+strings.Join(email.Blocklist{}.Extensions(), " ")+"`")
}
