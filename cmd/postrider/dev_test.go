package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	temporal "go.temporal.io/sdk/client"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// TestDev starts the whole stack with the real binary and does what a newcomer does. It sends
// the examples of VoIPBIN's e-mail API, reads the inbox, looks at the run, stops and starts
// again. Its parts share the stack and run in order.
func TestDev(t *testing.T) {
	t.Parallel()
	bin, path, dir, ports := binary(t), temporalOnPath(t), t.TempDir(), freePorts(t)
	recordings := httptest.NewServer(http.HandlerFunc(serveRecording))
	t.Cleanup(recordings.Close)
	settings := []string{"POSTRIDER_RECORDING_URL=" + recordings.URL + "/{customer_id}/{id}", "POSTRIDER_RECORDING_TOKEN=sesame"}
	s := startStack(t, bin, path, dir, ports, settings...)
	var first string
	t.Run("VoIPBIN's basic example", func(t *testing.T) { s.t = t; first = s.basicExample() })
	t.Run("VoIPBIN's example with an attachment", func(t *testing.T) { s.t = t; s.attachmentExample() })
	t.Run("the happy path's cost", func(t *testing.T) { s.t = t; s.cost(first) })
	t.Run("outcomes per recipient", func(t *testing.T) { s.t = t; s.outcomes() })
	t.Run("a reply that never comes", func(t *testing.T) { s.t = t; s.ambiguous() })
	t.Run("a slow server", func(t *testing.T) { s.t = t; s.slow() })
	t.Run("signed webhooks, retried", func(t *testing.T) { s.t = t; s.webhooks() })
	t.Run("recordings", func(t *testing.T) { s.t = t; s.recordings() })
	t.Run("uploaded and linked attachments", func(t *testing.T) { s.t = t; s.links() })
	t.Run("control from the API and from Temporal", func(t *testing.T) { s.t = t; s.control() })
	t.Run("deleting a scheduled e-mail", func(t *testing.T) { s.t = t; s.deleteScheduled() })
	t.Run("batches", func(t *testing.T) { s.t = t; s.batches() })
	t.Run("postrider send", func(t *testing.T) { s.t = t; s.commandLine(bin); s.commandLineBatch(bin) })
	t.Run("an operator's commands take dev.env", func(t *testing.T) { s.t = t; s.operator(bin) })
	t.Run("a second stack in the same folder", func(t *testing.T) { s.t = t; s.second(bin, path) })
	t.Run("stop leaves nothing", func(t *testing.T) {
		s.t = t
		require.NotEmpty(t, s.processes())
		s.stop()
		require.NoError(t, s.waited, s.output())
		require.NoError(t, s.closed())
		require.Eventually(t, func() bool { return len(s.processes()) == 0 }, patience, 50*time.Millisecond, "%v", s.processes())
	})
	t.Run("a second start reuses the data", func(t *testing.T) {
		key := s.env["POSTRIDER_ACCESSKEY"]
		// A shell that has sourced dev.env has the addresses of servers that have ended.
		stale := append([]string{"DATABASE_URL=" + s.env["DATABASE_URL"], "TEMPORAL_ADDRESS=" + s.env["TEMPORAL_ADDRESS"], "POSTRIDER_SECRET_KEY=" + s.env["POSTRIDER_SECRET_KEY"]}, settings...)
		again := startStack(t, bin, path, dir, ports, stale...)
		require.Equal(t, key, again.env["POSTRIDER_ACCESSKEY"])
		require.Contains(t, strings.Fields(again.env[ownedName]), "POSTRIDER_SECRET_KEY", "it is still that of the folder")
		require.Equal(t, email.StatusDelivered, again.get(first).Status)
		require.Len(t, again.arrived(first), 1, "not sent again")
		again.await(again.send(mailTo("after")).ID, email.StatusDelivered)
		require.NoError(t, again.cmd.Process.Signal(syscall.SIGTERM))
		<-again.ended
		require.NoError(t, again.waited, again.output())
		require.NoError(t, again.closed())
	})
}

// operator runs the commands that work on the database, with the variables of dev.env only. The
// file has the secret key, and only its user can read it.
func (s *stack) operator(bin string) {
	file := filepath.Join(s.dir, "dev.env")
	info, err := os.Stat(file)
	require.NoError(s.t, err)
	require.Equal(s.t, os.FileMode(0o600), info.Mode().Perm())
	run := func(args string) string {
		cmd := exec.CommandContext(s.t.Context(), "sh", "-c", `set -a; . "$1"; exec "$2" `+args, "sh", file, bin)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.t.TempDir()}
		out, err := cmd.CombinedOutput()
		require.NoError(s.t, err, string(out))
		return string(out)
	}
	require.Contains(s.t, run("pause --customer Demo --reason 'a try'"), "a try")
	require.Contains(s.t, run("pauses"), "a try")
	require.Contains(s.t, run("unpause --customer Demo"), "nothing is paused")
	require.Contains(s.t, run("customer create --name 'made with dev.env'"), "webhook secret whsec_")
}

// expect replaces what differs from mail to mail and compares with a golden file.
func (s *stack) expect(golden, raw, id string) {
	s.t.Helper()
	date := regexp.MustCompile(`(?m)^Date: (.*)\r$`).FindStringSubmatch(raw)
	require.NotNil(s.t, date)
	at, err := time.Parse(time.RFC1123Z, date[1])
	require.NoError(s.t, err)
	require.WithinDuration(s.t, time.Now(), at, 5*time.Minute)
	got := strings.ReplaceAll(strings.ReplaceAll(raw, date[1], "{date}"), id, "{id}")
	got = regexp.MustCompile(`(?m)^(X-Postrider-Id: {id}\.)[a-z2-7]{16}\r$`).ReplaceAllString(got, "${1}{token}\r")
	for i, b := range boundaries(got) {
		got = strings.ReplaceAll(got, b, fmt.Sprintf("{boundary%d}", i+1))
	}
	want, err := os.ReadFile(filepath.Join("testdata", golden))
	require.NoError(s.t, err)
	require.Equal(s.t, strings.ReplaceAll(string(want), "\n", "\r\n"), got)
}

func boundaries(raw string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`boundary="?([^"\r\n;]+)"?`).FindAllStringSubmatch(raw, -1) {
		out = append(out, m[1])
	}
	return out
}

func (s *stack) basicExample() string {
	m := s.post(`{
		"from": {"email": "orders@example.com", "name": "Your Company"},
		"to": [{"email": "john@example.net", "name": "John Doe"}],
		"subject": "Your Order Confirmation",
		"content": {
			"text": "Thank you for your order #12345.",
			"html": "<h1>Thank you!</h1><p>Your order #12345 has been confirmed.</p>"
		}
	}`)
	got := s.await(m.ID, email.StatusDelivered)
	require.Equal(s.t, email.AcceptsFinal, got.Recipients[0].AcceptedBy.Means)
	require.Equal(s.t, 250, got.Recipients[0].SMTPCode)
	msgs := s.arrived(m.ID)
	require.Len(s.t, msgs, 1)
	require.Equal(s.t, "orders@example.com", msgs[0].EnvelopeFrom)
	require.Equal(s.t, []string{"john@example.net"}, msgs[0].EnvelopeTo)
	s.expect("basic.eml", s.raw(msgs[0].ID), m.ID)

	status, verdict := s.call("POST", "/v1.0/emails?wait=30s", `{"from":{"email":"demo@example.com"},"to":[{"email":"waited@example.net"}],"subject":"s","content":"x"}`)
	require.Equal(s.t, http.StatusOK, status, "the verdict at once")
	require.Contains(s.t, string(verdict), `"status":"delivered"`)
	parsed, err := s.api.Message(s.t.Context(), s.mailbox(), msgs[0].ID)
	require.NoError(s.t, err)
	require.Equal(s.t, "Thank you for your order #12345.", parsed.Parsed.Text)
	return m.ID
}

func (s *stack) attachmentExample() {
	pdf := "%PDF-1.4\n" + strings.Repeat("0123456789", 20) + "\x00\xff\n%%EOF\n"
	m := s.post(fmt.Sprintf(`{
		"from": {"email": "billing@example.com", "name": "Billing Department"},
		"to": [{"email": "john@example.net"}],
		"cc": [{"email": "copy@example.net", "name": "Copy"}],
		"bcc": [{"email": "hidden@example.net", "name": "Hidden"}],
		"subject": "Your Invoice",
		"content": {"text": "Please find your invoice attached.", "html": "<p>Please find your invoice attached.</p>"},
		"attachments": [{"filename": "invoice-12345.pdf", "content": "%s", "type": "application/pdf"}]
	}`, base64.StdEncoding.EncodeToString([]byte(pdf))))
	s.await(m.ID, email.StatusDelivered)
	msgs := s.arrived(m.ID)
	require.Len(s.t, msgs, 1)
	require.ElementsMatch(s.t, []string{"john@example.net", "copy@example.net", "hidden@example.net"}, msgs[0].EnvelopeTo)
	raw := s.raw(msgs[0].ID)
	require.NotContains(s.t, strings.ToLower(raw), "\nbcc:")
	require.NotContains(s.t, strings.ToLower(raw), "hidden")
	s.expect("attachment.eml", raw, m.ID)
	require.Equal(s.t, pdf, s.attachment(msgs[0].ID))
}

// history reads a run's events.
func (s *stack) history(workflowID string) []*historypb.HistoryEvent {
	s.t.Helper()
	c, err := temporal.Dial(temporal.Options{HostPort: s.env["TEMPORAL_ADDRESS"], Logger: quiet{}})
	require.NoError(s.t, err)
	defer c.Close()
	s.started(c, workflowID)
	// The run ends a moment after the status is written.
	var res email.SendEmailResult
	require.NoError(s.t, c.GetWorkflow(s.t.Context(), workflowID, "").Get(s.t.Context(), &res))
	var events []*historypb.HistoryEvent
	iter := c.GetWorkflowHistory(s.t.Context(), workflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		ev, err := iter.Next()
		require.NoError(s.t, err)
		events = append(events, ev)
	}
	return events
}

// started waits until a run exists: it is started behind the answer.
func (s *stack) started(c temporal.Client, workflowID string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		_, err := c.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
		return err == nil
	}, patience, 10*time.Millisecond)
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// cost checks what an e-mail costs in Temporal: one workflow task, no regular activity, the four
// names, at most 12 events, and nothing that has no place in a history.
func (s *stack) cost(id string) {
	events := s.history("email-" + id)
	counts := map[enumspb.EventType]int{}
	var names []string
	for _, ev := range events {
		counts[ev.GetEventType()]++
		if marker := ev.GetMarkerRecordedEventAttributes(); marker != nil {
			data := fmt.Sprint(marker.GetDetails()["data"])
			for _, name := range []string{email.ActivityResolveAttachments, email.ActivitySendSMTP, email.ActivityRecordStatus, email.ActivityFireWebhooks} {
				if strings.Contains(data, name) {
					names = append(names, name)
				}
			}
		}
		text := ev.String()
		require.NotContains(s.t, text, "john@", "no addresses on the REST path")
		require.NotContains(s.t, text, "order #12345", "no bodies")
	}
	require.LessOrEqual(s.t, len(events), 12)
	require.Equal(s.t, 1, counts[enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED])
	require.Zero(s.t, counts[enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED])
	require.Equal(s.t, []string{email.ActivityResolveAttachments, email.ActivitySendSMTP, email.ActivityRecordStatus, email.ActivityFireWebhooks}, names)
}

func (s *stack) outcomes() {
	m := s.send(mailTo("good", "bounce", "defer", "554"))
	got := s.await(m.ID, email.StatusDelivered)
	require.Equal(s.t, email.DetailPartial, got.StatusDetail)
	want := map[string]struct {
		status   email.RecipientStatus
		code     int
		attempts int
	}{
		"good@example.net":   {"delivered", 250, 1},
		"bounce@example.net": {"bounced", 550, 1},
		"defer@example.net":  {"delivered", 250, 3},
		"554@example.net":    {"bounced", 554, 1},
	}
	for _, r := range got.Recipients {
		require.Equal(s.t, want[r.Address].status, r.Status, r.Address)
		require.Equal(s.t, want[r.Address].code, r.SMTPCode, r.Address)
		require.Equal(s.t, want[r.Address].attempts, r.Attempts, r.Address)
	}
	msgs := s.arrived(m.ID)
	require.Len(s.t, msgs, 2, "once for the good one, once for the one that was deferred twice")
	require.Equal(s.t, s.raw(msgs[0].ID), s.raw(msgs[1].ID), "every attempt is byte-identical")
}

func (s *stack) ambiguous() {
	wanted := mailTo("drop")
	wanted.OnAmbiguous = email.AmbiguousFail
	m := s.send(wanted)
	got := s.await(m.ID, email.StatusFailed)
	require.Equal(s.t, email.DetailAmbiguous, got.StatusDetail)
	require.Len(s.t, s.arrived(m.ID), 1, "the first copy had arrived, and its reply was lost")
}

// slow is a server that answers after 15 s: the inline attempt is handed over to
// a regular activity, which is pending meanwhile, and delivers once.
func (s *stack) slow() {
	m := s.send(mailTo("slow"))
	s.await(m.ID, email.StatusDelivered)
	require.Len(s.t, s.arrived(m.ID), 1)
	scheduled := 0
	for _, ev := range s.history(m.WorkflowID) {
		if a := ev.GetActivityTaskScheduledEventAttributes(); a != nil {
			require.Equal(s.t, email.ActivitySendSMTP, a.GetActivityType().GetName())
			scheduled++
		}
	}
	require.Equal(s.t, 1, scheduled)
}

// hook is a webhook receiver that fails the first call of every event.
type hook struct {
	mu     sync.Mutex
	bodies map[string][]string
	bad    []error
	verify func([]byte, http.Header) error
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := errors.Join(err, h.verify(body, r.Header)); err != nil {
		h.bad = append(h.bad, err)
	}
	id := r.Header.Get("webhook-id")
	h.bodies[id] = append(h.bodies[id], string(body))
	if len(h.bodies[id]) == 1 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (s *stack) webhooks() {
	wh, err := standardwebhooks.NewWebhook(s.env["POSTRIDER_WEBHOOK_SECRET"])
	require.NoError(s.t, err)
	h := &hook{bodies: map[string][]string{}, verify: wh.Verify}
	receiver := httptest.NewServer(h)
	defer receiver.Close()
	uri, off := receiver.URL+"/in", ""
	_, err = s.api.UpdateCustomer(s.t.Context(), client.CustomerUpdate{WebhookURI: &uri})
	require.NoError(s.t, err)
	m := s.send(mailTo("hooked"))
	s.await(m.ID, email.StatusDelivered)
	require.Eventually(s.t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.bodies) < 2 {
			return false
		}
		for _, calls := range h.bodies {
			if len(calls) < 2 {
				return false
			}
		}
		return true
	}, patience, 50*time.Millisecond, s.logTail)
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Empty(s.t, h.bad, "the official library verifies every call")
	types := map[string]bool{}
	for _, calls := range h.bodies {
		require.Equal(s.t, calls[0], calls[1], "byte-identical on every attempt")
		require.Contains(s.t, calls[0], m.ID)
		types[regexp.MustCompile(`"type":"([^"]+)"`).FindStringSubmatch(calls[0])[1]] = true
	}
	require.Equal(s.t, map[string]bool{"email.delivered": true, "email.completed": true}, types)
	_, err = s.api.UpdateCustomer(s.t.Context(), client.CustomerUpdate{WebhookURI: &off})
	require.NoError(s.t, err)
}

// aRecording is the one that there is.
const aRecording = "1f25e6c9-6709-44d1-b93e-a5f1c5f80411"

// serveRecording is the source of recordings. It has one, for requests with the token and a
// customer.
func serveRecording(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if r.Header.Get("Authorization") != "Bearer sesame" || len(parts) != 2 || len(parts[0]) != 36 || parts[1] != aRecording {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "audio/wav")
	_, _ = io.WriteString(w, "RIFF and so on") // a client that does not listen fails the test by itself
}

func (s *stack) recordings() {
	send := func(id string) client.Email {
		m := mailTo("rec")
		m.Attachments = []client.Attachment{{ReferenceType: email.ReferenceRecording, ReferenceID: id}}
		return s.send(m)
	}
	m := send(aRecording)
	s.await(m.ID, email.StatusDelivered)
	msgs := s.arrived(m.ID)
	require.Len(s.t, msgs, 1)
	require.Equal(s.t, "RIFF and so on", s.attachment(msgs[0].ID))

	m = send("00000000-6709-44d1-b93e-a5f1c5f80411")
	got := s.await(m.ID, email.StatusFailed)
	require.Equal(s.t, email.DetailAttachment, got.StatusDetail)
	require.Empty(s.t, s.arrived(m.ID), "never sent without its attachment")
}

// control holds, resumes and hurries a mail, over REST and as an operator does it
// in Temporal: by an update and a signal without arguments.
func (s *stack) control() {
	c, err := temporal.Dial(temporal.Options{HostPort: s.env["TEMPORAL_ADDRESS"], Logger: quiet{}})
	require.NoError(s.t, err)
	defer c.Close()

	ctx := s.t.Context()

	m := s.later()
	_, err = s.api.Hold(ctx, m.ID)
	require.NoError(s.t, err)
	_, err = s.api.Reschedule(ctx, m.ID, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	require.NoError(s.t, err)
	require.Equal(s.t, email.DetailHeld, s.get(m.ID).StatusDetail, "a held mail is not sent, however due")
	_, err = s.api.Resume(ctx, m.ID)
	require.NoError(s.t, err)
	s.await(m.ID, email.StatusDelivered)
	_, err = s.api.Cancel(ctx, m.ID)
	var refused *client.Error
	require.ErrorAs(s.t, err, &refused)
	require.Equal(s.t, email.CodeConflict, refused.Code)

	m = s.later()
	s.started(c, m.WorkflowID)
	update := func(name string) error {
		h, err := c.UpdateWorkflow(s.t.Context(), temporal.UpdateWorkflowOptions{WorkflowID: m.WorkflowID, UpdateName: name, WaitForStage: temporal.WorkflowUpdateStageCompleted})
		if err != nil {
			return err
		}
		return h.Get(s.t.Context(), nil)
	}
	require.NoError(s.t, update("hold"))
	require.Equal(s.t, email.DetailHeld, s.get(m.ID).StatusDetail)
	require.ErrorContains(s.t, update("retry_now"), "resume it instead", "a refusal says what to do")
	require.NoError(s.t, c.SignalWorkflow(s.t.Context(), m.WorkflowID, "", "cancel", nil))
	s.await(m.ID, email.StatusCanceled)
	s.history(m.WorkflowID)

	m = s.later()
	s.started(c, m.WorkflowID)
	require.NoError(s.t, c.CancelWorkflow(s.t.Context(), m.WorkflowID, ""))
	s.await(m.ID, email.StatusCanceled)
	s.history(m.WorkflowID) // it ends Completed: a cancellation is a business outcome
}

// later has a message accepted that is due in ten days.
func (s *stack) later() client.Email {
	m := mailTo("later")
	m.SendAt = time.Now().Add(240 * time.Hour)
	return s.send(m)
}

func (s *stack) deleteScheduled() {
	m := s.later()
	require.Equal(s.t, email.DetailScheduled, s.get(m.ID).StatusDetail)
	_, err := s.api.Delete(s.t.Context(), m.ID)
	require.NoError(s.t, err)
	require.Equal(s.t, email.StatusCanceled, s.get(m.ID).Status)
	s.history(m.WorkflowID) // returns when the run has ended: it was woken
	require.Empty(s.t, s.arrived(m.ID))
}

// second starts another stack where one runs: it has to say what is in its way,
// and leave the first alone.
func (s *stack) second(bin, path string) {
	cmd := devCommandLine(s.t, bin, path, s.dir, s.ports)
	out, err := cmd.CombinedOutput()
	require.Error(s.t, err)
	require.Contains(s.t, string(out), "POSTRIDER_LISTEN")
	require.Contains(s.t, string(out), s.ports["POSTRIDER_LISTEN"])

	cmd = devCommandLine(s.t, bin, path, s.dir, freePorts(s.t))
	out, err = cmd.CombinedOutput()
	require.Error(s.t, err)
	require.Contains(s.t, string(out), "running in")

	for _, setting := range []string{"POSTRIDER_INBOUND_LISTEN", "POSTRIDER_DEV_POSTGRES_PORT", "POSTRIDER_DEV_TEMPORAL_PORT", "POSTRIDER_DEV_TEMPORAL_UI_PORT"} {
		ports := freePorts(s.t)
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(s.t, err)
		addr := taken.Addr().String()
		_, port, err := net.SplitHostPort(addr)
		require.NoError(s.t, err)
		ports[setting] = port
		if strings.HasSuffix(setting, "LISTEN") {
			ports[setting] = addr
		}
		out, err := devCommandLine(s.t, bin, path, s.t.TempDir(), ports).CombinedOutput()
		require.Error(s.t, err, setting)
		require.Contains(s.t, string(out), setting)
		require.Contains(s.t, string(out), port)
		require.NoError(s.t, taken.Close())
	}
	status, _ := s.call("GET", "/readyz", "")
	require.Equal(s.t, http.StatusOK, status)
}
