package workflows

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
)

// What a workflow takes, for whoever has given it something else.
const (
	takesMessage  = `give either the message to send: {"customer_id": "…", "message": {…}}, or the e-mail that is stored: {"email_id": "…"}`
	takesBatch    = `give the batch that POST /v1.0/emails/batch has stored: {"batch_id": "…"}`
	takesEndpoint = `give the endpoint: {"endpoint_id": "…"}`
)

// input reads a workflow's input. The SDK would fail the run for one that does not
// decode, with an error type of its own and Go's names in it. Nothing given is the zero
// value.
func input[I any](raw converter.RawValue, takes string) (in I, err error) {
	if raw.Payload() == nil {
		return in, nil
	}
	if converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &in) == nil {
		return in, nil
	}
	var field email.FieldError
	what := "the input is not readable as JSON"
	//workflowcheck:ignore it goes by the bytes alone, through reflection
	err = json.Unmarshal(raw.Payload().GetData(), &in)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		what = fmt.Sprintf("the input is of the JSON type %s", wrong.Value)
		if wrong.Field != "" {
			what = fmt.Sprintf("%s is of the JSON type %s", wrong.Field, wrong.Value)
			field = email.FieldError{Pointer: wrong.Field, Code: "invalid", Detail: what}
		}
	}
	var details []any
	if field.Pointer != "" {
		details = append(details, email.ErrorDetails{Errors: []email.FieldError{field}})
	}
	return in, refused(what+": "+takes, details...)
}

// refused fails a run for its input.
func refused(why string, details ...any) error {
	return temporal.NewNonRetryableApplicationError(why, string(email.CodeInvalidRequest), nil, details...)
}
