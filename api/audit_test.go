package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestControlIsAudited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	for _, action := range []string{"hold", "resume", "cancel"} {
		require.Equal(t, 200, b.as("POST", "/v1.0/emails/"+id+"/"+action, "").status)
	}
	require.Equal(t, 409, b.as("POST", "/v1.0/emails/"+id+"/hold", "").status)
	require.Equal(t, 200, b.as("DELETE", "/v1.0/emails/"+id, "").status)
	require.Equal(t, 202, b.as("POST", "/v1.0/emails/"+id+"/resend", "").status)
	var audit struct {
		Result []struct{ Action, Target, RequestID string }
	}
	b.as("GET", "/v1.0/audit?page_size=5", "").decode(t, &audit)
	var actions []string
	for _, a := range audit.Result {
		actions = append(actions, a.Action)
		require.Equal(t, id, a.Target)
	}
	require.Equal(t, []string{"email.resend", "email.deleted", "email.cancel", "email.resume", "email.hold"}, actions, "what was refused is not on record")
}
