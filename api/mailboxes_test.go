package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
)

// failing is a parser that returns errors.
type failing struct {
	parsed mailbox.Parsed
	err    error
}

func (f failing) Parse([]byte) (mailbox.Parsed, error) { return f.parsed, f.err }

func (f failing) Attachment([]byte, int) (mailbox.Part, []byte, error) {
	return mailbox.Part{}, nil, f.err
}

// The answer has what the parser read before its time limit.
func TestGetMessageParserTimeout(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, parser: failing{
		err: fmt.Errorf("part 3: %w", mailbox.ErrTooSlow),
		parsed: mailbox.Parsed{
			Headers: []mailbox.Header{{Name: "Subject", Value: "hello"}}, Subject: "hello", DatedAt: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
			From: []mailbox.Address{{Name: "Bob", Email: "bob@x.test"}}, Problems: []string{"header: some lines are no header fields"},
		},
	}})
	box, id := b.received(t)
	got := b.call("GET", "/v1.0/mailboxes/"+box+"/messages/"+id+"?accesskey="+b.key, "")
	require.Equal(t, 200, got.status, got.body)
	var m struct {
		Parsed struct {
			Headers  []mailbox.Header
			From     []mailbox.Address
			Subject  string
			Date     *time.Time
			Problems []string
		}
	}
	got.decode(t, &m)
	require.Equal(t, []mailbox.Header{{Name: "Subject", Value: "hello"}}, m.Parsed.Headers)
	require.Equal(t, []mailbox.Address{{Name: "Bob", Email: "bob@x.test"}}, m.Parsed.From)
	require.Equal(t, "hello", m.Parsed.Subject)
	require.NotNil(t, m.Parsed.Date)
	require.Equal(t, []string{"header: some lines are no header fields", "part 3: reading the message took too long"}, m.Parsed.Problems)
}

// Each error of the parser has its own status.
func TestGetMessageAttachmentErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
		detail string
	}{
		{mailbox.ErrNoAttachment, 404, "not_found", "there is no such attachment"},
		{mailbox.ErrTooSlow, 503, "unavailable", "parsing the message took too long; try again"},
		{fmt.Errorf("more than 500 parts: %w", mailbox.ErrTooComplex), 422, "message_too_complex",
			"more than 500 parts: message too complex to take apart; get the whole message from /raw"},
		{fmt.Errorf("disk on fire"), 500, "internal", "the server failed to answer this request; give the operator the request_id"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			b := setupFor(t, setupOptions{maxBytes: maxBytes, parser: failing{err: fmt.Errorf("attachment 0: %w", tt.err)}})
			box, id := b.received(t)
			got := b.call("GET", "/v1.0/mailboxes/"+box+"/messages/"+id+"/attachments/0?accesskey="+b.key, "")
			require.Equal(t, tt.status, got.status, got.body)
			require.Equal(t, tt.code, got.field(t, "code"))
			require.Contains(t, got.field(t, "detail"), tt.detail)
		})
	}
}
