package webhook

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

func TestVoIPBINBodies(t *testing.T) {
	t.Parallel()
	e := email.Email{
		ID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411", CustomerID: "5e4a0680-804e-11ec-8477-2fea5968d85b", Status: email.StatusDelivered,
		CreatedAt: time.Date(2025, 3, 14, 19, 4, 1, 160250000, time.UTC), StatusAt: time.Date(2025, 3, 14, 19, 4, 11, 509512000, time.UTC),
	}
	e.From = email.Address{Email: "service@acme.test", Name: "voipbin service"}
	e.To = []email.Address{{Email: "bob@x.test"}}
	e.Bcc = []email.Address{{Email: "secret@x.test"}}
	e.Subject, e.Text = "test email 7", "test <email> from voipbin."
	e.Attachments = []email.Attachment{{ReferenceType: email.ReferenceRecording, ReferenceID: "r", Filename: "a.wav"}}
	kind, body, err := Bodies(endpoint.FormatVoIPBIN, email.Event{Type: email.EventCompleted}, e)
	require.NoError(t, err)
	require.Equal(t, "email_updated", kind)
	require.JSONEq(t, `{"type":"email_updated","data":{"id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","customer_id":"5e4a0680-804e-11ec-8477-2fea5968d85b",
		"source":{"type":"email","target":"service@acme.test","target_name":"voipbin service","name":"","detail":""},
		"destinations":[{"type":"email","target":"bob@x.test","target_name":"","name":"","detail":""}],
		"status":"delivered","subject":"test email 7","content":"test <email> from voipbin.","attachments":[{"reference_type":"recording","reference_id":"r"}],
		"tm_create":"2025-03-14 19:04:01.160250","tm_update":"2025-03-14 19:04:11.509512","tm_delete":"9999-01-01 00:00:00.000000"}}`, string(body))
	require.NotContains(t, string(body), "secret@x.test")

	for ev, want := range map[email.EventType]string{
		email.EventQueued: "email_created", email.EventScheduled: "email_created", email.EventSending: "email_updated", email.EventDeferred: "email_updated",
		email.EventDeleted: "email_deleted", email.EventDelivered: "", email.EventHeld: "",
	} {
		kind, _, err := Bodies(endpoint.FormatVoIPBIN, email.Event{Type: ev}, e)
		require.NoError(t, err)
		require.Equal(t, want, kind, ev)
	}

	kind, _, err = Bodies(endpoint.FormatVoIPBIN, email.Event{Type: email.EventScheduled, Sequence: 2}, e)
	require.NoError(t, err)
	require.Equal(t, "email_updated", kind, "rescheduled, not made again")

	e.Text = strings.Repeat("é\"", 200_000)
	_, body, err = Bodies(endpoint.FormatVoIPBIN, email.Event{Type: email.EventQueued}, e)
	require.NoError(t, err)
	require.LessOrEqual(t, len(body), MaxVoIPBINBytes)
	require.True(t, json.Valid(body))
	kind, _, err = Bodies(endpoint.FormatStandard, email.Event{Type: email.EventDelivered}, e)
	require.NoError(t, err)
	require.Equal(t, "email.delivered", kind)
}
