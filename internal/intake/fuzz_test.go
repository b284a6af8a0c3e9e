package intake_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/intaketest"
)

// FuzzDecode looks for a panic, an error that is not an *email.Failure, and a message that is
// not valid by the comment of email.Message.
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
		intaketest.Holds(t, m.Message)
	})
}
