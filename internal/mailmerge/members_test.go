package mailmerge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/intaketest"
	"github.com/postrider/postrider/internal/mailmerge"
	"github.com/postrider/postrider/internal/memtest"
)

// Not parallel: other tests' memory would count.
func TestDecodeRefusesMillionsOfMembers(t *testing.T) {
	many, named := intaketest.Many, intaketest.Named(700_000)
	for name, tc := range map[string]struct{ body, pointer string }{
		"batch of messages":  {`{"messages":[` + many(`{}`) + `]}`, "/messages"},
		"batch to many":      {`{"message":{},"recipients":[` + many(`{}`) + `]}`, "/recipients"},
		"a copy's variables": {`{"message":{},"recipients":[{"email":"a@x.test","variables":{` + named + `}}]}`, "/recipients/0/variables"},
	} {
		t.Run(name, func(t *testing.T) {
			intaketest.RefusesMembers(t, tc.body, tc.pointer, func(body []byte) error {
				_, err := mailmerge.Decode(body, limits())
				return err
			})
		})
	}
}

// TestDecodeBoundsVariables: the variables of a recipient and of all recipients are bounded.
func TestDecodeBoundsVariables(t *testing.T) {
	one := `{"email":"a@x.test","variables":{`
	for i := range 99 {
		one += fmt.Sprintf(`"n%d":"",`, i)
	}
	one += `"n":""}},`
	body := `{"message":{"from":{"email":"a@y.test"},"subject":"","content":"x"},"recipients":[` + strings.Repeat(one, 9000)
	body = body[:len(body)-1] + `]}`
	before := memtest.Live()
	b, err := mailmerge.Decode([]byte(body), limits())
	require.NoError(t, err)
	require.Less(t, memtest.Live()-before, int64(4*len(body)), "bytes, for a body of %d: half of the variables are kept", len(body))
	_, err = b.Message(0)
	f := failure(t, err)
	require.Equal(t, "/recipients/0/variables there are 100 variables, the limit is 50", f.Fields[0].Pointer+" "+f.Fields[0].Detail)
}

// TestDecodeBoundsPlaceholders: the placeholders of all copies are bounded, even if the copies
// are short.
func TestDecodeBoundsPlaceholders(t *testing.T) {
	t.Parallel()
	batch := func(places, recipients int) error {
		_, err := mailmerge.Decode([]byte(`{"message":{"from":{"email":"a@y.test"},"subject":"","content":"x`+strings.Repeat("{{a}}", places)+`"},
			"recipients":[`+strings.TrimSuffix(strings.Repeat(`{"email":"a@x.test","variables":{"a":""}},`, recipients), ",")+`]}`), limits())
		return err
	}
	require.NoError(t, batch(1000, 10_000))
	f := failure(t, batch(1001, 10_000))
	require.Equal(t, "/message too_many", f.Fields[0].Pointer+" "+f.Fields[0].Code)
	require.Contains(t, f.Fields[0].Detail, "1001 places")
}
