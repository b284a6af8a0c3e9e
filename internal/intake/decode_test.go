package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func decode(t *testing.T, body string) email.Message {
	t.Helper()
	m, err := intake.Decode([]byte(body), limits())
	require.NoError(t, err, "%.300s", body)
	return m.Message
}

func TestDecodeVoIPBINExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, email.Message{
		From: email.Address{Email: "orders@example.com", Name: "Your Company"}, To: []email.Address{{Email: "john@example.net", Name: "John Doe"}},
		Subject: "Your Order Confirmation", Text: "Thank you for your order #12345.",
		HTML:   "<h1>Thank you!</h1><p>Your order #12345 has been confirmed.</p>",
		Stream: email.StreamTransactional, OnAmbiguous: email.AmbiguousRetry,
	}, decode(t, `{
		"from": {"email": "orders@example.com", "name": "Your Company"},
		"to": [{"email": "john@example.net", "name": "John Doe"}],
		"subject": "Your Order Confirmation",
		"content": {
			"text": "Thank you for your order #12345.",
			"html": "<h1>Thank you!</h1><p>Your order #12345 has been confirmed.</p>"
		}
	}`))
}

func TestDecodeVoIPBINExampleWithAttachment(t *testing.T) {
	t.Parallel()
	require.Equal(t, email.Message{
		From: email.Address{Email: "billing@example.com", Name: "Billing Department"}, To: []email.Address{{Email: "john@example.net"}},
		Subject: "Your Invoice", Text: "Please find your invoice attached.", HTML: "<p>Please find your invoice attached.</p>",
		Attachments: []email.Attachment{{Filename: "invoice-12345.pdf", Type: "application/pdf", Content: []byte("%PDF-1.4\n")}},
		Stream:      email.StreamTransactional, OnAmbiguous: email.AmbiguousRetry,
	}, decode(t, `{
		"from": {"email": "billing@example.com", "name": "Billing Department"},
		"to": [{"email": "john@example.net"}],
		"subject": "Your Invoice",
		"content": {"text": "Please find your invoice attached.", "html": "<p>Please find your invoice attached.</p>"},
		"attachments": [{"filename": "invoice-12345.pdf", "content": "JVBERi0xLjQK", "type": "application/pdf"}]
	}`))
}

func TestDecodeVoIPBINShape(t *testing.T) {
	t.Parallel()
	require.Equal(t, email.Message{
		From: email.Address{Email: "a@example.com", Name: "voipbin service", Label: "label", Detail: "d"}, To: []email.Address{{Email: "b@example.net"}},
		Subject: "test email 7", Text: "test email from voipbin.", Stream: email.StreamTransactional, OnAmbiguous: email.AmbiguousRetry,
	}, decode(t, `{"source":{"type":"email","target":"a@Example.COM","target_name":"voipbin service","name":"label","detail":"d"},
		"destinations":[{"type":"email","target":"b@example.net","target_name":"","name":"","detail":""}],
		"subject":"test email 7","content":"test email from voipbin.","attachments":[]}`))
}

func TestDecodeMixesShapesAcrossGroups(t *testing.T) {
	t.Parallel()
	m := decode(t, `{"from":{"email":"a@example.com"},"destinations":[{"target":"b@example.net","target_name":"B"}],"subject":"","content":"x",
		"cc":[{"email":"c@example.net"},{"type":"email","target":"d@example.net"}],
		"attachments":[{"reference_type":"recording","reference_id":"1F25E6C9-6709-44d1-b93e-a5f1c5f80411","optional":true,"type":"","content_id":""},
			{"reference_type":"","reference_id":"","filename":"a.txt","content":"aGk="}]}`)
	require.Equal(t, []email.Address{{Email: "b@example.net", Name: "B"}}, m.To)
	require.Equal(t, []email.Address{{Email: "c@example.net"}, {Email: "d@example.net"}}, m.Cc)
	require.Equal(t, []email.Attachment{
		{ReferenceType: email.ReferenceRecording, ReferenceID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411", Optional: true},
		{Filename: "a.txt", Type: "text/plain; charset=utf-8", Content: []byte("hi")},
	}, m.Attachments)
	require.Empty(t, m.Subject, "a subject may be empty, but not missing")
}

func TestDecodeOptions(t *testing.T) {
	t.Parallel()
	m := decode(t, with(`"reply_to":[{"email":"help@example.com","name":"Help"}],
		"headers":{"X-B":"1","X-A":" zwei Ü "},"metadata":{"order":"7"},"tags":["a","b","a"],"send_at":"2026-02-01T10:00:00.1234567+01:00",
		"expires_at":"2026-02-02T00:00:00Z","on_ambiguous":"fail","stream":"broadcast"`))
	require.Equal(t, []email.Address{{Email: "help@example.com", Name: "Help"}}, m.ReplyTo)
	require.Equal(t, []email.Header{{Name: "X-B", Value: "1"}, {Name: "X-A", Value: "zwei Ü"}}, m.Headers, "in their order")
	require.Equal(t, map[string]string{"order": "7"}, m.Metadata)
	require.Equal(t, []string{"a", "b"}, m.Tags)
	require.Equal(t, time.Date(2026, 2, 1, 9, 0, 0, 123456000, time.UTC), m.SendAt)
	require.Equal(t, time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC), m.ExpiresAt)
	require.Equal(t, email.AmbiguousFail, m.OnAmbiguous)
	require.Equal(t, email.StreamBroadcast, m.Stream)
}

func TestDecodeNullIsAbsent(t *testing.T) {
	t.Parallel()
	require.Equal(t, decode(t, with(`"cc":[]`)), decode(t, with(`"source":null,"destinations":null,"cc":null,"bcc":null,"reply_to":null,"attachments":null,
		"headers":null,"metadata":null,"tags":null,"send_at":null,"expires_at":null,"on_ambiguous":null,"stream":null`)))
}

func TestDecodeMergesRepeatedRecipients(t *testing.T) {
	t.Parallel()
	m := decode(t, `{"from":{"email":"a@example.com"},"subject":"s","content":"t",
		"to":[{"email":"b@example.net","name":"First"},{"email":"b@EXAMPLE.net","name":"Second"},{"email":"B@example.net"}],
		"cc":[{"email":"b@example.net"},{"email":"c@例え.jp"}],
		"bcc":[{"email":"d@example.net"},{"email":"c@xn--r8jz45g.jp"},{"email":"d@example.net."}]}`)
	require.Equal(t, []email.Address{{Email: "b@example.net", Name: "First"}, {Email: "B@example.net"}}, m.To, "local parts are told apart by case")
	require.Equal(t, []email.Address{{Email: "c@xn--r8jz45g.jp"}}, m.Cc)
	require.Equal(t, []email.Address{{Email: "d@example.net"}}, m.Bcc)
}

func TestDecodeBccOnly(t *testing.T) {
	t.Parallel()
	m := decode(t, `{"from":{"email":"a@example.com"},"bcc":[{"email":"d@example.net"}],"subject":"s","content":"t"}`)
	require.Empty(t, m.To)
	require.Len(t, m.Bcc, 1)
}

func TestDecodeDefaultSource(t *testing.T) {
	t.Parallel()
	l := limits()
	l.DefaultSource = &email.Address{Email: "shop@example.com", Name: "Shop"}
	m, err := intake.Decode([]byte(`{"to":[{"email":"b@example.net"}],"subject":"s","content":"t"}`), l)
	require.NoError(t, err)
	require.Equal(t, *l.DefaultSource, m.From)
	m, err = intake.Decode([]byte(with(`"tags":[]`)), l)
	require.NoError(t, err)
	require.Equal(t, "a@example.com", m.From.Email, "a sender that is named wins")
}

func TestDecodeIgnoreUnknown(t *testing.T) {
	t.Parallel()
	l := limits()
	l.IgnoreUnknown = true
	m, err := intake.Decode([]byte(`{"from":{"email":"a@example.com","x":{"y":[]}},"to":[{"email":"b@example.net","z":1}],"subject":"s","content":{"text":"t","amp":""},"colour":"red"}`), l)
	require.NoError(t, err)
	require.Equal(t, "t", m.Text)
	_, err = intake.Decode([]byte(`{"colour":"red","colour":"red"}`), l)
	require.Equal(t, email.CodeMalformedJSON, email.FailureCode(err), "what is unknown is still read strictly")
}

// TestDecodeVoIPBINAttachmentWithoutReference: the type "" means that there is none. A
// reference without a type is refused all the same.
func TestDecodeVoIPBINAttachmentWithoutReference(t *testing.T) {
	t.Parallel()
	voipbin := limits()
	voipbin.IgnoreUnknown = true
	for _, none := range []string{
		`{"reference_type":"","reference_id":"00000000-0000-0000-0000-000000000000"}`,
		`{"reference_type":"","reference_id":""}`, `{"reference_type":"","reference_id":null}`, `{"reference_type":""}`,
	} {
		body := []byte(with(`"attachments":[` + none + `,{"filename":"a.txt","content":"YQ=="}]`))
		m, err := intake.Decode(body, voipbin)
		require.NoError(t, err, none)
		require.Len(t, m.Attachments, 1, none)
		_, err = intake.Decode(body, limits())
		require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), "%s: only in VoIPBIN's dialect", none)
	}
	for _, some := range []string{`{"reference_type":"","reference_id":"0ad1e1f5-9d3c-4f3a-8f50-2d9ac0b1ffb0"}`, `{"filename":"a.txt"}`, `{"reference_id":"00000000-0000-0000-0000-000000000000"}`} {
		_, err := intake.Decode([]byte(with(`"attachments":[`+some+`]`)), voipbin)
		require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), some)
	}
}

func TestDecodePastSendAt(t *testing.T) {
	t.Parallel()
	m := decode(t, with(`"send_at":"2025-12-31T23:00:00Z","expires_at":"2026-01-01T00:00:01Z"`))
	require.Equal(t, now.Add(-time.Hour), m.SendAt, "it is due, and stays what was asked for")
	require.True(t, decode(t, with(`"send_at":"0001-01-01T00:00:00+23:00"`)).SendAt.IsZero())
}

func TestDecodeDefaultLimits(t *testing.T) {
	t.Parallel()
	body := with(`"cc":[` + strings.TrimSuffix(strings.Repeat(`{"email":"b@x.test"},`, email.DefaultMaxRecipients-1), ",") + `]`)
	_, err := intake.Decode([]byte(body), intake.Limits{})
	require.NoError(t, err)
	_, err = intake.Decode([]byte(strings.Replace(body, `"cc":[`, `"cc":[{"email":"b@x.test"},`, 1)), intake.Limits{})
	require.Equal(t, "too_many", failure(t, err).Fields[0].Code)
}

// TestDecodeSenderPointer: later refusals need the pointer; null is an absent member.
func TestDecodeSenderPointer(t *testing.T) {
	t.Parallel()
	l := limits()
	l.DefaultSource = &email.Address{Email: "d@example.com"}
	for members, want := range map[string]string{
		`"from":{"email":"a@example.com"},`:                "/from",
		`"source":{"target":"a@example.com"},`:             "/source",
		`"from":null,"source":{"target":"a@example.com"},`: "/source",
		`"from":{"email":"a@example.com"},"source":null,`:  "/from",
		`"from":null,`: "",
		``:             "",
	} {
		m, err := intake.Decode([]byte(`{`+members+`"to":[{"email":"b@example.net"}],"subject":"s","content":"t"}`), l)
		require.NoError(t, err, members)
		require.Equal(t, want, m.SenderPointer, members)
	}
}
