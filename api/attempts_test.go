package api_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestListAttemptsShowsTranscript(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	path := "/v1.0/emails/" + id + "/attempts"
	require.JSONEq(t, `{"result":[]}`, b.as("GET", path, "").body)
	owner, relay := uuid.NewString(), email.Relay{Name: "primary", Host: "mx.test"}
	o, err := b.store.Mail.Open(t.Context(), delivery.OpenRequest{EmailID: id, Attempt: 1, Owner: owner, Relay: relay})
	require.NoError(t, err)
	_, err = b.store.Mail.Finish(t.Context(), []delivery.Ending{{EmailID: id, Attempt: 1, Owner: owner, Relay: relay,
		Outcomes:   []delivery.Outcome{{RecipientID: o.Recipients[0].ID, Status: email.RecipientDeferred}},
		Transcript: []email.Step{{Command: "MAIL FROM:<shop@acme.test>", Reply: email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted"}, MS: 7}}}})
	require.NoError(t, err)
	var got struct {
		Result []struct {
			Attempt     int
			Phase       string
			Relay, Host string
			OpenedAt    string  `json:"opened_at"`
			DataSentAt  *string `json:"data_sent_at"`
			Transcript  []struct {
				Command      string
				Code, MS     int
				EnhancedCode string `json:"enhanced_code"`
				Text         string
			}
		}
	}
	b.as("GET", path, "").decode(t, &got)
	require.Len(t, got.Result, 1)
	a := got.Result[0]
	require.Equal(t, "done", a.Phase)
	require.Equal(t, "primary", a.Relay)
	require.Nil(t, a.DataSentAt, "it never came to the final dot")
	require.Equal(t, 451, a.Transcript[0].Code)
	require.Equal(t, "4.7.1", a.Transcript[0].EnhancedCode)
	require.Equal(t, 7, a.Transcript[0].MS)
	_, other := b.newCustomer("Other", "other.test")
	require.Equal(t, 404, b.call("GET", path+"?accesskey="+other, "").status)
}
