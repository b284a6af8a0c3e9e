package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// previewCase is one line of the golden file. In Body, {pdf} stands for 5000 bytes in
// base64; in Answer, {date} for the time.
type previewCase struct {
	Name   string          `json:"name"`
	Body   json.RawMessage `json:"body"`
	Answer json.RawMessage `json:"answer"`
}

var dateField = regexp.MustCompile(`Date: (.*?)\\r\\n`)

// TestPreview compares the whole answers to the two examples of VoIPBIN's documentation, and to a
// mail for which most checks warn.
func TestPreview(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const file = "testdata/previews.json"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var cases []previewCase
	require.NoError(t, json.Unmarshal(text, &cases))
	require.Len(t, cases, 3)
	pdf := base64.StdEncoding.EncodeToString(append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte{0xff}, 4991)...))
	for i, c := range cases {
		got := b.as("POST", "/v1.0/emails/preview", strings.ReplaceAll(string(c.Body), "{pdf}", pdf))
		require.Equal(t, 200, got.status, "%s: %s", c.Name, got.body)
		date := dateField.FindStringSubmatch(got.body)
		require.NotNil(t, date, c.Name)
		at, err := mail.ParseDate(date[1])
		require.NoError(t, err, c.Name)
		require.WithinDuration(t, time.Now(), at, time.Minute, c.Name)
		answer := dateField.ReplaceAllString(got.body, `Date: {date}\r\n`)
		if *update {
			cases[i].Answer = json.RawMessage(answer)
			continue
		}
		require.JSONEq(t, string(c.Answer), answer, c.Name)
	}
	if *update {
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		require.NoError(t, enc.Encode(cases))
		require.NoError(t, os.WriteFile(file, out.Bytes(), 0o644))
	}
	es, _, err := b.store.Mail.Emails(t.Context(), b.customer.ID, email.Filter{}, email.Cursor{}, 10)
	require.NoError(t, err)
	require.Empty(t, es, "nothing is stored")
	require.Empty(t, b.dispatch.accepted(), "nothing is sent")
	months, err := b.store.Accounts.Usage(t.Context(), b.customer.ID, 1)
	require.NoError(t, err)
	require.Empty(t, months, "nothing is charged")
}

// preview is the decoded answer.
type preview struct {
	Source    string
	Shortened []string
	SizeBytes int `json:"size_bytes"`
	Text      string
	Checks    []struct{ ID, Level, Detail, Where string }
}

func (b *bench) preview(body string) preview {
	b.t.Helper()
	a := b.as("POST", "/v1.0/emails/preview", body)
	require.Equal(b.t, 200, a.status, a.body)
	var out preview
	a.decode(b.t, &out)
	return out
}

// level returns the level of a check; empty if the answer does not have it.
func (p preview) level(id string) string {
	for _, c := range p.Checks {
		if c.ID == id {
			return c.Level
		}
	}
	return ""
}

func TestPreviewChecksSenderOfStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 5 {
		require.Equal(t, 202, b.as("POST", "/v1.0/emails", basic).status)
	}
	require.Equal(t, "ok", b.preview(basic).level("sender"))
	other := strings.Replace(basic, "shop@", "sales@", 1)
	require.Equal(t, "advice", b.preview(other).level("sender"))
	broadcast := strings.TrimSuffix(other, "}") + `,"stream":"broadcast"}`
	require.Equal(t, "ok", b.preview(broadcast).level("sender"), "a stream of its own")
	require.Equal(t, "warning", b.preview(broadcast).level("unsubscribe"))
	require.Equal(t, "", b.preview(basic).level("unsubscribe"))
}

func TestPreviewOpensNoReference(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := strings.Repeat("x", 100_000)
	f, err := b.store.Files.StoreFile(t.Context(), b.customer.ID, email.File{Filename: "report.pdf", Type: "application/pdf"}, strings.NewReader(content))
	require.NoError(t, err)
	p := b.preview(strings.TrimSuffix(basic, "}") + `,"attachments":[
		{"filename":"small.txt","content":"aGVsbG8="},
		{"reference_type":"file","reference_id":"` + f.ID + `"},
		{"reference_type":"recording","reference_id":"` + uuid.NewString() + `"},
		{"url":"https://files.example.com/a?key=secret"}]}`)
	require.Equal(t, []string{"/attachments/1", "/attachments/2", "/attachments/3"}, p.Shortened)
	require.Contains(t, p.Source, "aGVsbG8=")
	require.Contains(t, p.Source, "report.pdf")
	require.Contains(t, p.Source, "[100000 bytes in base64 are left out of this preview]")
	require.Contains(t, p.Source, "[what this recording holds is fetched when the e-mail is due]")
	require.Contains(t, p.Source, "[what this url holds is fetched when the e-mail is due]")
	require.NotContains(t, p.Source, "secret")
	require.Greater(t, p.SizeBytes, 100_000*4/3)
	require.Equal(t, "advice", p.level("attachment_references"))
}

func TestPreviewDateIsSendAt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := time.Now().AddDate(0, 1, 0).UTC().Truncate(time.Second)
	p := b.preview(strings.TrimSuffix(basic, "}") + `,"send_at":"` + at.Format(time.RFC3339) + `"}`)
	require.Contains(t, p.Source, "Date: "+at.Format(time.RFC1123Z)+"\r\n")
	require.Equal(t, len(p.Source), p.SizeBytes)
	p = b.preview(strings.TrimSuffix(basic, "}") + `,"send_at":"2020-01-01T00:00:00Z"}`)
	require.NotContains(t, p.Source, " 2020 ")

	html := b.preview(strings.Replace(basic, `"text":"Thanks",`, "", 1))
	require.Equal(t, "Thanks", html.Text, "made from the HTML")
	require.Equal(t, "advice", html.level("both_versions"))
	without := func(p preview) string { return regexp.MustCompile("Date: .*\r\n").ReplaceAllString(p.Source, "") }
	require.Equal(t, without(b.preview(basic)), without(b.preview(basic)), "the same message looks the same")
}

func TestPreviewRequiresSendScope(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for scope, status := range map[account.Scope]int{account.ScopeSend: 200, account.ScopeRead: 403} {
		_, key, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, Scopes: []account.Scope{scope}})
		require.NoError(t, err)
		require.Equal(t, status, b.with(key, "POST", "/v1.0/emails/preview", basic).status, scope)
	}
	_, key, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, SenderDomains: []string{"news.test"}})
	require.NoError(t, err)
	sent, previewed := b.with(key, "POST", "/v1.0/emails", basic), b.with(key, "POST", "/v1.0/emails/preview", basic)
	require.Equal(t, 403, previewed.status)
	require.Equal(t, sent.field(t, "detail"), previewed.field(t, "detail"))
}

// A preview refuses content over previewBody.
func TestPreviewLimitsContent(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: 25 << 20})
	for n, want := range map[int]int{4 << 20: http.StatusOK, 4<<20 + 1: http.StatusRequestEntityTooLarge} {
		single := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":%q}`, strings.Repeat("x", n))
		require.Equal(t, want, b.as("POST", "/v1.0/emails/preview", single).status, n)
		batch := b.as("POST", "/v1.0/emails/preview", fmt.Sprintf(`{"messages":[%s]}`, single))
		require.Equal(t, want, batch.status, n)
		if want != http.StatusOK {
			require.Contains(t, batch.body, `"pointer":"/messages/0/content"`)
		}
	}
}
