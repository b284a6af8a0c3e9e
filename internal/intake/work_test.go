package intake

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWorkOfABatchIsBounded before any recipient is read: what follows the place of the refusal
// is not even looked at, and is broken here.
func TestWorkOfABatchIsBounded(t *testing.T) {
	t.Parallel()
	const message = `{"message":{"from":{"email":"a@x.test"},"subject":"s","content":"t"},"recipients":[`
	variables := func(n int) string {
		return `{"email":"b@x.test","variables":{` + manyNames(n) + `}},`
	}
	for name, tc := range map[string]struct{ body, pointer string }{
		"variables of one recipient": {message + variables(maxRecipientMembers+1), "/recipients/0/variables"},
		"of all recipients":          {message + strings.Repeat(variables(maxRecipientMembers), maxTokens/(2*maxRecipientMembers)+1), ""},
	} {
		_, err := DecodeBatch([]byte(tc.body+"broken"), Limits{})
		f := at(err, "")
		require.Len(t, f.Fields, 1, name)
		require.Equal(t, codeTooMany, f.Fields[0].Code, name)
		require.Equal(t, tc.pointer, f.Fields[0].Pointer, name)
	}
	full := message + strings.TrimSuffix(strings.Repeat(variables(maxVariables), 10_000), ",") + `]}`
	b, err := DecodeBatch([]byte(full), Limits{})
	require.NoError(t, err, "the largest batch that there may be")
	_, err = b.Message(9_999)
	require.NoError(t, err)
}

// TestPlacesAreCountedBeforeRecipientsAreRead: a batch that is refused for them costs no more.
func TestPlacesAreCountedBeforeRecipientsAreRead(t *testing.T) {
	t.Parallel()
	body := `{"message":{"from":{"email":"a@x.test"},"subject":"s","content":"` + strings.Repeat("{{a}}", 12_000) +
		`"},"recipients":[` + strings.TrimSuffix(strings.Repeat(`{"email":"b@x.test","variables":{"a":""}},`, 5_000), ",") + `]}`
	var req batchRequest
	require.NoError(t, unmarshal([]byte(body), &req, false))
	b := &Batch{limits: Limits{}.withDefaults()}
	c := &checker{limits: b.limits}
	b.template(c, req)
	require.Len(t, c.fields, 1)
	require.Equal(t, "/message", c.fields[0].Pointer)
	require.Empty(t, b.recipients)
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"v%d":""`, i)
	}
	return strings.Join(names, ",")
}
