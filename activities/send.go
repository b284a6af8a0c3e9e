package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// inlineMaxBytes is the size, before encoding, up to which a message is sent inline.
const inlineMaxBytes int64 = 256 << 10

// SendSMTP makes one attempt, or attaches to it if this process already makes it.
//
// Inline, it returns HandOver if the attempt takes longer than its budget. As a regular
// activity it waits for the end, heartbeating.
//
// Without a relay it first returns RelayDown, so that the run can publish that. Called again
// with in.RelayDown, it fails with relay_unavailable. The retry comes after the relay's backoff,
// or when the e-mail expires if that is sooner.
func (a *Activities) SendSMTP(ctx context.Context, in delivery.SendSMTPInput) (delivery.SendSMTPResult, error) {
	start := time.Now()
	in.Route.For = in.EmailID
	if in.Inline && (in.Route.Bytes > inlineMaxBytes || !a.deps.Relays.Fast(in.Route)) {
		if down := a.deps.Relays.Down(in.Route); down != nil {
			return relayDown(in, down, start), nil
		}
		return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true, Took: since(start)}, nil
	}
	x, err := a.exchanges.join(exchangeKey{in.EmailID, in.Attempt}, func(ctx context.Context) (delivery.SendSMTPResult, error) {
		return a.attempt(ctx, in)
	})
	if err != nil {
		return delivery.SendSMTPResult{}, failed(ctx, a.deps.Log, "sending", err)
	}
	handOver, err := a.await(ctx, x, in.Inline)
	if err != nil {
		return delivery.SendSMTPResult{}, err
	}
	if handOver {
		return delivery.SendSMTPResult{Attempt: in.Attempt, HandOver: true, Took: since(start)}, nil
	}
	res := x.result
	res.Took = since(start)
	relay, isRelay := errors.AsType[*delivery.RelayError](x.err)
	switch {
	case x.err == nil:
		return res, nil
	case in.Inline && errors.Is(x.err, delivery.ErrSuperseded):
		return delivery.SendSMTPResult{Attempt: in.Attempt, Relay: res.Relay, HandOver: true, Took: since(start)}, nil
	case isRelay && !in.RelayDown:
		return relayDown(in, relay, start), nil
	case isRelay:
		// The pool warns once of a relay that goes down. This line comes for each waiting
		// e-mail at each try, so it is a debug line.
		a.deps.Log.Debug("relay.unavailable", "email_id", in.EmailID, "relay", relay.Relay.Name, "code", relay.Reply.Code, "retry_in", relay.RetryAfter, "error", relay.Err)
		return res, temporal.NewApplicationErrorWithOptions(email.MaskText(relay.Error()), errRelayUnavailable,
			temporal.ApplicationErrorOptions{NextRetryDelay: relay.RetryAfter, Category: temporal.ApplicationErrorCategoryBenign})
	}
	return res, failed(ctx, a.deps.Log, "sending", x.err)
}

// relayDown is the result for a run that has not published yet that no relay is available.
func relayDown(in delivery.SendSMTPInput, down *delivery.RelayError, start time.Time) delivery.SendSMTPResult {
	return delivery.SendSMTPResult{
		Attempt: in.Attempt, Relay: down.Relay, Reply: email.Reply{Text: email.MaskText(down.Error())},
		HandOver: true, RelayDown: true, NoRelay: errors.Is(down, delivery.ErrNoRelay), Took: since(start),
	}
}

// await waits for an exchange: an inline activity for its budget, a regular one until the
// end. The exchange goes on even if await returns first.
func (a *Activities) await(ctx context.Context, x *exchange, inline bool) (handOver bool, err error) {
	if inline {
		budget := time.NewTimer(a.limits.inlineBudget)
		defer budget.Stop()
		select {
		case <-x.done:
			return false, nil
		case <-budget.C:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	beat := time.NewTicker(a.limits.heartbeatEvery)
	defer beat.Stop()
	for {
		select {
		case <-x.done:
			return false, nil
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
