package senderdomain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/senderdomain"
)

func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for text, want := range map[string]string{
		"example.com":           "example.com",
		" Example.COM. ":        "example.com",
		"mail.example.co.uk":    "mail.example.co.uk",
		"bücher.example":        "xn--bcher-kva.example",
		"BÜCHER.example":        "xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example",
		"XN--BCHER-KVA.example": "xn--bcher-kva.example",
		"bu\u0308cher.example":  "xn--bcher-kva.example", // decomposed
		"例え。jp。":                "xn--r8jz45g.jp",
		"straße.example":        "xn--strae-oqa.example",
		"me.github.io":          "me.github.io",
		long + ".example":       long + ".example",
		strings.Repeat(long+".", 3) + strings.Repeat("b", 37) + ".com": strings.Repeat(long+".", 3) + strings.Repeat("b", 37) + ".com", // 233
	} {
		got, err := senderdomain.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := senderdomain.Parse(got)
		require.NoError(t, err, text)
		require.Equal(t, want, again)
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for text, want := range map[string]struct {
		problem senderdomain.NameProblem
		says    string
	}{
		"":                                   {senderdomain.NameEmpty, "example.com"},
		" . ":                                {senderdomain.NameEmpty, ""},
		"me@example.com":                     {senderdomain.NameEmail, "here example.com"},
		"Me <me@example.com>":                {senderdomain.NameEmail, "here example.com"},
		"@":                                  {senderdomain.NameEmail, "as example.com"},
		"https://example.com/path":           {senderdomain.NameURL, "here example.com"},
		"HTTP://me@Example.com:80":           {senderdomain.NameURL, "here example.com"},
		"mailto://me@example.com":            {senderdomain.NameURL, "here example.com"},
		"example.com/":                       {senderdomain.NameURL, "here example.com"},
		"example.com:25":                     {senderdomain.NameURL, "here example.com"},
		"192.0.2.1":                          {senderdomain.NameIP, "192.0.2.1"},
		"192.0.2.1.":                         {senderdomain.NameIP, ""},
		"[192.0.2.1]":                        {senderdomain.NameIP, ""},
		"2001:db8::1":                        {senderdomain.NameIP, ""},
		"１９２.0.2.1":                          {senderdomain.NameIP, ""},
		"999.0.2.1":                          {senderdomain.NameIP, ""},
		"localhost":                          {senderdomain.NameLocalhost, "registered"},
		"app.localhost":                      {senderdomain.NameLocalhost, ""},
		"example":                            {senderdomain.NameSingleLabel, "example.com"},
		"com":                                {senderdomain.NamePublicSuffix, "example.com"},
		"_dmarc.example.com":                 {senderdomain.NameUnderscore, "underscore"},
		"*.example.com":                      {senderdomain.NameWildcard, ""},
		"co.uk":                              {senderdomain.NamePublicSuffix, "example.co.uk"},
		"github.io":                          {senderdomain.NamePublicSuffix, ""},
		"公司.cn":                              {senderdomain.NamePublicSuffix, ""},
		"a..example.com":                     {senderdomain.NameInvalid, "dots"},
		".example.com":                       {senderdomain.NameInvalid, ""},
		"example.com..":                      {senderdomain.NameInvalid, ""},
		"exa mple.com":                       {senderdomain.NameInvalid, ""},
		"-a.example.com":                     {senderdomain.NameInvalid, ""},
		"xn--a.example":                      {senderdomain.NameInvalid, ""},
		"a\x00.example":                      {senderdomain.NameInvalid, ""},
		"\xff.example":                       {senderdomain.NameInvalid, ""},
		long + "a.example":                   {senderdomain.NameLabelTooLong, "64 characters, limit 63"},
		strings.Repeat("ü", 63) + ".example": {senderdomain.NameLabelTooLong, ""},
		strings.Repeat(long+".", 3) + strings.Repeat("b", 38) + ".com": {senderdomain.NameTooLong, "234 characters, limit 233"},
		strings.Repeat(long+".", 3) + strings.Repeat("b", 58) + ".com": {senderdomain.NameTooLong, "254 characters"},
		strings.Repeat("a.", 1<<20) + "com":                            {senderdomain.NameTooLong, ""},
	} {
		_, err := senderdomain.Parse(text)
		problem, ok := errors.AsType[*senderdomain.NameError](err)
		require.True(t, ok, "%.80q: %v", text, err)
		require.Equal(t, want.problem, problem.Problem, "%.80q: %v", text, err)
		require.Contains(t, err.Error(), want.says)
		require.Less(t, len(err.Error()), 600)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Bücher.example.")
	f.Add("https://me@x.com:1/")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := senderdomain.Parse(text)
		if err != nil {
			_, ok := errors.AsType[*senderdomain.NameError](err)
			require.True(t, ok)
			return
		}
		again, err := senderdomain.Parse(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
