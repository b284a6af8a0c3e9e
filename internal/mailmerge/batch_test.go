package mailmerge_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intaketest"
	"github.com/postrider/postrider/internal/mailmerge"
)

func decodeBatch(t *testing.T, body string) *mailmerge.Batch {
	t.Helper()
	b, err := mailmerge.Decode([]byte(body), limits())
	require.NoError(t, err, "%.300s", body)
	return b
}

// templated is a batch of one message with some members, for some recipients.
func templated(message, recipients string) string {
	return `{"message":{"from":{"email":"a@example.com"},` + message + `},"recipients":[` + recipients + `]}`
}

func TestDecodeListOfMessages(t *testing.T) {
	t.Parallel()
	one, other := with(`"tags":["one"]`), strings.Replace(with(`"tags":["other"]`), "from", "source", 1)
	b := decodeBatch(t, `{"mode":"permissive","messages":[`+one+`,{"subject":1},[],`+other+`]}`)
	require.Equal(t, email.BatchPermissive, b.Mode)
	require.Equal(t, 4, b.Len())
	for i, tag := range map[int]string{0: "one", 3: "other"} {
		m, err := b.Message(i)
		require.NoError(t, err)
		require.Equal(t, []string{tag}, m.Tags)
	}
	require.Equal(t, "/messages/0/from", b.Sender(0))
	require.Equal(t, "/messages/3/source", b.Sender(3))
	_, err := b.Message(1)
	require.Equal(t, []email.FieldError{{Pointer: "/messages/1/subject", Code: "wrong_type", Detail: "the value has the wrong type; give a string"}}, failure(t, err).Fields)
	_, err = b.Message(2)
	require.Equal(t, "/messages/2", failure(t, err).Fields[0].Pointer)
	require.Equal(t, email.BatchStrict, decodeBatch(t, `{"messages":[`+one+`]}`).Mode)
}

func TestMessageFillsInVariables(t *testing.T) {
	t.Parallel()
	b := decodeBatch(t, templated(`"subject":"{{ name }}'s {{order}}","content":{"text":"Dear {{name}} <{{email}}>","html":"<a href=\"https://x.test/?n={{name}}\">{{order}}</a>"},
		"headers":{"X-Order":" {{order}}"},"metadata":{"order":"{{order}}","fixed":"}}"},"reply_to":[{"email":"r@example.com"}],"send_at":"2026-01-02T00:00:00Z"`,
		`{"email":"Ann@X.test","name":"Ann","variables":{"order":"<1> & \"2\"","unused":"\n"}},{"email":"bob@x.test","variables":{"name":"B{{order}}","order":"","email":"mine"}}`))
	require.Equal(t, 2, b.Len())
	m, err := b.Message(0)
	require.NoError(t, err)
	require.Equal(t, email.Message{
		From: email.Address{Email: "a@example.com"}, To: []email.Address{{Email: "Ann@x.test", Name: "Ann"}}, ReplyTo: []email.Address{{Email: "r@example.com"}},
		Subject: `Ann's <1> & "2"`, Text: "Dear Ann <Ann@x.test>",
		HTML:    `<a href="https://x.test/?n=Ann">&lt;1&gt; &amp; &#34;2&#34;</a>`,
		Headers: []email.Header{{Name: "X-Order", Value: `<1> & "2"`}}, Metadata: map[string]string{"order": `<1> & "2"`, "fixed": "}}"},
		SendAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Stream: email.StreamTransactional, OnAmbiguous: email.AmbiguousRetry,
	}, m)
	m, err = b.Message(1)
	require.NoError(t, err)
	require.Equal(t, "B{{order}}'s ", m.Subject, "what is put in is not read again")
	require.Equal(t, "Dear B{{order}} <mine>", m.Text, "a recipient's own variables go before its address")
	require.Empty(t, m.Headers[0].Value)
	again, err := b.Message(0)
	require.NoError(t, err)
	require.Equal(t, `<1> & "2"`, again.Metadata["order"], "the copies share nothing")
	require.Equal(t, "/message/from", b.Sender(1))
}

func TestMessageTextFromHTML(t *testing.T) {
	t.Parallel()
	b := decodeBatch(t, templated(`"subject":"s","content":{"html":"<p>Dear {{name}}</p><p>x"}`, `{"email":"a@x.test","variables":{"name":"<b>Ann</b>"}}`))
	m, err := b.Message(0)
	require.NoError(t, err)
	require.True(t, m.TextFromHTML)
	require.Equal(t, "Dear <b>Ann</b>\n\nx", m.Text)

	b = decodeBatch(t, templated(`"subject":"s","content":{"text":"{{t}}","html":"<p>x</p>"}`, `{"email":"a@x.test","variables":{"t":""}}`))
	m, err = b.Message(0)
	require.NoError(t, err)
	require.True(t, m.TextFromHTML, "as for a message that has no text")
	require.Equal(t, "x", m.Text)
}

func TestDecodeRefusals(t *testing.T) {
	t.Parallel()
	long := quoted(strings.Repeat("x", 8193))
	big := strings.Repeat("x", 900<<10)
	var names strings.Builder
	for i := range 53 {
		fmt.Fprintf(&names, "{{v%d}}", i)
	}
	repeat := func(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	const content = `"subject":"s","content":"{{name}}"`
	for name, tt := range map[string]struct{ body, pointer, code string }{
		"nothing":                {`{}`, "/messages", "missing"},
		"null":                   {`{"messages":null,"message":null}`, "/messages", "missing"},
		"both":                   {`{"messages":[{}],"recipients":[]}`, "/messages", "named_twice"},
		"no messages":            {`{"messages":[]}`, "/messages", "missing"},
		"too many messages":      {`{"messages":[` + repeat("{}", 1001) + `]}`, "/messages", "too_many"},
		"no recipients":          {templated(content, ""), "/recipients", "missing"},
		"recipients left out":    {`{"message":{"subject":"s","content":"t","from":{"email":"a@x.test"}}}`, "/recipients", "missing"},
		"message left out":       {`{"recipients":[{"email":"a@x.test"}]}`, "/message", "missing"},
		"too many recipients":    {templated(content, repeat(`{"email":"a@x.test","name":"A"}`, 10001)), "/recipients", "too_many"},
		"mode":                   {`{"mode":"lax","messages":[{}]}`, "/mode", "invalid"},
		"unknown member":         {`{"emails":[]}`, "/emails", "unknown"},
		"message is a string":    {`{"message":"x","recipients":[{"email":"a@x.test"}]}`, "/message", "wrong_type"},
		"to in the message":      {templated(content+`,"to":[]`, `{"email":"a@x.test"}`), "/message/to", "unsupported"},
		"bcc in the message":     {templated(content+`,"bcc":[{"email":"a@x.test"}]`, `{"email":"a@x.test"}`), "/message/bcc", "unsupported"},
		"url":                    {templated(content+`,"attachments":[{"url":"https://x.test/a"}]`, `{"email":"a@x.test"}`), "/message/attachments/0", "unsupported"},
		"recording":              {templated(content+`,"attachments":[{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]`, `{"email":"a@x.test"}`), "/message/attachments/0", "unsupported"},
		"no content":             {templated(`"subject":"s"`, `{"email":"a@x.test"}`), "/message/content", "missing"},
		"unclosed in a string":   {templated(`"subject":"s","content":"a {{name b"`, `{"email":"a@x.test"}`), "/message/content", "invalid"},
		"unclosed in text":       {templated(`"subject":"s","content":{"text":"a {{name}} {{"}`, `{"email":"a@x.test"}`), "/message/content/text", "invalid"},
		"unclosed in HTML":       {templated(`"subject":"s","content":{"html":"<p>{{name}"}`, `{"email":"a@x.test"}`), "/message/content/html", "invalid"},
		"logic":                  {templated(`"subject":"{{#if name}}","content":"t"`, `{"email":"a@x.test"}`), "/message/subject", "invalid_name"},
		"empty name":             {templated(`"subject":"{{ }}","content":"t"`, `{"email":"a@x.test"}`), "/message/subject", "invalid_name"},
		"three braces":           {templated(`"subject":"{{{name}}}","content":"t"`, `{"email":"a@x.test"}`), "/message/subject", "invalid_name"},
		"header":                 {templated(content+`,"headers":{"X-A":"{{1}}"}`, `{"email":"a@x.test"}`), "/message/headers/X-A", "invalid_name"},
		"metadata":               {templated(content+`,"metadata":{"a/b":"{{-}}"}`, `{"email":"a@x.test"}`), "/message/metadata/a~1b", "invalid_name"},
		"too many names":         {templated(`"subject":"s","content":"`+names.String()+`"`, `{"email":"a@x.test"}`), "/message", "too_many"},
		"too large together":     {templated(`"subject":"s","content":"`+big+`"`, repeat(`{"email":"a@x.test"}`, 300)), "/recipients", "too_large"},
		"too large, filled in":   {templated(`"subject":"s","content":"`+strings.Repeat("{{v}}", 100)+`"`, repeat(`{"email":"a@x.test","variables":{"v":`+long[:8001]+`"}}`, 400)), "/recipients", "too_large"},
		"1 missing":              {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test"}`), "/recipients/1/variables/name", "missing"},
		"1 address":              {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b","name":"B"}`), "/recipients/1/email", "invalid_address"},
		"1 no address":           {templated(content, `{"email":"a@x.test","name":"A"},{"name":"B"}`), "/recipients/1/email", "missing"},
		"1 name of a variable":   {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","name":"B","variables":{"a b":""}}`), "/recipients/1/variables", "invalid_name"},
		"1 is a string":          {templated(content, `{"email":"a@x.test","name":"A"},"b@x.test"`), "/recipients/1", "wrong_type"},
		"1 is null":              {templated(content, `{"email":"a@x.test","name":"A"},null`), "/recipients/1", "wrong_type"},
		"1 has a number":         {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","name":7}`), "/recipients/1/name", "wrong_type"},
		"1 unknown member":       {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","name":"B","vars":{}}`), "/recipients/1/vars", "unknown"},
		"1 variables in a list":  {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","name":"B","variables":[]}`), "/recipients/1/variables", "wrong_type"},
		"1 variable is a number": {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":1}}`), "/recipients/1/variables/name", "wrong_type"},
		"1 null":                 {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":null}}`), "/recipients/1/variables/name", "wrong_type"},
		"1 bad name":             {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","name":"B\u0007"}`), "/recipients/1/name", "control_character"},
		"1 NUL":                  {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":"\u0000"}}`), "/recipients/1/variables/name", "control_character"},
		"1 long value":           {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":`+long+`}}`), "/recipients/1/variables/name", "too_long"},
		"1 too many variables":   {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{`+repeatNames(51)+`}}`), "/recipients/1/variables", "too_many"},
		"1 breaks the subject":   {templated(`"subject":"{{name}}","content":"t"`, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":"a\r\nBcc: c@x.test"}}`), "/recipients/1/variables/name", "control_character"},
		"1 breaks a header":      {templated(content+`,"headers":{"X-A":"{{name}}"}`, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":"a\nb"}}`), "/recipients/1/variables/name", "control_character"},
		"1 long subject":         {templated(`"subject":"{{name}}","content":"t"`, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":`+quoted(strings.Repeat("x", 999))+`}}`), "/recipients/1/variables", "too_long"},
		"1 long metadata":        {templated(content+`,"metadata":{"a":"{{name}}"}`, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":`+quoted(strings.Repeat("x", 513))+`}}`), "/recipients/1/variables", "too_long"},
		"1 larger than messages": {templated(`"subject":"s","content":{"html":"x`+strings.Repeat("{{v}}", 33)+`"}`, `{"email":"a@x.test","variables":{"v":""}},{"email":"a@x.test","variables":{"v":"`+strings.Repeat("<", 8192)+`"}}`), "/recipients/1/variables", "too_long"},
		"1 empty":                {templated(content, `{"email":"a@x.test","name":"A"},{"email":"b@x.test","variables":{"name":""}}`), "/recipients/1/variables", "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := mailmerge.Decode([]byte(tt.body), limits())
			if strings.HasPrefix(name, "1 ") {
				require.NoError(t, err)
				_, err = b.Message(1)
			}
			f := failure(t, err)
			require.Equal(t, email.CodeInvalidRequest, f.Code)
			require.True(t, len(f.Fields) == 1 || !strings.HasPrefix(name, "1 "), "%v", f.Fields)
			require.Equal(t, tt.pointer, f.Fields[0].Pointer)
			require.Equal(t, tt.code, f.Fields[0].Code, f.Fields[0].Detail)
		})
	}
}

func repeatNames(n int) string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf(`"v%d":""`, i))
	}
	return strings.Join(s, ",")
}

// The problems of each item are bounded, so that the answer for a large batch stays small.
func TestMessageBoundsProblems(t *testing.T) {
	t.Parallel()
	var names strings.Builder
	for i := range 50 {
		fmt.Fprintf(&names, "{{v%d}}", i)
	}
	b := decodeBatch(t, templated(`"subject":"s","content":"`+names.String()+`"`, `{"email":"a@x.test"}`))
	_, err := b.Message(0)
	require.Len(t, failure(t, err).Fields, 10)
}

func TestBatchFingerprint(t *testing.T) {
	t.Parallel()
	list := func(members ...string) string { return `{"messages":[` + strings.Join(members, ",") + `]}` }
	one, other := with(`"tags":["a"]`), with(`"tags":["b"]`)
	same := decodeBatch(t, list(one, other)).Fingerprint()
	require.Equal(t, same, decodeBatch(t, " "+list(strings.Replace(one, `"subject":"s",`, "", 1)[:1]+`"subject":"s",`+strings.Replace(one, `"subject":"s",`, "", 1)[1:], other)).Fingerprint(), "not of the order of members")
	for name, body := range map[string]string{
		"order": list(other, one), "fewer": list(one), "mode": `{"mode":"permissive",` + list(one, other)[1:], "bad": `{"mode":"permissive","messages":[` + one + `,{}]}`,
	} {
		require.NotEqual(t, same, decodeBatch(t, body).Fingerprint(), name)
	}
	bad := func(recipient string) string {
		return decodeBatch(t, strings.Replace(templated(`"subject":"s","content":"t"`, `{"email":"a@x.test"},`+recipient), "{", `{"mode":"permissive",`, 1)).Fingerprint()
	}
	require.Equal(t, bad(`{"email":"b"}`), bad(`{"email":"b"}`))
	require.NotEqual(t, bad(`{"email":"b"}`), bad(`{"email":"c"}`), "what is refused in the same way is not the same")
	require.NotEqual(t, bad(`7`), bad(`8`))
	filled := func(value string) string {
		return decodeBatch(t, templated(`"subject":"s","content":{"html":"{{v}}"}`, `{"email":"a@x.test","variables":{"v":"`+value+`"}}`)).Fingerprint()
	}
	require.Equal(t, filled("1"), filled("1"))
	require.NotEqual(t, filled("1"), filled("2"))
}

// largeBatch is one message of HTML for n recipients.
func largeBatch(n int) []byte {
	var b strings.Builder
	html := strings.Repeat("<tr><td>Dear {{name}},</td><td><a href=\"https://x.test/{{id}}\">see {{id}}</a></td></tr>", 50)
	fmt.Fprintf(&b, `{"message":{"from":{"email":"a@example.com"},"subject":"{{name}}","content":{"html":%s}},"recipients":[`, quoted("<table>"+html+"</table>"))
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"email":"r%d@x.test","name":"Ann %d","variables":{"id":"%d"}}`, i, i, i)
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// BenchmarkBatch reads a batch and makes its messages.
func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		body := largeBatch(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				batch, err := mailmerge.Decode(body, limits())
				if err != nil {
					b.Fatal(err)
				}
				for i := range batch.Len() {
					if _, err := batch.Message(i); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/recipient")
		})
	}
}

// FuzzDecode looks for a panic, an error that is not an *email.Failure, and a message that is
// not valid by the comment of email.Message.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"messages":[` + with(`"tags":["a"]`) + `,{"to":1},null]}`,
		templated(`"subject":"{{ name }} {{a}}","content":{"text":"{{a}}","html":"<p title=\"{{a}}\">{{name}}"},"headers":{"X-A":"{{a}}"},"metadata":{"a":"{{a}}"}`,
			`{"email":"b@example.net","name":"N","variables":{"a":"1\r\nBcc: x@x.test"}},{"email":"c@example.net","variables":{"a":"<","name":""}}`),
		templated(`"subject":"","content":"{{a}}{{a}}{{a}}","attachments":[{"filename":"a","content":"aGk="}]`, `{"email":"b@example.net","variables":{"a":"  "}}`),
		templated(`"subject":"{{a","content":"}}{{"`, `{"email":"b@example.net"}`), `{"message":null,"recipients":[]}`, `{"mode":"permissive","messages":[[]]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := string(body)
		b, err := mailmerge.Decode(body, limits())
		if err != nil {
			refusal, ok := errors.AsType[*email.Failure](err)
			require.True(t, ok, "%v", err)
			require.NotEmpty(t, refusal.Fields)
			return
		}
		require.Positive(t, b.Len())
		require.LessOrEqual(t, b.Len(), email.MaxBatchRecipients)
		total := int64(0)
		for i := range b.Len() {
			require.Regexp(t, `^/message(s/\d+)?/(from|source)$`, b.Sender(i))
			m, err := b.Message(i)
			if err != nil {
				refusal, ok := errors.AsType[*email.Failure](err)
				require.True(t, ok, "%v", err)
				require.NotEmpty(t, refusal.Fields)
				for _, e := range refusal.Fields {
					require.Regexp(t, `^/(messages|recipients)/\d`, e.Pointer)
				}
				continue
			}
			intaketest.Holds(t, m)
			total += stored(m)
		}
		require.Less(t, total, 2*email.MaxBatchContentBytes)
		require.Equal(t, b.Fingerprint(), b.Fingerprint())
		require.Equal(t, before, string(body), "the body is not written to")
	})
}
