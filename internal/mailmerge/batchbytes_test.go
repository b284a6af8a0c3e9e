package mailmerge_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailmerge"
)

// stored is the size of one copy in the store, in bytes: its texts in all columns.
func stored(m email.Message) int64 {
	n := len(m.Subject) + len(m.Text) + len(m.HTML) + len(m.Calendar.ICS) + len(m.From.Email) + len(m.From.Name)
	for _, a := range append(m.ReplyTo, m.To...) {
		n += len(a.Email) + len(a.Name)
	}
	for _, h := range m.Headers {
		n += len(h.Name) + len(h.Value)
	}
	for name, value := range m.Metadata {
		n += len(name) + len(value)
	}
	for _, tag := range m.Tags {
		n += len(tag)
	}
	for _, a := range m.Attachments {
		n += len(a.Filename) + len(a.Type) + len(a.ContentID)
	}
	return int64(n)
}

// TestBatchBytes: no member of a message lets a small request store more than the limit. If the
// batch is accepted, its copies have at most the counted bytes.
func TestBatchBytes(t *testing.T) {
	t.Parallel()
	const copies = 10_000
	files := make([]any, 50)
	for i := range files {
		files[i] = map[string]string{"filename": fmt.Sprintf("%s%d.txt", strings.Repeat("f", 100), i), "content": "eA=="}
	}
	metadata := map[string]string{}
	for i := range 50 {
		metadata[fmt.Sprintf("%s%d", strings.Repeat("k", 60), i)] = strings.Repeat("m", 512)
	}
	for name, members := range map[string]map[string]any{
		"headers":             {"headers": map[string]string{"X-A": strings.Repeat("h", 900) + "\t" + strings.Repeat(strings.Repeat("h", 900)+" ", 30)}},
		"a header's variable": {"headers": map[string]string{"X-A": strings.Repeat("{{v}} ", 7)}},
		"metadata":            {"metadata": metadata},
		"a variable of metadata": {"metadata": map[string]string{"a": strings.Repeat("{{w}}", 60), "b": strings.Repeat("{{w}}", 60)},
			"content": strings.Repeat("{{v}}", 8)},
		"the calendar":      {"content": map[string]any{"text": "t", "calendar": map[string]string{"method": "REQUEST", "ics": invitationOf(30 << 10)}}},
		"text":              {"content": strings.Repeat("t", 30<<10)},
		"HTML and its text": {"content": map[string]string{"html": "<p>" + strings.Repeat("t", 20<<10) + "</p>"}},
		"attachments":       {"attachments": files, "content": strings.Repeat("t", 8<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := map[string]any{"from": map[string]string{"email": "a@acme.test"}, "subject": "s", "content": "t"}
			for k, v := range members {
				message[k] = v
			}
			request := func(n int) []byte {
				recipients := make([]any, n)
				for i := range recipients {
					recipients[i] = map[string]any{"email": fmt.Sprintf("r%d@x.test", i), "variables": map[string]string{"v": strings.Repeat("vvv ", 1<<10), "w": "12345678"}}
				}
				body, err := json.Marshal(map[string]any{"message": message, "recipients": recipients})
				require.NoError(t, err)
				return body
			}
			_, err := mailmerge.Decode(request(copies), limits())
			refusal, ok := errors.AsType[*email.Failure](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, "/recipients", refusal.Fields[0].Pointer, "%v", refusal.Fields)
			require.Equal(t, "too_large", refusal.Fields[0].Code)

			few, err := mailmerge.Decode(request(10), limits())
			require.NoError(t, err)
			total := int64(0)
			for i := range few.Len() {
				m, err := few.Message(i)
				require.NoError(t, err)
				total += stored(m)
			}
			require.LessOrEqual(t, total, few.Bytes())
			require.Less(t, few.Bytes(), 3*total, "it is not refused for what it has not")
		})
	}
}

// invitationOf is a calendar of about n bytes.
func invitationOf(n int) string {
	line := "X-NOTE:" + strings.Repeat("c", 60) + "\r\n"
	return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@acme.test\r\nDTSTAMP:20300101T000000Z\r\nDTSTART:20300101T000000Z\r\n" +
		"ORGANIZER:mailto:a@acme.test\r\nATTENDEE:mailto:b@x.test\r\nSUMMARY:s\r\n" + strings.Repeat(line, n/len(line)) + "END:VEVENT\r\nEND:VCALENDAR\r\n"
}
