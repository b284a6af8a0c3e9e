package intake_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/memtest"
)

// Not parallel: other tests' memory would count.
func TestMillionsOfMembersAreNotDecoded(t *testing.T) {
	many := func(member string) string { return strings.Repeat(member+",", 8<<20/(len(member)+1)) + member }
	named := func() string {
		var b strings.Builder
		for i := range 700_000 {
			fmt.Fprintf(&b, `"n%d":"",`, i)
		}
		return b.String() + `"n":""`
	}()
	for name, tc := range map[string]struct{ body, pointer string }{
		"recipients":   {`{"to":[` + many(`{}`) + `]}`, "/to"},
		"tags":         {`{"tags":[` + many(`""`) + `]}`, "/tags"},
		"attachments":  {`{"attachments":[` + many(`{}`) + `]}`, "/attachments"},
		"destinations": {`{"destinations":[` + many(`0`) + `]}`, "/destinations"},
		"headers":      {`{"headers":{` + named + `}}`, "/headers"},
		"members":      {`{` + named + `}`, ""},
		"nested":       {`{"x":{"y":[` + many(`[]`) + `]}}`, "/x/y"},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte(tc.body)
			before := memtest.Allocated()
			_, err := intake.Decode(body, limits())
			require.Less(t, memtest.Allocated()-before, int64(4<<20), "bytes, for a body of 8 MiB")
			f := failure(t, err)
			require.Equal(t, email.CodeInvalidRequest, f.Code)
			require.Equal(t, tc.pointer+" too_many", f.Fields[0].Pointer+" "+f.Fields[0].Code)
		})
	}
}

// TestTextOfHTMLIsNotManyTimesAsLong: numbers and indentation of items without words are.
func TestTextOfHTMLIsNotManyTimesAsLong(t *testing.T) {
	t.Parallel()
	lists := strings.Repeat("<ol start=1000000>", 9)
	content := func(html string) []byte {
		return []byte(strings.Replace(with(`"tags":[]`), `"content":"t"`, `"content":{"html":"`+html+`"}`, 1))
	}
	m, err := intake.Decode(content(lists+strings.Repeat("<li>a", 100)), limits())
	require.NoError(t, err)
	require.Contains(t, m.Text, "1000099. a")
	for _, html := range []string{lists + strings.Repeat("<li>a", 100_000), strings.Repeat("<ol><li>x", 100_000)} {
		_, err = intake.Decode(content(html), limits())
		f := failure(t, err)
		require.Equal(t, "/content/html too_long", f.Fields[0].Pointer+" "+f.Fields[0].Code)
	}
}
