package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	workflowpb "go.temporal.io/api/workflow/v1"
	temporal "go.temporal.io/sdk/client"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/smtptest"
)

// histories is where the replay tests find what is recorded here: one directory per
// version of the workflow code.
const histories = "../../workflows/testdata/histories/0"

// recorder keeps the histories of runs on a real server.
type recorder struct {
	*starter
	// down is where a relay will be, which is not there yet.
	down net.Addr
	// later lets through what was deferred so far.
	later atomic.Bool
	// web answers callbacks and has files to fetch.
	web *httptest.Server
	// deaf: callbacks fail.
	deaf atomic.Bool
}

// TestRecordHistories walks every path of the workflows on a real server, and writes
// down their histories. It is run by `make histories` when a path is added or the code's
// version is raised; the replay tests read what it wrote.
func TestRecordHistories(t *testing.T) {
	t.Parallel()
	if os.Getenv("POSTRIDER_TEST_HISTORIES") != "record" {
		t.Skip("`make histories` records")
	}
	require.NoError(t, os.MkdirAll(histories, 0o755))
	r := newRecorder(t)
	walk := func(t *testing.T, paths map[string]path) {
		for name, walked := range paths {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				walked(t, r, name)
			})
		}
	}
	t.Run("undisturbed", func(t *testing.T) { walk(t, undisturbed) })
	// These take a table away, and so each waits for the others to be done.
	for name, walked := range disturbed {
		t.Run(name, func(t *testing.T) { walked(t, r, name) })
	}
}

// path is one way through a workflow.
type path func(t *testing.T, r *recorder, name string)

var undisturbed = map[string]path{
	"delivered":          pathDelivered,
	"delivered-in-part":  pathDeliveredInPart,
	"deferred":           pathDeferred,
	"handed-over":        pathHandedOver,
	"relay-down":         pathRelayDown,
	"throttled":          pathThrottled,
	"ambiguous":          pathAmbiguous,
	"expired":            pathExpired,
	"scheduled":          pathScheduled,
	"steered-over-rest":  pathSteeredOverREST,
	"steered-by-updates": pathSteeredByUpdates,
	"steered-by-signals": pathSteeredBySignals,
	"run-canceled":       pathRunCanceled,
	"paused":             pathPaused,
	"attachment-fetched": pathAttachmentFetched,
	"attachment-failed":  pathAttachmentFailed,
	"continued":          pathContinued,
	"direct":             pathDirect,
	"direct-refused":     pathDirectRefused,
	"direct-again":       pathDirectAgain,
	"direct-followed":    pathDirectFollowed,
	"webhooks":           pathWebhooks,
	"batch":              pathBatch,
	"batch-steered":      pathBatchSteered,
	"batch-canceled":     pathBatchCanceled,
	"batch-throttled":    pathBatchThrottled,
	"batch-continued":    pathBatchContinued,
}

var disturbed = map[string]path{
	"postgres-away-for-the-record": pathPostgresAwayForTheRecord,
	"direct-waits-for-postgres":    pathDirectWaitsForPostgres,
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	seen := map[string]int{}
	var mu sync.Mutex
	peer := (&smtptest.Peer{Answer: func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		seen[line]++
		switch {
		case strings.HasPrefix(line, "RCPT TO:<refused"):
			return "550 5.1.1 " + strings.TrimPrefix(line, "RCPT TO:") + " is not here"
		case strings.HasPrefix(line, "RCPT TO:<deferred") && seen[line] <= 2, strings.HasPrefix(line, "RCPT TO:<later") && !r.later.Load(), strings.HasPrefix(line, "RCPT TO:<never"):
			return "451 4.7.1 " + strings.TrimPrefix(line, "RCPT TO:") + " is greylisted"
		}
		return ""
	}}).Start(t)
	slow := (&smtptest.Peer{Answer: func(line string) string {
		if line == "." {
			<-time.After(6 * time.Second) // longer than an attempt may take inline
		}
		return ""
	}}).Start(t)
	cut := (&smtptest.Peer{Answer: func(line string) string {
		if line == "." {
			return smtptest.Drop
		}
		return ""
	}}).Start(t)
	metered := (&smtptest.Peer{}).Start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.down = l.Addr()
	require.NoError(t, l.Close())
	r.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/file.txt":
			fmt.Fprint(w, "a file")
		case req.URL.Path == "/hook" && !r.deaf.Load():
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(r.web.Close)
	relay := func(name, addr, more string) string {
		return "smtp://" + addr + "?tls=none&name=" + name + "&domains=" + name + ".test" + more
	}
	// A new run is suggested after some rounds, not after thousands of events.
	server := startTemporal(t, devstack.TemporalOptions{DynamicConfig: map[string]string{"limit.historyCount.suggestContinueAsNew": "60"}})
	r.starter = (&ground{bin: binary(t), temporal: server}).starter(t, peer,
		strings.Join([]string{relay("acme", peer.Addr(), ""), relay("slow", slow.Addr(), ""), relay("cut", cut.Addr(), ""),
			relay("down", r.down.String(), ""), relay("metered", metered.Addr(), "&rate=1/s")}, " "),
		"POSTRIDER_RETRY_SCHEDULE=1s", "POSTRIDER_WEBHOOK_SCHEDULE=0s"+strings.Repeat(",1s", 60), "POSTRIDER_ALLOW_HTTP=true", "POSTRIDER_ALLOW_PRIVATE_CIDRS=127.0.0.0/8")
	for _, domain := range []string{"slow.test", "cut.test", "down.test", "metered.test"} {
		r.deployment.run("", "domain", "add", domain, "--customer", "ACME", "--verified")
	}
	return r
}

// The replay tests look for these words where they may not be.
const (
	secretText    = "the secret text"
	secretSubject = "the secret subject"
	secretSuffix  = "-secret"
)

// mail is to recipients whose names say what becomes of them.
func (r *recorder) mail(domain string, to ...string) client.Message {
	m := client.Message{From: client.Address{Email: "shop" + secretSuffix + "@" + domain + ".test"}, Subject: secretSubject, Content: client.Content{Text: secretText}}
	for _, local := range to {
		m.To = append(m.To, client.Address{Email: local + secretSuffix + "@y.test"})
	}
	return m
}

func (r *recorder) send(t *testing.T, m client.Message) client.Email {
	t.Helper()
	sent, err := r.client().Send(t.Context(), m)
	require.NoError(t, err)
	return sent.Email
}

// keep waits for the end of a run, and writes its history. It returns the run that
// it went on in, if any.
func (r *recorder) keep(t *testing.T, name, workflowID, runID string) (next string) {
	t.Helper()
	if runID == "" {
		runID = r.current(t, workflowID)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var history historypb.History
	for it := r.temporal.GetWorkflowHistory(ctx, workflowID, runID, true, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		ev, err := it.Next()
		require.NoError(t, err)
		forgetWhere(ev.ProtoReflect())
		history.Events = append(history.Events, ev)
		if c := ev.GetWorkflowExecutionContinuedAsNewEventAttributes(); c != nil {
			next = c.GetNewExecutionRunId()
		}
	}
	text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&history)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(histories, name+".json"), append(text, '\n'), 0o644))
	t.Logf("%s: %d events", name, len(history.Events))
	return next
}

// forgetWhere takes away what names the machine that recorded a history.
func forgetWhere(m protoreflect.Message) {
	if f, ok := m.Interface().(*failurepb.Failure); ok {
		f.StackTrace = ""
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Name() == "identity":
			m.Set(fd, protoreflect.ValueOfString("postrider"))
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { forgetWhere(v.Message()); return true })
			}
		case fd.IsList():
			if fd.Message() != nil {
				for i := range v.List().Len() {
					forgetWhere(v.List().Get(i).Message())
				}
			}
		case fd.Message() != nil:
			forgetWhere(v.Message())
		}
		return true
	})
}

// sendAndKeep is the whole of a path that needs no help.
func (r *recorder) sendAndKeep(t *testing.T, name string, m client.Message, status email.Status) {
	t.Helper()
	sent := r.send(t, m)
	r.keep(t, name, sent.WorkflowID, "")
	got, err := r.client().Get(t.Context(), sent.ID)
	require.NoError(t, err)
	require.Equal(t, status, got.Status)
}

// is reports whether a run says that of its e-mail.
func (r *recorder) is(t *testing.T, workflowID, detail string) bool {
	t.Helper()
	var st email.State
	v, err := r.temporal.QueryWorkflow(t.Context(), workflowID, "", email.QueryStatus)
	return err == nil && v.Get(&st) == nil && (string(st.Detail) == detail || st.Waiting == detail)
}

func (r *recorder) waits(t *testing.T, workflowID, detail string) {
	t.Helper()
	r.eventually(workflowID+" is "+detail, func() bool { return r.is(t, workflowID, detail) })
}

func (r *recorder) update(t *testing.T, workflowID, name string, in any) error {
	t.Helper()
	opts := temporal.UpdateWorkflowOptions{WorkflowID: workflowID, UpdateName: name, WaitForStage: temporal.WorkflowUpdateStageCompleted}
	if in != nil {
		opts.Args = []any{in}
	}
	h, err := r.temporal.UpdateWorkflow(t.Context(), opts)
	require.NoError(t, err)
	return h.Get(t.Context(), nil)
}

func (r *recorder) signal(t *testing.T, workflowID, name string, in any) {
	t.Helper()
	require.NoError(t, r.temporal.SignalWorkflow(t.Context(), workflowID, "", name, in))
}

// block keeps the processes from a table until the test calls it off.
func (r *recorder) block(t *testing.T, table string) (release func()) {
	t.Helper()
	tx, err := r.sql().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback()) }
}

func pathDelivered(t *testing.T, r *recorder, name string) {
	r.sendAndKeep(t, name, r.mail("acme", "ann"), email.StatusDelivered)
}

func pathDeliveredInPart(t *testing.T, r *recorder, name string) {
	r.sendAndKeep(t, name, r.mail("acme", "ann", "refused", "deferred-part"), email.StatusDelivered)
}

func pathDeferred(t *testing.T, r *recorder, name string) {
	r.sendAndKeep(t, name, r.mail("acme", "deferred"), email.StatusDelivered)
}

func pathHandedOver(t *testing.T, r *recorder, name string) {
	r.sendAndKeep(t, name, r.mail("slow", "ann"), email.StatusDelivered)
}

func pathAmbiguous(t *testing.T, r *recorder, name string) {
	m := r.mail("cut", "ann")
	m.OnAmbiguous = email.AmbiguousFail
	r.sendAndKeep(t, name, m, email.StatusFailed)
}

func pathExpired(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "never")
	m.ExpiresAt = time.Now().Add(4 * time.Second)
	r.sendAndKeep(t, name, m, email.StatusFailed)
}

func pathScheduled(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.SendAt = time.Now().Add(2 * time.Second)
	r.sendAndKeep(t, name, m, email.StatusDelivered)
}

func pathRelayDown(t *testing.T, r *recorder, name string) {
	first, called := r.send(t, r.mail("down", "ann")), r.send(t, r.mail("down", "bob"))
	for _, m := range []client.Email{first, called} {
		r.eventually("it waits for a relay", func() bool { return r.pending(t, m.WorkflowID, "connection refused") })
	}
	require.NoError(t, r.temporal.CancelWorkflow(t.Context(), called.WorkflowID, ""))
	r.keep(t, name+"-canceled", called.WorkflowID, "")
	l, err := net.Listen("tcp", r.down.String())
	require.NoError(t, err)
	(&smtptest.Peer{}).Serve(t, l)
	r.signal(t, first.WorkflowID, string(email.ActionRetryNow), nil)
	r.keep(t, name, first.WorkflowID, "")
}

// pending reports whether an activity of the run has failed with such words.
func (r *recorder) pending(t *testing.T, workflowID, words string) bool {
	t.Helper()
	d, err := r.temporal.DescribeWorkflowExecution(t.Context(), workflowID, "")
	require.NoError(t, err)
	for _, p := range d.GetPendingActivities() {
		if strings.Contains(p.GetLastFailure().GetMessage(), words) {
			return true
		}
	}
	return false
}

func pathThrottled(t *testing.T, r *recorder, name string) {
	var mails []client.Email
	for range 4 {
		mails = append(mails, r.send(t, r.mail("metered", "ann")))
	}
	waiting := ""
	r.eventually("one waits for its turn", func() bool {
		for _, m := range mails {
			if r.is(t, m.WorkflowID, "throttled") {
				waiting = m.WorkflowID
			}
		}
		return waiting != ""
	})
	r.keep(t, name, waiting, "")
}

func pathSteeredOverREST(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.SendAt = time.Now().Add(240 * time.Hour)
	sent, api := r.send(t, m), r.client()
	r.waits(t, sent.WorkflowID, "scheduled")
	_, err := api.Hold(t.Context(), sent.ID)
	require.NoError(t, err)
	r.waits(t, sent.WorkflowID, "held")
	_, err = api.Reschedule(t.Context(), sent.ID, time.Now())
	require.NoError(t, err)
	_, err = api.Resume(t.Context(), sent.ID)
	require.NoError(t, err)
	r.keep(t, name, sent.WorkflowID, "")
}

func pathSteeredByUpdates(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.SendAt = time.Now().Add(240 * time.Hour)
	sent := r.send(t, m)
	r.waits(t, sent.WorkflowID, "scheduled")
	require.NoError(t, r.update(t, sent.WorkflowID, "hold", nil))
	require.Error(t, r.update(t, sent.WorkflowID, "retry_now", nil))
	require.Error(t, r.update(t, sent.WorkflowID, "reschedule", nil), "the validator refuses")
	require.NoError(t, r.update(t, sent.WorkflowID, "resume", nil))
	require.NoError(t, r.update(t, sent.WorkflowID, "reschedule", email.RescheduleInput{SendAt: time.Now()}))
	r.keep(t, name, sent.WorkflowID, "")
}

func pathSteeredBySignals(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.SendAt = time.Now().Add(240 * time.Hour)
	sent := r.send(t, m)
	r.waits(t, sent.WorkflowID, "scheduled")
	r.signal(t, sent.WorkflowID, "hold", nil)
	r.waits(t, sent.WorkflowID, "held")
	r.signal(t, sent.WorkflowID, "retry_now", nil) // refused: it is held
	r.signal(t, sent.WorkflowID, "resume", nil)
	r.waits(t, sent.WorkflowID, "scheduled")
	r.signal(t, sent.WorkflowID, "cancel", nil)
	r.keep(t, name, sent.WorkflowID, "")
}

func pathRunCanceled(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.SendAt = time.Now().Add(240 * time.Hour)
	sent := r.send(t, m)
	r.waits(t, sent.WorkflowID, "scheduled")
	require.NoError(t, r.temporal.CancelWorkflow(t.Context(), sent.WorkflowID, ""))
	r.keep(t, name, sent.WorkflowID, "")
}

func pathPaused(t *testing.T, r *recorder, name string) {
	r.deployment.run("", "pause", "--stream", "broadcast")
	m := r.mail("acme", "ann")
	m.Stream = email.StreamBroadcast
	sent := r.send(t, m)
	r.waits(t, sent.WorkflowID, "paused")
	r.deployment.run("", "unpause", "--stream", "broadcast")
	r.keep(t, name, sent.WorkflowID, "")
}

func pathAttachmentFetched(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.Attachments = []client.Attachment{{URL: r.web.URL + "/file.txt"}}
	r.sendAndKeep(t, name, m, email.StatusDelivered)
}

func pathAttachmentFailed(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.Attachments = []client.Attachment{{URL: r.web.URL + "/nothing"}}
	r.sendAndKeep(t, name, m, email.StatusFailed)
}

func pathContinued(t *testing.T, r *recorder, name string) {
	sent := r.send(t, r.mail("acme", "later"))
	next := r.keep(t, name+"-1", sent.WorkflowID, r.current(t, sent.WorkflowID))
	require.NotEmpty(t, next)
	r.later.Store(true)
	require.Empty(t, r.keep(t, name+"-2", sent.WorkflowID, next))
}

// current waits for the first run of a workflow id.
func (r *recorder) current(t *testing.T, workflowID string) (runID string) {
	t.Helper()
	r.eventually("it runs", func() bool {
		d, err := r.temporal.DescribeWorkflowExecution(t.Context(), workflowID, "")
		runID = d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
		return err == nil
	})
	return runID
}

func pathDirect(t *testing.T, r *recorder, name string) {
	r.starter.run(t, name, r.input(t, r.mail("acme", "ann"), ""))
	r.keep(t, name, name, "")
}

func pathDirectRefused(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.To = nil
	r.starter.run(t, name, r.input(t, m, ""))
	r.keep(t, name, name, "")
}

func pathDirectAgain(t *testing.T, r *recorder, name string) {
	in := r.input(t, r.mail("acme", "ann"), "")
	first := result(t, r.starter.run(t, name, in))
	require.Equal(t, first, result(t, r.starter.run(t, name, in)))
	r.keep(t, name, name, "")
}

func pathDirectFollowed(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann")
	m.SendAt = time.Now().Add(240 * time.Hour)
	in := r.input(t, m, name)
	r.starter.run(t, name, in)
	r.accepted(t, name)
	r.starter.run(t, name+"-follower", in)
	r.eventually("the second follows the first", func() bool { return r.pending(t, name+"-follower", "sends it") })
	require.NoError(t, r.update(t, name+"-follower", "reschedule", email.RescheduleInput{SendAt: time.Now()}))
	r.keep(t, name, name, "")
	r.keep(t, name+"-follower", name+"-follower", "")
}

func pathDirectWaitsForPostgres(t *testing.T, r *recorder, name string) {
	release := r.block(t, "direct_starts")
	r.starter.run(t, name, r.input(t, r.mail("acme", "ann"), ""))
	r.waits(t, name, "acceptance")
	r.signal(t, name, "hold", nil)
	release()
	r.waits(t, name, "held")
	r.signal(t, name, "resume", nil)
	r.keep(t, name, name, "")
}

func pathPostgresAwayForTheRecord(t *testing.T, r *recorder, name string) {
	sent := r.send(t, r.mail("slow", "ann"))
	db := r.sql()
	r.eventually("the message is on its way", func() bool {
		return r.count(db, "SELECT count(*) FROM delivery_attempts WHERE phase = 'data_sent' AND email_id = '"+sent.ID+"'") == 1
	})
	release := r.block(t, "email_events")
	r.eventually("its status waits for Postgres", func() bool {
		d, err := r.temporal.DescribeWorkflowExecution(t.Context(), sent.WorkflowID, "")
		require.NoError(t, err)
		return slices.ContainsFunc(d.GetPendingActivities(), func(p *workflowpb.PendingActivityInfo) bool {
			return p.GetActivityType().GetName() == email.ActivityRecordStatus
		})
	})
	release()
	r.keep(t, name, sent.WorkflowID, "")
}

func pathWebhooks(t *testing.T, r *recorder, name string) {
	r.deaf.Store(true)
	m := r.mail("acme", "ann")
	m.CallbackURL = r.web.URL + "/hook"
	sent := r.send(t, m)
	r.keep(t, name+"-unheard", sent.WorkflowID, "")
	var endpoint string
	require.NoError(t, r.sql().QueryRowContext(t.Context(), "SELECT callback_id FROM emails WHERE id = $1", sent.ID).Scan(&endpoint))
	id := email.WebhookWorkflowIDPrefix + endpoint
	first := r.current(t, id)
	r.wakeUntilContinued(t, id, first)
	next := r.keep(t, name+"-continued-1", id, first)
	require.NotEmpty(t, next)
	r.deaf.Store(false)
	_, err := r.sql().ExecContext(t.Context(), "UPDATE webhook_endpoints SET blocked_until = NULL WHERE id = $1", endpoint)
	require.NoError(t, err)
	_, err = r.sql().ExecContext(t.Context(), "UPDATE webhook_deliveries SET next_attempt_at = now() WHERE endpoint_id = $1 AND status = 'pending'", endpoint)
	require.NoError(t, err)
	r.signal(t, id, email.SignalWake, nil)
	require.Empty(t, r.keep(t, name+"-continued-2", id, next))
}

// batch has a copy of a message sent to each, and names the run.
func (r *recorder) batch(t *testing.T, m client.Message) (workflowID string) {
	t.Helper()
	type to struct {
		Email string `json:"email"`
	}
	var all []to
	for _, a := range m.To {
		all = append(all, to{a.Email})
	}
	m.To = nil
	body, err := json.Marshal(map[string]any{"message": m, "recipients": all})
	require.NoError(t, err)
	status, _, data := r.call("POST", "/v1.0/emails/batch?accesskey="+r.key, string(body))
	require.Equal(t, http.StatusAccepted, status, string(data))
	var got struct {
		WorkflowID string `json:"workflow_id"`
	}
	require.NoError(t, json.Unmarshal(data, &got))
	return got.WorkflowID
}

func pathBatch(t *testing.T, r *recorder, name string) {
	r.keep(t, name, r.batch(t, r.mail("acme", "ann", "refused", "deferred-batch")), "")
}

// running waits until a batch's run waits.
func (r *recorder) running(t *testing.T, workflowID string) {
	t.Helper()
	r.eventually("the batch waits", func() bool {
		var plan email.PlanBatchResult
		v, err := r.temporal.QueryWorkflow(t.Context(), workflowID, "", email.QueryStatus)
		return err == nil && v.Get(&plan) == nil && plan.Total > 0 && !plan.NextAt.IsZero()
	})
}

func pathBatchSteered(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann", "bob")
	m.SendAt = time.Now().Add(240 * time.Hour)
	id := r.batch(t, m)
	r.running(t, id)
	for _, action := range []string{"hold", "resume", "cancel"} {
		r.signal(t, id, action, nil)
	}
	r.keep(t, name, id, "")
}

func pathBatchCanceled(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann", "bob")
	m.SendAt = time.Now().Add(240 * time.Hour)
	id := r.batch(t, m)
	r.running(t, id)
	require.NoError(t, r.temporal.CancelWorkflow(t.Context(), id, ""))
	r.keep(t, name, id, "")
}

func pathBatchThrottled(t *testing.T, r *recorder, name string) {
	r.keep(t, name, r.batch(t, r.mail("metered", "ann", "bob", "eve")), "")
}

func pathBatchContinued(t *testing.T, r *recorder, name string) {
	m := r.mail("acme", "ann", "bob")
	m.SendAt = time.Now().Add(240 * time.Hour)
	id := r.batch(t, m)
	r.running(t, id)
	first := r.current(t, id)
	r.wakeUntilContinued(t, id, first)
	next := r.keep(t, name+"-1", id, first)
	r.signal(t, id, "cancel", nil)
	require.Empty(t, r.keep(t, name+"-2", id, next))
}

// wakeUntilContinued wakes a run, each time for a few events, until it goes on in a
// new one.
func (r *recorder) wakeUntilContinued(t *testing.T, id, first string) {
	t.Helper()
	r.eventually("it goes on in a new run", func() bool {
		r.signal(t, id, email.SignalWake, nil)
		return r.current(t, id) != first
	})
}
