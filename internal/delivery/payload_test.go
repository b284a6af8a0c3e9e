package delivery_test

import (
	"testing"

	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/payloadtest"
)

// payloads are what workflows and activities give each other: they stand in histories that
// have yet to be replayed. Package email has those that other programs send and get.
var payloads = payloadtest.Types{
	"AcceptEmailResult":        func() any { return &delivery.AcceptEmailResult{} },
	"FollowEmailInput":         func() any { return &delivery.FollowEmailInput{} },
	"ResolveAttachmentsInput":  func() any { return &delivery.ResolveAttachmentsInput{} },
	"ResolveAttachmentsResult": func() any { return &delivery.ResolveAttachmentsResult{} },
	"SendSMTPInput":            func() any { return &delivery.SendSMTPInput{} },
	"SendSMTPResult":           func() any { return &delivery.SendSMTPResult{} },
	"RecordStatusInput":        func() any { return &delivery.RecordStatusInput{} },
	"RecordStatusResult":       func() any { return &delivery.RecordStatusResult{} },
	"FireWebhooksInput":        func() any { return &delivery.FireWebhooksInput{} },
	"FireWebhooksResult":       func() any { return &delivery.FireWebhooksResult{} },
	"ControlInput":             func() any { return &delivery.ControlInput{} },
	"PlanBatchResult":          func() any { return &delivery.PlanBatchResult{} },
	"SendChunkInput":           func() any { return &delivery.SendChunkInput{} },
	"SendChunkResult":          func() any { return &delivery.SendChunkResult{} },
	"RecordChunkInput":         func() any { return &delivery.RecordChunkInput{} },
	"RecordChunkResult":        func() any { return &delivery.RecordChunkResult{} },
	"ControlBatchInput":        func() any { return &delivery.ControlBatchInput{} },
	"DeliverWebhooksResult":    func() any { return &delivery.DeliverWebhooksResult{} },
	"CheckDomainInput":         func() any { return &delivery.CheckDomainInput{} },
	"CheckDomainResult":        func() any { return &delivery.CheckDomainResult{} },
}

// TestPayloads: histories and programs that hold a payload of an earlier version still work.
func TestPayloads(t *testing.T) {
	t.Parallel()
	payloads.RequireGolden(t)
}

// TestPayloadsAreComplete: each type whose name ends in Input or Result is a payload.
func TestPayloadsAreComplete(t *testing.T) {
	t.Parallel()
	payloads.RequireComplete(t)
}
