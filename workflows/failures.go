package workflows

import (
	"errors"
	"fmt"
	"strings"

	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
)

// Failures translates the SDK's refusal of an unknown update into an ApplicationError with
// code invalid_request that lists the known updates. The SDK has no error type for this
// refusal and calls no handler, so Failures recognises it by its text.
type Failures struct{ converter.FailureConverter }

// unknownUpdate is how the SDK's text begins; the name follows.
const unknownUpdate = "unknown update "

// ErrorToFailure implements converter.FailureConverter.
func (f Failures) ErrorToFailure(err error) *failurepb.Failure {
	if err != nil && errors.Unwrap(err) == nil {
		if rest, ok := strings.CutPrefix(err.Error(), unknownUpdate); ok {
			name, _, _ := strings.Cut(rest, ". KnownUpdates=")
			var known []string
			for _, a := range email.Actions() {
				known = append(known, string(a))
			}
			message := fmt.Sprintf("there is no update %q: SendEmail takes %s, VerifyDomain %s, other workflows take none", name, strings.Join(known, ", "), email.SignalVerifyNow)
			err = temporal.NewNonRetryableApplicationError(message, string(email.CodeInvalidRequest), nil)
		}
	}
	return f.FailureConverter.ErrorToFailure(err)
}
