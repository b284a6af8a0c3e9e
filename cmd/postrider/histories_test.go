package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	temporal "go.temporal.io/sdk/client"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/dnstest"
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
	// dns has the sender domains that are verified.
	dns *dnstest.Net
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
	"domain":             pathDomain,
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
	r.dns = dnstest.New(t)
	relay := func(name, addr, more string) string {
		return "smtp://" + addr + "?tls=none&name=" + name + "&domains=" + name + ".test" + more
	}
	// A new run is suggested after some rounds, not after thousands of events.
	server := startTemporal(t, devstack.TemporalOptions{DynamicConfig: map[string]string{"limit.historyCount.suggestContinueAsNew": "60"}})
	r.starter = (&ground{bin: binary(t), temporal: server}).starter(t, peer,
		strings.Join([]string{relay("acme", peer.Addr(), ""), relay("slow", slow.Addr(), ""), relay("cut", cut.Addr(), ""),
			relay("down", r.down.String(), ""), relay("metered", metered.Addr(), "&rate=1/s")}, " "),
		"POSTRIDER_RETRY_SCHEDULE=1s", "POSTRIDER_WEBHOOK_SCHEDULE=0s"+strings.Repeat(",1s", 60), "POSTRIDER_ALLOW_HTTP=true", "POSTRIDER_ALLOW_PRIVATE_CIDRS=127.0.0.0/8",
		"POSTRIDER_DNS_SERVERS="+r.dns.Recursive)
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
	return err == nil && v.Get(&st) == nil && (string(st.Detail) == detail || string(st.Waiting) == detail)
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
