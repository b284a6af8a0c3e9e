package intake_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/intaketest"
)

// Not parallel: other tests' memory would count.
func TestDecodeRefusesMillionsOfMembers(t *testing.T) {
	many, named := intaketest.Many, intaketest.Named(700_000)
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
			intaketest.RefusesMembers(t, tc.body, tc.pointer, func(body []byte) error {
				_, err := intake.Decode(body, limits())
				return err
			})
		})
	}
}

// TestDecodeBoundsTextFromHTML: numbers and indentation of list items without text can make the
// text much longer than the HTML.
func TestDecodeBoundsTextFromHTML(t *testing.T) {
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
