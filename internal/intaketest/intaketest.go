// Package intaketest is for the tests of packages that read messages with internal/intake.
package intaketest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/memtest"
)

// Now is the present of Limits.
var Now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Limits are those of the tests: 50 recipients, 1 MiB, and every URL but those of blocked.test.
func Limits() intake.Limits {
	check := func(url string) error {
		if strings.Contains(url, "blocked.test") {
			return errors.New("the address is blocked")
		}
		return nil
	}
	return intake.Limits{MaxRecipients: 50, MaxMessageBytes: 1 << 20, Now: Now, CheckURL: check, CheckAttachmentURL: func(_, url string) error { return check(url) }}
}

// With is a body that is accepted, with more members.
func With(members string) string {
	return `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t",` + members + `}`
}

// Quoted is a JSON string.
func Quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can be marshalled
	}
	return string(text)
}

// Many is a list's content: so many times a member that they have 8 MiB.
func Many(member string) string { return strings.Repeat(member+",", 8<<20/(len(member)+1)) + member }

// Named is an object's content: n members that are empty strings.
func Named(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d":""`, i)
	}
	return strings.Join(names, ",")
}

// RefusesMembers checks that decode refuses a body for the number of members at pointer, and
// that it does so before it makes anything of them. The test is not parallel: other tests'
// memory would count.
func RefusesMembers(t *testing.T, body, pointer string, decode func(body []byte) error) {
	t.Helper()
	raw := []byte(body)
	before := memtest.Allocated()
	err := decode(raw)
	require.Less(t, memtest.Allocated()-before, int64(4<<20), "bytes, for a body of 8 MiB")
	f := Failure(t, err)
	require.Equal(t, email.CodeInvalidRequest, f.Code)
	require.Equal(t, pointer+" too_many", f.Fields[0].Pointer+" "+f.Fields[0].Code)
}

// Failure is the refusal that an error is.
func Failure(t *testing.T, err error) *email.Failure {
	t.Helper()
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok, "%v", err)
	require.NotEmpty(t, f.Fields)
	return f
}

var domainShape = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)

// Holds checks the promises of a message.
func Holds(t *testing.T, m email.Message) {
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
	require.LessOrEqual(t, m.Size(), Limits().MaxMessageBytes)
	require.False(t, m.SendAt.After(Now.Add(email.MaxScheduleAhead)))
	require.True(t, m.ExpiresAt.IsZero() || m.ExpiresAt.After(Now) && m.ExpiresAt.After(m.SendAt))
	require.Equal(t, time.UTC, m.SendAt.Location())
	require.NotEmpty(t, m.OnAmbiguous)
	require.NotEmpty(t, m.Stream)
	require.Equal(t, intake.Fingerprint(m), intake.Fingerprint(m))
}
