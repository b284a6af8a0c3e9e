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
		"recipients":         {`{"to":[` + many(`{}`) + `]}`, "/to"},
		"tags":               {`{"tags":[` + many(`""`) + `]}`, "/tags"},
		"attachments":        {`{"attachments":[` + many(`{}`) + `]}`, "/attachments"},
		"destinations":       {`{"destinations":[` + many(`0`) + `]}`, "/destinations"},
		"headers":            {`{"headers":{` + named + `}}`, "/headers"},
		"members":            {`{` + named + `}`, ""},
		"nested":             {`{"x":{"y":[` + many(`[]`) + `]}}`, "/x/y"},
		"batch of messages":  {`{"messages":[` + many(`{}`) + `]}`, "/messages"},
		"batch to many":      {`{"message":{},"recipients":[` + many(`{}`) + `]}`, "/recipients"},
		"a copy's variables": {`{"message":{},"recipients":[{"email":"a@x.test","variables":{` + named + `}}]}`, "/recipients/0/variables"},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte(tc.body)
			before := memtest.Allocated()
			var err error
			if strings.HasPrefix(tc.body, `{"message`) {
				_, err = intake.DecodeBatch(body, limits())
			} else {
				_, err = intake.Decode(body, limits())
			}
			require.Less(t, memtest.Allocated()-before, int64(4<<20), "bytes, for a body of 8 MiB")
			f := failure(t, err)
			require.Equal(t, email.CodeInvalidRequest, f.Code)
			require.Equal(t, tc.pointer+" too_many", f.Fields[0].Pointer+" "+f.Fields[0].Code)
		})
	}
}

// TestManyRecipientsVariables: each may have a few, and the product is bounded.
func TestManyRecipientsVariables(t *testing.T) {
	one := `{"email":"a@x.test","variables":{`
	for i := range 99 {
		one += fmt.Sprintf(`"n%d":"",`, i)
	}
	one += `"n":""}},`
	body := `{"message":{"from":{"email":"a@y.test"},"subject":"","content":"x"},"recipients":[` + strings.Repeat(one, 9000)
	body = body[:len(body)-1] + `]}`
	before := memtest.Live()
	b, err := intake.DecodeBatch([]byte(body), limits())
	require.NoError(t, err)
	require.Less(t, memtest.Live()-before, int64(4*len(body)), "bytes, for a body of %d: half of the variables are kept", len(body))
	_, err = b.Message(0)
	f := failure(t, err)
	require.Equal(t, "/recipients/0/variables there are 100 variables, the limit is 50", f.Fields[0].Pointer+" "+f.Fields[0].Detail)
}

// TestManyPlacesForVariables: what it takes to fill them in is bounded, however short the result.
func TestManyPlacesForVariables(t *testing.T) {
	t.Parallel()
	batch := func(places, recipients int) error {
		_, err := intake.DecodeBatch([]byte(`{"message":{"from":{"email":"a@y.test"},"subject":"","content":"x`+strings.Repeat("{{a}}", places)+`"},
			"recipients":[`+strings.TrimSuffix(strings.Repeat(`{"email":"a@x.test","variables":{"a":""}},`, recipients), ",")+`]}`), limits())
		return err
	}
	require.NoError(t, batch(1000, 10_000))
	f := failure(t, batch(1001, 10_000))
	require.Equal(t, "/message too_many", f.Fields[0].Pointer+" "+f.Fields[0].Code)
	require.Contains(t, f.Fields[0].Detail, "1001 places")
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
