package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dnstest"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/smtptest"
	"github.com/postrider/postrider/internal/webhook"
)

// TestWebhooks tests the webhook calls with all parts of an installation.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	for name, test := range map[string]func(*testing.T, *ground){
		"every event that is documented fires":                  everyEventFires,
		"an endpoint is down while ten thousand events come up": anEndpointIsDown,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			test(t, g)
		})
	}
}

// local lets a deployment call the receivers of a test.
var local = []string{"POSTRIDER_ALLOW_HTTP=true", "POSTRIDER_ALLOW_PRIVATE_CIDRS=127.0.0.0/8", "POSTRIDER_WEBHOOK_SCHEDULE=0s,1s,1s,1s,1s,1s,1s,1s,1s,1s", "POSTRIDER_RETRY_SCHEDULE=1s"}

// rest calls the API and wants a status.
func (d *deployment) rest(want int, method, path, body string) map[string]any {
	d.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	status, _, data := d.call(method, path+sep+"accesskey="+d.key, body)
	require.Equal(d.t, want, status, "%s %s: %s", method, path, data)
	var out map[string]any
	require.NoError(d.t, json.Unmarshal(data, &out))
	return out
}

// text is a member of an answer that is one.
func text(t testing.TB, m map[string]any, name string) string {
	t.Helper()
	s, ok := m[name].(string)
	require.True(t, ok, name)
	return s
}

// mail has an e-mail accepted.
func (d *deployment) mail(to, more string) string {
	d.t.Helper()
	return text(d.t, d.rest(202, "POST", "/v1.0/emails", `{"from":{"email":"shop@acme.test"},"to":[{"email":"`+to+`"}],"subject":"s","content":"Hi"`+more+`}`), "id")
}

// endpoint makes one for what is called at a URL.
func (d *deployment) endpoint(url, more string) (id, secret string) {
	d.t.Helper()
	e := d.rest(201, "POST", "/v1.0/webhooks", `{"url":"`+url+`"`+more+`}`)
	return text(d.t, e, "id"), text(d.t, e, "secret")
}

// webhookSink is a receiver that records the calls which the official library has verified.
type webhookSink struct {
	t      *testing.T
	mu     sync.Mutex
	secret string
	// bodies are the events by type, in the order they came.
	bodies map[string][]map[string]any
}

func (e *webhookSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone, which it will see
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	wh, err := standardwebhooks.NewWebhook(e.secret)
	var event map[string]any
	if err == nil {
		err = wh.Verify(body, r.Header)
	}
	if err == nil {
		err = json.Unmarshal(body, &event)
	}
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		e.t.Error(err)
		return
	}
	kind := fmt.Sprint(event["type"])
	e.bodies[kind] = append(e.bodies[kind], event)
	w.WriteHeader(http.StatusNoContent)
}

// received are the event types of the calls so far.
func (e *webhookSink) received() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.bodies))
}

// String is for failures.
func (e *webhookSink) String() string { return strings.Join(e.received(), " ") }

// all are the events of a type, as JSON.
func (e *webhookSink) all(kind string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out, err := json.Marshal(e.bodies[kind])
	require.NoError(e.t, err)
	return string(out)
}

// everyEventFires makes every event type happen. It fails for a type of package endpoint, or of
// the documentation, that did not fire.
func everyEventFires(t *testing.T, g *ground) {
	var cut atomic.Bool
	stalled, release := make(chan struct{}, 1), make(chan struct{})
	peer := (&smtptest.Peer{Answer: func(line string) string {
		switch {
		case strings.Contains(line, "RCPT TO:<bounce@"):
			return "550 5.1.1 no such user"
		case strings.Contains(line, "RCPT TO:<defer@"):
			return "451 4.7.1 not now"
		case strings.Contains(line, "RCPT TO:<slow@"):
			stalled <- struct{}{}
			<-release
			return "451 4.7.1 not now"
		case line == "." && cut.Load():
			return smtptest.Drop
		}
		return ""
	}}).Start(t)
	dns := dnstest.New(t)
	d := g.deploy(t, relayURL(peer), append(slices.Clone(local), "POSTRIDER_DNS_SERVERS="+dns.Recursive)...)
	d.serve()
	d.worker()

	listener, voipbin := &webhookSink{t: t, bodies: map[string][]map[string]any{}}, &webhookSink{t: t, bodies: map[string][]map[string]any{}}
	secretPlace := &atomic.Int32{}
	mux := http.NewServeMux()
	mux.Handle("/all", listener)
	mux.Handle("/voipbin", voipbin)
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/secret", http.StatusFound) })
	mux.HandleFunc("/secret", func(http.ResponseWriter, *http.Request) { secretPlace.Add(1) })
	hooks := httptest.NewServer(mux)
	t.Cleanup(hooks.Close)
	events, err := json.Marshal(endpoint.Events(endpoint.FormatStandard))
	require.NoError(t, err)
	watching, secret := d.endpoint(hooks.URL+"/all", `,"events":`+string(events))
	listener.secret = secret
	_, voipbin.secret = d.endpoint(hooks.URL+"/voipbin", `,"format":"voipbin"`)

	// One thing after another, each of its own kind.
	d.mail("ok@y.test", "")
	d.mail("bounce@y.test", "")
	d.mail("defer@y.test", "")
	// On a slow machine this one expires before its first attempt.
	d.mail("defer@y.test", `,"expires_at":"`+time.Now().Add(4*time.Second).UTC().Format(time.RFC3339)+`"`)
	later := `,"send_at":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`
	canceled := d.mail("ok@y.test", later)
	d.rest(200, "POST", "/v1.0/emails/"+canceled+"/hold", "")
	d.rest(200, "POST", "/v1.0/emails/"+canceled+"/resume", "")
	d.rest(200, "POST", "/v1.0/emails/"+canceled+"/cancel", "")
	d.rest(200, "DELETE", "/v1.0/emails/"+d.mail("ok@y.test", later), "")
	slow := d.mail("slow@y.test", "")
	<-stalled
	d.rest(200, "POST", "/v1.0/emails/"+slow+"/cancel", "")
	close(release)
	d.rest(202, "POST", "/v1.0/webhooks/"+watching+"/test", "")
	d.eventually("the slow one has ended", func() bool {
		return d.rest(200, "GET", "/v1.0/emails/"+slow, "")["status"] == string(email.StatusCanceled)
	})
	cut.Store(true)
	ambiguous := d.mail("ok@y.test", `,"on_ambiguous":"fail"`)
	d.eventually("it has ended", func() bool {
		return d.rest(200, "GET", "/v1.0/emails/"+ambiguous, "")["status"] == string(email.StatusFailed)
	})
	cut.Store(false)
	d.comesAndGoes(peer)

	// An endpoint that is gone, and one that has failed for a day.
	gone, _ := d.endpoint(hooks.URL+"/gone", `,"events":["email.completed"]`)
	moved, _ := d.endpoint(hooks.URL+"/moved", `,"events":["email.completed"]`)
	d.mail("ok@y.test", "")
	d.eventually("a redirect is a failure", func() bool {
		return d.rest(200, "GET", "/v1.0/webhooks/"+moved, "")["last_error"] == "answered 302 Found"
	})
	_, err = d.sql().ExecContext(t.Context(), "UPDATE webhook_endpoints SET failing_since = failing_since - interval '25 hours' WHERE failures > 0 AND id = $1", moved)
	require.NoError(t, err)
	d.rest(202, "POST", "/v1.0/webhooks/"+moved+"/test", "")

	d.domainComesAndGoes(dns)
	d.reputationFalls()

	want := append(endpoint.Events(endpoint.FormatStandard), endpoint.TypeTest)
	slices.Sort(want)
	require.Eventually(t, func() bool { return slices.Equal(want, listener.received()) }, patience, 50*time.Millisecond, "%v", listener)
	require.Eventually(t, func() bool {
		return slices.Equal([]string{"email_created", "email_deleted", "email_updated"}, voipbin.received())
	}, patience, 50*time.Millisecond)
	for _, name := range want {
		require.Contains(t, documented(t), name, "docs/webhooks.md tells of it")
	}
	require.ElementsMatch(t, want, documented(t), "and of nothing else")

	require.Contains(t, listener.all("endpoint.disabled"), gone)
	require.Contains(t, listener.all("endpoint.disabled"), `"reason":"gone"`)
	require.Contains(t, listener.all("endpoint.failing"), moved)
	require.Contains(t, listener.all("endpoint.failing"), `"disables_at":"`)
	require.Equal(t, true, d.rest(200, "GET", "/v1.0/webhooks/"+gone, "")["disabled"])
	require.Zero(t, secretPlace.Load(), "redirects are not followed")
	require.Contains(t, listener.all("domain.failed"), `"domain":"shop.example"`)
	require.Contains(t, listener.all("domain.failed"), `"problem":"missing"`)
	require.Contains(t, listener.all("reputation.critical"), `"domain":"acme.test"`)
	require.Contains(t, listener.all("reputation.critical"), `"bounce_rate":0.0`)
	require.Contains(t, listener.all("email.bounced"), `"bounce":{"type":"hard"}`)
	require.Contains(t, listener.all("email.bounced"), `"smtp":{"code":550,"enhanced_code":"5.1.1","text":"no such user"}`)
	require.Contains(t, listener.all("email.completed"), `"counts":{`)
	for _, kind := range []string{"email.deferred", "email.delivered", "email.bounced", "email.failed", "email.expired", "email.canceled", "email.ambiguous", "email.suppressed", "email.unsubscribed", "email.resubscribed"} {
		require.Contains(t, listener.all(kind), `"recipient":{`, kind)
	}
	sequenceIsComplete(t, listener)
}

// comesAndGoes has a recipient unsubscribe, misses it, and has it subscribe again.
func (d *deployment) comesAndGoes(peer *smtptest.Peer) {
	d.t.Helper()
	news := `,"stream":"broadcast","unsubscribe":{"topic":"news"}`
	d.mail("reader@y.test", news)
	var link string
	d.eventually("the mail with the link has come", func() bool {
		for _, m := range peer.Messages() {
			if found := listUnsubscribe.FindStringSubmatch(m.Data); found != nil {
				link = found[1]
			}
		}
		return link != ""
	})
	for _, undo := range []string{"", "undo=1"} {
		res, err := http.Post("http://"+d.api+link, "application/x-www-form-urlencoded", strings.NewReader(undo))
		require.NoError(d.t, err)
		require.NoError(d.t, res.Body.Close())
		require.Equal(d.t, 200, res.StatusCode)
		if undo == "" {
			status, _, data := d.call("POST", "/v1.0/emails?accesskey="+d.key, `{"from":{"email":"shop@acme.test"},"to":[{"email":"reader@y.test"}],"subject":"s","content":"Hi"`+news+`}`)
			require.Equal(d.t, 200, status, string(data))
		}
	}
}

// domainComesAndGoes publishes the records of a sender domain, and takes them away for two days.
func (d *deployment) domainComesAndGoes(dns *dnstest.Net) {
	d.t.Helper()
	domain := "/v1.0/domains/" + d.rest(201, "POST", "/v1.0/domains", `{"name":"shop.example"}`)["id"].(string)
	becomes := func(status string) {
		d.eventually("the domain is "+status, func() bool { return d.rest(200, "GET", domain, "")["status"] == status })
	}
	dns.Zone(d.t, "shop.example", []string{"ns.dns.example"}, strings.Split(d.run("", "domain", "show", "shop.example", "--customer", "ACME", "--zone"), "\n")...)
	becomes("verified")
	dns.Zone(d.t, "shop.example", []string{"ns.dns.example"})
	d.rest(200, "POST", domain+"/verify", "")
	becomes("warning")
	_, err := d.sql().ExecContext(d.t.Context(), "UPDATE domains SET misses = 2, first_miss_at = first_miss_at - interval '48 hours' WHERE name = 'shop.example'")
	require.NoError(d.t, err)
	d.rest(200, "POST", domain+"/verify", "")
	becomes("failed")
}

// reputationFalls gives the sender domain a bad week, and one mail more for each band.
func (d *deployment) reputationFalls() {
	d.t.Helper()
	for _, week := range []struct {
		band string
		hard int
	}{{"warning", 3000}, {"critical", 6000}} {
		_, err := d.sql().ExecContext(d.t.Context(), `INSERT INTO reputation_days (customer_id, sender_domain, day, stream, provider, sent, hard)
			SELECT id, 'acme.test', (now() AT TIME ZONE 'UTC')::date, 'broadcast', 'google', 100000, $1 FROM customers WHERE name = 'ACME'
			ON CONFLICT (customer_id, sender_domain, day, stream, provider) DO UPDATE SET hard = excluded.hard`, week.hard)
		require.NoError(d.t, err)
		d.mail("ok@y.test", "")
		d.eventually("the reputation is "+week.band, func() bool {
			return strings.Contains(d.run("", "domain", "reputation", "acme.test", "--customer", "ACME"), "band        "+week.band)
		})
	}
}

// documented are the types that docs/webhooks.md has in its table.
func documented(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/webhooks.md")
	require.NoError(t, err)
	var out []string
	for _, line := range regexp.MustCompile("(?m)^\\| `[a-z.]+`.*\\|.*\\|$").FindAllString(string(page), -1) {
		for _, name := range regexp.MustCompile("`([a-z]+\\.[a-z_]+)`").FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			out = append(out, name[1])
		}
	}
	return out
}

// sequenceIsComplete: the events of each e-mail are numbered from 1, without a gap.
func sequenceIsComplete(t *testing.T, e *webhookSink) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	numbers := map[string][]float64{}
	for _, events := range e.bodies {
		for _, ev := range events {
			data := ev["data"].(map[string]any)
			if n, ok := data["sequence"].(float64); ok {
				numbers[fmt.Sprint(data["email_id"])] = append(numbers[fmt.Sprint(data["email_id"])], n)
			}
		}
	}
	require.NotEmpty(t, numbers)
	for id, got := range numbers {
		slices.Sort(got)
		for i, n := range got {
			require.InDelta(t, i+1, n, 0, "%s: %v", id, got)
		}
	}
}

// anEndpointIsDown: one run waits for it, with a history that does not grow by the
// event, says so in words, and then delivers everything.
func anEndpointIsDown(t *testing.T, g *ground) {
	const mails, recipients = 200, 50
	peer := (&smtptest.Peer{}).Start(t)
	d := g.deploy(t, relayURL(peer), local...)
	d.serve()
	d.worker()
	var up atomic.Bool
	var mu sync.Mutex
	taken, refused := map[string]int{}, map[string]string{}
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller has gone, which it will see
		}
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get(webhook.HeaderID)
		if !up.Load() {
			refused[id] = string(body)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		taken[id]++
		if before, ok := refused[id]; ok && before != string(body) {
			t.Error("another body on another attempt")
		}
	}))
	t.Cleanup(hooks.Close)
	id, _ := d.endpoint(hooks.URL, `,"events":["email.delivered","email.completed"]`)
	to := make([]string, recipients)
	for i := range to {
		to[i] = fmt.Sprintf(`{"email":"r%d@y.test"}`, i)
	}
	body := `{"from":{"email":"shop@acme.test"},"to":[` + strings.Join(to, ",") + `],"subject":"s","content":"Hi"}`
	for range mails {
		d.rest(202, "POST", "/v1.0/emails", body)
	}
	db := d.sql()
	d.finished(db, patience)
	require.Equal(t, mails*(recipients+1), d.count(db, "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"))
	require.Zero(t, d.count(db, "SELECT count(*) FROM emails WHERE status <> 'delivered'"), "mail does not wait for webhooks")

	c, err := temporal.Dial(temporal.Options{HostPort: g.temporal.Address(), Namespace: d.namespace})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	run := email.WebhookWorkflowIDPrefix + id
	d.eventually("its run says in words where it stands", func() bool {
		answer, err := c.QueryWorkflow(t.Context(), run, "", "__temporal_workflow_metadata")
		if err != nil { // a busy machine does not answer in time
			t.Log(err)
			return false
		}
		var meta sdkpb.WorkflowMetadata
		require.NoError(t, answer.Get(&meta))
		require.Len(t, meta.GetDefinition().GetSignalDefinitions(), 1)
		require.NotEmpty(t, meta.GetDefinition().GetSignalDefinitions()[0].GetDescription())
		words := meta.GetCurrentDetails()
		return regexp.MustCompile(`^127\.0\.0\.1:\d+: 10,200 waiting, next \d\d:\d\d; answered 503 Service Unavailable, since \d\d:\d\d$`).MatchString(words)
	})
	require.Less(t, historyLength(t, c, d.namespace, run, 1), int64(500), "while ten thousand events came up")

	up.Store(true)
	d.rest(200, "POST", "/v1.0/webhooks/"+id+"/enable", "")
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(taken) == mails*(recipients+1)
	}, patience, 100*time.Millisecond, "every event is delivered in the end")
	d.eventually("and written down", func() bool {
		return d.count(db, "SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'") == mails*(recipients+1)
	})
	require.Less(t, historyLength(t, c, d.namespace, run, 3), int64(1000))
}

// historyLength is that of all runs of a workflow, of which there are not many.
func historyLength(t *testing.T, c temporal.Client, namespace, id string, maxRuns int) (length int64) {
	t.Helper()
	runs := 0
	require.Eventually(t, func() bool { // what is listed comes a little later
		list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, Query: "WorkflowId = '" + id + "'"})
		require.NoError(t, err)
		runs, length = len(list.GetExecutions()), 0
		for _, e := range list.GetExecutions() {
			desc, err := c.DescribeWorkflowExecution(t.Context(), id, e.GetExecution().GetRunId())
			require.NoError(t, err)
			require.NotEqual(t, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, desc.GetWorkflowExecutionInfo().GetStatus())
			length += desc.GetWorkflowExecutionInfo().GetHistoryLength()
		}
		return runs > 0
	}, patience, 100*time.Millisecond)
	require.LessOrEqual(t, runs, maxRuns)
	return length
}
