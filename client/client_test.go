package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

func TestRequestBodies(t *testing.T) {
	t.Parallel()
	name, off := "ACME", ""
	for file, do := range map[string]func(ctx context.Context, c *client.Client) error{
		"send.json":    func(ctx context.Context, c *client.Client) error { _, err := c.Send(ctx, full); return err },
		"minimal.json": func(ctx context.Context, c *client.Client) error { _, err := c.Send(ctx, hello); return err },
		"batch.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.SendBatch(ctx, client.Batch{Mode: email.BatchPermissive, Messages: []client.Message{hello, full}})
			return err
		},
		"template.json": func(ctx context.Context, c *client.Client) error {
			m := hello
			m.To, m.Subject = nil, "{{name}}"
			_, err := c.SendBatch(ctx, client.Batch{Message: &m, Recipients: []client.BatchRecipient{
				{Address: client.Address{Email: "b@y.com", Name: "B"}, Variables: map[string]string{"order": "1 < 2"}}, {Address: client.Address{Email: "c@y.com"}},
			}})
			return err
		},
		"reschedule.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.Reschedule(ctx, anID, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			return err
		},
		"accesskey.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.CreateAccessKey(ctx, client.NewAccessKey{Name: "shop", Detail: "d", Life: 1500 * time.Millisecond,
				Scopes: []string{"send"}, SenderDomains: []string{"x.com"}, Networks: []string{"10.0.0.0/8"}})
			return err
		},
		"customer.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.UpdateCustomer(ctx, client.CustomerUpdate{Name: &name, WebhookURI: &off, DefaultSource: &client.Address{}})
			return err
		},
		"pause.json": func(ctx context.Context, c *client.Client) error {
			_, err := c.Pause(ctx, client.Pause{Scope: email.PauseRelay, Key: "primary", Reason: "r", CreatedAt: time.Now()})
			return err
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(200, `{}`))
			require.NoError(t, do(t.Context(), newClient(t, s.URL)))
			golden(t, file, s.requests()[0].body)
		})
	}
}

// TestRoutes calls everything and looks at where it goes.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, `{}`))
	c, ctx := newClient(t, s.URL+"/mail/"), t.Context()
	var errs []error
	add := func(_ any, err error) { errs = append(errs, err) }
	add(c.Send(ctx, hello, client.IdempotencyKey("k"), client.Wait(90*time.Second/2)))
	add(c.Get(ctx, anID, client.Wait(time.Second)))
	add(c.Get(ctx, anID))
	add(c.Delete(ctx, anID))
	add(c.Cancel(ctx, anID))
	add(c.Hold(ctx, anID))
	add(c.Resume(ctx, anID))
	add(c.RetryNow(ctx, anID))
	add(c.Reschedule(ctx, anID, time.Now()))
	add(c.Resend(ctx, anID))
	add(c.SendBatch(ctx, client.Batch{}, client.Wait(time.Second)))
	add(c.PreviewBatch(ctx, client.Batch{}))
	add(c.Batch(ctx, anID))
	add(c.CancelBatch(ctx, anID))
	add(c.HoldBatch(ctx, anID))
	add(c.ResumeBatch(ctx, anID))
	for _, err := range c.Batches(ctx, client.PageSize(7)) {
		add(nil, err)
	}
	add(c.Events(ctx, anID))
	add(c.Attempts(ctx, anID))
	add(c.Feed(ctx, ""))
	add(c.Feed(ctx, "7,8"))
	add(c.Customer(ctx))
	add(c.UpdateCustomer(ctx, client.CustomerUpdate{}))
	add(c.CreateAccessKey(ctx, client.NewAccessKey{}))
	add(c.AccessKey(ctx, anID))
	add(c.DeleteAccessKey(ctx, anID))
	add(c.Pauses(ctx))
	add(c.Pause(ctx, client.Pause{Scope: email.PauseInstallation}))
	add(c.Unpause(ctx, email.PauseInstallation, ""))
	add(c.Unpause(ctx, email.PauseRelay, "a b"))
	add(c.Mailboxes(ctx))
	add(c.Message(ctx, anID, anID))
	add(c.RawMessage(ctx, anID, anID))
	add(c.MessageAttachment(ctx, anID, anID, 2))
	for _, err := range c.List(ctx, email.Filter{
		Statuses: []email.Status{email.StatusQueued, email.StatusSending}, Detail: email.DetailHeld, To: "@y.com", From: "a@x.com", Tag: "t", BatchID: anID, Stream: email.StreamBroadcast,
		Subject: "a b", CreatedFrom: time.Date(2025, 3, 14, 19, 4, 1, 160250000, time.FixedZone("", 3600)), CreatedBefore: time.Date(2025, 3, 15, 0, 0, 0, 0, time.UTC),
	}, client.PageSize(5)) {
		add(nil, err)
	}
	add(c.Stats(ctx, email.Filter{Tag: "t"}))
	for _, err := range c.AccessKeys(ctx) {
		add(nil, err)
	}
	for _, err := range c.Messages(ctx, anID) {
		add(nil, err)
	}
	for _, err := range c.ActingFor(anID).SenderDomains(ctx) {
		add(nil, err)
	}
	add(c.ActingFor(anID).VerifySenderDomain(ctx, anID))
	add(c.SenderDomain(ctx, anID))
	require.NoError(t, errors.Join(errs...))
	var got bytes.Buffer
	for _, r := range s.requests() {
		require.Equal(t, "Bearer pr_secret", r.auth)
		fmt.Fprintln(&got, strings.TrimSpace(r.method+" "+r.path+" "+r.query))
	}
	want, err := os.ReadFile("testdata/routes.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
	require.Equal(t, "k", s.requests()[0].key)
}

// An id that is none would name another resource: nothing is asked.
func TestIDsAreChecked(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, `{}`))
	c := newClient(t, s.URL)
	for _, id := range []string{"", ".", "..", "a/b", anID + "?x=y", "%2e%2e", "ä"} {
		_, err := c.Delete(t.Context(), id)
		require.ErrorContains(t, err, "is not an id", id)
		_, err = c.RawMessage(t.Context(), anID, id)
		require.ErrorContains(t, err, "is not an id", id)
	}
	require.Empty(t, s.requests())
}

// JSON would hold another text, without an error.
func TestTextsAreUTF8(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(202, anEmail))
	const latin1 = "Gr\xfc\xdfe"
	for pointer, change := range map[string]func(*client.Message){
		"/from/name":              func(m *client.Message) { m.From.Name = latin1 },
		"/to/0/email":             func(m *client.Message) { m.To = []client.Address{{Email: latin1}} },
		"/reply_to/0/name":        func(m *client.Message) { m.ReplyTo = []client.Address{{Name: latin1}} },
		"/subject":                func(m *client.Message) { m.Subject = latin1 },
		"/content/text":           func(m *client.Message) { m.Content.Text = latin1 },
		"/content/html":           func(m *client.Message) { m.Content.HTML = latin1 },
		"/attachments/0/filename": func(m *client.Message) { m.Attachments = []client.Attachment{{Filename: latin1}} },
		"/headers":                func(m *client.Message) { m.Headers = client.Headers{{Name: "X", Value: latin1}} },
		"/metadata":               func(m *client.Message) { m.Metadata = map[string]string{"a": latin1} },
		"/tags/0":                 func(m *client.Message) { m.Tags = []string{latin1} },
	} {
		m := hello
		change(&m)
		_, err := newClient(t, s.URL).Send(t.Context(), m)
		var e *client.Error
		require.ErrorAs(t, err, &e, pointer)
		require.Len(t, e.Fields, 1)
		require.Equal(t, pointer, e.Fields[0].Pointer)
		require.EqualError(t, e, "POST /v1.0/emails: invalid_request: the message is not valid; nothing was sent; "+pointer+": give the text as UTF-8")
	}
	require.Empty(t, s.requests())
}

func TestErrors(t *testing.T) {
	t.Parallel()
	get := func(t *testing.T, line http.HandlerFunc) *client.Error {
		t.Helper()
		_, err := newClient(t, serve(t, line).URL, client.WithRetry(client.Retry{Tries: 1})).Get(t.Context(), anID)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		return e
	}
	t.Run("a problem", func(t *testing.T) {
		t.Parallel()
		e := get(t, answer(400, `{"type":"about:blank","title":"Bad Request","status":400,"code":"invalid_request","detail":"errors says why",
			"errors":[{"pointer":"/to/0/email","code":"invalid_address","detail":"no @"},{"pointer":"/subject","code":"missing","detail":"give one"}],
			"request_id":"r1","later":{"x":1}}`, "Content-Type", "application/problem+json", "X-Request-Id", "r1"))
		require.Equal(t, &client.Error{Method: "GET", Path: "/v1.0/emails/" + anID, Status: 400, Code: email.CodeInvalidRequest, Detail: "errors says why", RequestID: "r1",
			Fields: []email.FieldError{{Pointer: "/to/0/email", Code: "invalid_address", Detail: "no @"}, {Pointer: "/subject", Code: "missing", Detail: "give one"}}}, e)
		require.EqualError(t, e, "GET /v1.0/emails/"+anID+": 400 invalid_request: errors says why; /to/0/email: no @; /subject: give one (request r1)")
	})
	t.Run("a proxy's page", func(t *testing.T) {
		t.Parallel()
		e := get(t, answer(502, "<html>oops</html>", "Retry-After", "7", "X-Request-Id", "p1"))
		require.Equal(t, &client.Error{Method: "GET", Path: "/v1.0/emails/" + anID, Status: 502, Detail: "Bad Gateway", RequestID: "p1", RetryAfter: 7 * time.Second}, e)
	})
	t.Run("a redirect", func(t *testing.T) {
		t.Parallel()
		e := get(t, answer(301, "", "Location", "https://mail.example.com/"))
		require.EqualError(t, e, "GET /v1.0/emails/"+anID+": 301: Moved Permanently: the address has moved to https://mail.example.com/")
	})
	t.Run("a success that is none", func(t *testing.T) {
		t.Parallel()
		s := serve(t, answer(200, "<html>log in", "Content-Type", "text/html"))
		_, err := newClient(t, s.URL).Send(t.Context(), hello)
		require.ErrorContains(t, err, "answered 200 with text/html that cannot be read")
		require.Len(t, s.requests(), 1)
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const body = `{"id":"` + anID + `","status":"sending","status_detail":"partial","tm_create":"2025-03-14 19:04:01.160250","tm_delete":"9999-01-01 00:00:00.000000",
		"next_attempt_at":"2025-03-14T19:05:01.000Z","send_at":null,"counts":{"total":2,"open":1,"delivered":1},"source":{"target":"a@x.com"},
		"recipients":[{"address":"b@y.com","status":"delivered","smtp_code":250,"accepted_by":{"host":"h","code":250,"means":"final","at":"2025-03-14T19:04:02.000Z"}},
		{"address":"c@y.com","status":"deferred","attempts":1}],"from_the_future":{"a":[1]}}`
	e, err := newClient(t, serve(t, answer(200, body)).URL).Get(t.Context(), anID)
	require.NoError(t, err)
	require.Equal(t, email.StatusSending, e.Status)
	require.Equal(t, email.DetailPartial, e.StatusDetail)
	require.Equal(t, time.Date(2025, 3, 14, 19, 4, 1, 160250000, time.UTC), e.TmCreate.Time)
	require.True(t, e.TmDelete.IsZero())
	require.Equal(t, time.Date(2025, 3, 14, 19, 5, 1, 0, time.UTC), e.NextAttemptAt)
	require.True(t, e.SendAt.IsZero())
	require.Equal(t, email.Counts{Total: 2, Open: 1, Delivered: 1}, e.Counts)
	require.Equal(t, email.AcceptsFinal, e.Recipients[0].AcceptedBy.Means)
	require.Nil(t, e.Recipients[1].AcceptedBy)
	require.JSONEq(t, body, string(e.JSON()))

	_, err = newClient(t, serve(t, answer(200, `{"tm_create":"yesterday"}`)).URL).Get(t.Context(), anID)
	require.ErrorContains(t, err, "a tm_ member")
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	pages := []http.HandlerFunc{
		answer(200, `{"result":[{"id":"1"},{"id":"2"}],"next_page_token":"2025-03-14 19:04:01.160250,x"}`),
		answer(503, ""), // a page is tried again, too
		answer(200, `{"result":[{"id":"3"}],"next_page_token":""}`),
	}
	ids := func(c *client.Client) (out []string, err error) {
		for e, err := range c.List(t.Context(), email.Filter{}, client.PageSize(2)) {
			if err != nil {
				return out, err
			}
			out = append(out, e.ID)
		}
		return out, nil
	}
	s := serve(t, pages...)
	got, err := ids(newClient(t, s.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3"}, got)
	require.Equal(t, "page_size=2", s.requests()[0].query)
	require.Equal(t, "page_size=2&page_token=2025-03-14+19%3A04%3A01.160250%2Cx", s.requests()[2].query)

	s = serve(t, pages[0], answer(500, `{"code":"internal"}`))
	got, err = ids(newClient(t, s.URL))
	require.Error(t, err)
	require.Equal(t, []string{"1", "2"}, got)

	s = serve(t, pages[0], pages[2], pages[0])
	seq := newClient(t, s.URL).List(t.Context(), email.Filter{})
	for _, err := range seq {
		require.NoError(t, err)
	}
	for e, err := range seq {
		require.NoError(t, err)
		require.Equal(t, "1", e.ID, "from the beginning")
		break
	}
	require.Len(t, s.requests(), 3, "no page is fetched that nobody reads")
	require.Equal(t, s.requests()[0], s.requests()[2])
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "mail.example.com", "ftp://x", "http://", "http://user:pass@x", "http://x?a=b", "http://x/v1.0", "http://x/v1.0/", "http://x#y", ":"} {
		_, err := client.New(bad, "k")
		require.ErrorContains(t, err, "base URL", bad)
	}
	for _, bad := range []string{"", "a b", "a\n", "ä"} {
		_, err := client.New("http://x", bad)
		require.ErrorContains(t, err, "access key", bad)
	}
	c := newClient(t, "http://mail.example.com")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, c), "pr_secret")
		require.NotContains(t, fmt.Sprintf(verb, struct{ C *client.Client }{c}), "pr_secret")
	}
}
