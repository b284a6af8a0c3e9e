package worker

import (
	"context"

	"github.com/nexus-rpc/sdk-go/nexus"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/temporalnexus"

	"github.com/postrider/postrider/email"
)

// nexusService lets workflows of other namespaces send: its operation is a direct
// start of SendEmail, and ends with that run. Called again with the same request it
// finds the run; what makes two requests one e-mail is the input's idempotency key.
func nexusService() *nexus.Service {
	s := nexus.NewService(email.NexusService)
	s.MustRegister(temporalnexus.MustNewWorkflowRunOperationWithOptions(temporalnexus.WorkflowRunOperationOptions[email.SendEmailInput, email.SendEmailResult]{
		Name: email.NexusOperationSend,
		Handler: func(ctx context.Context, in email.SendEmailInput, opts nexus.StartOperationOptions) (temporalnexus.WorkflowHandle[email.SendEmailResult], error) {
			if in.EmailID != "" || len(in.Message) == 0 {
				// As the run would fail, so that its caller sees the same.
				return nil, &nexus.OperationError{State: nexus.OperationStateFailed, Cause: temporal.NewNonRetryableApplicationError(
					"give the message to send: {\"customer_id\": \"…\", \"message\": {…}}", string(email.CodeInvalidRequest), nil)}
			}
			return temporalnexus.ExecuteUntypedWorkflow[email.SendEmailResult](ctx, opts, client.StartWorkflowOptions{
				ID:            email.NexusWorkflowIDPrefix + opts.RequestID,
				StaticSummary: "e-mail over Nexus",
			}, email.WorkflowSendEmail, in)
		},
	}))
	return s
}
