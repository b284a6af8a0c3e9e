package activities

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/internal/delivery"
)

// keepLease renews an attempt's lease until stop is called. It calls cut when the lease is
// lost, which ends the exchange unless the final dot is written.
func (a *Activities) keepLease(ctx context.Context, in delivery.SendSMTPInput, owner string, cut context.CancelCauseFunc) (stop func()) {
	return renewing(ctx, func(ctx context.Context) {
		err := a.deps.Journal.Renew(ctx, in.EmailID, in.Attempt, owner)
		if errors.Is(err, delivery.ErrSuperseded) {
			cut(err)
		} else if err != nil && ctx.Err() == nil {
			a.deps.Log.Warn("journal.renew", "email_id", in.EmailID, "attempt", in.Attempt, "error", err)
		}
	})
}

// renewing calls renew every delivery.LeaseRenewal until stop is called. It goes on when ctx is
// canceled.
func renewing(ctx context.Context, renew func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(delivery.LeaseRenewal)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				renew(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-stopped }
}

// owned returns delivery.ErrSuperseded for an attempt that another owner has taken over.
func owned(ours []bool, err error) error {
	if err == nil && !ours[0] {
		return delivery.ErrSuperseded
	}
	return err
}

// conclude writes the attempt's outcomes to the journal, and tries again for finishWithin: the
// server has answered, and only this process has the answer. RecordStatus finds where the e-mail
// stands, if that was recorded with it.
func (a *Activities) conclude(e delivery.Ending) error {
	ctx, cancel := context.WithTimeout(context.Background(), a.limits.finishWithin)
	defer cancel()
	var end delivery.Conclusion
	var err error
	retryUntil(ctx, journalRetry, func() bool {
		end, err = a.deps.Journal.Conclude(ctx, e)
		return err == nil
	})
	switch {
	case err != nil:
		return err
	case !end.Ours:
		return delivery.ErrSuperseded
	}
	a.exchanges.keepRecorded(exchangeKey{e.EmailID, e.Attempt}, end.Recorded)
	return nil
}
