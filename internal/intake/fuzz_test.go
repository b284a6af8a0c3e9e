package intake_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

var domainShape = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)

// FuzzDecode looks for a panic, an error that is no refusal, and a message that
// breaks what email.Message promises.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"from":{"email":"a@example.com","name":"N"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"text":"t","html":"<p>"},"headers":{"X-A":"b"},"metadata":{"a":"b"},"tags":["t"]}`,
		`{"source":{"type":"email","target":"a@example.com","target_name":"N","name":"","detail":""},"destinations":[{"target":"b@x.test"}],"subject":"","content":"t","attachments":[{"filename":"a","content":"aGk=","content_id":"x","type":"text/plain"}]}`,
		with(`"cc":[{"email":"用户@例え.jp"}],"bcc":[{"email":"c@x.test"}],"send_at":"2026-01-02T00:00:00Z","expires_at":"2026-01-03T00:00:00Z","on_ambiguous":"fail","stream":"broadcast"`),
		with(`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","optional":true}]`),
		`{"from":{"email":"a@example.com"},"bcc":[{"email":"b@x.test"}],"subject":"s","content":{"html":"<a href='http://x'>y</a><pre>&#0;<li>"}}`,
		`{"from":"x"}`, `[`, `{"content":{}}`, `{"headers":{"a":1}}`, "{\"subject\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := string(body)
		m, err := intake.Decode(body, limits())
		require.Equal(t, before, string(body), "the body is not written to")
		if err != nil {
			refusal, ok := errors.AsType[*email.Failure](err)
			require.True(t, ok, "%v", err)
			require.Contains(t, []email.Code{email.CodeMalformedJSON, email.CodeInvalidRequest, email.CodeTooLarge}, refusal.Code)
			require.NotEmpty(t, refusal.Fields)
			for _, e := range refusal.Fields {
				require.True(t, e.Pointer == "" || e.Pointer[0] == '/', "%q", e.Pointer)
				require.NotEmpty(t, e.Code)
				require.NotEmpty(t, e.Detail)
			}
			return
		}
		holds(t, m.Message)
	})
}

// holds checks the promises of a message.
func holds(t *testing.T, m email.Message) {
	t.Helper()
	seen := map[string]bool{}
	for _, list := range [][]email.Address{m.To, m.Cc, m.Bcc} {
		for _, a := range list {
			require.False(t, seen[a.Email], "%q is one recipient", a.Email)
			seen[a.Email] = true
		}
	}
	require.NotEmpty(t, seen)
	require.LessOrEqual(t, len(seen), 50)
	header := []string{m.Subject}
	for _, list := range [][]email.Address{{m.From}, m.ReplyTo, m.To, m.Cc, m.Bcc} {
		for _, a := range list {
			local, domain, ok := strings.Cut(a.Email, "@")
			require.True(t, ok)
			require.NotEmpty(t, local)
			require.LessOrEqual(t, len(local), 64)
			require.LessOrEqual(t, len(a.Email), 254)
			require.Regexp(t, domainShape, domain)
			require.False(t, strings.ContainsAny(local, " <>()[]\\,;:\""), "%q", local)
			header = append(header, a.Email, a.Name, a.Label, a.Detail)
		}
	}
	for _, h := range m.Headers {
		require.Regexp(t, `^[A-Za-z0-9-]{1,64}$`, h.Name)
		require.NotContains(t, []string{"from", "bcc", "date", "content-type", "received"}, strings.ToLower(h.Name))
		header = append(header, h.Value)
	}
	for _, a := range m.Attachments {
		header = append(header, a.Filename, a.Type, a.ContentID, a.ReferenceID)
		require.NotEqual(t, a.Content == nil, a.ReferenceType == "", "content or a reference")
		if a.ReferenceType == "" {
			require.NotEmpty(t, a.Filename)
			require.NotEmpty(t, a.Type)
		}
		require.NotContains(t, a.Filename, "/")
	}
	for _, s := range header {
		require.True(t, utf8.ValidString(s), "%q", s)
		require.Negative(t, strings.IndexFunc(s, unicode.IsControl), "%q", s)
		require.LessOrEqual(t, len(s), 998)
	}
	for _, s := range []string{m.Text, m.HTML} {
		require.True(t, utf8.ValidString(s))
		require.NotContains(t, s, "\x00")
	}
	require.False(t, m.Text == "" && m.HTML == "")
	require.LessOrEqual(t, m.Size(), limits().MaxMessageBytes)
	require.False(t, m.SendAt.After(now.Add(email.MaxScheduleAhead)))
	require.True(t, m.ExpiresAt.IsZero() || m.ExpiresAt.After(now) && m.ExpiresAt.After(m.SendAt))
	require.Equal(t, time.UTC, m.SendAt.Location())
	require.NotEmpty(t, m.OnAmbiguous)
	require.NotEmpty(t, m.Stream)
	require.Equal(t, intake.Fingerprint(m), intake.Fingerprint(m))
}
