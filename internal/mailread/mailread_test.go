package mailread

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
)

func TestFields(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, block string
		want        []string // name=value
		text        string   // behind the header
		odd         bool
	}{
		{"folded", "A: b\r\n c\r\nD : e\r\n\r\ntext", []string{"A=b c", "D=e"}, "text", false},
		{"no empty line", "A: b\r\nsome text\r\n\r\nmore", []string{"A=b"}, "some text\r\n\r\nmore", true},
		{"no header", "some text\r\nmore", nil, "some text\r\nmore", true},
		{"a line between that is no field", "A: b\r\nno field\r\n still none\r\nC: d\r\n\r\ntext", []string{"A=b", "C=d"}, "text", true},
		{"an empty header", "\r\nA: b", nil, "A: b", false},
		{"nothing", "", nil, "", false},
		{"CR CR LF", "A: b\r\r\n\r\r\ntext", []string{"A=b"}, "text", false},
		{"a delimiter in place of the empty line", "A: b\r\n--c\r\nD: e\r\n", []string{"A=b"}, "--c\r\nD: e\r\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, body, odd := Fields([]byte(tt.block))
			var got []string
			for _, f := range list {
				got = append(got, f.Name+"="+Unfold(f.Value))
			}
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.text, tt.block[body:])
			require.Equal(t, tt.odd, odd)
		})
	}
}

// TestOpenKeepsTheLimits: the largest message that is taken apart, and one more.
func TestOpenKeepsTheLimits(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	parts := func(n int) []byte {
		return []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", n-1) + "--b--")
	}
	levels := func(n int) []byte {
		return []byte(strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", n) + "\r\nx")
	}
	long := func(n int) []byte { return []byte("A: " + strings.Repeat("b", n-len("A: \r\n\r\n")) + "\r\n\r\nx") }
	for name, tt := range map[string]struct{ within, beyond []byte }{
		"parts":  {parts(MaxParts), parts(MaxParts + 1)},
		"levels": {levels(MaxDepth), levels(MaxDepth + 1)},
		"header": {long(MaxHeaderBytes), long(MaxHeaderBytes + 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(tt.within, false, later)
			require.NoError(t, err)
			_, err = Open(tt.beyond, false, later)
			require.ErrorIs(t, err, mailbox.ErrTooComplex)
			_, err = Open(tt.within, false, time.Now())
			require.ErrorIs(t, err, mailbox.ErrTooSlow)
		})
	}
}

// TestEveryCharsetIsRead by the names that mail uses.
func TestEveryCharsetIsRead(t *testing.T) {
	t.Parallel()
	for _, name := range strings.Fields(`us-ascii utf-8 utf8 utf-7 utf-16 utf-16be utf-16le iso-8859-1 iso8859-1 iso_8859-1 ISO_8859-1:1987 latin1 l1 iso-8859-2 iso-8859-3
		iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 iso-8859-8-i iso-8859-9 iso-8859-10 iso-8859-13 iso-8859-14 iso-8859-15 iso885915 iso-8859-16 windows-1250
		windows-1251 windows-1252 windows-1253 windows-1254 windows-1255 windows-1256 windows-1257 windows-1258 windows-874 cp1250 cp-1251 win1252 x-cp1252 tis-620 koi8-r koi8-u KOI8R
		ibm437 cp437 ibm850 cp850 cp852 ibm866 cp866 macintosh x-mac-cyrillic iso-2022-jp iso-2022-jp-1 iso-2022-jp-ms shift_jis sjis x-sjis ms_kanji cp932 windows-31j euc-jp eucjp
		euc-kr ks_c_5601-1987 ksc5601 cp949 iso-2022-kr gb2312 gbk gb18030 x-gbk cp936 euc-cn hz-gb-2312 big5 big5-hkscs`) {
		require.True(t, Known(name), name)
		_, problem := Text([]byte("+-"), name)
		require.Empty(t, problem, name)
	}
	require.False(t, Known("x-none"))
	require.False(t, Known(""))
}

func TestDecoders(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"SGVsbG8=": "Hello", "SGVsbG8": "Hello", "SGVs\r\nbG8====": "Hello", "-_8": "\xfb\xff", "": "", "=": "", "S": "", "SGVsbG8=SGVsbG8=": "HelloHello"} {
		got, _ := Base64([]byte(in))
		require.Equal(t, want, string(got), in)
	}
	for in, want := range map[string]string{"a=\r\nb": "ab", "a=\nb": "ab", "a= \t\r\nb": "ab", "a=": "a", "a=3": "a=3", "a  \r\nb": "a\r\nb", "=e4=E4": "\xe4\xe4", "==41": "=A"} {
		var got []byte
		quotedPrintableTo([]byte(in), false, func(piece []byte) { got = append(got, piece...) })
		require.Equal(t, want, string(got), in)
	}
	var got []byte
	require.True(t, uuTo([]byte("begin 644 a\r\n%2&5L;&\\\r\n`\r\nend\r\n"), func(piece []byte) { got = append(got, piece...) }))
	require.Equal(t, "Hello", string(got))
}

// TestDatesInAllZones: RFC 5322 §4.3 names ten.
func TestDatesInAllZones(t *testing.T) {
	t.Parallel()
	for zone, minutes := range zones {
		at, problem := Date("Wed, 9 Jan 2002 12:00:00 " + zone)
		require.Empty(t, problem, zone)
		require.Equal(t, time.Date(2002, 1, 9, 12, -minutes, 0, 0, time.UTC), at, zone)
	}
}

// FuzzSyntax: the texts read of a field are valid UTF-8, and nothing panics.
func FuzzSyntax(f *testing.F) {
	f.Add("Bob <bob@b.test>, \"a\" (b) <c@d>, g: e@f;", "koi8-r")
	f.Add("attachment; filename*0*=utf-8''a%20; filename*1=\"b.pdf\"", "utf-7")
	f.Add("=?utf-8?Q?a=C3=BC?= =?utf-8?B?w7w=?=", "")
	f.Add("Wed, 9 Jan 2002 19:47:50 +0100 (CET)", "iso-2022-jp")
	f.Fuzz(func(t *testing.T, value, charset string) {
		require.True(t, utf8.ValidString(Words(value, charset)))
		for _, read := range []func(string, string) ([]mailbox.Address, int){Addresses, Sender} {
			list, bad := read(value, charset)
			require.GreaterOrEqual(t, bad, 0)
			for _, a := range list {
				require.True(t, utf8.ValidString(a.Name+a.Email))
			}
		}
		_, params := Params(value)
		for _, p := range params {
			require.True(t, utf8.ValidString(filenameOf(p)))
		}
		at, _ := Date(value)
		require.True(t, at.IsZero() || at.Year() >= 1900 && at.Year() <= 9999)
		text, _ := Text([]byte(value), charset)
		require.True(t, utf8.ValidString(text))
	})
}
