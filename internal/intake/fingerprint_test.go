package intake_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func TestFingerprintOfTheSameMessage(t *testing.T) {
	t.Parallel()
	a := decode(t, `{"from":{"email":"a@Example.com","name":"A"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"text":"t"},"metadata":{"a":"1","b":"2"},
		"attachments":[{"filename":"x/a.txt","content":"aGk="}]}`)
	b := decode(t, `{"subject":"s","metadata":{"b":"2","a":"1"},"source":{"type":"email","target":"a@example.com","target_name":"A"},"destinations":[{"target":"b@example.net"},{"target":"b@example.NET"}],
		"content":"t","tags":[],"stream":"transactional","attachments":[{"filename":"a.txt","content":"aGk=","type":"text/plain; charset=utf-8","optional":false}]}`)
	require.Equal(t, intake.Fingerprint(a), intake.Fingerprint(b))
	require.Len(t, intake.Fingerprint(a), 64)

	html := decode(t, `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"html":"<p>t"}}`)
	other := html
	other.Text = "made in another way"
	require.Equal(t, intake.Fingerprint(html), intake.Fingerprint(other))
	given := html
	given.TextFromHTML = false
	require.NotEqual(t, intake.Fingerprint(html), intake.Fingerprint(given))
}

// Fingerprints are stored for IdempotencyKept: a change of the form needs a new version.
func TestFingerprintIsStable(t *testing.T) {
	t.Parallel()
	m := decode(t, with(`"tags":["x"],"send_at":"2026-02-01T10:00:00+01:00","headers":{"X-A":"1"}`))
	require.Equal(t, "b64efe1e0a77907f41d9e43db2d226642f01370a2c087b11a64716d21bd075d0", intake.Fingerprint(m))
}

func TestFingerprintOfOtherMessages(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, members := range []string{
		`"tags":[]`, `"tags":["x"]`, `"tags":["x","y"]`, `"tags":["y","x"]`, `"tags":["xy"]`,
		`"cc":[{"email":"c@x.test"}]`, `"bcc":[{"email":"c@x.test"}]`, `"reply_to":[{"email":"c@x.test"}]`, `"cc":[{"email":"c@x.test","name":"C"}]`,
		`"cc":[{"target":"c@x.test","name":"C"}]`, `"cc":[{"target":"c@x.test","detail":"C"}]`,
		`"headers":{"X-A":"1"}`, `"headers":{"X-A":"1","X-B":"2"}`, `"headers":{"X-B":"2","X-A":"1"}`, `"metadata":{"X-A":"1"}`,
		`"send_at":"2026-02-01T10:00:00Z"`, `"send_at":"2025-02-01T10:00:00Z"`, `"expires_at":"2026-02-01T10:00:00Z"`, `"on_ambiguous":"fail"`, `"stream":"broadcast"`, `"ignore_suppressions":true`,
		`"attachments":[{"filename":"a.txt","content":"aGk="}]`, `"attachments":[{"filename":"b.txt","content":"aGk="}]`, `"attachments":[{"filename":"a.txt","content":"aGo="}]`,
		`"attachments":[{"filename":"a.txt","content":"aGk=","type":"text/csv"}]`, `"attachments":[{"filename":"a.txt","content":"aGk=","optional":true}]`,
		`"attachments":[{"filename":"a.txt","content":"aGk=","content_id":"a"}]`,
		`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]`,
		`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80412"}]`,
		`"attachments":[{"reference_type":"file","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80412"}]`,
		`"attachments":[{"url":"https://x.test/a"}]`, `"attachments":[{"url":"https://x.test/b"}]`, `"attachments":[{"url":"https://x.test/b","filename":"b"}]`,
	} {
		f := intake.Fingerprint(decode(t, with(members)))
		require.Empty(t, seen[f], "%s has the fingerprint of %s", members, seen[f])
		seen[f] = members
	}
	base := decode(t, with(`"tags":[]`))
	for name, change := range map[string]func(*email.Message){
		"from": func(m *email.Message) { m.From.Email = "z@example.com" }, "to": func(m *email.Message) { m.To[0].Email = "z@example.com" },
		"subject": func(m *email.Message) { m.Subject += "t"; m.Text = "" }, "text": func(m *email.Message) { m.Text += "x" }, "html": func(m *email.Message) { m.HTML = m.Text },
	} {
		m := base
		m.To = append([]email.Address(nil), base.To...)
		change(&m)
		f := intake.Fingerprint(m)
		require.Empty(t, seen[f], name)
		seen[f] = name
	}
}
