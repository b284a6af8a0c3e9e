package email_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestMessageCarried(t *testing.T) {
	t.Parallel()
	stored := email.Attachment{ID: "1", BlobID: "b"}
	m := email.Message{Attachments: []email.Attachment{{ID: "0", Optional: true, Problem: "404"}, stored}}
	carried, err := m.Carried()
	require.NoError(t, err)
	require.Equal(t, []email.Attachment{stored}, carried)
	require.Len(t, m.Attachments, 2)

	m.Attachments = append(m.Attachments, email.Attachment{ID: "2", Optional: true})
	_, err = m.Carried()
	require.ErrorContains(t, err, "attachment 2 is not stored", "optional or not: nobody has tried yet")
}

func TestMask(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"bob@x.com": "b***@x.com", "ö@x.com": "ö***@x.com", "@x.com": "***", "bob": "***", "a@b@x.com": "a***@x.com",
	} {
		require.Equal(t, want, email.MaskAddress(in))
	}
	for _, tc := range []struct{ in, want string }{
		{"550 5.1.1 <bob@x.com>: no such user", "550 5.1.1 <***@x.com>: no such user"},
		{"mailto:bob.smith+tag@x.com.", "mailto:***@x.com."},
		{"user bob.smith unknown, ask postmaster@x.com", "user *** unknown, ask ***@x.com"},
		{"BOB.SMITH is over quota", "*** is over quota"},
		{"bob.smithers is somebody else", "bob.smithers is somebody else"},
		{`"odd name"@x.com`, `***@x.com`},
		{"2.0.0 queued as ABC123", "2.0.0 queued as ABC123"},
	} {
		got := email.MaskText(tc.in, "bob.smith@x.com")
		if tc.in == `"odd name"@x.com` {
			require.NotContains(t, got, `name"@`)
			continue
		}
		require.Equal(t, tc.want, got)
	}
}

func TestFailureKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("boom")
	f := email.Fail(email.CodeUnavailable, "try again in %d s", 5)
	f.Err = cause
	wrapped := fmt.Errorf("accept: %w", f)
	require.ErrorIs(t, wrapped, cause)
	require.Equal(t, email.CodeUnavailable, email.FailureCode(wrapped))
	require.Equal(t, email.Code(""), email.FailureCode(cause))
	require.Equal(t, "unavailable: try again in 5 s: boom", f.Error())
	again := &email.Failure{Code: email.CodeUnavailable, Err: f}
	require.Equal(t, "unavailable: try again in 5 s: boom", again.Error(), "a code is named once")
}

func TestCount(t *testing.T) {
	t.Parallel()
	var rs []email.Recipient
	for _, s := range email.RecipientStatuses() {
		rs = append(rs, email.Recipient{Status: s})
	}
	require.Equal(t, email.Counts{Total: 10, Open: 3, Delivered: 2, Bounced: 2, Failed: 2, Canceled: 1}, email.Count(rs))
}

// TestContractJSON pins the payloads that stand in workflow histories: fields
// are added, never renamed.
func TestContractJSON(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		`{"email_id":"E"}`: email.SendEmailInput{EmailID: "E"},
		`{"email_id":"E","status":"delivered","status_detail":"partial","recipients":[{"id":"R","address":"b***@x.com","status":"bounced","smtp_code":550,"enhanced_code":"5.1.1","text":"no","attempts":1}]}`: email.SendEmailResult{
			EmailID: "E", Status: email.StatusDelivered, Detail: email.DetailPartial,
			Recipients: []email.RecipientResult{{ID: "R", Address: "b***@x.com", Status: email.RecipientBounced, SMTPCode: 550, Enhanced: "5.1.1", Text: "no", Attempts: 1}},
		},
		`{"status":"sending","status_detail":"deferred","next_attempt":2,"open":1,"next_at":"2026-01-02T03:04:05Z","waiting":"retry","last":{"code":451,"enhanced_code":"4.7.1","text":"later"}}`: email.State{
			Status: email.StatusSending, Detail: email.DetailDeferred, NextAttempt: 2, Open: 1, NextAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Waiting: email.WaitingRetry, Last: email.Reply{Code: 451, Enhanced: "4.7.1", Text: "later"},
		},
	} {
		got, err := json.Marshal(v)
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
}
