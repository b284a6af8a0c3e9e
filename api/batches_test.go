package api_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// batchAnswer decodes both answers for a batch.
type batchAnswer struct {
	ID, Status, Mode         string
	Total, Accepted, Refused int
	WorkflowID               string  `json:"workflow_id"`
	FinishedAt               *string `json:"finished_at"`
	Emails                   map[string]int
	Details                  map[string]int
	Items                    []struct {
		Index        int
		ID, Status   string
		StatusDetail string `json:"status_detail"`
		Error        *struct {
			Code, Detail string
			Errors       []struct{ Pointer, Code, Detail string }
		}
	}
}

// post sends a batch and requires that it is accepted.
func (b *bench) postBatch(body string, headers ...string) batchAnswer {
	b.t.Helper()
	a := b.call("POST", "/v1.0/emails/batch", body, append([]string{"Authorization", "Bearer " + b.key}, headers...)...)
	require.Equal(b.t, 202, a.status, a.body)
	var out batchAnswer
	a.decode(b.t, &out)
	require.Equal(b.t, "/v1.0/batches/"+out.ID, a.header.Get("Location"))
	require.Equal(b.t, "batch-"+out.ID, out.WorkflowID)
	require.Len(b.t, out.Items, out.Total)
	for i, item := range out.Items {
		require.Equal(b.t, i, item.Index)
	}
	return out
}

func (b *bench) batch(id string) batchAnswer {
	b.t.Helper()
	a := b.as("GET", "/v1.0/batches/"+id, "")
	require.Equal(b.t, 200, a.status, a.body)
	var out batchAnswer
	a.decode(b.t, &out)
	return out
}

// problemAnswer decodes a problem.
type problemAnswer struct {
	Status       int
	Code, Detail string
	Errors       []struct{ Pointer, Code, Detail string }
}

// refusedBatch sends a batch and requires that it is refused and nothing is stored.
func (b *bench) refusedBatch(body string) problemAnswer {
	b.t.Helper()
	before := b.count("SELECT (SELECT count(*) FROM emails) + (SELECT count(*) FROM batches)")
	a := b.as("POST", "/v1.0/emails/batch", body)
	require.GreaterOrEqual(b.t, a.status, 400, a.body)
	var out problemAnswer
	a.decode(b.t, &out)
	require.Equal(b.t, before, b.count("SELECT (SELECT count(*) FROM emails) + (SELECT count(*) FROM batches)"), "nothing is stored")
	return out
}

// messages returns the body of a batch of messages.
func messages(ms ...string) string { return `{"messages":[` + strings.Join(ms, ",") + `]}` }

// copies returns the body of a batch of one message with more members, and recipients.
func copies(members string, recipients ...string) string {
	return `{"message":{"from":{"email":"shop@acme.test"},"subject":"Dear {{name}}","content":{"text":"{{name}}: {{order}}","html":"<p>{{name}}: {{order}}"}` + members + `},
		"recipients":[` + strings.Join(recipients, ",") + `]}`
}

const (
	ann = `{"email":"ann@x.test","name":"Ann","variables":{"order":"1 < 2"}}`
	bob = `{"email":"bob@x.test","variables":{"name":"Bob\r\nx","order":"3"}}`
	cid = `{"email":"cid@x.test","name":"Cid","variables":{"order":"4"}}`
)

func permissive(body string) string { return strings.Replace(body, "{", `{"mode":"permissive",`, 1) }

func TestPostBatchOfMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	later := strings.Replace(basic, "{", `{"send_at":"`+b.ahead(3)+`",`, 1)
	got := b.postBatch(messages(basic, later))
	require.Equal(t, []any{"sending", "strict", 2, 2, 0}, []any{got.Status, got.Mode, got.Total, got.Accepted, got.Refused})
	require.Equal(t, []string{"queued", "queued"}, []string{got.Items[0].Status, got.Items[1].Status})
	require.Equal(t, []string{"", "scheduled"}, []string{got.Items[0].StatusDetail, got.Items[1].StatusDetail})
	require.Equal(t, []string{got.ID}, b.dispatch.accepted(), "one run is asked for")

	mail := b.as("GET", "/v1.0/emails/"+got.Items[0].ID, "")
	require.Equal(t, got.ID, mail.field(t, "batch_id"))
	require.Equal(t, got.WorkflowID, mail.field(t, "workflow_id"))
	stands := b.batch(got.ID)
	require.Equal(t, 2, stands.Emails["queued"])
	require.Equal(t, map[string]int{"scheduled": 1}, stands.Details)

	b.as("POST", "/v1.0/emails", basic)
	var page struct{ Result []struct{ ID string } }
	b.as("GET", "/v1.0/emails?batch="+got.ID, "").decode(t, &page)
	require.Len(t, page.Result, 2, "the filter takes those of the batch")
	require.Equal(t, 400, b.as("GET", "/v1.0/emails?batch=x", "").status)
}

func TestPostBatchOfCopies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.postBatch(copies(`,"metadata":{"order":"{{order}}"},"headers":{"X-Order":"{{order}}"}`, ann, cid))
	var mail struct {
		Subject, Content, ContentHTML string
		HTML                          string `json:"content_html"`
		Metadata                      map[string]string
		Destinations                  []struct{ Target, TargetName string }
	}
	b.as("GET", "/v1.0/emails/"+got.Items[0].ID, "").decode(t, &mail)
	require.Equal(t, "Dear Ann", mail.Subject)
	require.Equal(t, "Ann: 1 < 2", mail.Content)
	require.Equal(t, "<p>Ann: 1 &lt; 2", mail.HTML)
	require.Equal(t, map[string]string{"order": "1 < 2"}, mail.Metadata)
	require.Len(t, mail.Destinations, 1)
	require.Equal(t, "ann@x.test", mail.Destinations[0].Target)
	require.Equal(t, "Dear Cid", b.as("GET", "/v1.0/emails/"+got.Items[1].ID, "").field(t, "subject"))
}

func TestStrictBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := b.refusedBatch(copies("", ann, bob, cid, `{"email":"dan@x.test","name":"Dan"}`))
	require.Equal(t, 400, refused.Status)
	require.Equal(t, "2 of the 4 items cannot be accepted, so none is: errors says where and why. mode: permissive accepts the others", refused.Detail)
	require.Equal(t, []struct{ Pointer, Code, Detail string }{
		{"/recipients/1/variables/name", "control_character", "the subject uses it, and cannot have line breaks or other control characters; remove them"},
		{"/recipients/3/variables/order", "missing", "the message uses this variable; give its value, which may be empty"},
	}, refused.Errors)
	refused = b.refusedBatch(messages(basic, strings.Replace(basic, "acme.test", "other.test", 1)))
	require.Equal(t, 403, refused.Status)
	require.Equal(t, "sender_domain_unverified", refused.Code)
	require.Equal(t, "/messages/1/from", refused.Errors[0].Pointer)
	require.Regexp(t, "^1 of the 2 items cannot be accepted, so none is: the sender's domain is not verified", refused.Detail)
	foreign := strings.Replace(basic, "acme.test", "other.test", 1)
	refused = b.refusedBatch(messages(basic, foreign, `{"subject":1}`, foreign, strings.Replace(basic, `"subject"`, `"attachments":[{"reference_type":"file","reference_id":"`+b.customer.ID+`"}],"subject"`, 1)))
	require.Equal(t, []any{400, "invalid_request"}, []any{refused.Status, refused.Code})
	require.Regexp(t, "^4 of the 5 items", refused.Detail, "what only the store knows counts, too")
	var places []string
	for _, e := range refused.Errors {
		places = append(places, e.Pointer)
	}
	require.Equal(t, []string{"/messages/1/from", "/messages/2/subject", "/messages/3/from", "/messages/4/attachments/0/reference_id"}, places)
	refused = b.refusedBatch(messages(basic, foreign, strings.Replace(basic, "acme.test", "third.test", 1)))
	require.Equal(t, []any{403, "sender_domain_unverified"}, []any{refused.Status, refused.Code}, "what they share")
	require.Equal(t, "2 of the 3 items cannot be accepted, so none is: errors says where and why. mode: permissive accepts the others", refused.Detail)
	refused = b.refusedBatch(strings.Replace(copies("", ann, cid), "acme.test", "other.test", 1))
	require.Equal(t, []any{403, "sender_domain_unverified", 1}, []any{refused.Status, refused.Code, len(refused.Errors)}, "said once of the one message")
	require.Empty(t, b.dispatch.accepted())

	many := make([]string, 200)
	for i := range many {
		many[i] = bob
	}
	refused = b.refusedBatch(copies("", many...))
	require.Equal(t, "none of the 200 items can be accepted: errors says where and why", refused.Detail)
	require.Len(t, refused.Errors, 100)
}

func TestPermissiveBatchListsRefusedItems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.lenient = true // what it takes is not good
	got := b.postBatch(permissive(copies("", bob, ann, `{"email":"dan@x.test","name":"Dan"}`)))
	require.Equal(t, []any{"permissive", 3, 1, 2}, []any{got.Mode, got.Total, got.Accepted, got.Refused})
	require.Nil(t, got.Items[1].Error)
	require.NotEmpty(t, got.Items[1].ID)
	require.Empty(t, got.Items[2].ID)
	require.Equal(t, "invalid_request", got.Items[2].Error.Code)
	require.Equal(t, "/recipients/2/variables/order", got.Items[2].Error.Errors[0].Pointer)
	require.Equal(t, 2, b.batch(got.ID).Refused)

	got = b.postBatch(permissive(copies("", ann, `"x@x.test"`, `null`, `{"email":"y@x.test","vars":{}}`, `{"email":"z@x.test","variables":{"order":7}}`, `{"email":["q@x.test"]}`)))
	require.Equal(t, []int{1, 5}, []int{got.Accepted, got.Refused})
	for i, at := range []string{"/recipients/1", "/recipients/2", "/recipients/3/vars", "/recipients/4/variables/order", "/recipients/5/email"} {
		require.Equal(t, at, got.Items[i+1].Error.Errors[0].Pointer)
	}

	got = b.postBatch(permissive(messages(basic, `{"subject":1}`, strings.Replace(basic, "acme.test", "other.test", 1))))
	require.Equal(t, "/messages/1/subject", got.Items[1].Error.Errors[0].Pointer)
	require.Equal(t, "sender_domain_unverified", got.Items[2].Error.Code)
	require.Equal(t, "/messages/2/from", got.Items[2].Error.Errors[0].Pointer)

	refused := b.refusedBatch(permissive(messages(`{}`, `{"subject":1}`)))
	require.Equal(t, "none of the 2 items can be accepted: errors says where and why", refused.Detail)
	require.NotEmpty(t, refused.Errors)
}

// The store reads the customer with the first accepted item, not with the first item.
func TestPermissiveBatchRefusesOnlyUnverifiedSenders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 201, b.as("POST", "/v1.0/webhooks", `{"url":"https://hooks.example.com/mail","events":["email.queued"]}`).status)
	admin := b.adminKey()
	require.Equal(t, 200, b.with(admin, "PUT", "/v1.0/customers/"+b.customer.ID, `{"credits":5}`).status)
	foreign := strings.Replace(basic, "acme.test", "other.test", 1)
	got := b.postBatch(permissive(messages(basic, foreign, basic, foreign)))
	require.Equal(t, 2, got.Accepted)
	require.Equal(t, 2, b.count("SELECT count(*) FROM webhook_deliveries"))
	require.Equal(t, 3, b.count("SELECT credits FROM customers WHERE id = ?", b.customer.ID))
}

func TestBatchIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.lenient = true
	body := permissive(copies("", ann, bob, cid))
	key := []string{"Authorization", "Bearer " + b.key, "Idempotency-Key", "news-1"}
	first := b.call("POST", "/v1.0/emails/batch", body, key...)
	require.Equal(t, 202, first.status, first.body)
	require.Empty(t, first.header.Get("Idempotent-Replayed"))
	id := first.field(t, "id")
	require.Equal(t, 200, b.as("POST", "/v1.0/batches/"+id+"/hold", "").status)
	<-b.dispatch.woken
	again := b.call("POST", "/v1.0/emails/batch", body, key...)
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
	require.Equal(t, first.status, again.status)
	require.Equal(t, first.body, again.body, "the same, whatever has happened since")
	require.Len(t, b.dispatch.accepted(), 1)
	require.Equal(t, 2, b.count("SELECT count(*) FROM emails"))

	other := b.call("POST", "/v1.0/emails/batch", permissive(copies("", ann, bob)), key...)
	require.Equal(t, 409, other.status, other.body)
	require.Equal(t, "idempotency_conflict", other.field(t, "code"))
	require.Equal(t, 409, b.call("POST", "/v1.0/emails", basic, key...).status, "a key is a batch's or an e-mail's")
}

func TestBatchWithRestrictedKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.store.Accounts.AddDomain(t.Context(), b.customer.ID, "news.test", true)
	require.NoError(t, err)
	_, key, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, SenderDomains: []string{"news.test"}})
	require.NoError(t, err)
	shop := b.key
	b.key = key
	refused := b.refusedBatch(copies("", ann))
	require.Equal(t, 403, refused.Status)
	require.Equal(t, "/message/from", refused.Errors[0].Pointer)
	require.Equal(t, "use an address of a domain that the key is for", refused.Errors[0].Detail)
	got := b.postBatch(permissive(messages(basic, strings.Replace(basic, "acme.test", "news.test", 1))))
	require.Equal(t, "/messages/0/from", got.Items[0].Error.Errors[0].Pointer)
	require.NotEmpty(t, got.Items[1].ID)

	for scope, want := range map[account.Scope]int{account.ScopeRead: 403, account.ScopeSend: 202} {
		_, b.key, err = b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, Scopes: []account.Scope{scope}})
		require.NoError(t, err)
		require.Equal(t, want, b.as("POST", "/v1.0/emails/batch", copies("", ann)).status, scope)
		require.Equal(t, 403, b.as("POST", "/v1.0/batches/"+got.ID+"/cancel", "").status, scope)
	}
	b.key = shop
}

func TestBatchChargesCredits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.adminKey()
	require.Equal(t, 200, b.with(admin, "PUT", "/v1.0/customers/"+b.customer.ID, `{"credits":2}`).status)
	for _, body := range []string{copies("", ann, cid, ann), permissive(copies("", ann, cid, ann))} {
		refused := b.refusedBatch(body)
		require.Equal(t, 402, refused.Status)
		require.Equal(t, "credits_exhausted", refused.Code)
	}
	b.postBatch(copies("", ann, cid))
	require.Equal(t, 402, b.refusedBatch(copies("", ann)).Status)
	months, err := b.store.Accounts.Usage(t.Context(), b.customer.ID, 1)
	require.NoError(t, err)
	require.EqualValues(t, 2, months[0].Emails)
}

func TestBatchesWithAttachments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	file := b.uploaded("terms.txt", "", []byte("terms")).ID
	attached := func(id string) (out struct {
		Attachments []struct {
			Filename      string
			Size          int
			ReferenceType string `json:"reference_type"`
			SHA256        string
		}
	}) {
		b.as("GET", "/v1.0/emails/"+id, "").decode(t, &out)
		return out
	}
	blobs := b.count("SELECT count(*) FROM blobs")
	got := b.postBatch(copies(`,"attachments":[{"filename":"a.txt","content":"`+base64.StdEncoding.EncodeToString([]byte("shared"))+`"},{"reference_type":"file","reference_id":"`+file+`"}]`, ann, cid))
	require.Equal(t, blobs+1, b.count("SELECT count(*) FROM blobs"), "the copies share the content")
	for _, item := range got.Items {
		as := attached(item.ID).Attachments
		require.Len(t, as, 2)
		require.Equal(t, []string{"a.txt", "terms.txt"}, []string{as[0].Filename, as[1].Filename})
		require.Equal(t, []int{6, 5}, []int{as[0].Size, as[1].Size})
	}

	url := strings.Replace(basic, "{", `{"attachments":[{"url":"https://files.example.com/a.pdf"}],`, 1)
	got = b.postBatch(messages(url, basic))
	require.Equal(t, "email-"+got.Items[0].ID, b.as("GET", "/v1.0/emails/"+got.Items[0].ID, "").field(t, "workflow_id"), "what has to be fetched has a run of its own")
	require.Equal(t, 200, b.as("POST", "/v1.0/batches/"+got.ID+"/hold", "").status)
	require.ElementsMatch(t, []string{got.WorkflowID, "email-" + got.Items[0].ID}, []string{<-b.dispatch.woken, <-b.dispatch.woken}, "which is told when the batch is steered")
	refused := b.refusedBatch(copies(`,"attachments":[{"url":"https://files.example.com/a.pdf"}]`, ann))
	require.Equal(t, "/message/attachments/0", refused.Errors[0].Pointer)
	require.Contains(t, refused.Errors[0].Detail, "POST /v1.0/files")
	refused = b.refusedBatch(copies(`,"attachments":[{"reference_type":"file","reference_id":"`+b.customer.ID+`"}]`, ann))
	require.Equal(t, "/message/attachments/0/reference_id", refused.Errors[0].Pointer)
	refused = b.refusedBatch(copies(`,"attachments":[{"filename":"a.txt","content":"`+strings.Repeat("A", 4*(maxBytes/3+10))+`"}]`, ann))
	require.Equal(t, 400, refused.Status)
	require.Equal(t, "/message/attachments", refused.Errors[0].Pointer)
}

func TestControlBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.postBatch(copies("", ann, cid, ann))
	b.becomes(got.Items[0].ID, email.RecipientDelivered)
	finished := false // nothing has to be woken then
	act := func(action string) batchAnswer {
		a := b.as("POST", "/v1.0/batches/"+got.ID+"/"+action, "")
		require.Equal(t, 200, a.status, a.body)
		if !finished {
			require.Equal(t, got.WorkflowID, <-b.dispatch.woken)
		}
		var out batchAnswer
		a.decode(t, &out)
		return out
	}
	require.Equal(t, "sending", b.batch(got.ID).Status)
	one := "/v1.0/emails/" + got.Items[1].ID
	require.Equal(t, 200, b.as("POST", one+"/hold", "").status)
	<-b.dispatch.woken
	require.Equal(t, "sending", b.batch(got.ID).Status, "another one is not held")
	require.Equal(t, 200, b.as("POST", "/v1.0/emails/"+got.Items[2].ID+"/hold", "").status)
	<-b.dispatch.woken
	require.Equal(t, "held", b.batch(got.ID).Status, "none is left that is not")
	for range 2 {
		held := act("hold")
		for _, action := range []string{"/resume", "/retry-now"} {
			refused := b.as("POST", one+action, "")
			require.Equal(t, 409, refused.status, refused.body)
			require.Contains(t, refused.body, "resume the batch, "+got.ID)
		}
		require.Equal(t, "held", held.Status)
		require.Equal(t, map[string]int{"held": 2}, held.Details)
	}
	require.Empty(t, act("resume").Details)
	ended := act("cancel")
	require.Equal(t, "finished", ended.Status)
	require.NotNil(t, ended.FinishedAt)
	require.Equal(t, []int{1, 2, 3}, []int{ended.Emails["delivered"], ended.Emails["canceled"], ended.Emails["total"]})
	finished = true
	require.Equal(t, "finished", act("cancel").Status)
	require.Equal(t, "finished", act("hold").Status)
	require.Zero(t, b.count("SELECT count(*) FROM batches WHERE held"), "there is nothing to hold")
	require.Empty(t, b.dispatch.woken)
}

func TestOtherCustomersBatchesAreNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.postBatch(copies("", ann)).ID
	_, other := b.newCustomer("Other", "other.test")
	for _, call := range [][2]string{{"GET", ""}, {"POST", "/cancel"}, {"POST", "/hold"}, {"POST", "/resume"}} {
		for path, key := range map[string]string{id: other, "00000000-0000-4000-8000-000000000000": b.key, "x": b.key} {
			a := b.call(call[0], "/v1.0/batches/"+path+call[1], "", "Authorization", "Bearer "+key)
			require.Equal(t, 404, a.status, a.body)
		}
	}
	require.JSONEq(t, `{"result":[],"next_page_token":""}`, b.call("GET", "/v1.0/batches", "", "Authorization", "Bearer "+other).body)
	require.JSONEq(t, `{"result":[],"next_page_token":""}`, b.call("GET", "/v1.0/emails?batch="+id, "", "Authorization", "Bearer "+other).body)
	require.Equal(t, "sending", b.batch(id).Status)
}

func TestListBatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want, got []string
	for range 5 {
		want = append(want, b.postBatch(copies("", ann)).ID)
	}
	slices.Reverse(want)
	for token := ""; ; {
		var page struct {
			Result        []batchAnswer
			NextPageToken string `json:"next_page_token"`
		}
		b.as("GET", "/v1.0/batches?page_size=2&page_token="+strings.ReplaceAll(token, " ", "%20"), "").decode(t, &page)
		for _, r := range page.Result {
			got = append(got, r.ID)
			require.Equal(t, 1, r.Emails["queued"])
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	require.Equal(t, want, got)
	require.Equal(t, 400, b.as("GET", "/v1.0/batches?page_token=x", "").status)
}

func TestBatchesOfVoIPBINCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.lenient = true
	require.Equal(t, 200, b.as("PUT", "/v1.0/customer", `{"profile":"voipbin"}`).status)
	got := b.postBatch(copies(`,"unknown":1`, ann))
	require.Equal(t, "initiated", got.Items[0].Status)
	require.Equal(t, "initiated", b.as("GET", "/v1.0/emails/"+got.Items[0].ID, "").field(t, "status"))
	require.Equal(t, 1, b.batch(got.ID).Emails["queued"], "counts have our names, as in statistics")
}

// The largest number of recipients in one request.
func TestLargestBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rs := make([]string, email.MaxBatchRecipients)
	for i := range rs {
		rs[i] = fmt.Sprintf(`{"email":"r%d@x.test","name":"R %d","variables":{"order":"%d"}}`, i, i, i)
	}
	start := time.Now()
	got := b.postBatch(copies("", rs...))
	t.Logf("accepted %d in %s", got.Accepted, time.Since(start))
	require.Equal(t, len(rs), got.Accepted)
	require.Equal(t, len(rs), b.batch(got.ID).Emails["queued"])
	refused := b.refusedBatch(copies("", append(rs, ann)...))
	require.Equal(t, "there are 10001 recipients, the limit is 10000: send several batches", refused.Errors[0].Detail)
	refused = b.refusedBatch(messages(slices.Repeat([]string{"{}"}, 1001)...))
	require.Equal(t, "there are 1001 messages, the limit is 1000: send several batches", refused.Errors[0].Detail)
	big, err := json.Marshal(strings.Repeat("x", 1<<19))
	require.NoError(t, err)
	got = b.postBatch(strings.Replace(copies("", rs[:20]...), `"{{name}}: {{order}}"`, string(big), 1))
	require.Equal(t, 20, b.batch(got.ID).Emails["queued"], "more than one statement takes")
	refused = b.refusedBatch(strings.Replace(copies("", rs[:513]...), `"{{name}}: {{order}}"`, string(big), 1))
	require.Equal(t, []string{"/recipients", "too_large"}, []string{refused.Errors[0].Pointer, refused.Errors[0].Code})
}

func TestPreviewBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.preview(copies(`,"attachments":[{"filename":"a.bin","content":"`+strings.Repeat("AAAA", 2000)+`"}]`, ann))
	require.Contains(t, got.Source, "Subject: Dear Ann\r\n")
	require.Contains(t, got.Source, "To: \"Ann\" <ann@x.test>\r\n")
	require.Equal(t, "Ann: 1 < 2", got.Text)
	require.Equal(t, []string{"/message/attachments/0"}, got.Shortened)
	require.Equal(t, b.preview(basic).Text, b.preview(messages(basic)).Text)
	of := func(body string) batchAnswer {
		var out struct{ Batch batchAnswer }
		b.as("POST", "/v1.0/emails/preview", body).decode(t, &out)
		return out.Batch
	}
	both := of(copies("", ann, cid))
	require.Equal(t, []int{2, 2, 0, 0}, []int{both.Total, both.Accepted, both.Refused, len(both.Items)})
	some := permissive(copies("", bob, `{"email":"dan@x.test","name":"Dan"}`, cid, ann))
	require.Regexp(t, "(?m)^Subject: Dear Cid\r$", b.preview(some).Source, "the first that is good")
	shown := of(some)
	require.Equal(t, []int{4, 2, 2}, []int{shown.Total, shown.Accepted, shown.Refused})
	require.Equal(t, "/recipients/1/variables/order", shown.Items[1].Error.Errors[0].Pointer)
	require.Zero(t, b.count("SELECT (SELECT count(*) FROM batches) + (SELECT count(*) FROM emails) + (SELECT count(*) FROM usage)"), "nothing is stored or charged")
	require.Equal(t, b.postBatch(some).Items[:2], shown.Items, "what is sent is refused for the same")
	for body, pointer := range map[string]string{
		copies("", ann, bob): "/recipients/1/variables/name", messages(basic, `{}`): "/messages/1/from", copies("", bob): "/recipients/0/variables/name", `{"recipients":[]}`: "/recipients",
		strings.Replace(copies("", ann), "acme.test", "other.test", 1): "/message/from", messages(strings.Replace(basic, "acme.test", "other.test", 1)): "/messages/0/from",
		copies(`,"attachments":[{"reference_type":"file","reference_id":"`+b.customer.ID+`"}]`, ann): "/message/attachments/0/reference_id",
	} {
		a := b.as("POST", "/v1.0/emails/preview", body)
		require.GreaterOrEqual(t, a.status, 400, a.body)
		var p problemAnswer
		a.decode(t, &p)
		require.Equal(t, pointer, p.Errors[0].Pointer, p.Errors[0].Detail)
		require.Equal(t, 1, b.count("SELECT count(*) FROM batches"))
	}
}
