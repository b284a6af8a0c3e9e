package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/intake"
)

// AcceptEmail stores the message of a direct start as an e-mail, or finds the e-mail that
// an earlier call stored for it. It runs as a local activity only: a regular activity's
// input would repeat the message in the history.
func (a *Activities) AcceptEmail(ctx context.Context, in email.SendEmailInput) (delivery.AcceptEmailResult, error) {
	start := time.Now()
	info := activity.GetInfo(ctx)
	d := delivery.DirectStart{
		CustomerID: in.CustomerID, Namespace: info.Namespace,
		WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, Key: in.IdempotencyKey,
	}
	got, err := a.acceptDirect(ctx, in.Message, d)
	if err != nil {
		if f, ok := errors.AsType[*email.Failure](err); ok && f.Code != email.CodeUnavailable {
			a.deps.Log.InfoContext(ctx, "email.refused", "workflow_id", d.WorkflowID, "customer_id", d.CustomerID, "code", f.Code)
			f = &email.Failure{Code: f.Code, Detail: oneLine(f), Fields: f.Fields}
			return delivery.AcceptEmailResult{}, failed(ctx, a.deps.Log, "accepting", f)
		}
		return delivery.AcceptEmailResult{}, failed(ctx, a.deps.Log, "accepting", err)
	}
	res := delivery.AcceptEmailResult{EmailID: got.EmailID, Replayed: got.RunID != d.RunID}
	if got.Owner != d.WorkflowID && !got.Final {
		res.Owner = got.Owner
	}
	res.Took = since(start)
	a.deps.Log.InfoContext(ctx, "email.accepted", "email_id", res.EmailID, "customer_id", d.CustomerID, "workflow_id", d.WorkflowID,
		"replayed", res.Replayed, "bytes", len(in.Message))
	return res, nil
}

// oneLine joins a failure's detail and its field errors: the Temporal UI shows one line.
func oneLine(f *email.Failure) string {
	lines := []string{f.Detail}
	for _, e := range f.Fields {
		lines = append(lines, strings.TrimPrefix(e.Pointer+": "+e.Detail, ": "))
	}
	return strings.Join(lines, "; ")
}

func (a *Activities) acceptDirect(ctx context.Context, message []byte, d delivery.DirectStart) (delivery.DirectEmail, error) {
	if trimmed := bytes.TrimLeft(message, " \t\r\n"); len(trimmed) > 0 && trimmed[0] != '{' {
		f := email.Fail(email.CodeMalformedJSON, "the input of SendEmail is not valid")
		f.Fields = []email.FieldError{{Pointer: "message", Code: "malformed", Detail: "the message is not a JSON object; give it as an object, not as a string that holds JSON"}}
		return delivery.DirectEmail{}, f
	}
	if err := checkStart(message, d); err != nil {
		return delivery.DirectEmail{}, err
	}
	earlier, err := a.deps.Acceptor.DirectEmail(ctx, d)
	if err != nil {
		return delivery.DirectEmail{}, err
	}
	if earlier != nil && earlier.RunID == d.RunID {
		return *earlier, nil // an earlier call of this run succeeded, and its result was lost
	}
	customer, err := a.deps.Customers.Customer(ctx, d.CustomerID)
	if err != nil {
		return delivery.DirectEmail{}, atMember(err, "customer_id", "give the id of a customer of this installation")
	}
	if customer.Status == account.StatusSuspended || !customer.DeletedAt.IsZero() {
		return delivery.DirectEmail{}, email.Fail(email.CodeForbidden, "this customer is suspended; ask the operator")
	}
	limits := a.deps.Limits
	limits.CustomerID, limits.IgnoreUnknown = d.CustomerID, customer.Profile == account.ProfileVoIPBIN
	limits.NoIgnoreSuppressions = true
	if src := customer.DefaultSource; src != nil {
		limits.DefaultSource = &email.Address{Email: src.Email, Name: src.Name}
	}
	if limits.Now = time.Now(); earlier != nil {
		// The repeated message must decode as it did then: send_at is compared with the time
		// of the first acceptance, and relays are not checked again.
		limits.Now, limits.Serves = earlier.AcceptedAt, nil
	}
	in, err := intake.Decode(message, limits)
	if err != nil {
		return delivery.DirectEmail{}, err
	}
	d.Fingerprint = intake.Fingerprint(in.Message)
	got, err := a.deps.Acceptor.AcceptDirect(ctx, in.Message, d)
	if f, ok := errors.AsType[*email.Failure](err); ok && f.Code == email.CodeDomainUnverified {
		f.Fields = []email.FieldError{{Pointer: in.SenderPointer, Code: string(f.Code), Detail: "use an address of a verified domain"}}
	}
	return got, err
}

// checkStart checks the start's ids and the message's size, not the message's content.
func checkStart(message []byte, d delivery.DirectStart) error {
	f := email.Fail(email.CodeInvalidRequest, "the input of SendEmail is not valid")
	wrong := func(member, code, detail string) {
		f.Fields = append(f.Fields, email.FieldError{Pointer: member, Code: code, Detail: detail})
	}
	if id, err := uuid.Parse(d.CustomerID); err != nil || id.String() != strings.ToLower(d.CustomerID) {
		wrong("customer_id", "invalid", "give the id of the customer on whose behalf the message is sent")
	}
	if d.Key != "" && !email.ValidIdempotencyKey(d.Key) {
		wrong("idempotency_key", "invalid", "give a key of 1 to 256 printable ASCII characters")
	}
	if delivery.OwnWorkflowID(d.WorkflowID) {
		wrong("workflow_id", "reserved", "start under another workflow id: this is how Postrider names its own")
	}
	if len(f.Fields) > 0 {
		return f
	}
	if n := len(message); n > email.MaxDirectMessageBytes {
		f := email.Fail(email.CodeTooLarge, "the message has %d bytes, the limit of a direct start is %d: upload files with POST /v1.0/files and attach them with reference_type \"file\"",
			n, email.MaxDirectMessageBytes)
		f.Fields = []email.FieldError{{Pointer: "message", Code: "too_large", Detail: fmt.Sprintf("give at most %d bytes", email.MaxDirectMessageBytes)}}
		return f
	}
	return nil
}

// atMember adds a field error for the input's member to a not_found failure.
func atMember(err error, member, detail string) error {
	if f, ok := errors.AsType[*email.Failure](err); ok && f.Code == email.CodeNotFound {
		f.Fields = []email.FieldError{{Pointer: member, Code: string(f.Code), Detail: detail}}
	}
	return err
}

// FollowEmail returns the final state of an e-mail that another run sends. While the e-mail
// is open it fails with not_finished, and the Temporal server retries it without an event in
// the history.
func (a *Activities) FollowEmail(ctx context.Context, in delivery.FollowEmailInput) (email.State, error) {
	plan, err := a.deps.Mail.Plan(ctx, in.EmailID)
	if err != nil {
		return email.State{}, failed(ctx, a.deps.Log, "reading the e-mail", err)
	}
	if plan.State.Final {
		return plan.State, nil
	}
	where := string(plan.State.Status)
	if plan.State.Detail != "" {
		where += ", " + string(plan.State.Detail)
	}
	return email.State{}, temporal.NewApplicationErrorWithOptions(fmt.Sprintf("the e-mail is %s; the workflow %s sends it", where, in.Owner), errNotFinished,
		temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign})
}
