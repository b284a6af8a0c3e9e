package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dkim"
)

func TestSendSMTPDelivers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Equal(t, 250, res.Code)
	require.Equal(t, "queued for ***@y.test", res.Text, "no address goes into a history")
	require.Len(t, b.marked, 1)
	require.Equal(t, "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a", b.marked[0].MessageSHA256)
	require.Equal(t, b.marked[0].Owner, b.finishes[0].Owner)
	require.Equal(t, "queued for robert@y.test", b.finishes[0].Outcomes[0].Text, "the journal has it all")
	require.Equal(t, 1, b.closed)
}

// other is a session with the relay that accepts the whole message.
type other struct{ peer }

func (other) Relay() email.Relay { return email.Relay{Name: "other"} }

func TestSendSMTPUsesTheRelayThatFits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.onFitting = func(s Session) (Session, error) {
		s.Close() // as Relays.Fitting does
		return other{peer{b.fakes}}, nil
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.Equal(t, "other", res.Relay.Name)
	require.Equal(t, "other", b.marked[0].Relay.Name)
	require.Equal(t, "other", b.finishes[0].Relay.Name)
	require.Equal(t, 2, b.closed, "each session once")

	b = setup(t)
	b.onFitting = func(s Session) (Session, error) {
		s.Close()
		return nil, &delivery.RelayError{Relay: email.Relay{Name: "other"}, RetryAfter: time.Minute, Err: io.EOF}
	}
	res, err = b.smtp(t, true)
	require.NoError(t, err)
	require.Zero(t, b.sends)
	require.Equal(t, 1, b.closed)
	o := b.finishes[0].Outcomes[0]
	require.Equal(t, email.RecipientDeferred, o.Status)
	require.True(t, o.Uncounted && o.RelayFault)
	require.Equal(t, time.Minute, o.RetryAfter)
	require.Contains(t, res.Text, "relay other: EOF")
}

func TestSendSMTPHandsOverASlowInlineAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	goOn := make(chan struct{})
	b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		<-goOn
		return deliver(ctx, mark)
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver)
	require.False(t, res.Sent)
	attached := sync.OnceFunc(func() { close(goOn) })
	// The first heartbeat shows that the regular activity waits for it.
	b.env.SetOnActivityHeartbeatListener(func(*activity.Info, converter.EncodedValues) { attached() })
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Equal(t, 1, b.sends, "the same exchange")
	require.Equal(t, 1, b.opens)
}

func TestSendSMTPInlineLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slow = true
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver)
	b.slow = false
	val, err := b.env.ExecuteActivity(b.SendSMTP, delivery.SendSMTPInput{EmailID: "E", Attempt: 1, Inline: true, Route: delivery.Route{Bytes: inlineMaxBytes + 1}})
	require.NoError(t, err)
	require.NoError(t, val.Get(&res))
	require.True(t, res.HandOver)
	require.Zero(t, b.opens)
}

func TestSendSMTPRelayDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.relayErr = &delivery.RelayError{Relay: email.Relay{Name: "primary"}, Reply: email.Reply{Code: 421, Text: "no service for robert@y.test"}, RetryAfter: 40 * time.Second}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver, "inline it is left to the regular activity")
	require.True(t, res.RelayDown)
	res, err = b.smtp(t, false)
	require.NoError(t, err, "the run has to say so first")
	require.True(t, res.HandOver && res.RelayDown)
	require.Equal(t, "relay primary: 421  no service for ***@y.test", res.Text)
	said := delivery.SendSMTPInput{EmailID: "E", Attempt: 1, RelayDown: true}
	_, err = b.env.ExecuteActivity(b.SendSMTP, said)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok)
	require.Equal(t, "relay_unavailable", app.Type())
	require.Equal(t, 40*time.Second, app.NextRetryDelay())
	require.Equal(t, temporal.ApplicationErrorCategoryBenign, app.Category())
	require.NotContains(t, app.Error(), "robert@")
	require.Zero(t, b.opens, "no recipient was touched")
	for left, want := range map[time.Duration]time.Duration{
		4 * time.Second: 4001 * time.Millisecond, time.Microsecond: time.Millisecond, time.Minute: 40 * time.Second, -time.Second: 40 * time.Second,
	} {
		b.expiresIn = left
		_, err = b.env.ExecuteActivity(b.SendSMTP, said)
		require.ErrorAs(t, err, &app)
		require.Equal(t, want, app.NextRetryDelay(), "the gate ends it when it expires, in %s", left)
	}
	b.expiresIn = 0

	// Mail that is woken when the relay works again does not ask until then.
	b.relayErr = &delivery.RelayError{Relay: email.Relay{Name: "primary"}, RetryAfter: 40 * time.Second, Watched: true}
	_, err = b.env.ExecuteActivity(b.SendSMTP, said)
	require.ErrorAs(t, err, &app)
	require.GreaterOrEqual(t, app.NextRetryDelay(), watchedWait)
	require.Less(t, app.NextRetryDelay(), 2*watchedWait)
	b.expiresIn = time.Hour
	_, err = b.env.ExecuteActivity(b.SendSMTP, said)
	require.ErrorAs(t, err, &app)
	require.Equal(t, time.Hour+time.Millisecond, app.NextRetryDelay(), "it expires in time")
	b.expiresIn = 0

	// A relay that is known to be down is not tried inline.
	b.slow, b.down, b.relayErr = true, &delivery.RelayError{Relay: email.Relay{Name: "primary"}, Err: errors.New("not tried before noon")}, nil
	res, err = b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver && res.RelayDown)
	require.Equal(t, "relay primary: not tried before noon", res.Text)
	b.slow, b.relayErr = false, b.down

	b.check = &email.State{Status: email.StatusCanceled, Final: true}
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.Equal(t, email.StatusCanceled, res.State.Status, "who is canceled need not wait for a relay")
}

func TestSendSMTPGateVerdicts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.opening = func(int) delivery.Opening {
		return delivery.Opening{Verdict: delivery.VerdictClosed, State: email.State{Waiting: email.WaitingHeld}}
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.Equal(t, email.WaitingHeld, res.State.Waiting)
	require.False(t, res.Sent)

	b.opening = func(n int) delivery.Opening {
		if n < 5 {
			return delivery.Opening{Verdict: delivery.VerdictBusy}
		}
		return delivery.Opening{Verdict: delivery.VerdictRecorded, Relay: email.Relay{Name: "other"}, Reply: email.Reply{Code: 250}}
	}
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Equal(t, "other", res.Relay.Name)
	require.Zero(t, b.sends)
}

func TestSendSMTPJournalUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.onFinish = func() error { return errors.New("no database") }
	res, err := b.smtp(t, false)
	require.NoError(t, err, "the server has answered")
	require.Len(t, res.Unrecorded, 1)
	require.Equal(t, email.RecipientDelivered, res.Unrecorded[0].Status)
	require.Equal(t, "queued for ***@y.test", res.Unrecorded[0].Text)

	// Temporal may have given up the activity that had that result: the next one has it, too,
	// and nothing is sent twice.
	again, err := b.smtp(t, false)
	require.NoError(t, err)
	require.Equal(t, res.Unrecorded, again.Unrecorded)
	require.Equal(t, 1, b.sends)
	_, err = b.env.ExecuteActivity(b.RecordStatus, delivery.RecordStatusInput{EmailID: "E", Attempt: 1, Unrecorded: res.Unrecorded})
	require.NoError(t, err)

	b = setup(t)
	n := 0
	b.onFinish = func() error {
		if n++; n < 2 {
			return errors.New("no database")
		}
		return nil
	}
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.Empty(t, res.Unrecorded, "a passing fault is waited out")

	b.onFinish, b.superseded = nil, true
	_, err = b.smtp(t, false)
	require.Error(t, err, "another process owns the attempt")
}

// TestAnOpenAttemptDoesNotWaitForARelay: its owner is another process, and no relay takes mail.
func TestAnOpenAttemptDoesNotWaitForARelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.relayErr = &delivery.RelayError{Relay: email.Relay{Name: "primary"}, RetryAfter: time.Minute, Watched: true}
	b.checkOpen = func(n int) delivery.Opening {
		if n < 3 {
			return delivery.Opening{Verdict: delivery.VerdictBusy}
		}
		return delivery.Opening{Verdict: delivery.VerdictRecorded, Relay: email.Relay{Name: "other"}, Reply: email.Reply{Code: 250}}
	}
	res, err := b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent, "the run records it")
	require.Equal(t, "other", res.Relay.Name)
	require.False(t, res.RelayDown)
	require.Zero(t, b.opens)
}

// TestADrainWaitsForWhatPostgresCouldNotTake also where the drain began first.
func TestADrainWaitsForWhatPostgresCouldNotTake(t *testing.T) {
	t.Parallel()
	b := setup(t)
	draining, back := make(chan struct{}), make(chan struct{})
	var tries atomic.Int64
	b.onFinish = func() error {
		if tries.Add(1) == 1 {
			close(draining)
		}
		select {
		case <-back:
			return nil
		default:
			return errors.New("no database")
		}
	}
	drained := make(chan error, 1)
	go func() {
		<-draining
		drained <- b.drain(context.Background())
	}()
	res, err := b.smtp(t, false)
	require.NoError(t, err)
	require.Len(t, res.Unrecorded, 1)
	n := tries.Load()
	require.Eventually(t, func() bool { return tries.Load() > n }, time.Minute, time.Millisecond)
	require.Empty(t, drained, "the answer is in no journal")
	close(back)
	require.NoError(t, <-drained)
	require.Len(t, b.finishes, 1)
}

// TestTheJournalGetsTheEndOfAnAttemptLater: Postgres is away for longer than the activity waits. No other
// activity of the e-mail comes to this process.
func TestTheJournalGetsTheEndOfAnAttemptLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var away, tries atomic.Int64
	away.Store(1)
	b.onFinish = func() error {
		tries.Add(1)
		if away.Load() == 1 {
			return errors.New("no database")
		}
		return nil
	}
	b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		ex := deliver(ctx, mark)
		ex.Transcript = []email.Step{{Command: "."}}
		return ex
	}
	res, err := b.smtp(t, false)
	require.NoError(t, err)
	require.Len(t, res.Unrecorded, 1)
	before := tries.Load()
	require.Eventually(t, func() bool { return tries.Load() > before+1 }, time.Minute, time.Millisecond, "it goes on trying")
	away.Store(0)
	ended := func() []delivery.Ending {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Clone(b.finishes)
	}
	require.Eventually(t, func() bool { return len(ended()) == 1 }, time.Minute, time.Millisecond)
	require.NoError(t, b.drain(t.Context()), "nothing is left to do")
	e := ended()[0]
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(t, b.marked[0].Owner, e.Owner, "as the attempt's owner")
	require.Equal(t, email.RecipientDelivered, e.Outcomes[0].Status)
	require.Len(t, e.Transcript, 1)
}

func TestSendSMTPUnsendableMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.onRender = errors.New("a header value holds a line break")
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.Sent)
	require.Zero(t, b.sends)
	require.Equal(t, email.DetailUnsendable, b.finishes[0].Outcomes[0].Reason)
}

// TestSendSMTPSigns: the message that is sent has the signatures of the keys that the gate names. The digest in the
// journal is that of the signed message.
func TestSendSMTPSigns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.opening = func(n int) delivery.Opening {
		o := opened(n)
		o.Settled = delivery.Settled{EmailID: "E", Date: time.Unix(1, 0), DKIMKeys: []string{"rsa", "ed"}}
		return o
	}
	_, err := b.smtp(t, true)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte("rsa,ed:m"))
	require.Equal(t, hex.EncodeToString(sum[:]), b.marked[0].MessageSHA256)

	b.onSign = errors.New("no database")
	_, err = b.smtp(t, true)
	require.ErrorContains(t, err, "sending failed")
	require.Equal(t, 1, b.sends, "the attempt is made again, with the same bytes")

	b.onSign = fmt.Errorf("%w: it has no From field", dkim.ErrMessage)
	_, err = b.smtp(t, true)
	require.NoError(t, err)
	require.Equal(t, 1, b.sends)
	require.Equal(t, email.DetailUnsendable, b.finishes[len(b.finishes)-1].Outcomes[0].Reason)
}

func TestDrainWaitsForOpenExchanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
		close(reached)
		select {
		case <-goOn:
			return deliver(ctx, mark)
		case <-ctx.Done():
			return delivery.Exchange{Outcomes: []delivery.Outcome{{Status: email.RecipientDeferred, Uncounted: true}}}
		}
	}
	res, err := b.smtp(t, true)
	require.NoError(t, err)
	require.True(t, res.HandOver)
	<-reached
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorContains(t, b.drain(short), "1 SMTP exchanges were still open")
	_, err = b.env.ExecuteActivity(b.SendSMTP, delivery.SendSMTPInput{EmailID: "other", Attempt: 1})
	require.ErrorContains(t, err, "shutting down", "nothing new begins")
	require.NoError(t, b.drain(t.Context()))
}

func TestResolveAttachments(t *testing.T) {
	t.Parallel()
	missing := email.Fail(email.CodeNotFound, "there is no such recording")
	run := func(b *bench, inline bool) (delivery.ResolveAttachmentsResult, error) {
		val, err := b.env.ExecuteActivity(b.ResolveAttachments, delivery.ResolveAttachmentsInput{EmailID: "E", Inline: inline})
		var res delivery.ResolveAttachmentsResult
		if err == nil {
			require.NoError(t, val.Get(&res))
		}
		return res, err
	}
	b := setup(t)
	b.plan = delivery.Plan{Attachments: 4, Unresolved: []email.Attachment{{ID: "1"}, {ID: "2", Optional: true}, {ID: "3"}}, BytesLeft: 100, Route: delivery.Route{Bytes: 7}}
	b.onResolve = func(a email.Attachment) (io.Reader, error) {
		if a.ID == "2" {
			return nil, missing
		}
		return strings.NewReader("hello"), nil
	}
	res, err := run(b, true)
	require.NoError(t, err)
	require.True(t, res.Remote, "inline nothing is fetched")
	require.Empty(t, b.stored)
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, 4, res.Stored)
	require.Empty(t, res.Problem)
	require.Equal(t, "hello", string(b.stored[0].Content))
	require.Equal(t, "there is no such recording", b.stored[1].Problem)
	require.Equal(t, []int64{100, 95, 95}, b.maxBytes, "each attachment may use the bytes that the others leave")
	require.Equal(t, int64(17), res.Route.Bytes, "what decides how it is sent")

	b = setup(t)
	b.plan = delivery.Plan{Attachments: 1, Unresolved: []email.Attachment{{ID: "1"}}}
	b.onResolve = func(email.Attachment) (io.Reader, error) { return nil, missing }
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, "there is no such recording", res.Problem)
	b.onResolve = func(email.Attachment) (io.Reader, error) { return nil, errors.New("connection refused") }
	_, err = run(b, false)
	require.Error(t, err, "what may pass is tried again")
	require.NotContains(t, err.Error(), "refused", "the text stays in our log")
	b.onResolve = func(email.Attachment) (io.Reader, error) {
		return nil, email.Fail(email.CodeUnavailable, "cdn.test answered 503")
	}
	_, err = run(b, false)
	require.ErrorContains(t, err, "cdn.test answered 503", "what may be shown is")

	// In the middle of the content, whose errors come out of the store.
	broken := func(err error) func(email.Attachment) (io.Reader, error) {
		return func(email.Attachment) (io.Reader, error) {
			return io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(err)), nil
		}
	}
	b.onResolve = broken(email.Fail(email.CodeTooLarge, "it has more than 5 bytes"))
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, "it has more than 5 bytes", res.Problem)
	b.onResolve = broken(io.ErrUnexpectedEOF)
	_, err = run(b, false)
	require.Error(t, err)
	b.plan.Unresolved[0].Optional = true
	_, err = run(b, false)
	require.Error(t, err, "an optional one is tried again, too")
	require.Empty(t, b.stored)

	// The store's own faults are not the attachment's.
	b.onResolve = func(email.Attachment) (io.Reader, error) { return strings.NewReader("x"), nil }
	b.storeErr = email.Fail(email.CodeNotFound, "there is no such e-mail")
	_, err = run(b, false)
	require.Error(t, err)
	require.Empty(t, b.stored)
	b.storeErr = nil

	// A failure that lasts past the window fails the e-mail, or leaves an optional file out.
	b.limits.resolveWindow = 0
	b.onResolve = func(email.Attachment) (io.Reader, error) {
		return nil, email.Fail(email.CodeUnavailable, "cdn.test answered 503")
	}
	const late = "the attachment could not be fetched within 0s: cdn.test answered 503"
	_, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, late, b.stored[0].Problem)
	b.plan.Unresolved[0].Optional = false
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, late, res.Problem)
	b.onResolve = broken(errors.New("dial tcp 10.0.0.1: connection refused"))
	res, err = run(b, false)
	require.NoError(t, err)
	require.Equal(t, "the attachment could not be fetched within 0s", res.Problem)

	// An e-mail that expires is looked at then, and nothing is fetched for it any more.
	b.limits.resolveWindow = time.Hour
	b.plan.Now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for left, want := range map[time.Duration]time.Duration{3 * time.Second: 3 * time.Second, time.Millisecond: time.Second, time.Hour: 0} {
		b.plan.ExpiresAt = b.plan.Now.Add(left)
		_, err = run(b, false)
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app)
		require.InDelta(t, want, app.NextRetryDelay(), float64(time.Second), left)
	}
	b.plan.ExpiresAt = b.plan.Now
	for _, inline := range []bool{true, false} {
		res, err = run(b, inline)
		require.NoError(t, err)
		require.Empty(t, res.Problem)
		require.False(t, res.Remote)
	}

	b.plan.State.Waiting, b.plan.ExpiresAt = email.WaitingScheduled, time.Time{}
	res, err = run(b, false)
	require.NoError(t, err)
	require.Empty(t, res.Problem, "nothing is fetched before its time")
}

// A result that was recorded with the end of an attempt is not recorded again. It is returned once.
func TestRecordStatusTellsWhatWasRecordedWithTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fakes.concluded = &delivery.Recorded{State: email.State{Status: email.StatusBounced, Final: true}, Webhooks: 1}
	_, err := b.env.ExecuteActivity(b.SendSMTP, delivery.SendSMTPInput{EmailID: "E", Attempt: 1})
	require.NoError(t, err)
	record := func(attempt int) (res delivery.RecordStatusResult) {
		t.Helper()
		val, err := b.env.ExecuteActivity(b.RecordStatus, delivery.RecordStatusInput{EmailID: "E", Attempt: attempt})
		require.NoError(t, err)
		require.NoError(t, val.Get(&res))
		return res
	}
	require.Equal(t, email.StatusDelivered, record(2).State.Status, "another attempt")
	require.Len(t, b.fakes.recorded, 1)
	got := record(1)
	require.Equal(t, email.StatusBounced, got.State.Status)
	require.Equal(t, 1, got.Webhooks)
	require.Len(t, b.fakes.recorded, 1)
	require.Equal(t, email.StatusDelivered, record(1).State.Status, "a repeated call asks Postgres")
	require.Len(t, b.fakes.recorded, 2)
}

func TestRecordStatusAndControlEmail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	val, err := b.env.ExecuteActivity(b.RecordStatus, delivery.RecordStatusInput{EmailID: "E", Attempt: 1})
	require.NoError(t, err)
	var rec delivery.RecordStatusResult
	require.NoError(t, val.Get(&rec))
	require.Equal(t, 2, rec.Webhooks)
	val, err = b.env.ExecuteActivity(b.ControlEmail, delivery.ControlInput{EmailID: "E", Action: email.ActionCancel})
	require.NoError(t, err)
	var st email.State
	require.NoError(t, val.Get(&st))
	require.Equal(t, email.StatusCanceled, st.Status)
}

// TestSendSMTPReservesNoSlotForWaitingMail: an e-mail that the gate keeps back takes no slot of
// the relay's rate.
func TestSendSMTPReservesNoSlotForWaitingMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.pace, b.relayErr = time.Second, errors.New("a session must not be asked for")
	b.check = &email.State{Waiting: email.WaitingThrottled, ThrottledBy: email.RecipientRate("x.test")}
	res, err := b.smtp(t, false)
	require.NoError(t, err)
	require.Equal(t, b.check, res.State)
	require.False(t, res.Sent)
	b.check, b.relayErr = nil, nil
	res, err = b.smtp(t, false)
	require.NoError(t, err)
	require.True(t, res.Sent)
}

func TestSendSMTPThrottled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	turn := delivery.Turn{Relay: "metered", At: time.Now().Add(time.Hour).UTC()}
	b.relayErr = &delivery.Throttled{Turn: turn}
	b.check = &email.State{Waiting: email.WaitingThrottled, NextAt: turn.At}
	res, err := b.smtp(t, false)
	require.NoError(t, err, "a rate is no fault")
	require.Equal(t, turn, res.Turn)
	require.Equal(t, email.WaitingThrottled, res.State.Waiting)
	require.False(t, res.Sent)
	require.Equal(t, delivery.Obstacle{ThrottledUntil: turn.At, ThrottledBy: "relay:metered"}, b.obstacle)
	require.Zero(t, b.opens, "no recipient was touched")
}

func TestReserveMemory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release, err := b.reserveMemory(t.Context(), delivery.Route{SenderDomain: "acme.test"}, 200<<20)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.reserveMemory(ended, delivery.Route{SenderDomain: "other.test"}, 100<<20)
	require.ErrorIs(t, err, context.Canceled, "it would have waited")
	small, err := b.reserveMemory(ended, delivery.Route{SenderDomain: "other.test"}, 1<<20)
	require.NoError(t, err, "small messages do not wait")
	small()
	release()
	all, err := b.reserveMemory(t.Context(), delivery.Route{SenderDomain: "acme.test"}, 1<<40)
	require.NoError(t, err, "a message larger than the budget takes all of it")
	all()
}

// TestSendSMTPMapsAVeryLargeMessageToAFile: it is encoded while it has
// the memory turn, and sent from the file after the turn is released.
func TestSendSMTPMapsAVeryLargeMessageToAFile(t *testing.T) {
	t.Parallel()
	for name, mapErr := range map[string]error{"mapped": nil, "sent from memory if mapping fails": io.ErrShortWrite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var steps []string
			step := func(s string) { steps = append(steps, s) }
			b.deps.LargeBytes = 4 << 20
			b.deps.AcquireMemory = func(context.Context, string) (func(), error) {
				step("acquire")
				return func() { step("release") }, nil
			}
			b.deps.MapToFile = func(message []byte) ([]byte, func() error, error) {
				step("map " + string(message))
				return message, func() error { step("free"); return nil }, mapErr
			}
			b.onSend = func(ctx context.Context, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
				step("send")
				return deliver(ctx, mark)
			}
			for bytes, want := range map[int64][]string{
				4 << 20:   {"send"},
				4<<20 + 1: {"acquire", "map m", "release", "send", "free"},
			} {
				steps = nil
				val, err := b.env.ExecuteActivity(b.SendSMTP, delivery.SendSMTPInput{EmailID: "E", Attempt: 1, Route: delivery.Route{Bytes: bytes}})
				require.NoError(t, err)
				var res delivery.SendSMTPResult
				require.NoError(t, val.Get(&res))
				require.Equal(t, 250, res.Code)
				if mapErr != nil && len(want) > 1 {
					want = want[:4]
				}
				require.Equal(t, want, steps, "%d bytes", bytes)
			}
		})
	}
}
