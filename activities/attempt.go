package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dkim"
)

// attempt makes one attempt at an e-mail's open recipients. In order:
//
//  1. A large message waits for memory (memory.go). It waits before it has a session or an
//     open attempt, so that no other attempt waits for it.
//  2. A relay gives a session. It comes before the gate, so that a relay that is down or over
//     its rate changes no recipient; the e-mail's row notes the obstacle.
//  3. The gate opens the attempt under the e-mail's row lock, for an owner that is new each
//     time. If the e-mail is finished, held or paused, or the outcomes are in the journal
//     already, nothing is sent. If another process has marked the attempt, attempt asks the
//     gate again every busyPoll.
//  4. The lease is renewed from here on (lease.go); losing it cuts the exchange.
//  5. The message is rendered and signed. One that cannot be rendered fails for all recipients.
//  6. The transaction runs, with another relay if that one takes more of the message. Right
//     before the final dot, the journal is marked: the dot is written only while the attempt
//     is still this owner's. Each recipient has an outcome of its own.
//  7. The journal gets the outcomes and the transcript, masked for a history (mask.go). If
//     Postgres does not take them within finishWithin, the run gets them as Unrecorded, and
//     this process keeps them and goes on trying (unrecorded.go).
//
// Once the server has answered, attempt returns no error but delivery.ErrSuperseded.
func (a *Activities) attempt(ctx context.Context, in delivery.SendSMTPInput) (res delivery.SendSMTPResult, err error) {
	var busy bool
	if !retryUntil(ctx, a.limits.busyPoll, func() bool {
		res, busy, err = a.tryAttempt(ctx, in)
		return err != nil || !busy
	}) {
		return res, ctx.Err()
	}
	return res, err
}

// tryAttempt makes the attempt, unless another process makes it at the moment (busy).
func (a *Activities) tryAttempt(ctx context.Context, in delivery.SendSMTPInput) (res delivery.SendSMTPResult, busy bool, err error) {
	res.Attempt = in.Attempt
	release, err := a.reserveMemory(ctx, in.Route, in.Route.Bytes)
	if err != nil {
		return res, false, err
	}
	defer release()
	if a.deps.Relays.Pace(in.Route) > 0 {
		// An e-mail that is held, paused or throttled otherwise reserves no slot of the
		// relay's rate.
		if checked, err := a.deps.Gate.Check(ctx, in.EmailID, delivery.Obstacle{}); err != nil || checked.State != nil {
			res.State = checked.State
			return res, false, err
		}
	}
	session, err := a.deps.Relays.Session(ctx, in.Route)
	if err != nil {
		return a.noSession(ctx, in, err)
	}
	held := true
	defer func() {
		if held {
			session.Close()
		}
	}()
	res.Relay = session.Relay()
	owner := uuid.NewString()
	o, err := a.deps.Gate.Open(ctx, delivery.OpenRequest{EmailID: in.EmailID, Attempt: in.Attempt, Owner: owner, Relay: res.Relay})
	if err != nil {
		return res, false, err
	}
	switch o.Verdict {
	case delivery.VerdictClosed:
		res.State = &o.State
		return res, false, nil
	case delivery.VerdictBusy:
		return res, true, nil
	case delivery.VerdictRecorded:
		return ended(in, o), false, nil
	default:
		held = false
		res, err = a.send(ctx, session, in, owner, o)
		return res, false, err
	}
}

// ended is the result for an attempt whose outcomes are in the journal.
func ended(in delivery.SendSMTPInput, o delivery.Opening) delivery.SendSMTPResult {
	return delivery.SendSMTPResult{Attempt: in.Attempt, Sent: true, Relay: o.Relay, Reply: masked(o.Reply, nil)}
}

// noSession notes on the e-mail why no relay takes it now. If the e-mail waits for a slot of
// the relay's rate, or the gate finds that it waits for something else, the result says so;
// otherwise err is returned. If its attempt is open already, the gate's answer to that comes first.
func (a *Activities) noSession(ctx context.Context, in delivery.SendSMTPInput, err error) (res delivery.SendSMTPResult, busy bool, _ error) {
	res.Attempt = in.Attempt
	throttled, isThrottled := errors.AsType[*delivery.Throttled](err)
	down, isDown := errors.AsType[*delivery.RelayError](err)
	obstacle := relayObstacle(err)
	switch {
	case isThrottled:
		res.Turn = throttled.Turn
		obstacle = delivery.Obstacle{ThrottledUntil: throttled.Turn.At, ThrottledBy: email.RelayRate(throttled.Turn.Relay)}
	case !isDown:
		return res, false, err
	}
	checked, cerr := a.deps.Gate.Check(ctx, in.EmailID, obstacle)
	if cerr != nil {
		return res, false, errors.Join(cerr, err)
	}
	switch checked.Open.Verdict {
	case delivery.VerdictBusy:
		return delivery.SendSMTPResult{Attempt: in.Attempt}, true, nil
	case delivery.VerdictRecorded:
		return ended(in, checked.Open), false, nil
	}
	if res.State = checked.State; res.State != nil || isThrottled {
		return res, false, nil
	}
	waits := *down
	wait := down.RetryAfter
	if down.Watched && in.RelayDown {
		wait = watchedWait + rand.N(watchedWait)
	}
	waits.RetryAfter = relayWait(wait, checked.ExpiresIn)
	return res, false, &waits
}

// relayObstacle is the obstacle of an e-mail whose relay is down or not configured.
func relayObstacle(err error) delivery.Obstacle {
	o := delivery.Obstacle{RelayDown: true, NoRelay: errors.Is(err, delivery.ErrNoRelay)}
	if relay, ok := errors.AsType[*delivery.RelayError](err); ok {
		o.Relay = relay.Relay.Name
		if relay.OfPath {
			o.RefusedPath = &delivery.RefusedPath{Reply: relay.Reply, RetryAfter: max(relay.RetryAfter, time.Second)}
		}
	}
	return o
}

func isRelayError(err error) bool {
	_, ok := errors.AsType[*delivery.RelayError](err)
	return ok
}

// send renders the message, runs the transaction and writes the outcomes to the journal. Once
// the server has answered, it returns no error but delivery.ErrSuperseded. It closes session,
// or the session with another relay that the message goes to.
func (a *Activities) send(ctx context.Context, session Session, in delivery.SendSMTPInput, owner string, o delivery.Opening) (delivery.SendSMTPResult, error) {
	closing := session
	defer func() {
		if closing != nil {
			closing.Close()
		}
	}()
	res := delivery.SendSMTPResult{Attempt: in.Attempt, Relay: session.Relay(), Sent: true}
	ending := delivery.Ending{EmailID: in.EmailID, Attempt: in.Attempt, Owner: owner, Relay: res.Relay}
	sendCtx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	stop := sync.OnceFunc(a.keepLease(ctx, in, owner, cut))
	defer stop()
	message, free, unsendable, err := a.render(sendCtx, in, o.Settled)
	if err != nil {
		return res, err
	}
	defer free()
	if unsendable != nil {
		stop()
		ending.Outcomes = unsendableOutcomes(o.Recipients, unsendable)
		return res, a.conclude(ending)
	}

	env := o.Envelope()
	fitting, err := a.deps.Relays.Fitting(sendCtx, in.Route, session, env, message)
	closing = fitting
	var ex delivery.Exchange
	if err == nil {
		res.Relay, ending.Relay = fitting.Relay(), fitting.Relay()
		ex = fitting.Send(sendCtx, env, message, a.marker(ending, message))
	} else {
		ex = notTried(o.Recipients, err)
		ending.Relay = relayOf(err, ending.Relay)
		res.Relay = ending.Relay
	}
	stop()
	ending.Outcomes, ending.Transcript = ex.Outcomes, ex.Transcript
	addrs := addresses(o.Recipients)
	res.Reply = masked(ex.Final, addrs)
	a.logAttempt(in, res, ex)
	switch err := a.conclude(ending); {
	case errors.Is(err, delivery.ErrSuperseded):
		// Another process owns the attempt by now, and writes its outcomes. If this exchange
		// wrote its final dot, the journal says so: the mark came first.
		return res, err
	case err != nil:
		a.deps.Log.Warn("journal.unrecorded", "email_id", in.EmailID, "attempt", in.Attempt, "error", err)
		a.finishLater(ending)
		res.Unrecorded = maskedOutcomes(ending.Outcomes, addrs)
	}
	return res, nil
}

// relayOf is the relay that err speaks of; otherwise the one given.
func relayOf(err error, otherwise email.Relay) email.Relay {
	if relay, ok := errors.AsType[*delivery.RelayError](err); ok {
		return relay.Relay
	}
	return otherwise
}

// notTried is the exchange of an attempt that got no session: each recipient is deferred, and
// the attempt does not count.
func notTried(rs []delivery.EnvelopeRecipient, err error) delivery.Exchange {
	ex := delivery.Exchange{Outcomes: make([]delivery.Outcome, len(rs)), Final: email.Reply{Text: email.MaskText(err.Error())}}
	ex.RelayFault = isRelayError(err)
	for i, r := range rs {
		ex.Outcomes[i] = delivery.Outcome{
			RecipientID: r.ID, Status: email.RecipientDeferred, Reply: ex.Final, RetryAfter: max(retryAfter(err), time.Second), Uncounted: true,
			RelayFault: ex.RelayFault, Unasked: true, // no relay has seen any of them
		}
	}
	return ex
}

// marker returns the function that marks the attempt in the journal right before its final
// dot.
func (a *Activities) marker(e delivery.Ending, message []byte) func(context.Context, []delivery.Outcome) error {
	sum := sha256.Sum256(message)
	return func(ctx context.Context, ifSilent []delivery.Outcome) error {
		// The lease is counted from before the call, and Postgres counts it from later. So
		// it never ends here after it has ended there. The clock is monotonic and goes on
		// while the process is stopped.
		leased := time.Now()
		err := owned(a.deps.Journal.MarkSent(ctx, []delivery.Mark{{
			EmailID: e.EmailID, Attempt: e.Attempt, Owner: e.Owner, Relay: e.Relay, IfSilent: ifSilent,
			MessageSHA256: hex.EncodeToString(sum[:]), MessageBytes: int64(len(message)),
		}}))
		if err == nil && time.Since(leased) >= delivery.Lease {
			err = fmt.Errorf("the lease ran out while the mark was written: %w", delivery.ErrSuperseded)
		}
		return err
	}
}

// unsendableOutcomes fail all recipients of a message that cannot be rendered.
func unsendableOutcomes(rs []delivery.EnvelopeRecipient, err error) []delivery.Outcome {
	out := make([]delivery.Outcome, len(rs))
	for i, r := range rs {
		out[i] = delivery.Outcome{RecipientID: r.ID, Status: email.RecipientFailed, Reason: email.DetailUnsendable, Reply: email.Reply{Text: err.Error()}}
	}
	return out
}

// render loads and encodes the message. unsendable is permanent. After err the attempt is made
// again, here or in another process. The caller calls free when the message is sent.
func (a *Activities) render(ctx context.Context, in delivery.SendSMTPInput, s delivery.Settled) (message []byte, free func(), unsendable, err error) {
	// A message of more than LargeBytes is encoded while no other of that size is in memory. It
	// is moved to a mapped file before it is sent.
	mapped := in.Route.Bytes > a.deps.LargeBytes && a.deps.AcquireMemory != nil
	if mapped {
		release, err := a.deps.AcquireMemory(ctx, in.Route.SenderDomain)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("wait for memory for a message of %d bytes: %w", in.Route.Bytes, err)
		}
		defer release()
	}
	m, err := a.deps.Mail.Message(ctx, in.EmailID)
	if err != nil {
		return nil, nil, nil, err
	}
	free = func() {}
	message, unsendable, err = a.compose(ctx, m, s)
	if !mapped || unsendable != nil || err != nil {
		return message, free, unsendable, err
	}
	inFile, unmap, err := a.deps.MapToFile(message)
	if err != nil { // it is sent from memory
		a.deps.Log.Warn("message.in_memory", "email_id", in.EmailID, "bytes", len(message), "error", err)
		return message, free, nil, nil
	}
	return inFile, func() {
		if err := unmap(); err != nil {
			a.deps.Log.Warn("message.in_memory", "email_id", in.EmailID, "bytes", len(inFile), "error", err)
		}
	}, nil, nil
}

// compose renders and signs a message. unsendable is permanent. After err the keys may be had later.
func (a *Activities) compose(ctx context.Context, m email.Message, s delivery.Settled) (message []byte, unsendable, err error) {
	message, unsendable = a.deps.Render(m, s)
	if unsendable != nil || len(s.DKIMKeys) == 0 {
		return message, unsendable, nil
	}
	signed, err := a.deps.Signer.Sign(ctx, message, s.DKIMKeys, s.Date)
	if errors.Is(err, dkim.ErrMessage) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sign the message: %w", err)
	}
	return signed, nil, nil
}

func (a *Activities) logAttempt(in delivery.SendSMTPInput, res delivery.SendSMTPResult, ex delivery.Exchange) {
	counts := map[email.RecipientStatus]int{}
	for _, o := range ex.Outcomes {
		counts[o.Status]++
	}
	a.deps.Log.Info("smtp.attempted", "email_id", in.EmailID, "attempt", in.Attempt, "relay", res.Relay.Name,
		"code", res.Code, "enhanced", res.Enhanced, "relay_fault", ex.RelayFault,
		"delivered", counts[email.RecipientDelivered], "deferred", counts[email.RecipientDeferred],
		"bounced", counts[email.RecipientBounced], "failed", counts[email.RecipientFailed])
}
