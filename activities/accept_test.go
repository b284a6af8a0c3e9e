package activities

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
)

const acme = "5e4a0680-804e-11ec-8477-2fea5968d85b"

// fakeAcceptor implements Acceptor.
type fakeAcceptor struct {
	customer account.Customer
	err      error
	earlier  *delivery.DirectEmail
	// started and messages are the arguments of AcceptDirect.
	started  []delivery.DirectStart
	messages []email.Message
	refusal  error
}

func (d *fakeAcceptor) Customer(context.Context, string) (account.Customer, error) {
	return d.customer, d.err
}
func (d *fakeAcceptor) DirectEmail(context.Context, delivery.DirectStart) (*delivery.DirectEmail, error) {
	return d.earlier, nil
}
func (d *fakeAcceptor) AcceptDirect(_ context.Context, m email.Message, s delivery.DirectStart) (delivery.DirectEmail, error) {
	d.started, d.messages = append(d.started, s), append(d.messages, m)
	if d.earlier != nil {
		return *d.earlier, d.refusal
	}
	return delivery.DirectEmail{EmailID: "E", RunID: s.RunID, Owner: s.WorkflowID}, d.refusal
}

const plainMessage = `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":{"text":"Hi"}}`

// accept runs AcceptEmail as a local activity.
func (b *bench) accept(t *testing.T, in email.SendEmailInput) (delivery.AcceptEmailResult, error) {
	t.Helper()
	val, err := b.env.ExecuteLocalActivity(b.AcceptEmail, in)
	var res delivery.AcceptEmailResult
	if err == nil {
		require.NoError(t, val.Get(&res))
	}
	return res, err
}

func setupAcceptor(t *testing.T) (*bench, *fakeAcceptor) {
	t.Helper()
	b, d := setup(t), &fakeAcceptor{customer: account.Customer{ID: acme, Status: account.StatusActive}}
	b.deps.Acceptor, b.deps.Customers = d, d
	return b, d
}

func TestAcceptEmailUsesTheRunAsIdempotencyKey(t *testing.T) {
	t.Parallel()
	b, d := setupAcceptor(t)
	res, err := b.accept(t, email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(plainMessage), IdempotencyKey: "k"})
	require.NoError(t, err)
	require.Equal(t, "E", res.EmailID)
	require.False(t, res.Replayed)
	require.Empty(t, res.Owner)
	require.Equal(t, "bob@y.test", d.messages[0].To[0].Email)
	s := d.started[0]
	require.Equal(t, "default-test-namespace default-test-workflow-id default-test-run-id k", strings.Join([]string{s.Namespace, s.WorkflowID, s.RunID, s.Key}, " "))
	require.Len(t, s.Fingerprint, 64)

	// A customer's own ways hold for its direct starts, too.
	d.customer.DefaultSource, d.customer.Profile = &account.Source{Email: "default@acme.test"}, account.ProfileVoIPBIN
	_, err = b.accept(t, email.SendEmailInput{CustomerID: strings.ToUpper(acme), Message: json.RawMessage(`{"destinations":[{"type":"email","target":"b@y.test"}],"subject":"s","content":"Hi","color":"red"}`)})
	require.NoError(t, err)
	require.Equal(t, "default@acme.test", d.messages[1].From.Email)
}

func TestAcceptEmailFindsAnEarlierStart(t *testing.T) {
	t.Parallel()
	long := time.Now().Add(-30 * 24 * time.Hour)
	expired := json.RawMessage(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":"Hi","expires_at":"` + long.Add(time.Hour).Format(time.RFC3339) + `"}`)
	for name, tt := range map[string]struct {
		earlier delivery.DirectEmail
		asked   int
		want    delivery.AcceptEmailResult
	}{
		"this run's own":                         {delivery.DirectEmail{RunID: "default-test-run-id", Owner: "default-test-workflow-id"}, 0, delivery.AcceptEmailResult{}},
		"another run's, being sent":              {delivery.DirectEmail{RunID: "r", Owner: "order-5"}, 1, delivery.AcceptEmailResult{Replayed: true, Owner: "order-5"}},
		"another run's, finished":                {delivery.DirectEmail{RunID: "r", Owner: "order-5", Final: true}, 1, delivery.AcceptEmailResult{Replayed: true}},
		"of this workflow id, whose run is gone": {delivery.DirectEmail{RunID: "r", Owner: "default-test-workflow-id"}, 1, delivery.AcceptEmailResult{Replayed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := setupAcceptor(t)
			tt.earlier.EmailID, tt.earlier.AcceptedAt = "first", long
			d.earlier = &tt.earlier
			res, err := b.accept(t, email.SendEmailInput{CustomerID: acme, Message: expired})
			require.NoError(t, err, "what was in time when it was accepted is the same message now")
			res.Took = delivery.Took{}
			tt.want.EmailID = "first"
			require.Equal(t, tt.want, res)
			require.Len(t, d.started, tt.asked)
		})
	}
	b, _ := setupAcceptor(t)
	_, err := b.accept(t, email.SendEmailInput{CustomerID: acme, Message: expired})
	require.ErrorContains(t, err, "has passed")
}

// A refused message fails the run without a retry. The failure has the codes and pointers of
// REST, and repeats them in its message, which the Temporal UI shows in one line.
func TestAcceptEmailRefusals(t *testing.T) {
	t.Parallel()
	long := `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":"` + strings.Repeat("x", email.MaxDirectMessageBytes) + `"}`
	unverified := email.Fail(email.CodeDomainUnverified, "the sender's domain is not verified")
	for name, tt := range map[string]struct {
		in       email.SendEmailInput
		set      func(*fakeAcceptor)
		code     email.Code
		pointers []string
		text     string
	}{
		"no customer":         {in: email.SendEmailInput{Message: json.RawMessage(plainMessage)}, code: "invalid_request", pointers: []string{"customer_id"}, text: "customer_id: give the id of the customer"},
		"a customer's name":   {in: email.SendEmailInput{CustomerID: "ACME", Message: json.RawMessage(plainMessage), IdempotencyKey: "\n"}, code: "invalid_request", pointers: []string{"customer_id", "idempotency_key"}, text: "printable"},
		"an unknown customer": {set: func(d *fakeAcceptor) { d.err = email.Fail(email.CodeNotFound, "there is no such customer") }, code: "not_found", pointers: []string{"customer_id"}, text: "no such customer"},
		"a suspended one":     {set: func(d *fakeAcceptor) { d.customer.Status = account.StatusSuspended }, code: "forbidden", text: "suspended"},
		"too long":            {in: email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(long)}, code: "too_large", pointers: []string{"message"}, text: "POST /v1.0/files"},
		"not an object":       {in: email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(`"{}"`)}, code: "malformed_json", pointers: []string{"message"}, text: "the input of SendEmail is not valid; message: the message is not a JSON object; give it as an object, not as a string that holds JSON"},
		"several faults":      {in: email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(`{"from":{"email":"a@acme.test"},"to":[{"email":"bob"}],"content":"x"}`)}, code: "invalid_request", pointers: []string{"/to/0/email", "/subject"}, text: "/subject: "},
		"an unknown member":   {in: email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(`{"form":1}`)}, code: "invalid_request", pointers: []string{"/form"}, text: "no such member"},
		"no suppressions":     {in: email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(strings.Replace(plainMessage, "{", `{"ignore_suppressions":true,`, 1))}, code: "invalid_request", pointers: []string{"/ignore_suppressions"}, text: "takes a credential with the scope suppressions:ignore"},
		"another message": {set: func(d *fakeAcceptor) {
			d.refusal = email.Fail(email.CodeIdempotencyConflict, "this key was used for another message")
		}, code: "idempotency_conflict", text: "another message"},
		"an unverified sender": {set: func(d *fakeAcceptor) { d.refusal = unverified }, code: "sender_domain_unverified", pointers: []string{"/from"}, text: "/from: use an address of a verified domain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, d := setupAcceptor(t)
			if tt.set != nil {
				tt.set(d)
				tt.in = email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(plainMessage)}
			}
			_, err := b.accept(t, tt.in)
			app, ok := errors.AsType[*temporal.ApplicationError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, string(tt.code), app.Type())
			require.True(t, app.NonRetryable())
			require.Contains(t, app.Message(), tt.text)
			require.NotContains(t, app.Message(), "bob", "a refusal never repeats a value")
			var pointers []string
			if app.HasDetails() {
				var details email.ErrorDetails
				require.NoError(t, app.Details(&details))
				for _, f := range details.Errors {
					pointers = append(pointers, f.Pointer)
					require.NotEmpty(t, f.Code)
					require.NotEmpty(t, f.Detail)
				}
			}
			require.ElementsMatch(t, tt.pointers, pointers)
		})
	}
}

func TestAcceptEmailRetriesWithoutPostgres(t *testing.T) {
	t.Parallel()
	b, d := setupAcceptor(t)
	d.err = email.Fail(email.CodeUnavailable, "the database does not answer; try again shortly")
	_, err := b.accept(t, email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(plainMessage)})
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.False(t, app.NonRetryable())
	d.err = errors.New("secret")
	_, err = b.accept(t, email.SendEmailInput{CustomerID: acme, Message: json.RawMessage(plainMessage)})
	require.NotContains(t, err.Error(), "secret")
}

func TestAcceptEmailReservedWorkflowIDs(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	for _, prefix := range []string{"email-", "batch-", "webhook-"} {
		err := checkStart(nil, delivery.DirectStart{CustomerID: id, WorkflowID: prefix + id})
		require.ErrorContains(t, err, "workflow_id")
	}
	for _, free := range []string{"email-5", id, "order-" + id, "my-email-" + id} {
		require.NoError(t, checkStart(nil, delivery.DirectStart{CustomerID: id, WorkflowID: free}))
	}
}

func TestFollowEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.plan.State = email.State{Status: email.StatusSending, Detail: email.DetailDeferred}
	_, err := b.env.ExecuteActivity(b.FollowEmail, delivery.FollowEmailInput{EmailID: "E", Owner: "order-5"})
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.Equal(t, "not_finished", app.Type())
	require.Equal(t, temporal.ApplicationErrorCategoryBenign, app.Category())
	require.Equal(t, "the e-mail is sending, deferred; the workflow order-5 sends it", app.Message())
	b.plan.State = email.State{Status: email.StatusDelivered, Final: true}
	val, err := b.env.ExecuteActivity(b.FollowEmail, delivery.FollowEmailInput{EmailID: "E"})
	require.NoError(t, err)
	var st email.State
	require.NoError(t, val.Get(&st))
	require.Equal(t, email.StatusDelivered, st.Status)
}
