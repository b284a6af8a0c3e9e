package intake_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func TestDecodeRefusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000)
	for _, row := range []struct{ body, want string }{
		// Bodies that cannot be decoded.
		{``, "malformed_json  malformed"},
		{" \r\n", "malformed_json  malformed"},
		{`[]`, "malformed_json  malformed"},
		{`"x"`, "malformed_json  malformed"},
		{`null`, "malformed_json  malformed"},
		{"\ufeff{}", "malformed_json  malformed"},
		{`{`, "malformed_json  malformed"},
		{`{"subject":`, "malformed_json /subject malformed"},
		{`{"from":`, "malformed_json /from malformed"},
		{`{"from":x}`, "malformed_json /from malformed"},
		{`{"content":}`, "malformed_json /content malformed"},
		{`{"headers":`, "malformed_json /headers malformed"},
		{with(`"tags":["a",]`), "malformed_json /tags malformed"},
		{with(`"tags":[]`) + `{}`, "malformed_json  malformed"},
		{with(`"subject":"t"`), "malformed_json /subject duplicate"},
		{with(`"headers":{"X-A":"1","X-A":"2"}`), "malformed_json /headers/X-A duplicate"},
		{with("\"tags\":[\"\xff\"]"), "malformed_json /tags/0 invalid_utf8"},
		{with(`"tags":["\ud800"]`), "malformed_json /tags/0 lone_surrogate"},
		{with(`"metadata":{"a":"x\ude00\ud83d"}`), "malformed_json /metadata/a lone_surrogate"},
		{with(`"tags":["\uD83d\ud83d\ude00"]`), "malformed_json /tags/0 lone_surrogate"},
		{with(`"tags":["\u12"]`), "malformed_json /tags/0 malformed"},
		{with(`"tags":["\ud83d\ude00","\x"]`), "malformed_json /tags/1 malformed"},
		{with(`"tags":["\ud83d\ude00\x"]`), "malformed_json /tags/0 malformed"},
		{`{"subject":"\ud83d`, "malformed_json /subject malformed"},
		{with("\"tags\":[\"a\nb\"]"), "malformed_json /tags/0 malformed"},

		// Types and names.
		{with(`"x":1`), "invalid_request /x unknown"},
		{with(`"Cc":[]`), "invalid_request /Cc unknown"},
		{with(`"callback_url":"https://blocked.test"`), "invalid_request /callback_url invalid"},
		{with(`"callback_url":"https://x.test/` + strings.Repeat("x", 2048) + `"`), "invalid_request /callback_url too_long"},
		{with(`"sensitive":true`), "invalid_request /sensitive unknown"},
		{with(`"` + long + `":1`), "invalid_request  unknown"},
		{with(`"tags":"x"`), "invalid_request /tags wrong_type"},
		{with(`"tags":[5]`), "invalid_request /tags/0 wrong_type"},
		{with(`"tags":[null]`), "invalid_request /tags/0 wrong_type"},
		{with(`"cc":"x@y.test"`), "invalid_request /cc wrong_type"},
		{with(`"cc":["x@y.test"]`), "invalid_request /cc/0 wrong_type"},
		{with(`"cc":[null]`), "invalid_request /cc/0 wrong_type"},
		{with(`"cc":[{"mail":"x"}]`), "invalid_request /cc/0/mail unknown"},
		{with(`"cc":[{"email":5}]`), "invalid_request /cc/0/email wrong_type"},
		{with(`"headers":[]`), "invalid_request /headers wrong_type"},
		{with(`"headers":{"X-A":5}`), "invalid_request /headers/X-A wrong_type"},
		{with(`"headers":{"X-A":null}`), "invalid_request /headers/X-A wrong_type"},
		{with(`"metadata":{"a/b~":5}`), "invalid_request /metadata/a~1b~0 wrong_type"},
		{with(`"metadata":{"a/b~":null}`), "invalid_request /metadata/a~1b~0 wrong_type"},
		{with(`"attachments":{}`), "invalid_request /attachments wrong_type"},
		{with(`"attachments":[{"optional":"yes"}]`), "invalid_request /attachments/0/optional wrong_type"},

		// Sender and recipients.
		{`{"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /from missing"},
		{`{"from":"a@b.test","to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /from wrong_type"},
		{`{"from":{},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /from/email missing"},
		{`{"source":{"type":"email"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /source/target missing"},
		{`{"source":{"type":"tel","target":"1"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /source/type unsupported"},
		{`{"from":{"email":"a@x.test","target":"x"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /from named_twice"},
		{`{"from":{"email":"a@x.test","name":"a\r\nBcc: e@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /from/name control_character"},
		{`{"from":{"email":"a@x.test\r\nX: y"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`, "invalid_request /from/email invalid_address"},
		{with(`"source":{"target":"a@x.test"}`), "invalid_request /source named_twice"},
		{with(`"destinations":[]`), "invalid_request /destinations named_twice"},
		{with(`"cc":[{"email":"x"}]`), "invalid_request /cc/0/email invalid_address"},
		{with(`"bcc":[{"email":"x@x.test","name":"` + long + `"}]`), "invalid_request /bcc/0/name too_long"},
		{with(`"cc":[{"target":"c@x.test","target_name":"a\u0000b"}]`), "invalid_request /cc/0/target_name control_character"},
		{with(`"cc":[{"target":"c@x.test","name":"a\u0000b"}]`), "invalid_request /cc/0/name control_character"},
		{with(`"reply_to":[{"email":"@"}]`), "invalid_request /reply_to/0/email invalid_address"},
		{with(`"reply_to":[` + strings.Repeat(`{"email":"b@x.test"},`, 10) + `{"email":"b@x.test"}]`), "invalid_request /reply_to too_many"},
		{with(`"cc":[` + strings.Repeat(`{"email":"b@x.test"},`, 49) + `{"email":"b@x.test"}]`), "invalid_request /to too_many"},
		{`{"from":{"email":"a@x.test"},"subject":"s","content":"t"}`, "invalid_request /to missing"},
		{`{"from":{"email":"a@x.test"},"destinations":[],"subject":"s","content":"t"}`, "invalid_request /destinations missing"},

		// Subject and content.
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"content":"t"}`, "invalid_request /subject missing"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"a\r\nBcc: e@x.test","content":"t"}`, "invalid_request /subject control_character"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"a\u2028b","content":"t"}`, "invalid_request /subject control_character"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"` + long + `","content":"t"}`, "invalid_request /subject too_long"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s"}`, "invalid_request /content missing"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":""}`, "invalid_request /content missing"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"text":"","html":null}}`, "invalid_request /content missing"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":5}`, "invalid_request /content wrong_type"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"txt":"x"}}`, "invalid_request /content/txt unknown"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"a\u0000b"}`, "invalid_request /content control_character"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"text":"a\u0000b"}}`, "invalid_request /content/text control_character"},
		{`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"html":"a\u0000b"}}`, "invalid_request /content/html control_character"},

		// Options.
		{with(`"headers":{"From":"x"}`), "invalid_request /headers/From reserved"},
		{with(`"headers":{"content-type":"x"}`), "invalid_request /headers/content-type reserved"},
		{with(`"headers":{"BCC":"e@x.test"}`), "invalid_request /headers/BCC reserved"},
		{with(`"headers":{"Return-Path":"x"}`), "invalid_request /headers/Return-Path reserved"},
		{with(`"headers":{"Resent-To":"x"}`), "invalid_request /headers/Resent-To reserved"},
		{with(`"headers":{"ARC-Seal":"x"}`), "invalid_request /headers/ARC-Seal reserved"},
		{with(`"headers":{"X-Postrider-Id":"x"}`), "invalid_request /headers/X-Postrider-Id reserved"},
		{with(`"headers":{"X-A":"1","x-a":"2"}`), "invalid_request /headers/x-a named_twice"},
		{with(`"headers":{"X-A":"a\nBcc: e@x.test"}`), "invalid_request /headers/X-A control_character"},
		{with(`"headers":{"X-A":"a\n"}`), "invalid_request /headers/X-A control_character"},
		{with(`"headers":{"X-A":"` + long + `"}`), "invalid_request /headers/X-A too_long"},
		{with(`"headers":{"":"1"}`), "invalid_request /headers invalid_name"},
		{with(`"headers":{"X A: b\r\nX-C":"1"}`), "invalid_request /headers invalid_name"},
		{with(`"headers":{` + members(51, "X-%d") + `}`), "invalid_request /headers too_many"},
		{with(`"metadata":{"":"1"}`), "invalid_request /metadata invalid_name"},
		{with(`"metadata":{"a":"\u0000"}`), "invalid_request /metadata/a control_character"},
		{with(`"metadata":{"a":"` + long + `"}`), "invalid_request /metadata/a too_long"},
		{with(`"metadata":{` + members(51, "%d") + `}`), "invalid_request /metadata too_many"},
		{with(`"tags":["a b"]`), "invalid_request /tags/0 invalid"},
		{with(`"tags":[` + strings.Repeat(`"a",`, 20) + `"a"]`), "invalid_request /tags too_many"},
		{with(`"send_at":"tomorrow"`), "invalid_request /send_at invalid"},
		{with(`"send_at":"2027-02-01T00:00:00Z"`), "invalid_request /send_at too_late"},
		{with(`"expires_at":""`), "invalid_request /expires_at invalid"},
		{with(`"expires_at":"2025-02-01T00:00:00Z"`), "invalid_request /expires_at past"},
		{with(`"expires_at":"0001-01-01T00:00:00Z"`), "invalid_request /expires_at past"},
		{with(`"expires_at":"9999-12-31T23:59:59-01:00"`), "invalid_request /expires_at too_late"},
		{with(`"send_at":"2026-02-01T00:00:00Z","expires_at":"2026-02-01T00:00:00Z"`), "invalid_request /expires_at before_send_at"},
		{with(`"on_ambiguous":"maybe"`), "invalid_request /on_ambiguous invalid"},
		{with(`"stream":""`), "invalid_request /stream invalid"},

		// Attachments.
		{with(`"attachments":[{}]`), "invalid_request /attachments/0/content missing"},
		{with(`"attachments":[{"url":"https://blocked.test"}]`), "invalid_request /attachments/0/url invalid"},
		{with(`"attachments":[{"reference_type":"url"}]`), "invalid_request /attachments/0/url missing"},
		{with(`"attachments":[{"url":5}]`), "invalid_request /attachments/0/url wrong_type"},
		{with(`"attachments":[{"url":"https://x.test","content":"aGk="}]`), "invalid_request /attachments/0 named_twice"},
		{with(`"attachments":[{"reference_type":"url","content":"aGk="}]`), "invalid_request /attachments/0 named_twice"},
		{with(`"attachments":[{"url":"https://x.test","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]`), "invalid_request /attachments/0 named_twice"},
		{with(`"attachments":[{"url":"https://x.test","reference_type":"recording"}]`), "invalid_request /attachments/0 named_twice"},
		{with(`"attachments":[{"url":"https://x.test","filename":"a.exe"}]`), "invalid_request /attachments/0/filename attachment_blocked"},
		{with(`"attachments":[{"url":"https://x.test","type":"text/javascript"}]`), "invalid_request /attachments/0/type attachment_blocked"},
		{with(`"attachments":[{"url":"https://x.test","content_id":"a b"}]`), "invalid_request /attachments/0/content_id invalid"},
		{with(`"attachments":[{"content":"aGk="}]`), "invalid_request /attachments/0/filename missing"},
		{with(`"attachments":[{"filename":"..","content":"aGk="}]`), "invalid_request /attachments/0/filename missing"},
		{with(`"attachments":[{"filename":"a\nb","content":"aGk="}]`), "invalid_request /attachments/0/filename control_character"},
		{with(`"attachments":[{"filename":"` + long + `","content":"aGk="}]`), "invalid_request /attachments/0/filename too_long"},
		{with(`"attachments":[{"filename":"a","content":"!"}]`), "invalid_request /attachments/0/content invalid_base64"},
		{with(`"attachments":[{"filename":"a","content":"aGk=="}]`), "invalid_request /attachments/0/content invalid_base64"},
		{with(`"attachments":[{"filename":"a","content":7}]`), "invalid_request /attachments/0/content wrong_type"},
		{with(`"attachments":[{"filename":"a","content":5}]`), "invalid_request /attachments/0/content wrong_type"},
		{with(`"attachments":[{"filename":"a","content":"aGk=","type":"nonsense"}]`), "invalid_request /attachments/0/type invalid"},
		{with(`"attachments":[{"filename":"a","content":"aGk=","type":"a/b\r\nX: y"}]`), "invalid_request /attachments/0/type invalid"},
		{with(`"attachments":[{"filename":"a","content":"aGk=","type":"message/partial"}]`), "invalid_request /attachments/0/type unsupported"},
		{with(`"attachments":[{"filename":"a","content":"aGk=","content_id":"a b"}]`), "invalid_request /attachments/0/content_id invalid"},
		{with(`"attachments":[{"filename":"a","content":"aGk=","content_id":"x"},{"filename":"b","content":"aGk=","content_id":"<x>"}]`), "invalid_request /attachments/1/content_id named_twice"},
		{with(`"attachments":[{"reference_type":"recording","reference_id":"x"}]`), "invalid_request /attachments/0/reference_id invalid"},
		{with(`"attachments":[{"reference_type":"recording","reference_id":"urn:uuid:1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]`), "invalid_request /attachments/0/reference_id invalid"},
		{with(`"attachments":[{"reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]`), "invalid_request /attachments/0/reference_type missing"},
		{with(`"attachments":[{"reference_type":"file","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","filename":"a.js"}]`), "invalid_request /attachments/0/filename attachment_blocked"},
		{with(`"attachments":[{"reference_type":"file"}]`), "invalid_request /attachments/0/reference_id invalid"},
		{with(`"attachments":[{"reference_type":"file","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","type":"x"}]`), "invalid_request /attachments/0/type invalid"},
		{with(`"attachments":[{"reference_type":"file","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","content_id":"a b"}]`), "invalid_request /attachments/0/content_id invalid"},
		{with(`"attachments":[{"reference_type":"invoice","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]`), "invalid_request /attachments/0/reference_type unsupported"},
		{with(`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","content":"aGk="}]`), "invalid_request /attachments/0 named_twice"},
		{with(`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","type":"audio/wav"}]`), "invalid_request /attachments/0/type unsupported"},
		{with(`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","filename":"a.exe"}]`), "invalid_request /attachments/0/filename attachment_blocked"},
		{with(`"attachments":[` + strings.Repeat(`{},`, 50) + `{}]`), "invalid_request /attachments too_many"},
	} {
		_, err := intake.Decode([]byte(row.body), limits())
		f := failure(t, err)
		require.Equal(t, row.want, fmt.Sprintf("%s %s %s", f.Code, f.Fields[0].Pointer, f.Fields[0].Code), "%.300s", row.body)
		require.Len(t, f.Fields, 1, "%.300s: %v", row.body, err)
		require.NotEmpty(t, f.Detail)
		require.NotEmpty(t, f.Fields[0].Detail)
	}
}

// members are n members of an object of strings.
func members(n int, name string) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`"`+name+`":""`, i)
	}
	return strings.Join(out, ",")
}

func TestDecodeRefusesAPlainStringWithTheShape(t *testing.T) {
	t.Parallel()
	_, err := intake.Decode([]byte(with(`"cc":["x@y.test"]`)), limits())
	require.Contains(t, failure(t, err).Fields[0].Detail, `{"email": "…"`)
}

func TestDecodeCollectsProblemsInOrder(t *testing.T) {
	t.Parallel()
	body := `{"stream":"SECRET","from":{"email":"SECRET","name":"SECRET\n"},"to":[{"email":"SECRET"},{"email":"ok@x.test"}],"destinations":[],"tags":["SECRET SECRET"],"content":"",
		"headers":{"Date":"SECRET","X-A":"SECRET\n"},"metadata":{"b":"\u0000SECRET","a":"\u0000SECRET"},"send_at":"SECRET","expires_at":"SECRET",
		"attachments":[{"filename":"SECRET.exe","content":"aGk=","type":"SECRET","content_id":"SECRET !"}],"on_ambiguous":"SECRET"}`
	want := []string{"/from/email", "/from/name", "/destinations", "/to/0/email", "/subject", "/content", "/attachments/0/content_id", "/attachments/0/type",
		"/attachments/0/filename", "/headers/Date", "/headers/X-A", "/metadata/a", "/metadata/b", "/tags/0", "/send_at", "/expires_at", "/on_ambiguous", "/stream"}
	for range 5 {
		_, err := intake.Decode([]byte(body), limits())
		var got []string
		for _, e := range failure(t, err).Fields {
			got = append(got, e.Pointer)
		}
		require.Equal(t, want, got)
		require.NotContains(t, err.Error(), "SECRET", "values are never repeated")
	}
}

func TestDecodeBoundsProblems(t *testing.T) {
	t.Parallel()
	bad := strings.TrimSuffix(strings.Repeat(`{"email":"x"},`, 5000), ",")
	_, err := intake.Decode([]byte(`{"from":{"email":"a@x.test"},"to":[`+bad+`],"subject":"s","content":"t"}`), intake.Limits{MaxRecipients: 5000, Now: now})
	require.Len(t, failure(t, err).Fields, 100)
}

func TestDecodeTooLarge(t *testing.T) {
	t.Parallel()
	l := limits()
	l.MaxMessageBytes = 10
	body := func(text, file string) []byte {
		return []byte(`{"from":{"email":"a@x.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"text":"` + text + `","html":"12"}` + file + `}`)
	}
	const file = `,"attachments":[{"filename":"a.txt","content":"aGVsbG8="}]` // hello
	_, err := intake.Decode(body("123", file), l)
	require.NoError(t, err, "as large as the limit")
	_, err = intake.Decode(body("1234", file), l)
	f := failure(t, err)
	require.Equal(t, email.CodeTooLarge, f.Code)
	require.Equal(t, email.FieldError{Pointer: "/attachments", Code: "too_large", Detail: f.Detail}, f.Fields[0])
	require.Equal(t, "text, HTML and decoded attachments have 11 bytes together, the limit is 10: put large files where they can be downloaded, and send the links", f.Detail)
	_, err = intake.Decode(body("123456789", ""), l)
	f = failure(t, err)
	require.Equal(t, "/content", f.Fields[0].Pointer)
	require.Contains(t, f.Detail, "have 11 bytes together, the limit is 10")
}

// Without POSTRIDER_RECORDING_URL a recording is refused when the message is accepted, optional
// or not.
func TestDecodeRefusesRecordingsWithoutURL(t *testing.T) {
	t.Parallel()
	l := limits()
	for _, more := range []string{"", `,"optional":true`} {
		body := []byte(with(`"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"` + more + `}]`))
		l.NoRecordings = false
		_, err := intake.Decode(body, l)
		require.NoError(t, err)
		l.NoRecordings = true
		_, err = intake.Decode(body, l)
		f, ok := errors.AsType[*email.Failure](err)
		require.True(t, ok)
		require.Equal(t, "/attachments/0/reference_type", f.Fields[0].Pointer)
		require.Contains(t, f.Fields[0].Detail, "POSTRIDER_RECORDING_URL")
	}
}
