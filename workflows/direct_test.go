package workflows_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/workflows"
)

var direct = email.SendEmailInput{CustomerID: "C", Message: json.RawMessage(`{"subject":"s"}`), IdempotencyKey: "k"}

func accepting(r *run, fn func(n int) (delivery.AcceptEmailResult, error)) {
	on(r, email.ActivityAccept, func(n int, in email.SendEmailInput) (delivery.AcceptEmailResult, error) {
		require.Equal(r.t, direct, in)
		return fn(n)
	})
}

func accepted(r *run) {
	accepting(r, func(int) (delivery.AcceptEmailResult, error) { return delivery.AcceptEmailResult{EmailID: "E"}, nil })
}

func TestDirectStartAcceptsTheMessageFirst(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	accepted(r)
	resolved(r, ready)
	sending(r)
	recording(r, deliveredState())
	fired(r)
	res, err := r.start(direct)
	require.NoError(t, err)
	require.Equal(t, "E", res.EmailID)
	require.Equal(t, []string{email.ActivityAccept, email.ActivityResolveAttachments, email.ActivitySendSMTP, email.ActivityRecordStatus, email.ActivityFireWebhooks}, r.calls)
	require.Zero(t, r.Now().Sub(start))
}

func TestDirectStartRefusedMessage(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	details := email.ErrorDetails{Errors: []email.FieldError{{Pointer: "/to", Code: "missing", Detail: "give a recipient"}}}
	accepting(r, func(int) (delivery.AcceptEmailResult, error) {
		return delivery.AcceptEmailResult{}, temporal.NewNonRetryableApplicationError("not valid; /to: give a recipient", "invalid_request", nil, details)
	})
	_, err := r.start(direct)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "invalid_request", app.Type(), "the code is the run's own error type, not that of an activity inside")
	require.True(t, app.NonRetryable())
	require.Contains(t, app.Error(), "give a recipient")
	var got email.ErrorDetails
	require.NoError(t, app.Details(&got))
	require.Equal(t, details, got)
	require.Equal(t, []string{email.ActivityAccept}, r.calls)
}

func TestDirectStartTakesMessageOrEmailID(t *testing.T) {
	t.Parallel()
	for _, in := range []email.SendEmailInput{{}, {CustomerID: "C"}, {EmailID: "E", Message: direct.Message}} {
		r := newRun(t)
		_, err := r.start(in)
		require.ErrorContains(t, err, "either the message to send")
	}
}

// An input of a wrong JSON type is refused with code invalid_request and a hint.
func TestInputOfTheWrongType(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		workflow string
		in       any
		says     string
		pointer  string
	}{
		"a string":            {email.WorkflowSendEmail, "hello", `the input is of the JSON type string: give either the message to send: {"customer_id"`, ""},
		"a list":              {email.WorkflowSendEmail, []string{"hello"}, "the input is of the JSON type array: give either", ""},
		"a member":            {email.WorkflowSendEmail, map[string]any{"customer_id": 5, "message": direct.Message}, "customer_id is of the JSON type number: give either", "customer_id"},
		"camel case":          {email.WorkflowSendEmail, map[string]any{"customerId": "x", "message": direct.Message}, "customerId: there is no such member; it is called customer_id", "customerId"},
		"a key in camel case": {email.WorkflowSendEmail, map[string]any{"customer_id": direct.CustomerID, "message": direct.Message, "idempotencyKey": "k"}, "idempotencyKey: there is no such member; it is called idempotency_key", "idempotencyKey"},
		"an id in camel case": {email.WorkflowSendEmail, map[string]any{"emailId": "x"}, "emailId: there is no such member; it is called email_id: give either", "emailId"},
		"an unknown member":   {email.WorkflowSendEmail, map[string]any{"customer_id": direct.CustomerID, "message": direct.Message, "to": "x"}, "to: there is no such member; remove it", "to"},
		"bytes":               {email.WorkflowSendEmail, []byte("hello"), "not readable as JSON: give either", ""},
		"a batch's":           {email.WorkflowSendBatch, "hello", `the input is of the JSON type string: give the batch that POST /v1.0/emails/batch has stored: {"batch_id": "…"}`, ""},
		"a batch's message":   {email.WorkflowSendBatch, map[string]any{"message": direct.Message}, "give the batch that POST", ""},
		"no endpoint":         {email.WorkflowDeliverWebhooks, nil, "give the endpoint", ""},
		"an endpoint's list":  {email.WorkflowDeliverWebhooks, []int{5}, `the input is of the JSON type array: give the endpoint: {"endpoint_id": "…"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newBatchRun(t)
			r.RegisterWorkflow(workflows.DeliverWebhooks)
			r.ExecuteWorkflow(tc.workflow, tc.in)
			app, ok := errors.AsType[*temporal.ApplicationError](r.GetWorkflowError())
			require.True(t, ok, "%v", r.GetWorkflowError())
			require.Equal(t, string(email.CodeInvalidRequest), app.Type())
			require.True(t, app.NonRetryable())
			require.Contains(t, app.Message(), tc.says)
			require.Equal(t, tc.pointer != "", app.HasDetails())
			if tc.pointer != "" {
				var got email.ErrorDetails
				require.NoError(t, app.Details(&got))
				require.Equal(t, tc.pointer, got.Errors[0].Pointer)
			}
		})
	}
}

// While Postgres is unavailable the run waits with timers, without a limit. The actions that
// come meanwhile are carried out before the message is sent.
func TestDirectStartWaitsForPostgres(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	away := true // guarded by r.mu
	accepting(r, func(int) (delivery.AcceptEmailResult, error) {
		if away {
			return delivery.AcceptEmailResult{}, temporal.NewApplicationError("the database does not answer", "unavailable")
		}
		return delivery.AcceptEmailResult{EmailID: "E"}, nil
	})
	var order []string
	var waits []time.Duration
	queried := false
	on(r, email.ActivityControl, func(_ int, in delivery.ControlInput) (email.State, error) {
		require.Equal(t, "E", in.EmailID)
		order = append(order, string(in.Action))
		return email.State{}, nil
	})
	on(r, email.ActivityResolveAttachments, func(int, delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
		order = append(order, "resolve")
		return delivery.ResolveAttachmentsResult{State: email.State{Status: email.StatusCanceled, Final: true}}, nil
	})
	recording(r, email.State{Status: email.StatusCanceled, Final: true})
	fired(r)
	query := func() {
		var st email.State
		val, err := r.QueryWorkflow(email.QueryStatus)
		require.NoError(t, err)
		require.NoError(t, val.Get(&st))
		require.Equal(t, email.WaitingAcceptance, st.Waiting)
		require.Regexp(t, `^\*\*not accepted yet\*\*: .+\n\nNext: another try to store the message at `+st.NextAt.Format("15:04 UTC")+`\.$`, r.metadata().GetCurrentDetails())
		queried = true
	}
	r.SetOnTimerScheduledListener(func(_ string, d time.Duration) {
		if d < 5*time.Second {
			return // between two tries of a local activity
		}
		// No activity runs until the timer fires: virtual time does not depend on the machine.
		switch waits = append(waits, d); len(waits) {
		case 1:
			r.RegisterDelayedCallback(r.CancelWorkflow, d/2)
		case 2:
			r.RegisterDelayedCallback(query, d/2)
		case 4:
			r.mu.Lock()
			defer r.mu.Unlock()
			away = false
		}
	})
	res, err := r.start(direct)
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, res.Status)
	require.Equal(t, []string{"cancel", "resolve"}, order)
	require.True(t, queried)
	require.Equal(t, []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second}, waits)
}

// After the message is stored, a new run continues with the e-mail's id: the message stays in
// the first run's history.
func TestDirectStartContinuesAsNewWithTheID(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	r.SetContinueAsNewSuggested(true)
	accepted(r)
	resolved(r, email.State{Status: email.StatusQueued, NextAttempt: 1, Waiting: email.WaitingHeld})
	_, err := r.start(direct)
	cont, ok := errors.AsType[*workflow.ContinueAsNewError](err)
	require.True(t, ok, "%v", err)
	var in email.SendEmailInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(cont.Input, &in))
	require.Equal(t, email.SendEmailInput{EmailID: "E"}, in)
}

func TestDirectStartRepeatedFollowsTheOwner(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	accepting(r, func(int) (delivery.AcceptEmailResult, error) {
		return delivery.AcceptEmailResult{EmailID: "E", Replayed: true, Owner: "order-5"}, nil
	})
	on(r, email.ActivityFollow, func(n int, in delivery.FollowEmailInput) (email.State, error) {
		require.Equal(t, delivery.FollowEmailInput{EmailID: "E", Owner: "order-5"}, in)
		if n < 10 {
			return email.State{}, temporal.NewApplicationErrorWithOptions("the e-mail is queued", "not_finished", temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign})
		}
		return deliveredState(), nil
	})
	on(r, email.ActivityControl, func(int, delivery.ControlInput) (email.State, error) { return email.State{}, nil })
	woken := ""
	r.OnSignalExternalWorkflow("default-test-namespace", "order-5", "", email.SignalWake, nil).Return(func(_, id, _, _ string, _ any) error {
		woken = id
		return nil
	})
	r.RegisterDelayedCallback(func() {
		r.UpdateWorkflow("hold", "1", &testsuite.TestUpdateCallback{OnReject: func(err error) { t.Error(err) }, OnAccept: func() {}, OnComplete: func(any, error) {}}, email.RescheduleInput{})
	}, time.Minute)
	res, err := r.start(direct)
	require.NoError(t, err)
	require.Equal(t, email.StatusDelivered, res.Status)
	require.Equal(t, "order-5", woken, "what is asked of this run wakes the one that sends")
	require.Greater(t, r.Now().Sub(start), time.Minute)
}
