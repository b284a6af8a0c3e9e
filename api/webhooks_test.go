package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
)

type webhookAnswer struct {
	ID, URL, Method, Format, Kind, Secret string
	Events, Tags, Streams                 []string
	Disabled                              bool
	Failures                              int
	DisablesAt                            *string `json:"disables_at"`
}

func TestWebhookEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.x.test/in","tags":["vip"]}`)
	require.Equal(t, 201, made.status, made.body)
	var w webhookAnswer
	made.decode(t, &w)
	require.True(t, strings.HasPrefix(w.Secret, "whsec_"))
	require.Equal(t, "POST", w.Method)
	require.Equal(t, endpoint.DefaultEvents(endpoint.FormatStandard), w.Events)
	path := "/v1.0/webhooks/" + w.ID
	require.NotContains(t, b.as("GET", path, "").body, "whsec_", "shown once")
	changed := b.as("PUT", path, `{"events":["email.bounced"],"streams":["broadcast"],"tags":[]}`)
	require.Equal(t, 200, changed.status, changed.body)
	changed.decode(t, &w)
	require.Equal(t, []string{"email.bounced"}, w.Events)
	require.Equal(t, []string{"broadcast"}, w.Streams)
	require.Equal(t, "https://hooks.x.test/in", w.URL, "what is not named stays")
	rotated := b.as("POST", path+"/rotate-secret", "")
	require.Equal(t, 200, rotated.status)
	require.NotEqual(t, made.field(t, "secret"), rotated.field(t, "secret"))

	for body, pointer := range map[string]string{
		`{}`: "/url", `{"url":"http://hooks.x.test"}`: "/url", `{"url":"https://127.0.0.1/x"}`: "/url", `{"url":"https://h.test","method":"PATCH"}`: "/method",
		`{"url":"https://h.test","events":["email.opened"]}`: "/events/0", `{"url":"https://h.test","format":"xml"}`: "/format",
		`{"url":"https://h.test","format":"voipbin","events":["email.bounced"]}`: "/events/0", `{"url":"https://h.test","streams":["x"]}`: "/streams/0",
		`{"url":"https://h.test","secret":"whsec_mine"}`: "/secret",
	} {
		a := b.as("POST", "/v1.0/webhooks", body)
		require.Equal(t, 400, a.status, body+a.body)
		require.Contains(t, a.body, `"pointer":"`+pointer+`"`, body)
	}
	voipbin := b.as("POST", "/v1.0/webhooks", `{"url":"https://h.test","format":"voipbin","method":"PUT"}`)
	require.Equal(t, 201, voipbin.status)
	voipbin.decode(t, &w)
	require.Equal(t, []string{"email_created", "email_updated", "email_deleted"}, w.Events)

	require.Equal(t, 200, b.as("PUT", "/v1.0/customer", `{"webhook_uri":"https://own.test"}`).status)
	var list struct{ Result []webhookAnswer }
	b.as("GET", "/v1.0/webhooks", "").decode(t, &list)
	require.Len(t, list.Result, 3)
	require.Equal(t, "customer", list.Result[0].Kind)
	own := "/v1.0/webhooks/" + list.Result[0].ID
	require.Equal(t, 409, b.as("PUT", own, `{"url":"https://other.test"}`).status, "that is changed elsewhere")
	require.Equal(t, 409, b.as("DELETE", own, "").status)
	require.Equal(t, 200, b.as("POST", own+"/rotate-secret", "").status)

	_, other := b.newCustomer("Other", "other.test")
	for _, r := range [][2]string{{"GET", path}, {"DELETE", path}, {"POST", path + "/test"}, {"GET", path + "/deliveries"}, {"POST", path + "/enable"}} {
		require.Equal(t, 404, b.with(other, r[0], r[1], "").status, r)
	}
	require.Equal(t, 200, b.as("DELETE", path, "").status)
	require.Equal(t, 404, b.as("GET", path, "").status)
}

func TestListAndRetryDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.x.test/in"}`).field(t, "id")
	path := "/v1.0/webhooks/" + id
	tried := b.as("POST", path+"/test", "")
	require.Equal(t, 202, tried.status, tried.body)
	require.Equal(t, "webhook-"+id, <-b.dispatch.woken)
	due, err := b.store.Webhooks.ClaimForEndpoint(t.Context(), id, 10)
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.JSONEq(t, `"webhook.test"`, string(mustField(t, due[0].Delivery.Body, "type")))
	require.NoError(t, b.store.Webhooks.RecordDelivery(t.Context(), due[0].Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 503, Duration: 7 * time.Millisecond, Error: "answered 503", BodyExcerpt: "closed"}))
	var page struct {
		Result []struct {
			ID, Type, Status string
			Attempts         int
			Calls            []struct {
				Code, MS      int
				Error, Answer string
			}
		}
	}
	b.as("GET", path+"/deliveries?status=pending", "").decode(t, &page)
	require.Len(t, page.Result, 1)
	require.Equal(t, 503, page.Result[0].Calls[0].Code)
	require.Equal(t, "closed", page.Result[0].Calls[0].Answer)
	require.Equal(t, 400, b.as("GET", path+"/deliveries?status=lost", "").status)
	var w webhookAnswer
	b.as("GET", path, "").decode(t, &w)
	require.Equal(t, 1, w.Failures)
	require.NotNil(t, w.DisablesAt, "a warning")
	again := b.as("POST", "/v1.0/deliveries/"+page.Result[0].ID+"/retry", "")
	require.Equal(t, 202, again.status, again.body)
	require.Equal(t, "webhook-"+id, <-b.dispatch.woken)
	require.Equal(t, 404, b.as("POST", "/v1.0/deliveries/msg_x/retry", "").status)

	mail := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	b.becomes(mail, email.RecipientDelivered)
	replayed := b.as("POST", path+"/replay", `{"since":"`+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+`"}`)
	require.Equal(t, 202, replayed.status, replayed.body)
	require.JSONEq(t, `{"deliveries":2}`, replayed.body, "delivered and completed")
	for _, bad := range []string{`{}`, `{"since":"2030-01-01T00:00:00Z"}`, `{"since":"2020-01-01T00:00:00Z","types":["email.opened"]}`} {
		require.Equal(t, 400, b.as("POST", path+"/replay", bad).status, bad)
	}
	require.Equal(t, 200, b.as("POST", path+"/enable", "").status)
	require.Equal(t, 404, b.as("GET", "/v1.0/webhooks/"+uuid.NewString(), "").status)
}

func mustField(t *testing.T, body []byte, name string) json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(body, &m))
	return m[name]
}

// Package endpoint has the event types of package email as texts. They must be equal.
func TestEventNamesMatchEmailPackage(t *testing.T) {
	t.Parallel()
	var want []string
	for _, e := range []email.EventType{
		email.EventQueued, email.EventScheduled, email.EventSending, email.EventDeferred, email.EventDelivered, email.EventBounced, email.EventFailed,
		email.EventExpired, email.EventCanceled, email.EventSuppressed, email.EventUnsubscribed, email.EventResubscribed, email.EventAmbiguous, email.EventCancelRequested, email.EventHeld,
		email.EventResumed, email.EventDeleted, email.EventCompleted,
	} {
		want = append(want, string(e))
	}
	require.Equal(t, append(want, endpoint.TypeFailing, endpoint.TypeDisabled, endpoint.TypeDomainVerified, endpoint.TypeDomainWarning, endpoint.TypeDomainFailed, endpoint.TypeReputationWarning, endpoint.TypeReputationCritical), endpoint.Events(endpoint.FormatStandard))
	require.Subset(t, want, endpoint.Outcomes())
	for _, voipbin := range endpoint.Events(endpoint.FormatVoIPBIN) {
		require.Subset(t, want, endpoint.EmailEvents(endpoint.FormatVoIPBIN, []string{voipbin}), voipbin)
	}
}
