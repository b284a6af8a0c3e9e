package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtptest"
)

// starter starts SendEmail as an outside program does, on a deployment.
type starter struct {
	*deployment
	temporal temporal.Client
	peer     *smtptest.Peer
	customer string
	// cli is a `temporal` that knows the server.
	cli string
	at  string
}

func newStarter(t *testing.T) *starter {
	t.Helper()
	peer := (&smtptest.Peer{}).Start(t)
	return newGround(t).starter(t, peer, relayURL(peer))
}

// starter makes a deployment in one process, which sends through the relays.
func (g *ground) starter(t *testing.T, peer *smtptest.Peer, relays string, extra ...string) *starter {
	t.Helper()
	s := &starter{peer: peer, cli: filepath.Join(temporalOnPath(t), "temporal"), at: g.temporal.Address()}
	s.deployment = g.deploy(t, relays, append([]string{"POSTRIDER_TEMPORAL_UI_URL=http://ui.test"}, extra...)...)
	s.start("serve", "--worker")
	s.eventually("the API answers", func() bool { _, err := s.try("", "health", "--ready"); return err == nil })
	first, err := s.client().Send(t.Context(), mailFrom("first@y.test"))
	require.NoError(t, err)
	s.customer = first.CustomerID
	s.temporal, err = temporal.Dial(temporal.Options{HostPort: s.at, Namespace: s.namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(s.temporal.Close)
	return s
}

func mailFrom(to string) client.Message {
	return client.Message{From: client.Address{Email: "shop@acme.test"}, To: []client.Address{{Email: to}}, Subject: "Order 5", Content: client.Content{Text: "It is on its way."}}
}

func (s *starter) input(t *testing.T, m client.Message, key string) email.SendEmailInput {
	t.Helper()
	raw, err := json.Marshal(m)
	require.NoError(t, err)
	return email.SendEmailInput{CustomerID: s.customer, Message: raw, IdempotencyKey: key}
}

func (s *starter) run(t *testing.T, id string, in any) temporal.WorkflowRun {
	t.Helper()
	run, err := s.temporal.ExecuteWorkflow(t.Context(), temporal.StartWorkflowOptions{ID: id, TaskQueue: email.TaskQueue}, email.WorkflowSendEmail, in)
	require.NoError(t, err)
	return run
}

func result(t *testing.T, run temporal.WorkflowRun) email.SendEmailResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var res email.SendEmailResult
	require.NoError(t, run.Get(ctx, &res))
	return res
}

// refusal is the error that a run ends with.
func refusal(t *testing.T, run temporal.WorkflowRun) *sdktemporal.ApplicationError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	app, ok := errors.AsType[*sdktemporal.ApplicationError](run.Get(ctx, nil))
	require.True(t, ok)
	require.True(t, app.NonRetryable())
	return app
}

func (s *starter) copies(id, to string) int {
	return s.peer.Copies(email.MessageID(id, "acme.test"), to)
}

// order is a customer's workflow that sends an e-mail and uses its result.
func order(ctx workflow.Context, in email.SendEmailInput) (string, error) {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: "child of " + workflow.GetInfo(ctx).WorkflowExecution.ID, TaskQueue: email.TaskQueue})
	var res email.SendEmailResult
	if err := workflow.ExecuteChildWorkflow(ctx, email.WorkflowSendEmail, in).Get(ctx, &res); err != nil {
		return "", err
	}
	return string(res.Status) + " " + res.Recipients[0].Address, nil
}

// TestDirectStarts starts SendEmail by name, as other programs do: their message is
// accepted by the run, once, and the e-mail is the customer's as any other.
func TestDirectStarts(t *testing.T) {
	t.Parallel()
	s := newStarter(t)
	t.Run("from the command line", func(t *testing.T) {
		t.Parallel()
		const id = "order/5 mail"
		in, err := json.Marshal(s.input(t, mailFrom("cli@y.test"), ""))
		require.NoError(t, err)
		temporalCLI := func(args ...string) string {
			args = append([]string{"workflow"}, append(args, "--address", s.at, "--namespace", s.namespace)...)
			out, err := exec.CommandContext(t.Context(), s.cli, args...).CombinedOutput()
			require.NoError(t, err, string(out))
			return string(out)
		}
		temporalCLI("start", "--type", email.WorkflowSendEmail, "--task-queue", email.TaskQueue, "--workflow-id", id, "--input", string(in))
		require.Contains(t, temporalCLI("result", "--workflow-id", id), "delivered")
		res := result(t, s.temporal.GetWorkflow(t.Context(), id, ""))
		require.Equal(t, email.StatusDelivered, res.Status)
		require.Equal(t, "c***@y.test", res.Recipients[0].Address)
		require.Equal(t, 250, res.Recipients[0].SMTPCode)
		require.Equal(t, 1, s.copies(res.EmailID, "cli@y.test"))

		mail, err := s.client().Get(t.Context(), res.EmailID)
		require.NoError(t, err)
		require.Equal(t, id, mail.WorkflowID)
		require.Equal(t, "http://ui.test/namespaces/"+s.namespace+"/workflows/"+url.PathEscape(id), mail.WorkflowURL)
		s.frugal(t, id)
	})
	t.Run("twice, and when it is done", func(t *testing.T) {
		t.Parallel()
		in := s.input(t, mailFrom("twice@y.test"), "")
		run := s.run(t, "twice", in)
		first := result(t, run)
		again := s.run(t, "twice", in)
		require.Equal(t, first, result(t, again))
		require.NotEqual(t, run.GetRunID(), again.GetRunID())
		require.Equal(t, 1, s.copies(first.EmailID, "twice@y.test"))

		another := s.input(t, mailFrom("another@y.test"), "")
		refused := refusal(t, s.run(t, "twice", another))
		require.Equal(t, "idempotency_conflict", refused.Type())
		require.Contains(t, refused.Message(), "new workflow id")
		another.IdempotencyKey = "a message of its own"
		require.Equal(t, email.StatusDelivered, result(t, s.run(t, "twice", another)).Status)
	})
	t.Run("what is refused", func(t *testing.T) {
		t.Parallel()
		for name, tt := range map[string]struct {
			in         any
			code, text string
		}{
			"a member misspelt":   {map[string]any{"customer_id": s.customer, "message": map[string]any{"form": 1}}, "invalid_request", "/form: there is no such member"},
			"no customer":         {map[string]any{"message": map[string]any{}}, "invalid_request", "customer_id: give the id"},
			"an unknown customer": {email.SendEmailInput{CustomerID: uuid.NewString(), Message: json.RawMessage("{}")}, "not_found", "no such customer"},
			"a text":              {"hello", "invalid_request", "the input is of the JSON type string: give either the message"},
			"a number as a name":  {map[string]any{"customer_id": 5}, "invalid_request", "customer_id is of the JSON type number: give either"},
			"nothing":             {map[string]any{}, "invalid_request", "either the message"},
			"no e-mail's id":      {email.SendEmailInput{EmailID: "order 5"}, "not_found", "no such e-mail"},
			"a foreign domain": {s.input(t, client.Message{From: client.Address{Email: "x@other.test"}, To: []client.Address{{Email: "x@y.test"}}, Subject: "s", Content: client.Content{Text: "x"}}, ""),
				"sender_domain_unverified", "/from: use an address"},
			"a large message": {s.input(t, client.Message{From: client.Address{Email: "shop@acme.test"}, To: []client.Address{{Email: "x@y.test"}}, Subject: "s", Content: client.Content{Text: strings.Repeat("x", 1<<20)}}, ""),
				"too_large", "POST /v1.0/files"},
		} {
			refused := refusal(t, s.run(t, "refused "+name, tt.in))
			require.Equal(t, tt.code, refused.Type(), name)
			require.Contains(t, refused.Message(), tt.text, name)
			if tt.code == "sender_domain_unverified" {
				var details email.ErrorDetails
				require.NoError(t, refused.Details(&details))
				require.Equal(t, "/from", details.Errors[0].Pointer)
			}
		}
		own := s.run(t, email.WorkflowIDPrefix+uuid.NewString(), s.input(t, mailFrom("x@y.test"), ""))
		require.Contains(t, refusal(t, own).Message(), "another workflow id")
	})
	t.Run("as a child", func(t *testing.T) {
		t.Parallel()
		w := sdkworker.New(s.temporal, "orders", sdkworker.Options{})
		w.RegisterWorkflow(order)
		require.NoError(t, w.Start())
		t.Cleanup(w.Stop)
		start := func(id string, in email.SendEmailInput) error {
			run, err := s.temporal.ExecuteWorkflow(t.Context(), temporal.StartWorkflowOptions{ID: id, TaskQueue: "orders"}, order, in)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var said string
			err = run.Get(ctx, &said)
			if err == nil {
				require.Equal(t, "delivered c***@y.test", said)
			}
			return err
		}
		require.NoError(t, start("order 7", s.input(t, mailFrom("child@y.test"), "")))
		bad := s.input(t, mailFrom("nobody"), "")
		app, ok := errors.AsType[*sdktemporal.ApplicationError](start("order 8", bad))
		require.True(t, ok)
		require.Equal(t, "invalid_request", app.Type(), "the parent sees why")
	})
	t.Run("one key under two workflow ids", func(t *testing.T) {
		t.Parallel()
		m := mailFrom("key@y.test")
		m.SendAt = time.Now().Add(240 * time.Hour)
		in := s.input(t, m, "order 9")
		first := s.run(t, "order 9", in)
		id := s.accepted(t, "order 9")
		second := s.run(t, "order 9 again", in)
		s.eventually("the second follows the first", func() bool {
			d, err := s.temporal.DescribeWorkflowExecution(t.Context(), "order 9 again", "")
			require.NoError(t, err)
			ps := d.GetPendingActivities()
			return len(ps) == 1 && strings.Contains(ps[0].GetLastFailure().GetMessage(), "the workflow order 9 sends it")
		})
		h, err := s.temporal.UpdateWorkflow(t.Context(), temporal.UpdateWorkflowOptions{WorkflowID: "order 9 again", UpdateName: "reschedule",
			Args: []any{email.RescheduleInput{SendAt: time.Now()}}, WaitForStage: temporal.WorkflowUpdateStageCompleted})
		require.NoError(t, err)
		require.NoError(t, h.Get(t.Context(), nil))
		require.Equal(t, email.StatusDelivered, result(t, first).Status)
		require.Equal(t, result(t, first), result(t, second))
		require.Equal(t, 1, s.copies(id, "key@y.test"))
	})
	t.Run("steered, and its run lost", func(t *testing.T) {
		t.Parallel()
		m := mailFrom("lost@y.test")
		m.SendAt = time.Now().Add(240 * time.Hour)
		run := s.run(t, "lost", s.input(t, m, ""))
		id := s.accepted(t, "lost")
		s.forget(t, run)
		_, err := s.client().Reschedule(t.Context(), id, time.Now())
		require.NoError(t, err)
		s.eventually("a new run under the same id sends it", func() bool {
			mail, err := s.client().Get(t.Context(), id)
			require.NoError(t, err)
			return mail.Status == email.StatusDelivered && mail.WorkflowID == "lost"
		})
		require.Equal(t, id, result(t, s.temporal.GetWorkflow(t.Context(), "lost", "")).EmailID)
	})
	t.Run("canceled", func(t *testing.T) {
		t.Parallel()
		m := mailFrom("canceled@y.test")
		m.SendAt = time.Now().Add(240 * time.Hour)
		run := s.run(t, "canceled", s.input(t, m, ""))
		s.accepted(t, "canceled")
		require.NoError(t, s.temporal.CancelWorkflow(t.Context(), "canceled", ""))
		require.Equal(t, email.StatusCanceled, result(t, run).Status)
	})
}

// forget deletes a run, as if Temporal's database were lost.
func (s *starter) forget(t *testing.T, run temporal.WorkflowRun) {
	t.Helper()
	_, err := s.temporal.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace: s.namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()}})
	require.NoError(t, err)
	s.eventually("it is forgotten", func() bool {
		_, err := s.temporal.DescribeWorkflowExecution(t.Context(), run.GetID(), run.GetRunID())
		_, gone := errors.AsType[*serviceerror.NotFound](err)
		return gone
	})
}

// accepted waits until a run has an e-mail, and names it.
func (s *starter) accepted(t *testing.T, workflowID string) (id string) {
	t.Helper()
	db := s.sql()
	s.eventually("accepted", func() bool {
		return db.QueryRowContext(t.Context(), "SELECT id FROM emails WHERE workflow_id = $1", workflowID).Scan(&id) == nil
	})
	return id
}

// frugal looks at the history of a delivered direct start: the message is in its
// input, which is the caller's, and nowhere else.
func (s *starter) frugal(t *testing.T, workflowID string) {
	t.Helper()
	tasks, names := 0, ""
	events := 0
	for it := s.temporal.GetWorkflowHistory(t.Context(), workflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); events++ {
		ev, err := it.Next()
		require.NoError(t, err)
		if ev.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED {
			tasks++
		}
		names += ev.GetMarkerRecordedEventAttributes().GetDetails()["data"].String()
		if ev.GetWorkflowExecutionStartedEventAttributes() != nil {
			require.Contains(t, ev.String(), "on its way")
			continue
		}
		require.NotContains(t, ev.String(), "on its way")
		require.NotContains(t, ev.String(), "cli@")
	}
	require.LessOrEqual(t, events, 12)
	require.Equal(t, 1, tasks)
	for _, name := range []string{email.ActivityAccept, email.ActivityResolveAttachments, email.ActivitySendSMTP, email.ActivityRecordStatus, email.ActivityFireWebhooks} {
		require.Contains(t, names, name)
	}
	t.Logf("a direct start's happy path: %d events, %d workflow task", events, tasks)
}
