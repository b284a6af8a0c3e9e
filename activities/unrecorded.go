package activities

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/delivery"
)

// keep stores an exchange whose outcomes could not be written, for keepUnrecorded. The caller
// holds xs.mu.
func (xs *exchanges) keep(key exchangeKey, x *exchange) {
	if _, ok := xs.unrecorded[key]; ok {
		return
	}
	xs.unrecorded[key] = x
	time.AfterFunc(keepUnrecorded, func() { xs.forget(key) })
}

// keepLot stores the attempts of a batch's lot whose outcomes could not be written.
func (xs *exchanges) keepLot(batchID string, lost []delivery.UnrecordedAttempt) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	for _, u := range lost {
		x := &exchange{done: make(chan struct{}), batchID: batchID, owner: u.Owner,
			result: delivery.SendSMTPResult{Attempt: u.Attempt, Relay: u.Relay, Sent: true, Unrecorded: u.Outcomes}}
		if len(u.Outcomes) > 0 {
			x.result.Reply = u.Outcomes[0].Reply
		}
		close(x.done)
		xs.keep(exchangeKey{u.EmailID, u.Attempt}, x)
	}
}

// lotUnrecorded returns the attempts of a batch that keepLot stored, ordered by e-mail id.
func (xs *exchanges) lotUnrecorded(batchID string) (lost []delivery.UnrecordedAttempt) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	for key, x := range xs.unrecorded {
		if x.batchID == batchID {
			lost = append(lost, delivery.UnrecordedAttempt{EmailID: key.emailID, Attempt: key.attempt, Owner: x.owner, Relay: x.result.Relay, Outcomes: x.result.Unrecorded})
		}
	}
	slices.SortFunc(lost, func(a, b delivery.UnrecordedAttempt) int { return strings.Compare(a.EmailID, b.EmailID) })
	return lost
}

// forget removes the outcomes of an attempt: they are recorded, or keepUnrecorded has passed.
func (xs *exchanges) forget(key exchangeKey) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	delete(xs.unrecorded, key)
}

const (
	// finishLaterEvery is the pause between two tries to write attempts to the journal that could not
	// be written at once.
	finishLaterEvery = time.Second
	// finishAtOnce bounds how many of them are written together.
	finishAtOnce = 100
)

// unwritten are the ends of attempts that the journal does not have yet.
type unwritten struct {
	mu      sync.Mutex
	endings []delivery.Ending
	// writing: finishUnwritten is at work.
	writing bool
}

// finishLater goes on writing the ends of attempts to the journal, until Postgres takes them. A run
// may not get them: it may have gone on with another process, which waits until this one's lease has
// run out and it has not answered a recall. The caller is in flight.
func (a *Activities) finishLater(endings ...delivery.Ending) {
	u := &a.exchanges.unwritten
	u.mu.Lock()
	defer u.mu.Unlock()
	u.endings = append(u.endings, endings...)
	if u.writing {
		return
	}
	u.writing = true
	leave := a.exchanges.follow()
	go func() {
		defer leave()
		a.finishUnwritten(a.exchanges.ctx)
	}()
}

// finishUnwritten writes until nothing is left, or ctx ends. After an error it goes on with one at a
// time, in turns: one that Postgres never takes delays no other.
func (a *Activities) finishUnwritten(ctx context.Context) {
	u := &a.exchanges.unwritten
	atOnce := finishAtOnce
	for {
		u.mu.Lock()
		some := slices.Clone(u.endings[:min(len(u.endings), atOnce)])
		u.writing = len(some) > 0
		u.mu.Unlock()
		if len(some) == 0 {
			return
		}
		callCtx, cancel := context.WithTimeout(ctx, a.limits.finishWithin)
		// An attempt that is not ours any more has ended, perhaps by an earlier try whose answer was lost.
		_, err := a.deps.Journal.Finish(callCtx, some)
		cancel()
		u.mu.Lock()
		u.endings = slices.Delete(u.endings, 0, len(some))
		if err != nil {
			u.endings = append(u.endings, some...)
		}
		u.mu.Unlock()
		if err == nil {
			a.deps.Log.Info("journal.recorded", "attempts", len(some))
			atOnce = min(2*atOnce, finishAtOnce)
			continue
		}
		atOnce = 1
		select {
		case <-time.After(finishLaterEvery):
		case <-ctx.Done():
			return
		}
	}
}
