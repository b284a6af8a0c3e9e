package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
)

// These end the message that refuses an input: they say what the workflow takes.
const (
	takesMessage  = `give either the message to send: {"customer_id": "…", "message": {…}}, or the e-mail that is stored: {"email_id": "…"}`
	takesBatch    = `give the batch that POST /v1.0/emails/batch has stored: {"batch_id": "…"}`
	takesDomain   = `give the sender domain: {"domain_id": "…"}`
	takesEndpoint = `give the endpoint: {"endpoint_id": "…"}`
)

// maxUnknown is how many unknown members of an input are named.
const maxUnknown = 10

// changeRefuseUnknown is the change id of refusing a direct start with unknown members.
const changeRefuseUnknown = "refuse-unknown-members"

// input decodes a workflow's input; no input is the zero value. Where the SDK decodes it, the
// failure of a wrong input has a type of the SDK's and names Go types.
func input[I any](raw converter.RawValue, takes string) (in I, err error) {
	if raw.Payload() == nil {
		return in, nil
	}
	if converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &in) == nil {
		return in, nil
	}
	var field email.FieldError
	problem := "the input is not readable as JSON"
	//workflowcheck:ignore deterministic: it depends on the bytes only
	err = json.Unmarshal(raw.Payload().GetData(), &in)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		problem = fmt.Sprintf("the input is of the JSON type %s", wrong.Value)
		if wrong.Field != "" {
			problem = fmt.Sprintf("%s is of the JSON type %s", wrong.Field, wrong.Value)
			field = email.FieldError{Pointer: wrong.Field, Code: "invalid", Detail: problem}
		}
	}
	var details []any
	if field.Pointer != "" {
		details = append(details, email.ErrorDetails{Errors: []email.FieldError{field}})
	}
	return in, refused(problem+": "+takes, details...)
}

// sendEmailMembers are the JSON members of an email.SendEmailInput.
var sendEmailMembers = []string{"email_id", "customer_id", "message", "idempotency_key"}

// refuseUnknownMembers refuses a direct start with unknown members: a misspelled one, such as
// idempotencyKey, would be ignored. A run that began before this check existed goes on.
func refuseUnknownMembers(ctx workflow.Context, raw converter.RawValue, in email.SendEmailInput) error {
	var members map[string]json.RawMessage
	//workflowcheck:ignore deterministic: it depends on the bytes only
	if in.EmailID != "" || raw.Payload() == nil || json.Unmarshal(raw.Payload().GetData(), &members) != nil {
		return nil
	}
	var unknown []email.FieldError
	var why []string
	//workflowcheck:ignore sorted, their order is always the same
	names := slices.Sorted(maps.Keys(members))
	for _, name := range names {
		if slices.ContainsFunc(sendEmailMembers, func(m string) bool { return strings.EqualFold(m, name) }) {
			continue
		}
		detail := "there is no such member; remove it"
		for _, m := range sendEmailMembers {
			if strings.EqualFold(strings.ReplaceAll(m, "_", ""), strings.NewReplacer("_", "", "-", "").Replace(name)) {
				detail = "there is no such member; it is called " + m
			}
		}
		unknown = append(unknown, email.FieldError{Pointer: name, Code: "unknown", Detail: detail})
		if why = append(why, name+": "+detail); len(unknown) == maxUnknown {
			break
		}
	}
	if len(unknown) == 0 || workflow.GetVersion(ctx, changeRefuseUnknown, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	return refused(strings.Join(why, "; ")+": "+takesMessage, email.ErrorDetails{Errors: unknown})
}

// refused fails a run for its input.
func refused(why string, details ...any) error {
	return temporal.NewNonRetryableApplicationError(why, string(email.CodeInvalidRequest), nil, details...)
}
