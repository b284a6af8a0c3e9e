package email_test

import (
	"testing"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/payloadtest"
)

// payloads are the inputs and results that Temporal stores: other programs send and read them,
// and histories that will be replayed hold them.
var payloads = payloadtest.Types{
	"SendEmailInput":       func() any { return &email.SendEmailInput{} },
	"SendEmailResult":      func() any { return &email.SendEmailResult{} },
	"State":                func() any { return &email.State{} },
	"RescheduleInput":      func() any { return &email.RescheduleInput{} },
	"ErrorDetails":         func() any { return &email.ErrorDetails{} },
	"SendBatchInput":       func() any { return &email.SendBatchInput{} },
	"SendBatchResult":      func() any { return &email.SendBatchResult{} },
	"DeliverWebhooksInput": func() any { return &email.DeliverWebhooksInput{} },
	"VerifyDomainInput":    func() any { return &email.VerifyDomainInput{} },
	"VerifyDomainResult":   func() any { return &email.VerifyDomainResult{} },
}

// TestPayloads: histories and programs that hold a payload of an earlier version still work.
func TestPayloads(t *testing.T) {
	t.Parallel()
	payloads.RequireGolden(t)
}

// TestPayloadsAreComplete: each type whose name ends in Input or Result is a payload.
func TestPayloadsAreComplete(t *testing.T) {
	t.Parallel()
	payloads.RequireComplete(t, "RecipientResult")
}
