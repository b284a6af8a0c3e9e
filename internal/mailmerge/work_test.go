package mailmerge

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
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

// A header of 28 KB is checked once, not for each copy: 9,000 copies took eight seconds. A header with
// a variable is checked for each copy, without being cut into pieces. Not parallel: it counts
// allocations.
func TestACopyWithALargeHeaderTakesFewAllocations(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("x ", 14_000))
	b, err := Decode([]byte(`{"message":{"from":{"email":"a@x.test"},"subject":"s","content":"t","headers":{"x-fixed":"`+long+`","x-varies":"{{email}} `+long+
		`"}},"recipients":[{"email":"b@x.test"}]}`), intake.Limits{})
	require.NoError(t, err)
	m, err := b.Message(0)
	require.NoError(t, err)
	require.Equal(t, []email.Header{{Name: "x-fixed", Value: long}, {Name: "x-varies", Value: "b@x.test " + long}}, m.Headers)
	require.Less(t, testing.AllocsPerRun(10, func() { _, _ = b.Message(0) }), 100.0) // the message was made above
}

// Structured headers with other characters than ASCII take long to encode. If they have no
// variables they are encoded once, and if they are ASCII they are not encoded.
func TestDecodeBoundsEncodedHeaders(t *testing.T) {
	t.Parallel()
	const copies, limit = 1000, maxEncoded / 1000
	decode := func(header, value string) error {
		body := `{"message":{"from":{"email":"a@x.test"},"subject":"s","content":"t","headers":{"` + header + `":"` + value +
			`"}},"recipients":[` + strings.TrimSuffix(strings.Repeat(`{"email":"b@x.test"},`, copies), ",") + `]}`
		_, err := Decode([]byte(body), intake.Limits{})
		return err
	}
	words := func(word string) string { return strings.Repeat(word+", ", limit/(len(word)+2)+1) }
	f := intake.Under(decode("Keywords", "{{email}}, "+words("größe")+"x"), "")
	require.Len(t, f.Fields, 1)
	require.Equal(t, "/message/headers", f.Fields[0].Pointer)
	require.Equal(t, intake.CodeTooLarge, f.Fields[0].Code)
	require.NoError(t, decode("Keywords", words("größe")+"x"), "without variables")
	require.NoError(t, decode("Keywords", "{{email}}, "+words("large")+"x"), "ASCII")
	require.NoError(t, decode("X-Any", "{{email}}, "+words("größe")+"x"), "without structure")
}
