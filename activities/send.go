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

// inlineMaxBytes bounds the messages that are sent inline.
const inlineMaxBytes int64 = 256 << 10

// SendSMTP makes one attempt, or finds out what became of it. Inline it hands
// over what does not end within its budget; as a regular activity it waits for
// the end, heartbeating. That no relay is there is a result at first, so that the
// run can say so, and from then on the failure relay_unavailable with the relay's
// own backoff.
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
		// The pool warns of a relay that goes down, once; this line is each waiting mail's, each time.
		a.deps.Log.Debug("relay.unavailable", "email_id", in.EmailID, "relay", relay.Relay.Name, "code", relay.Reply.Code, "retry_in", relay.RetryAfter, "error", relay.Err)
		return res, temporal.NewApplicationErrorWithOptions(email.MaskText(relay.Error()), errRelayUnavailable,
			temporal.ApplicationErrorOptions{NextRetryDelay: max(relay.RetryAfter, time.Second), Category: temporal.ApplicationErrorCategoryBenign})
	}
	return res, failed(ctx, a.deps.Log, "sending", x.err)
}

// relayDown is the result for a run that does not say yet that no relay is there.
func relayDown(in delivery.SendSMTPInput, down *delivery.RelayError, start time.Time) delivery.SendSMTPResult {
	return delivery.SendSMTPResult{
		Attempt: in.Attempt, Relay: down.Relay, Reply: email.Reply{Text: email.MaskText(down.Error())},
		HandOver: true, RelayDown: true, NoRelay: errors.Is(down, delivery.ErrNoRelay), Took: since(start),
	}
}

// await waits for an exchange: an inline activity for its budget, a regular one
// until the end. The exchange itself goes on in either case.
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
