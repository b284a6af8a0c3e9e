package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtptest"
)

// operated is a stack with a mixed lot of mail in it, as an operator finds it.
type operated struct {
	*stack
	relay *strict
	cli   string
	temp  temporal.Client
	// mails by what became of them.
	mails map[string]client.Email
}

// strict is a relay that repeats addresses in its answers, as many do, and lets
// recipients called slow wait.
type strict struct {
	*smtptest.Peer
	open chan struct{}
	once sync.Once
}

func (r *strict) release() { r.once.Do(func() { close(r.open) }) }

func (r *strict) answer(line string) string {
	to, ok := strings.CutPrefix(line, "RCPT TO:")
	switch {
	case !ok:
		return ""
	case strings.HasPrefix(to, "<bounce"):
		local, _, _ := strings.Cut(strings.TrimPrefix(to, "<"), "@")
		return "550 5.1.1 " + to + ": no such user " + local
	case strings.HasPrefix(to, "<grey"):
		return "451 4.7.1 " + to + ": greylisted, come again"
	case strings.HasPrefix(to, "<slow"):
		<-r.open
	}
	return ""
}

// secretBody and secretTo are what must not be in any history.
const (
	secretBody = "the-launch-code-is-0000"
	secretTo   = "umpteenth"
)

// TestOperators runs the commands of docs/operating.md with the Temporal CLI and UI. It also
// checks that the histories of mail accepted over REST hold neither bodies nor addresses. Its
// parts share the stack and run in order.
func TestOperators(t *testing.T) {
	t.Parallel()
	path, ports := temporalOnPath(t), freePorts(t)
	closed, _ := closedPort(t)
	relay := &strict{open: make(chan struct{})}
	relay.Peer = &smtptest.Peer{Answer: relay.answer}
	relay.Start(t)
	t.Cleanup(relay.release)
	s := startStack(t, binary(t), path, t.TempDir(), ports,
		"POSTRIDER_RETRY_SCHEDULE=5m",
		"POSTRIDER_SMTP_URLS=smtp://"+relay.Addr()+"?name=primary&tls=none&streams=transactional smtp://"+closed+"?name=newsletters&tls=none&streams=broadcast")
	temp, err := temporal.Dial(temporal.Options{HostPort: s.env["TEMPORAL_ADDRESS"], Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(temp.Close)
	o := &operated{stack: s, relay: relay, cli: filepath.Join(path, "temporal"), temp: temp, mails: map[string]client.Email{}}
	o.mixed()
	t.Run("every mail is found by its status", func(t *testing.T) { s.t = t; o.found() })
	t.Run("every run says what comes next", func(t *testing.T) { s.t = t; o.words() })
	t.Run("the UI shows it", func(t *testing.T) { s.t = t; o.browse() })
	t.Run("histories hold no bodies and no addresses", func(t *testing.T) { s.t = t; o.scan() })
	t.Run("many at once", func(t *testing.T) { s.t = t; o.batch() })
	t.Run("all mail of a customer or to a domain", func(t *testing.T) { s.t = t; o.reach() })
	t.Run("and none afterwards either", func(t *testing.T) { s.t = t; o.scan() })
}

func (o *operated) mixed() {
	o.t.Helper()
	mail := func(to ...string) client.Message {
		m := mailTo(to...)
		for i := range m.To {
			m.To[i].Email = strings.Replace(m.To[i].Email, "@", "+"+secretTo+"@", 1)
		}
		m.Content.Text, m.Subject = secretBody, secretBody
		return m
	}
	for name, m := range map[string]client.Message{
		"delivered": mail("good"), "bounced": mail("bounce"), "deferred": mail("grey"), "deferred too": mail("greyer"),
		"partial": mail("fine", "bounce-2"), "slow": mail("slow"), "held": mail("held"), "scheduled": mail("later"), "no relay": mail("reader"),
	} {
		switch name {
		case "held", "scheduled":
			m.SendAt = time.Now().Add(30 * time.Hour).UTC().Truncate(time.Second)
		case "no relay":
			m.Stream = email.StreamBroadcast
		}
		o.mails[name] = o.send(m)
	}
	_, err := o.api.Hold(o.t.Context(), o.mails["held"].ID)
	require.NoError(o.t, err)
	o.await(o.mails["delivered"].ID, email.StatusDelivered)
}

// temporalCLI runs a command of the CLI that is in the guide.
func (o *operated) temporalCLI(args ...string) string {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), o.cli, args...)
	cmd.Env = []string{"TEMPORAL_ADDRESS=" + o.env["TEMPORAL_ADDRESS"], "HOME=" + o.dir, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	require.NoError(o.t, err, "%v: %s", args, out)
	return string(out)
}

// list is the workflow ids that a query finds.
func (o *operated) list(q string) []string {
	o.t.Helper()
	var runs []struct {
		Execution struct{ WorkflowID string }
	}
	require.NoError(o.t, json.Unmarshal([]byte(o.temporalCLI("workflow", "list", "-q", q, "-o", "json")), &runs))
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = r.Execution.WorkflowID
	}
	return ids
}

// requireListed waits until a query finds these mails and no others: visibility
// is a moment behind.
func (o *operated) requireListed(q string, names ...string) {
	o.t.Helper()
	var want, got []string
	for _, n := range names {
		want = append(want, o.mails[n].WorkflowID)
	}
	slices.Sort(want)
	require.Eventually(o.t, func() bool {
		got = o.list(q)
		slices.Sort(got)
		return slices.Equal(want, got)
	}, patience, 200*time.Millisecond, "%s: want %v", q, names)
}

func (o *operated) found() {
	for status, names := range map[string][]string{
		"delivered": {"delivered"}, "hard": {"bounced"}, "deferred": {"deferred", "deferred too"}, "partial": {"partial"},
		"sending": {"slow"}, "held": {"held"}, "scheduled": {"scheduled"}, "relay_down": {"no relay"},
	} {
		o.requireListed(fmt.Sprintf("EmailStatus=%q", status), names...)
	}
	for i, names := range [][]string{
		{"deferred", "deferred too", "slow", "held", "scheduled", "no relay"}, {"deferred", "deferred too"}, {"held"}, {"no relay"}, {"bounced", "partial"},
	} {
		o.requireListed(queries[i].text, names...)
		require.Contains(o.t, o.output(), queries[i].link(o.env["POSTRIDER_TEMPORAL_UI_URL"]), "dev prints it")
	}
	guide, err := os.ReadFile("../../docs/operating.md")
	require.NoError(o.t, err)
	for _, q := range queries {
		require.Contains(o.t, string(guide), q.text, "and it stands in the guide")
	}
}

func (o *operated) words() {
	for name, want := range map[string][]string{
		"delivered": {"**delivered**: of its recipients 1 delivered.", "Next: nothing, the e-mail is finished"},
		"bounced":   {"**bounced hard**: of its recipients 1 bounced, `550 5.1.1"},
		"deferred":  {"**deferred**: one recipient waits, `451 4.7.1", "Next: attempt 2 at", "`retry_now` makes it at once"},
		"partial":   {"**delivered partial**: of its recipients 1 delivered, 1 bounced"},
		"held":      {"**held**: its customer holds it; one recipient waits.", "Next: nothing before it is resumed"},
		"scheduled": {"**scheduled**: one recipient waits.", "Next: first attempt at " + o.mails["scheduled"].SendAt.UTC().Format("2006-01-02 15:04 UTC")},
		"no relay":  {"**relay_down**: no relay takes mail, `relay newsletters: dial", "tried every 10 s"},
	} {
		said := o.temporalCLI("workflow", "metadata", "-w", o.mails[name].WorkflowID)
		for _, words := range want {
			require.Contains(o.t, said, words, name)
		}
	}
	described := o.temporalCLI("workflow", "describe", "-w", o.mails["no relay"].WorkflowID)
	for _, words := range []string{"broadcast e-mail", "Pending Activities: 1", email.ActivitySendSMTP, "relay_unavailable"} {
		require.Contains(o.t, described, words)
	}
	require.Contains(o.t, o.temporalCLI("workflow", "query", "-w", o.mails["deferred"].WorkflowID, "--type", email.QueryStatus), `"status_detail":"deferred"`)
	require.Contains(o.t, o.temporalCLI("workflow", "metadata", "-w", o.mails["slow"].WorkflowID), "attempt 1 is under way, at the relay's pace")
}

// batch steers many runs by one command.
func (o *operated) batch() {
	o.relay.release()
	o.await(o.mails["slow"].ID, email.StatusDelivered)
	signal := func(name, q string) {
		o.t.Helper()
		require.Contains(o.t, o.temporalCLI("workflow", "signal", "--name", name, "--query", q, "--reason", "a test", "--yes"), "Started batch")
	}
	deferred, held := `ExecutionStatus="Running" AND EmailStatus="deferred"`, `ExecutionStatus="Running" AND EmailStatus="held"`
	signal("hold", deferred)
	o.requireListed(held, "held", "deferred", "deferred too")
	for _, name := range []string{"deferred", "deferred too"} {
		require.Equal(o.t, email.DetailHeld, o.get(o.mails[name].ID).StatusDetail, "REST says so too")
	}
	// Resuming all that is held lifts the operator's own holds.
	signal("resume", held)
	o.requireListed(deferred, "deferred", "deferred too")
	require.Equal(o.t, []email.Holder{email.HolderCustomer}, o.get(o.mails["held"].ID).HeldBy)
	update, err := o.temp.UpdateWorkflow(o.t.Context(), temporal.UpdateWorkflowOptions{WorkflowID: o.mails["held"].WorkflowID, UpdateName: "resume", WaitForStage: temporal.WorkflowUpdateStageCompleted})
	require.NoError(o.t, err)
	require.ErrorContains(o.t, update.Get(o.t.Context(), nil), "its customer holds the e-mail")
	signal("retry_now", deferred)
	for _, name := range []string{"deferred", "deferred too"} {
		require.Eventually(o.t, func() bool { return o.get(o.mails[name].ID).Recipients[0].Attempts == 2 }, patience, 100*time.Millisecond)
	}
	// A mail that waits for a relay hears of it at once, not at its next retry.
	signal("hold", `ExecutionStatus="Running" AND EmailStatus="relay_down"`)
	o.requireListed(held, "held", "no relay")
	o.requireListed(deferred, "deferred", "deferred too")
	require.Contains(o.t, o.temporalCLI("workflow", "cancel", "--query", `ExecutionStatus="Running" AND EmailStatus IN ("deferred","held")`, "--reason", "a test", "--yes"), "Started batch")
	o.requireListed(`EmailStatus="canceled" AND ExecutionStatus="Completed"`, "deferred", "deferred too", "held", "no relay")
	require.Equal(o.t, email.StatusCanceled, o.get(o.mails["no relay"].ID).Status)
}

// reach: the commands of the guide reach mail that no query of Temporal's knows.
func (o *operated) reach() {
	ctx := o.t.Context()
	message := client.Message{From: client.Address{Email: "demo@example.com"}, Subject: "x", Content: client.Content{Text: "x"}}
	to := func(local string) client.BatchRecipient {
		return client.BatchRecipient{Address: client.Address{Email: local + "@example.net"}}
	}
	sent, err := o.api.SendBatch(ctx, client.Batch{Message: &message, Recipients: []client.BatchRecipient{to("grey"), to("fine")}})
	require.NoError(o.t, err)
	put := sent.Items[0].ID
	require.Eventually(o.t, func() bool { return o.get(put).StatusDetail == email.DetailDeferred }, patience, 50*time.Millisecond)
	o.await(sent.Items[1].ID, email.StatusDelivered)
	require.Empty(o.t, o.list(`WorkflowId="email-`+put+`"`), "no run yet")
	run := func(args string) string {
		cmd := exec.CommandContext(ctx, "sh", "-c", `set -a; . "$1"; exec "$2" `+args, "sh", filepath.Join(o.dir, "dev.env"), binary(o.t))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + o.t.TempDir()}
		out, err := cmd.Output() // whose mail it is stands on standard error
		require.NoError(o.t, err, string(out))
		return string(out)
	}
	require.Equal(o.t, "2 e-mails held to example.net\n", run("hold --domain Example.NET"), "one is scheduled")
	require.Equal(o.t, []email.Holder{email.HolderOperator}, o.get(put).HeldBy)
	require.Eventually(o.t, func() bool { return len(o.list(`EmailStatus="held" AND WorkflowId="email-`+put+`"`)) == 1 }, patience, 100*time.Millisecond, "its run says so")
	_, err = o.api.Resume(ctx, put)
	require.ErrorContains(o.t, err, "an operator holds the e-mail")
	require.Regexp(o.t, `^2 e-mails resumed of customer Demo \(\S+\)\n$`, run("resume --customer Demo"))
	require.Eventually(o.t, func() bool { return len(o.list(`EmailStatus="deferred" AND WorkflowId="email-`+put+`"`)) == 1 }, patience, 100*time.Millisecond)
	require.Equal(o.t, "1 e-mail held of batch "+sent.ID+"\n", run("hold --batch "+sent.ID))
	require.Equal(o.t, "1 e-mail resumed of batch "+sent.ID+"\n", run("resume --batch "+sent.ID))
	require.Regexp(o.t, `^2 e-mails canceled to example.net of customer Demo`, run("cancel --customer Demo --domain example.net"))
	o.await(put, email.StatusCanceled)
	require.Eventually(o.t, func() bool { return len(o.list(`EmailStatus="canceled" AND WorkflowId="email-`+put+`"`)) == 1 }, patience, 100*time.Millisecond, "its run ends")
	o.mails["batched"] = o.get(put)
}

// scan looks for bodies and addresses in everything that Temporal keeps of every
// run.
func (o *operated) scan() {
	ctx := o.t.Context()
	runs, events := 0, 0
	for name, m := range o.mails {
		iter := o.temp.GetWorkflowHistory(ctx, m.WorkflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for iter.HasNext() {
			ev, err := iter.Next()
			require.NoError(o.t, err)
			o.requireClean(name, ev)
			events++
		}
		described, err := o.temp.DescribeWorkflowExecution(ctx, m.WorkflowID, "")
		require.NoError(o.t, err)
		o.requireClean(name, described)
		for _, kind := range []string{"__temporal_workflow_metadata", email.QueryStatus} {
			answer, err := o.temp.QueryWorkflow(ctx, m.WorkflowID, "", kind)
			require.NoError(o.t, err)
			var raw json.RawMessage
			if kind == email.QueryStatus {
				require.NoError(o.t, answer.Get(&raw))
				requireClean(o.t, name, raw)
				continue
			}
			var words sdkpb.WorkflowMetadata
			require.NoError(o.t, answer.Get(&words))
			o.requireClean(name, &words)
		}
		runs++
	}
	require.Len(o.t, o.mails, runs)
	require.Greater(o.t, events, 8*runs, "histories are complete")
	listed, err := o.temp.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: "default", Query: `WorkflowType="SendEmail"`})
	require.NoError(o.t, err)
	require.Len(o.t, listed.GetExecutions(), runs)
	o.requireClean("list", listed)
}

func (o *operated) requireClean(name string, m proto.Message) {
	o.t.Helper()
	data, err := proto.Marshal(m)
	require.NoError(o.t, err)
	requireClean(o.t, name, data)
}

// base64Text is what may hide a text in JSON: []byte fields and nested payloads.
var base64Text = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}={0,2}`)

// requireClean looks through bytes and through what is base64 in them.
func requireClean(t *testing.T, name string, data []byte) {
	t.Helper()
	require.Empty(t, unclean(data), name)
}

func unclean(data []byte) string { return find(data, secretBody, secretTo, "demo@") }

// find tells of the first of some texts that is in data, or in what is base64 there.
func find(data []byte, texts ...string) string {
	for _, secret := range texts {
		if bytes.Contains(data, []byte(secret)) {
			return fmt.Sprintf("%q in %q", secret, data)
		}
	}
	for _, m := range base64Text.FindAll(data, -1) {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			if inner, err := enc.DecodeString(string(m)); err == nil {
				if found := find(inner, texts...); found != "" {
					return found
				}
			}
		}
	}
	return ""
}

// A check that cannot fail is none.
func TestScanHistory(t *testing.T) {
	t.Parallel()
	to := `{"to":"bob+` + secretTo + `@x.test"}`
	require.NotEmpty(t, unclean([]byte(to)))
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
		hidden := enc.EncodeToString([]byte(`{"x":"` + enc.EncodeToString([]byte(to)) + `"}`))
		require.NotEmpty(t, unclean([]byte(`{"payload":"`+hidden+`"}`)))
	}
	require.Empty(t, unclean([]byte(`{"to":"b***@x.test"}`)))
}
