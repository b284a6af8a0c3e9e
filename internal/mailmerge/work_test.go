package mailmerge

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/intaketest"
)

// TestDecodeBoundsMembersFirst: a batch with too many members is refused before any recipient
// is decoded. The JSON after the refused place is broken here, and no error names it.
func TestDecodeBoundsMembersFirst(t *testing.T) {
	t.Parallel()
	const recipientMembers, tokens = 2 * maxVariables, 2_000_000 // intake's bounds
	const message = `{"message":{"from":{"email":"a@x.test"},"subject":"s","content":"t"},"recipients":[`
	variables := func(n int) string {
		return `{"email":"b@x.test","variables":{` + intaketest.Named(n) + `}},`
	}
	for name, tc := range map[string]struct{ body, pointer string }{
		"variables of one recipient": {message + variables(recipientMembers+1), "/recipients/0/variables"},
		"of all recipients":          {message + strings.Repeat(variables(recipientMembers), tokens/(2*recipientMembers)+1), ""},
	} {
		_, err := Decode([]byte(tc.body+"broken"), intake.Limits{})
		f := intake.Under(err, "")
		require.Len(t, f.Fields, 1, name)
		require.Equal(t, intake.CodeTooMany, f.Fields[0].Code, name)
		require.Equal(t, tc.pointer, f.Fields[0].Pointer, name)
	}
	full := message + strings.TrimSuffix(strings.Repeat(variables(maxVariables), 10_000), ",") + `]}`
	b, err := Decode([]byte(full), intake.Limits{})
	require.NoError(t, err, "the largest batch that there may be")
	_, err = b.Message(9_999)
	require.NoError(t, err)
}

// TestDecodeBoundsPlaceholdersFirst: a batch with too many placeholders is refused before any
// recipient is decoded.
func TestDecodeBoundsPlaceholdersFirst(t *testing.T) {
	t.Parallel()
	body := `{"message":{"from":{"email":"a@x.test"},"subject":"s","content":"` + strings.Repeat("{{a}}", 12_000) +
		`"},"recipients":[` + strings.TrimSuffix(strings.Repeat(`{"email":"b@x.test","variables":{"a":""}},`, 5_000), ",") + `]}`
	var req batchRequest
	require.NoError(t, intake.UnmarshalPart([]byte(body), &req, false))
	b := &Batch{limits: intake.Limits{}.WithDefaults()}
	c := intake.NewChecks(b.limits)
	b.template(c, req)
	f := intake.Under(c.Err(), "")
	require.Len(t, f.Fields, 1)
	require.Equal(t, "/message", f.Fields[0].Pointer)
	require.Empty(t, b.recipients)
}
