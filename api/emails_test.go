package api_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestEmailShowsRelayFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	post := `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"c"}`
	id := b.call("POST", "/v1.0/emails?accesskey="+b.key, post).field(t, "id")
	get := func() map[string]any {
		var m map[string]any
		b.call("GET", "/v1.0/emails/"+id+"?accesskey="+b.key, "").decode(t, &m)
		return m
	}
	require.NotContains(t, get(), "relay_fault")

	_, err := b.store.Mail.Check(t.Context(), id, delivery.Obstacle{RelayDown: true, Relay: "primary"})
	require.NoError(t, err)
	st, err := b.store.Mail.RelayFailed(t.Context(), delivery.RelayState{Name: "primary", Address: "mx.test:25", Shared: true,
		Reply: email.Reply{Code: 452, Enhanced: "4.3.1", Text: "Insufficient system storage"}}, uuid.NewString())
	require.NoError(t, err)
	m := get()
	require.Equal(t, "relay_down", m["status_detail"])
	at := func(when time.Time) string { return when.UTC().Format("2006-01-02T15:04:05.000Z") }
	require.Equal(t, map[string]any{"relay": "primary", "since": at(st.Since), "smtp_code": 452.0, "enhanced_code": "4.3.1", "text": "Insufficient system storage",
		"next_attempt_at": at(st.NextProbeAt)}, m["relay_fault"])
	require.Equal(t, at(st.NextProbeAt), m["next_attempt_at"])
	var page struct{ Result []map[string]any }
	b.call("GET", "/v1.0/emails?accesskey="+b.key, "").decode(t, &page)
	require.Equal(t, m["relay_fault"], page.Result[0]["relay_fault"])

	// An attempt that was due hours ago is due now.
	_, err = b.raw.ExecContext(t.Context(), "UPDATE relay_states SET next_at = now() - interval '1 hour'; UPDATE emails SET next_action_at = now() - interval '2 hours'; UPDATE recipients SET next_attempt_at = now() - interval '2 hours'")
	require.NoError(t, err)
	var now time.Time
	require.NoError(t, b.raw.NewRaw("SELECT now()").Scan(t.Context(), &now))
	m = get()
	for _, next := range []any{m["next_attempt_at"], m["relay_fault"].(map[string]any)["next_attempt_at"], m["recipients"].([]any)[0].(map[string]any)["next_attempt_at"]} {
		require.GreaterOrEqual(t, next, at(now))
	}

	_, err = b.store.Mail.Check(t.Context(), id, delivery.Obstacle{RelayDown: true, NoRelay: true})
	require.NoError(t, err)
	m = get()
	require.Equal(t, "no_relay", m["status_detail"])
	fault := m["relay_fault"].(map[string]any)
	require.Empty(t, fault["relay"])
	require.Nil(t, fault["next_attempt_at"])
	require.Contains(t, fault["text"], "no relay takes transactional mail from acme.test")
}

func TestPostEmailAnswersInVoIPBINForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("POST", "/v1.0/emails", basic)
	require.Equal(t, 202, res.status, res.body)
	var got map[string]any
	res.decode(t, &got)
	id := got["id"].(string)
	require.Equal(t, []string{id}, b.dispatch.accepted())
	require.Equal(t, "/v1.0/emails/"+id, res.header.Get("Location"))
	require.NotEmpty(t, res.header.Get("X-Request-Id"))

	require.Equal(t, map[string]any{"type": "email", "target": "shop@acme.test", "target_name": "ACME", "name": "", "detail": ""}, got["source"])
	require.Equal(t, []any{map[string]any{"type": "email", "target": "bob@x.test", "target_name": "Bob", "name": "", "detail": ""}}, got["destinations"])
	require.Equal(t, "queued", got["status"])
	require.Equal(t, "Thanks", got["content"])
	require.Equal(t, "<h1>Thanks</h1>", got["content_html"])
	require.Equal(t, b.customer.ID, got["customer_id"])
	require.Regexp(t, `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$`, got["tm_create"])
	require.Equal(t, "9999-01-01 00:00:00.000000", got["tm_delete"])
	require.Equal(t, "email-"+id, got["workflow_id"])
	require.Equal(t, "http://ui.test/email-"+id, got["workflow_url"])
	for _, list := range []string{"attachments", "cc", "bcc", "reply_to", "tags"} {
		require.Equal(t, []any{}, got[list], "%s is a list, never null", list)
	}
	require.Equal(t, map[string]any{"total": 1.0, "open": 1.0, "delivered": 0.0, "bounced": 0.0, "failed": 0.0, "canceled": 0.0}, got["counts"])

	one := b.as("GET", "/v1.0/emails/"+id, "")
	require.Equal(t, 200, one.status)
	require.JSONEq(t, untimed(res.body), untimed(one.body))
	list := b.as("GET", "/v1.0/emails", "")
	var page struct {
		Result        []map[string]any `json:"result"`
		NextPageToken *string          `json:"next_page_token"`
	}
	list.decode(t, &page)
	require.Equal(t, id, page.Result[0]["id"])
	require.NotContains(t, page.Result[0], "content_html", "on a single e-mail only")
	require.Equal(t, "", *page.NextPageToken)
}

func TestPostEmailAcceptsBothForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.as("POST", "/v1.0/emails", `{"from":{"email":"a@acme.test","name":"A"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"text":"t"}}`)
	two := b.as("POST", "/v1.0/emails", `{"source":{"type":"email","target":"a@acme.test","target_name":"A","name":"","detail":""},
		"destinations":[{"type":"email","target":"b@x.test"}],"subject":"s","content":"t","attachments":[]}`)
	require.Equal(t, 202, one.status, one.body)
	require.Equal(t, 202, two.status, two.body)
	for _, field := range []string{"source", "destinations", "subject", "content", "attachments", "status"} {
		var x, y map[string]any
		one.decode(t, &x)
		two.decode(t, &y)
		require.Equal(t, x[field], y[field], field)
	}
}

func TestGetEmailReturnsCalendar(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ics := "BEGIN:VCALENDAR\\nMETHOD:REQUEST\\nBEGIN:VEVENT\\nUID:1\\nEND:VEVENT\\nEND:VCALENDAR\\n"
	body := `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"text":"t","calendar":{"method":"REQUEST","ics":"` + ics + `"}}}`
	sent := b.as("POST", "/v1.0/emails", body)
	require.Equal(t, 202, sent.status, sent.body)
	require.Contains(t, sent.body, `"content_calendar":{"method":"REQUEST","ics":"BEGIN:VCALENDAR\r\nMETHOD`)
	require.NotContains(t, b.as("GET", "/v1.0/emails", "").body, "content_calendar")
	refused := b.as("POST", "/v1.0/emails", strings.Replace(body, `"method":"REQUEST"`, `"method":"CANCEL"`, 1))
	require.Equal(t, 400, refused.status)
	require.Contains(t, refused.body, "/content/calendar/method")
	preview := b.as("POST", "/v1.0/emails/preview", body)
	require.Equal(t, 200, preview.status, preview.body)
	require.Contains(t, preview.body, "text/calendar; method=REQUEST; charset=utf-8")
}

func TestGetEmailListsAttachmentsWithoutContent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("POST", "/v1.0/emails", `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":{"text":"t"},
		"attachments":[{"filename":"i.pdf","content":"JVBERi0xLjQK","type":"application/pdf"}]}`)
	require.Equal(t, 202, res.status, res.body)
	var got struct {
		Attachments []map[string]any `json:"attachments"`
	}
	res.decode(t, &got)
	a := got.Attachments[0]
	require.Empty(t, a["reference_type"], "it was not uploaded: there is no file to get")
	require.Empty(t, a["reference_id"])
	require.Equal(t, 9.0, a["size"])
	require.Len(t, a["sha256"], 64)
	require.NotContains(t, a, "content")
}

func TestDeleteEmailIsSoftAndCancels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	res := b.as("DELETE", "/v1.0/emails/"+id, "")
	require.Equal(t, 200, res.status)
	require.Equal(t, "canceled", res.field(t, "status"))
	require.NotEqual(t, "9999-01-01 00:00:00.000000", res.field(t, "tm_delete"))
	require.Equal(t, "email-"+id, <-b.dispatch.woken)
	require.Equal(t, 200, b.as("GET", "/v1.0/emails/"+id, "").status, "readable by id")
	require.NotContains(t, b.as("GET", "/v1.0/emails", "").body, id)
}

func TestListEmailsPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := map[string]bool{}
	for range 5 {
		want[b.as("POST", "/v1.0/emails", basic).field(t, "id")] = true
	}
	token, pages := "", 0
	for {
		var page struct {
			Result        []struct{ ID string }
			NextPageToken string `json:"next_page_token"`
		}
		res := b.as("GET", "/v1.0/emails?page_size=2&page_token="+url.QueryEscape(token), "")
		require.Equal(t, 200, res.status, res.body)
		res.decode(t, &page)
		for _, e := range page.Result {
			require.True(t, want[e.ID], "each once")
			delete(want, e.ID)
		}
		pages++
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	require.Empty(t, want)
	require.Equal(t, 3, pages)
	require.Equal(t, 200, b.as("GET", "/v1.0/emails?page_size=100000", "").status, "larger is clamped")
	require.Equal(t, 200, b.as("GET", "/v1.0/emails?page_token=2025-03-14+18:04:41.998152", "").status, "a bare time is valid")
}

func TestUnverifiedSenderDomainIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("POST", "/v1.0/emails", `{"from":{"email":"a@elsewhere.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`)
	require.Equal(t, 403, res.status)
	require.Equal(t, string(email.CodeDomainUnverified), res.field(t, "code"))
	require.Contains(t, res.field(t, "detail"), "`postrider domain add elsewhere.test --customer "+b.customer.ID+" --verified`", "the command works as printed")
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	post := func(key, body string) answer {
		return b.call("POST", "/v1.0/emails", body, "Authorization", "Bearer "+b.key, "Idempotency-Key", key)
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		answers []answer
	)
	for range 50 {
		wg.Go(func() {
			a := post("order-12345", basic)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, a)
		})
	}
	wg.Wait()
	require.Len(t, b.dispatch.accepted(), 1, "one e-mail")
	replayed := 0
	for _, a := range answers {
		require.Equal(t, 202, a.status, a.body)
		require.JSONEq(t, answers[0].body, a.body, "50 equal answers")
		require.Equal(t, answers[0].header.Get("Location"), a.header.Get("Location"))
		if a.header.Get("Idempotent-Replayed") == "true" {
			replayed++
		}
	}
	require.Equal(t, 49, replayed)

	id := answers[0].field(t, "id")
	require.Equal(t, 200, b.as("DELETE", "/v1.0/emails/"+id, "").status)
	again := post("order-12345", strings.ReplaceAll(basic, "\n\t", " "))
	require.JSONEq(t, answers[0].body, again.body, "the same answer, whatever has happened since")
	require.Equal(t, 409, post("order-12345", strings.Replace(basic, "Thanks", "Sorry", 1)).status)
	require.Equal(t, 400, post("order-7", `{}`).status)
	require.Equal(t, 202, post("order-7", basic).status, "a refusal is not kept")
	require.Equal(t, 400, post(strings.Repeat("x", 257), basic).status)
	require.Equal(t, 400, post("a\tb", basic).status)
	_, other := b.newCustomer("Other", "other.test")
	foreign := b.call("POST", "/v1.0/emails?accesskey="+other, strings.ReplaceAll(basic, "acme.test", "other.test"), "Idempotency-Key", "order-12345")
	require.Equal(t, 202, foreign.status)
	require.Empty(t, foreign.header.Get("Idempotent-Replayed"), "keys are the customer's own")
}

func TestListEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	b.as("DELETE", "/v1.0/emails/"+id, "")
	var got struct {
		Result []struct {
			Type     string
			Sequence int
			EmailID  string `json:"email_id"`
		}
		Next string
	}
	b.as("GET", "/v1.0/emails/"+id+"/events", "").decode(t, &got)
	var types []string
	for i, e := range got.Result {
		require.Equal(t, i+1, e.Sequence)
		types = append(types, e.Type)
	}
	require.Equal(t, []string{"email.queued", "email.deleted", "email.canceled", "email.completed"}, types)
	require.Eventually(t, func() bool {
		b.as("GET", "/v1.0/events", "").decode(t, &got)
		return len(got.Result) == 4
	}, time.Minute, 10*time.Millisecond, "the feed waits for every transaction of the server, other tests' too")
	after := b.as("GET", "/v1.0/events?after="+url.QueryEscape(got.Next), "")
	require.JSONEq(t, `{"result":[],"next":"`+got.Next+`"}`, after.body)
	require.Equal(t, 400, b.as("GET", "/v1.0/events?after=nonsense", "").status)
	_, other := b.newCustomer("Other", "other.test")
	require.Equal(t, 404, b.call("GET", "/v1.0/emails/"+id+"/events?accesskey="+other, "").status)
}

func TestControlEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	do := func(action, body string) answer { return b.as("POST", "/v1.0/emails/"+id+"/"+action, body) }
	held := do("hold", "")
	require.Equal(t, 200, held.status, held.body)
	require.Equal(t, "held", held.field(t, "status_detail"))
	require.Equal(t, "email-"+id, <-b.dispatch.woken)
	require.Equal(t, 200, do("hold", "").status, "in force already")
	conflict := do("retry-now", "")
	require.Equal(t, 409, conflict.status)
	require.Contains(t, conflict.field(t, "detail"), "held")
	require.Equal(t, 200, do("resume", "").status)
	require.Equal(t, 400, do("reschedule", `{}`).status)
	require.Equal(t, 400, do("reschedule", `{"send_at":"tomorrow"}`).status)
	at := time.Now().AddDate(0, 0, 3).UTC().Format("2006-01-02T15:04:05.000Z")
	moved := do("reschedule", `{"send_at":"`+at+`"}`)
	require.Equal(t, 200, moved.status, moved.body)
	require.Equal(t, at, moved.field(t, "send_at"))
	require.Equal(t, "scheduled", moved.field(t, "status_detail"))
	require.Equal(t, "canceled", do("cancel", "").field(t, "status"))
	require.Equal(t, 200, do("cancel", "").status)
	conflict = do("hold", "")
	require.Equal(t, 409, conflict.status)
	require.Contains(t, conflict.field(t, "detail"), "canceled", "the conflict names the state")
	_, other := b.newCustomer("Other", "other.test")
	require.Equal(t, 404, b.call("POST", "/v1.0/emails/"+id+"/cancel?accesskey="+other, "").status)
}

func TestWaitAnswersWithTheVerdict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/emails?wait=50ms", basic)
	require.Equal(t, 202, id.status, "no verdict in time")
	soon := b.as("POST", "/v1.0/emails?wait=1ms", basic)
	require.Equal(t, 202, soon.status, "the wait ends while the e-mail is read")
	require.Equal(t, 400, b.as("POST", "/v1.0/emails?wait=2m", basic).status)
	require.Equal(t, 400, b.as("POST", "/v1.0/emails?wait=x", basic).status)
	answers := make(chan answer)
	mail := "/v1.0/emails/" + id.field(t, "id")
	for range 3 {
		go func() { answers <- b.as("GET", mail+"?wait=60s", "") }()
	}
	require.Equal(t, 200, b.as("POST", mail+"/cancel", "").status)
	for range 3 {
		require.Equal(t, "canceled", (<-answers).field(t, "status"))
	}
	require.Equal(t, "canceled", b.as("GET", mail+"?wait=60s", "").field(t, "status"), "what is final is not waited for")
}

func TestResendCreatesNewEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.as("POST", "/v1.0/emails", `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"bcc":[{"email":"c@x.test"}],"subject":"s","content":"t",
		"attachments":[{"filename":"i.txt","content":"aGk="},{"reference_type":"recording","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}]}`)
	path := "/v1.0/emails/" + first.field(t, "id")
	early := b.as("POST", path+"/resend", "")
	require.Equal(t, 409, early.status)
	require.Contains(t, early.field(t, "detail"), "queued")
	b.as("POST", path+"/cancel", "")
	again := b.as("POST", path+"/resend", "")
	require.Equal(t, 202, again.status, again.body)
	require.NotEqual(t, first.field(t, "id"), again.field(t, "id"))
	require.Equal(t, "queued", again.field(t, "status"))
	var one, two struct {
		Bcc         []map[string]any
		Attachments []map[string]any
	}
	first.decode(t, &one)
	again.decode(t, &two)
	require.Equal(t, one.Bcc, two.Bcc)
	require.Equal(t, one.Attachments[0]["sha256"], two.Attachments[0]["sha256"])
	require.Equal(t, one.Attachments[1], two.Attachments[1])
	require.Len(t, b.dispatch.accepted(), 2)
}

func TestClosedConnectionIsNotAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", "/v1.0/emails?accesskey="+b.key, nil)
	rec := httptest.NewRecorder()
	b.server.ServeHTTP(rec, req)
	require.Equal(t, 499, rec.Code, "no 500, which would tell the operator of a fault")
}
