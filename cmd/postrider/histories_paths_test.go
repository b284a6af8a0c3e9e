package main

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtptest"
)

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
		var plan delivery.PlanBatchResult
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

// pathDomain asks for looks in all ways, until the run continues as new, and deletes the domain.
func pathDomain(t *testing.T, r *recorder, name string) {
	r.dns.Zone(t, "shop.example", []string{"ns.dns.example"})
	d, err := r.client().CreateSenderDomain(t.Context(), "shop.example")
	require.NoError(t, err)
	id := email.DomainWorkflowIDPrefix + d.ID
	r.eventually("the run exists", func() bool {
		_, err := r.temporal.DescribeWorkflowExecution(t.Context(), id, "")
		return err == nil
	})
	first := r.current(t, id)
	require.NoError(t, r.update(t, id, email.SignalVerifyNow, nil))
	r.signal(t, id, email.SignalVerifyNow, nil)
	r.wakeUntilContinued(t, id, first)
	next := r.keep(t, name+"-continued-1", id, first)
	require.NotEmpty(t, next)
	_, err = r.client().DeleteSenderDomain(t.Context(), d.ID)
	require.NoError(t, err)
	require.Empty(t, r.keep(t, name+"-deleted", id, next))
}
