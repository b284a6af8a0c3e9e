package api_test

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

var update = flag.Bool("update", false, "write the answers into the golden file")

// badRequest is one entry of the golden file. Path and Body may contain:
//
//   - {id}: the id of another customer's e-mail
//   - {file}: the id of one of its files
//   - {big}: more bytes than a message may have
//   - {huge}: more bytes than a body may have
//   - {many}: 51 recipients
//   - {in1d}: a time tomorrow
//
// With Raw, Body is Latin-1: a character stands for a byte.
type badRequest struct {
	Name   string          `json:"name"`
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Header []string        `json:"header,omitempty"`
	Body   string          `json:"body,omitempty"`
	Raw    bool            `json:"raw,omitempty"`
	Anon   bool            `json:"anonymous,omitempty"`
	Status int             `json:"status"`
	Answer json.RawMessage `json:"answer"`
}

// TestBadRequests sends each request of the golden file and compares the whole answer. No request
// may store or dispatch anything.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, other := b.newCustomer("Other", "other.test")
	foreign := b.call("POST", "/v1.0/emails?accesskey="+other, strings.ReplaceAll(basic, "acme.test", "other.test")).field(t, "id")
	upload, uploadType := form(t, "theirs.txt", "", []byte("x"))
	file := b.call("POST", "/v1.0/files?accesskey="+other, upload, "Content-Type", uploadType).field(t, "id")
	before := len(b.dispatch.accepted())

	const golden = "testdata/bad_requests.json"
	text, err := os.ReadFile(golden)
	require.NoError(t, err)
	var cases []badRequest
	require.NoError(t, json.Unmarshal(text, &cases))
	require.Greater(t, len(cases), 30)
	many := strings.TrimSuffix(strings.Repeat(`{"email":"n@x.test"},`, 51), ",")
	for i := range 51 {
		many = strings.Replace(many, "n@", "u"+string(rune('a'+i%26))+string(rune('a'+i/26))+"@", 1)
	}
	fill := strings.NewReplacer("{id}", foreign, "{file}", file, "{many}", many, "{big}", strings.Repeat("A", 4*(maxBytes/3+10)), "{huge}", strings.Repeat("A", 3*maxBytes),
		"{in1d}", b.ahead(1), "{in2d}", b.ahead(2), "{in10y}", b.ahead(3653))
	previewed := 0
	for i, c := range cases {
		body := fill.Replace(c.Body)
		if c.Raw {
			raw := make([]byte, 0, len(body))
			for _, r := range body {
				raw = append(raw, byte(r))
			}
			body = string(raw)
		}
		headers := append([]string{"X-Request-Id", "golden"}, c.Header...)
		if !c.Anon {
			headers = append(headers, "Authorization", "Bearer "+b.key)
		}
		got := b.call(c.Method, fill.Replace(c.Path), body, headers...)
		require.Equal(t, "application/problem+json", got.header.Get("Content-Type"), c.Name)
		require.GreaterOrEqual(t, got.status, 400, c.Name)
		require.Less(t, got.status, 500, "%s: %s", c.Name, got.body)
		if path, query, _ := strings.Cut(fill.Replace(c.Path), "?"); c.Method == "POST" && path == "/v1.0/emails" {
			preview := b.call(c.Method, path+"/preview?"+query, body, headers...)
			require.Equal(t, got.status, preview.status, c.Name)
			require.JSONEq(t, got.body, preview.body, "a preview of "+c.Name)
			previewed++
		}
		got.body = strings.ReplaceAll(got.body, b.customer.ID, "{customer}")
		if *update {
			cases[i].Status, cases[i].Answer = got.status, json.RawMessage(got.body)
			continue
		}
		require.Equal(t, c.Status, got.status, c.Name)
		require.JSONEq(t, string(c.Answer), got.body, c.Name)
	}
	require.Greater(t, previewed, 50, "a preview is refused as the e-mail is")
	if *update {
		out, err := json.MarshalIndent(cases, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(golden, append(out, '\n'), 0o644))
	}
	require.Len(t, b.dispatch.accepted(), before, "nothing is sent")
	es, _, err := b.store.Mail.Emails(t.Context(), b.customer.ID, email.Filter{}, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Empty(t, es, "nothing is stored")
}
