package intake_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func limits() intake.Limits {
	return intake.Limits{MaxRecipients: 50, MaxMessageBytes: 1 << 20, Now: now}
}

func decode(t *testing.T, body string) email.Message {
	t.Helper()
	m, err := intake.Decode([]byte(body), limits())
	require.NoError(t, err, body)
	return m
}

func TestTheSeedsExamples(t *testing.T) {
	t.Parallel()
	require.Equal(t, email.Message{
		From: email.Address{Email: "orders@example.com", Name: "Your Company"}, To: []email.Address{{Email: "john@example.net", Name: "John Doe"}},
		Subject: "Your Order Confirmation", Text: "Thank you for your order #12345.",
		HTML:   "<h1>Thank you!</h1><p>Your order #12345 has been confirmed.</p>",
		Stream: email.StreamTransactional, OnAmbiguous: email.AmbiguousRetry,
	}, decode(t, `{"from":{"email":"orders@example.com","name":"Your Company"},"to":[{"email":"john@example.net","name":"John Doe"}],
		"subject":"Your Order Confirmation","content":{"text":"Thank you for your order #12345.","html":"<h1>Thank you!</h1><p>Your order #12345 has been confirmed.</p>"}}`))

	m := decode(t, `{"from":{"email":"billing@example.com","name":"Billing Department"},"to":[{"email":"john@example.net"}],"subject":"Your Invoice",
		"content":{"text":"Please find your invoice attached.","html":"<p>Please find your invoice attached.</p>"},
		"attachments":[{"filename":"invoice-12345.pdf","content":"JVBERi0xLjQK","type":"application/pdf"}]}`)
	require.Equal(t, []email.Attachment{{Filename: "invoice-12345.pdf", Type: "application/pdf", Content: []byte("%PDF-1.4\n")}}, m.Attachments)

	m = decode(t, `{"source":{"type":"email","target":"a@Example.COM","target_name":"voipbin service","name":"label","detail":"d"},
		"destinations":[{"type":"email","target":"b@example.net","target_name":"","name":"","detail":""}],
		"subject":"test email 7","content":"test email from voipbin.","attachments":[]}`)
	require.Equal(t, email.Address{Email: "a@example.com", Name: "voipbin service", Label: "label", Detail: "d"}, m.From)
	require.Equal(t, []email.Address{{Email: "b@example.net"}}, m.To)
	require.Equal(t, "test email from voipbin.", m.Text)

	m = decode(t, `{"from":{"email":"a@example.com"},"destinations":[{"target":"b@example.net"}],"subject":"","content":"x",
		"attachments":[{"reference_type":"recording","reference_id":"1F25E6C9-6709-44d1-b93e-a5f1c5f80411","optional":true}]}`)
	require.Equal(t, []email.Attachment{{ReferenceType: email.ReferenceRecording, ReferenceID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411", Optional: true}}, m.Attachments)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	m := decode(t, `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"},{"email":"b@EXAMPLE.net"}],
		"cc":[{"email":"b@example.net"},{"email":"c@例え.jp"}],"bcc":[{"email":"d@example.net"},{"email":"c@xn--r8jz45g.jp"}],
		"reply_to":[{"email":"help@example.com","name":"Help"}],"subject":"s","content":{"html":"<p>Hello <b>you</b></p>"},
		"headers":{"X-B":"1","X-A":"zwei Ü"},"metadata":{"order":"7"},"tags":["a","b","a"],"send_at":"2026-02-01T10:00:00+01:00",
		"expires_at":"2026-02-02T00:00:00Z","on_ambiguous":"fail","stream":"broadcast","attachments":null}`)
	require.Equal(t, []email.Address{{Email: "b@example.net"}}, m.To, "named twice is one recipient")
	require.Equal(t, []email.Address{{Email: "c@xn--r8jz45g.jp"}}, m.Cc)
	require.Equal(t, []email.Address{{Email: "d@example.net"}}, m.Bcc)
	require.Equal(t, []email.Header{{Name: "X-B", Value: "1"}, {Name: "X-A", Value: "zwei Ü"}}, m.Headers, "in their order")
	require.Equal(t, []string{"a", "b"}, m.Tags)
	require.Equal(t, time.Date(2026, 2, 1, 9, 0, 0, 0, time.UTC), m.SendAt)
	require.Equal(t, email.AmbiguousFail, m.OnAmbiguous)
	require.Equal(t, email.StreamBroadcast, m.Stream)
	require.True(t, m.TextFromHTML)
	require.Equal(t, "Hello you", strings.TrimSpace(m.Text))

	past := decode(t, `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t","send_at":"2020-01-01T00:00:00Z"}`)
	require.True(t, past.SendAt.IsZero(), "a send_at that has passed means now")
	l := limits()
	l.DefaultSource = &email.Address{Email: "shop@example.com"}
	m, err := intake.Decode([]byte(`{"to":[{"email":"b@example.net"}],"subject":"s","content":"t"}`), l)
	require.NoError(t, err)
	require.Equal(t, "shop@example.com", m.From.Email)
}

func TestAttachmentsAreMadeSafe(t *testing.T) {
	t.Parallel()
	m := decode(t, `{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t","attachments":[
		{"filename":"../../etc/pass wd.txt","content":"aGk="},{"filename":"C:\\x\\y.html","content":"PGh0bWw+"},{"filename":"data","content":"AAECAw=="},
		{"filename":"i.png","content":"iVBORw0KGgo=","content_id":"<logo>"},{"filename":"a.csv","content":"YSxi","type":"Text/CSV; Charset=UTF-8"},
		{"filename":"empty.txt","content":""},{"filename":"mz.txt","content":"TVpaWlo="}]}`)
	var got []string
	for _, a := range m.Attachments {
		got = append(got, a.Filename+" "+a.Type+" "+a.ContentID)
	}
	require.Equal(t, []string{"pass wd.txt text/plain; charset=utf-8 ", "y.html text/html; charset=utf-8 ", "data application/octet-stream ",
		"i.png image/png logo", "a.csv text/csv; charset=UTF-8 ", "empty.txt text/plain; charset=utf-8 ", "mz.txt text/plain; charset=utf-8 "}, got)
	for _, name := range []string{"a.exe", "a.EXE", "a.pdf.scr", "a.exe.", "a.exe .", "a.js", "a.jar", "x.ps1", "a. exe"} {
		_, err := intake.Decode([]byte(`{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t","attachments":[{"filename":"`+name+`","content":"aGk="}]}`), limits())
		require.Equal(t, "attachment_blocked", field(t, err).Code, name)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a@b.test": "a@b.test", "A.b+c@B.Test": "A.b+c@b.test", "ü@bücher.de": "ü@xn--bcher-kva.de", "a@b.test.": "a@b.test",
		"x!#$%&'*+-/=?^_`{|}~@b.test": "x!#$%&'*+-/=?^_`{|}~@b.test",
	} {
		got, err := intake.Address(in, " Name ")
		require.NoError(t, err, in)
		require.Equal(t, email.Address{Email: want, Name: "Name"}, got)
	}
	for _, in := range []string{"", "a", "@b.test", "a@", "a@b", ".a@b.test", "a.@b.test", "a..b@b.test", `"a b"@b.test`, "a b@b.test", "a@b@c.test(x)", "a@[127.0.0.1]",
		"a@-x.test", "a@b_c.test", "a@b..test", strings.Repeat("a", 65) + "@b.test", "a@" + strings.Repeat("b", 64) + ".test", "<a@b.test>", "a@b.test\r\n", "a\x00@b.test", "a@b.test, c@d.test", "a,b@b.test"} {
		_, err := intake.Address(in, "")
		require.Error(t, err, "%q", in)
		require.NotContains(t, err.Error(), "b.test", "errors do not repeat the value")
	}
	_, err := intake.Address("a@b.test", "x\ny")
	require.Error(t, err)
}

// field is the first field of a refusal.
func field(t *testing.T, err error) email.FieldError {
	t.Helper()
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok, "%v", err)
	require.NotEmpty(t, f.Fields)
	return f.Fields[0]
}

func TestRefusalsNameThePlace(t *testing.T) {
	t.Parallel()
	const ok = `"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t"`
	for body, want := range map[string]string{
		``:                                 " malformed",
		`[]`:                               " malformed",
		`"x"`:                              " malformed",
		`{`:                                " malformed",
		`{` + ok + `,"x":1}`:               "/x unknown",
		`{` + ok + `,"subject":"t"}`:       "/subject malformed",
		`{` + ok + `,"tags":"x"}`:          "/tags wrong_type",
		`{` + ok + `,"tags":[5]}`:          "/tags/0 wrong_type",
		`{` + ok + `,"cc":["x@y.test"]}`:   "/cc/0 wrong_type",
		`{` + ok + `,"cc":[{"mail":"x"}]}`: "/cc/0/mail unknown",
		`{` + ok + `,"cc":[{"email":"x"},{"email":"y"}]}`:                                         "/cc/0/email invalid_address",
		`{` + ok + `,"headers":[]}`:                                                               "/headers wrong_type",
		`{` + ok + `,"headers":{"X-A":5}}`:                                                        "/headers/X-A wrong_type",
		`{` + ok + `,"headers":{"From":"x"}}`:                                                     "/headers/From reserved",
		`{` + ok + `,"headers":{"content-type":"x"}}`:                                             "/headers/content-type reserved",
		`{` + ok + `,"headers":{"X-A":"1","x-a":"2"}}`:                                            "/headers/x-a named_twice",
		`{` + ok + `,"headers":{"":"1"}}`:                                                         "/headers invalid_name",
		`{` + ok + `,"metadata":{"":"1"}}`:                                                        "/metadata invalid",
		`{` + ok + `,"send_at":"2027-02-01T00:00:00Z"}`:                                           "/send_at too_late",
		`{` + ok + `,"expires_at":"2025-02-01T00:00:00Z"}`:                                        "/expires_at past",
		`{` + ok + `,"attachments":[{}]}`:                                                         "/attachments/0/content missing",
		`{` + ok + `,"attachments":[{"content":"aGk="}]}`:                                         "/attachments/0/filename missing",
		`{` + ok + `,"attachments":[{"filename":"a","content":"!"}]}`:                             "/attachments/0/content invalid_base64",
		`{` + ok + `,"attachments":[{"filename":"a","content":"aGk=","type":"nonsense"}]}`:        "/attachments/0/type invalid",
		`{` + ok + `,"attachments":[{"filename":"a","content":"aGk=","type":"multipart/mixed"}]}`: "/attachments/0/type invalid",
		`{` + ok + `,"attachments":[{"filename":"a","content":"aGk=","content_id":"a b"}]}`:       "/attachments/0/content_id invalid",
		`{` + ok + `,"attachments":[{"filename":"a","content":"aGk=","content_id":"x"},{"filename":"b","content":"aGk=","content_id":"x"}]}`:                 "/attachments/1/content_id named_twice",
		`{"from":{"email":"a@example.com","target":"x"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t"}`:                                       "/from named_twice",
		`{"from":{},"to":[{"email":"b@example.net"}],"subject":"s","content":"t"}`:                                                                           "/from/email missing",
		`{"source":{"type":"tel","target":"1"},"to":[{"email":"b@example.net"}],"subject":"s","content":"t"}`:                                                "/source/type unsupported",
		`{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":5}`:                                                      "/content wrong_type",
		`{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"txt":"x"}}`:                                            "/content/txt unknown",
		`{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"text":"a\u0000b"}}`:                                    "/content/text control_character",
		`{"from":{"email":"a@example.com"},"to":[{"email":"b@example.net"}],"subject":"s","content":" ` + strings.Repeat("x", 1<<20) + `"}`:                  "too_large",
		`{"from":{"email":"a@example.com"},"to":[` + strings.TrimSuffix(strings.Repeat(`{"email":"b@x.test"},`, 51), ",") + `],"subject":"s","content":"t"}`: "/to too_many",
	} {
		_, err := intake.Decode([]byte(body), limits())
		if want == "too_large" {
			require.Equal(t, email.CodeTooLarge, email.FailureCode(err))
			require.ErrorContains(t, err, "1048577 bytes together, the limit is 1048576")
			continue
		}
		f := field(t, err)
		require.Equal(t, want, f.Pointer+" "+f.Code, "%.300s", body)
	}
}

func TestAllProblemsAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := intake.Decode([]byte(`{"from":{"email":"x"},"to":[{"email":"y"},{"email":"ok@x.test"}],"tags":["a b"],"content":"","stream":"z"}`), limits())
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok)
	var got []string
	for _, e := range f.Fields {
		got = append(got, e.Pointer)
	}
	require.ElementsMatch(t, []string{"/from/email", "/to/0/email", "/subject", "/content", "/tags/0", "/stream"}, got)
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"from":{"email":"a@example.com","name":"N"},"to":[{"email":"b@example.net"}],"subject":"s","content":{"text":"t","html":"<p>"},"headers":{"X-A":"b"},"metadata":{"a":"b"},"tags":["t"]}`,
		`{"source":{"type":"email","target":"a@example.com"},"destinations":[{"target":"b@x.test"}],"subject":"","content":"t","attachments":[{"filename":"a","content":"aGk="}]}`,
		`{"from":"x"}`, `[`, `{"content":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := intake.Decode(body, limits())
		if err != nil {
			_, ok := errors.AsType[*email.Failure](err)
			require.True(t, ok, "%v", err)
			return
		}
		require.NotEmpty(t, len(m.To)+len(m.Cc)+len(m.Bcc))
		for _, s := range []string{m.Subject, m.From.Name, m.From.Email, fmt.Sprint(m.Headers), fmt.Sprint(m.To)} {
			require.False(t, strings.ContainsAny(s, "\r\n\x00"), "%q", s)
		}
		require.LessOrEqual(t, m.Size(), limits().MaxMessageBytes)
	})
}
