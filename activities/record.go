package activities

import (
	"context"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// RecordStatus writes an attempt's outcomes to recipients, e-mail, events and webhook
// deliveries. The run retries it until it succeeds; a repeated call changes nothing.
func (a *Activities) RecordStatus(ctx context.Context, in delivery.RecordStatusInput) (delivery.RecordStatusResult, error) {
	start := time.Now()
	key := exchangeKey{in.EmailID, in.Attempt}
	rec, recorded := a.exchanges.takeRecorded(key)
	if !recorded {
		var err error
		if rec, err = a.deps.Recorder.Record(ctx, in); err != nil {
			return delivery.RecordStatusResult{}, failed(ctx, a.deps.Log, "recording", err)
		}
	}
	a.exchanges.forget(key)
	a.deps.Log.InfoContext(ctx, "email.recorded", "email_id", in.EmailID, "attempt", in.Attempt,
		"status", rec.State.Status, "detail", rec.State.Detail, "next_at", rec.State.NextAt, "webhooks", rec.Webhooks)
	return delivery.RecordStatusResult{State: rec.State, Webhooks: rec.Webhooks, Took: since(start)}, nil
}

// ControlEmail carries out the action of a signal or update, or the cancellation of the run,
// by the same method that the REST API calls.
func (a *Activities) ControlEmail(ctx context.Context, in delivery.ControlInput) (email.State, error) {
	st, err := a.deps.Controller.Control(ctx, in.EmailID, email.Control{Action: in.Action, SendAt: in.SendAt})
	if err != nil {
		return email.State{}, failed(ctx, a.deps.Log, "controlling", err)
	}
	a.deps.Log.InfoContext(ctx, "email.controlled", "email_id", in.EmailID, "action", in.Action, "status", st.Status)
	return st, nil
}
