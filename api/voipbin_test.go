package api_test

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// recorded is a request of a VoIPBIN client, and the whole answer with names for ids and times. {id}
// in a path is the e-mail that was sent before.
type recorded struct {
	Name   string          `json:"name"`
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   json.RawMessage `json:"body,omitempty"`
	// Then is the outcome of the e-mail before the request.
	Then   string          `json:"then,omitempty"`
	Status int             `json:"status"`
	Answer json.RawMessage `json:"answer"`
}

var (
	idShape   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timeShape = regexp.MustCompile(`2[0-9]{3}-[0-9]{2}-[0-9]{2}[ T][0-9:.]+Z?`)
)

// The requests of a VoIPBIN client receive the recorded answers.
func TestVoIPBINClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 400, b.as("PUT", "/v1.0/customer", `{"profile":"twilio"}`).status)
	require.Equal(t, 200, b.as("PUT", "/v1.0/customer", `{"profile":"voipbin","default_source":{"email":"service@acme.test","name":"voipbin service"}}`).status)
	b.lenient = true // unknown members and parameters are ignored
	_, err := b.store.Accounts.CreateUser(t.Context(), b.customer.ID, "ann", "correct horse", false)
	require.NoError(t, err)
	const file = "testdata/voipbin.json"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var all []recorded
	require.NoError(t, json.Unmarshal(text, &all))
	require.Greater(t, len(all), 12)
	id := ""
	for i, r := range all {
		if r.Then != "" {
			b.becomes(id, email.RecipientStatus(r.Then))
		}
		path := regexp.MustCompile(`\{id\}`).ReplaceAllString(r.Path, id)
		path = regexp.MustCompile(`your_accesskey`).ReplaceAllString(path, b.key)
		a := b.call(r.Method, path, string(r.Body))
		if r.Method == "POST" && a.status == 200 && a.field(t, "id") != "" {
			id = a.field(t, "id")
		}
		plain := timeShape.ReplaceAllString(idShape.ReplaceAllString(a.body, "{uuid}"), "{time}")
		plain = regexp.MustCompile(`"token":"[^"]*"`).ReplaceAllString(plain, `"token":"{token}"`)
		if *update {
			all[i].Status, all[i].Answer = a.status, json.RawMessage(plain)
			continue
		}
		require.Equal(t, r.Status, a.status, r.Name+a.body)
		require.JSONEq(t, string(r.Answer), plain, r.Name)
	}
	if *update {
		out, err := json.MarshalIndent(all, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(out, '\n'), 0o600))
	}
}

// becomes makes an attempt with an outcome for the e-mail's one recipient.
func (b *bench) becomes(id string, status email.RecipientStatus) {
	b.t.Helper()
	ctx, owner, relay := b.t.Context(), uuid.NewString(), email.Relay{Name: "primary", Host: "mx.test", Accepts: email.AcceptsRelay}
	o, err := b.store.Mail.Open(ctx, delivery.OpenRequest{EmailID: id, Attempt: 1, Owner: owner, Relay: relay})
	require.NoError(b.t, err)
	if status == email.RecipientSending {
		return
	}
	_, err = b.store.Mail.Finish(ctx, []delivery.Ending{{EmailID: id, Attempt: 1, Owner: owner, Relay: relay,
		Outcomes: []delivery.Outcome{{RecipientID: o.Recipients[0].ID, Status: status, Reply: email.Reply{Code: 250, Text: "so it is"}}}}})
	require.NoError(b.t, err)
	_, err = b.store.Mail.Record(ctx, delivery.RecordStatusInput{EmailID: id, Attempt: 1, Relay: relay})
	require.NoError(b.t, err)
}
