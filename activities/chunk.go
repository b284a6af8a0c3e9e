package activities

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Sizes of a chunk's work. One lot is opened together, by one transaction; marks are
// written a few at a time, and so is what ended.
const (
	// chunkSpan is how long an activity goes on taking lots, so that its run can say
	// how far it is.
	chunkSpan = 20 * time.Second
	// lotSize bounds what is opened together. What is opened is being sent, so it
	// is what a kill leaves to be found by its leases, and what a hold comes too late for.
	lotSize = 100
	// lotSenders is how many sessions send a lot.
	lotSenders = 8
	// recordAtOnce is how many ends are waited for to be recorded together, recordSoon for
	// how long. A kill in that time has others send again what was sent.
	recordAtOnce = 20
	recordSoon   = 50 * time.Millisecond
	// lotAhead bounds a lot where the relay has a rate: to what may begin in that time,
	// which is as far ahead as broadcast mail gets places.
	lotAhead = time.Second
	// contentsMax is how much of attachments' contents is kept for the next message.
	contentsMax = 64 << 20
)

// chunk is one activity's work on a batch.
type chunk struct {
	*Activities
	in        delivery.SendChunkInput
	result    delivery.SendChunkResult
	endpoints map[string]bool

	mu sync.Mutex
	// contents of attachments are read once while they fit, for e-mails that share them.
	contents map[string][]byte
	held     int64
}

// run takes lots until nothing is due, its time is up, the activity is no longer
// wanted (ctx), or the process is to stop (drained).
func (c *chunk) run(ctx, drained context.Context) error {
	begin := time.Now()
	c.in.Route.ForBatch = c.in.BatchID
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case c.exchanges.draining(), time.Since(begin) > chunkSpan:
			c.result.More = true
			return nil
		}
		if err := c.recordKept(ctx); err != nil {
			return err
		}
		more, err := c.lot(ctx, drained)
		if err != nil || !more {
			return err
		}
	}
}

// lot sends one. A session comes first, so that a relay that is not there touches
// no recipient.
func (c *chunk) lot(ctx, drained context.Context) (more bool, err error) {
	session, err := c.deps.Relays.Session(ctx, c.in.Route)
	if throttled, ok := errors.AsType[*delivery.Throttled](err); ok {
		c.result.Turn, c.result.More = throttled.Turn, true
		return false, nil
	}
	if err != nil {
		return false, err
	}
	first := &lent{session: session}
	defer first.close()
	c.result.Relay = session.Relay()
	if c.in.Route.Stream != email.StreamBroadcast {
		c.in.Route.Turn = delivery.Turn{} // a place is for one transaction
	}
	// An appointment is for one lot: others stand in the line, too.
	defer func() { c.in.Route.Turn = delivery.Turn{} }()
	owner := uuid.NewString()
	route := c.in.Route
	route.Relay = c.result.Relay.Name // the lot is for the relay of the session
	limit := min(lotSize, c.deps.Relays.Lot(route, lotAhead))
	opened, more, err := c.deps.BatchGate.OpenBatch(ctx, delivery.BatchOpenRequest{BatchID: c.in.BatchID, Owner: owner, Relay: c.result.Relay, Route: c.in.Route, Limit: limit})
	if err != nil || len(opened) == 0 {
		return more, err
	}
	ids := make([]string, len(opened))
	for i, o := range opened {
		ids[i] = o.EmailID
	}
	stop := c.keepLeases(drained, ids, owner)
	defer stop()
	ends := make(chan ended, len(opened))
	go func() {
		defer close(ends)
		c.sendAll(drained, owner, ids, opened, first, ends)
	}()
	return more, c.recordAll(ctx, ends)
}

// ended is an attempt of a lot, and how it ended.
type ended struct {
	delivery.Ending
	opening delivery.BatchOpening
}

// lent is a session for whoever comes first.
type lent struct {
	mu      sync.Mutex
	session Session
}

func (l *lent) take() Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.session
	l.session = nil
	return s
}

func (l *lent) close() {
	if s := l.take(); s != nil {
		s.Close()
	}
}

// sendAll takes every opened attempt to its end. It answers for each: one that did
// not come to be sent is given back.
func (c *chunk) sendAll(ctx context.Context, owner string, ids []string, opened []delivery.BatchOpening, first *lent, ends chan<- ended) {
	messages, err := c.deps.BatchMail.Outgoing(ctx, ids)
	if err != nil {
		c.deps.Log.ErrorContext(ctx, "reading messages", "batch_id", c.in.BatchID, "error", err)
	}
	next := make(chan delivery.BatchOpening)
	var wg sync.WaitGroup
	for range min(lotSenders, len(opened)) {
		wg.Go(func() {
			for o := range next {
				e := delivery.Ending{EmailID: o.EmailID, Attempt: o.Attempt, Owner: owner, Relay: c.result.Relay}
				switch m, ok := messages[o.EmailID]; {
				case o.Verdict == delivery.VerdictRecorded: // its outcomes are in the journal
				case err != nil || !ok:
					giveBack(&e, o, time.Minute, "the message could not be read")
				default:
					c.send1(ctx, o, m, &e, first)
				}
				ends <- ended{e, o}
			}
		})
	}
	for _, o := range opened {
		next <- o
	}
	close(next)
	wg.Wait()
}

// giveBack ends an attempt in which nothing was sent, for a reason that is no
// recipient's.
func giveBack(e *delivery.Ending, o delivery.BatchOpening, after time.Duration, why string) {
	for _, r := range o.Recipients {
		e.Outcomes = append(e.Outcomes, delivery.Outcome{RecipientID: r.ID, Status: email.RecipientDeferred, Uncounted: true, Unasked: true, RetryAfter: max(after, time.Second), Reply: email.Reply{Text: why}})
	}
}

// send1 makes one attempt.
func (c *chunk) send1(ctx context.Context, o delivery.BatchOpening, m email.Message, e *delivery.Ending, first *lent) {
	if o.Bytes > largeMessage {
		first.close() // who waits for memory holds no session that others wait for with theirs
	}
	release, err := c.room(ctx, o.Bytes)
	if err != nil {
		giveBack(e, o, time.Second, "this worker is shutting down")
		return
	}
	defer release()
	if err := c.load(ctx, &m); err != nil {
		c.deps.Log.ErrorContext(ctx, "reading attachments", "email_id", o.EmailID, "error", err)
		giveBack(e, o, time.Minute, "an attachment could not be read")
		return
	}
	message, err := c.deps.Render(m, o.EmailID, o.Date)
	if err != nil {
		e.Outcomes = unsendableOutcomes(o.Recipients, err)
		return
	}
	session := first.take()
	if session == nil {
		route := c.in.Route
		route.For, route.ForBatch = o.EmailID, ""
		if session, err = c.deps.Relays.Session(ctx, route); err != nil {
			e.Outcomes = notTried(o.Recipients, err).Outcomes
			return
		}
	}
	env := delivery.Envelope{ID: o.EmailID, From: o.From, Recipients: o.Recipients}
	if session, err = c.deps.Relays.Fitting(ctx, c.in.Route, session, env, message); err != nil {
		e.Outcomes = notTried(o.Recipients, err).Outcomes
		return
	}
	defer session.Close()
	e.Relay = session.Relay()
	ex := session.Send(ctx, env, message, c.marker(*e, message))
	e.Outcomes, e.Transcript = ex.Outcomes, ex.Transcript
	c.logAttempt(delivery.SendSMTPInput{EmailID: o.EmailID, Attempt: o.Attempt}, delivery.SendSMTPResult{Relay: e.Relay, Reply: ex.Final}, ex)
}

// retryAfter is when a relay that gave no session is to be asked again.
func retryAfter(err error) time.Duration {
	if relay, ok := errors.AsType[*delivery.RelayError](err); ok {
		return relay.RetryAfter
	}
	if throttled, ok := errors.AsType[*delivery.Throttled](err); ok {
		return time.Until(throttled.Turn.At)
	}
	return time.Second
}

// load reads the contents of a message's attachments.
func (c *chunk) load(ctx context.Context, m *email.Message) (err error) {
	if m.Attachments, err = m.Carried(); err != nil {
		return err
	}
	for i := range m.Attachments {
		at := &m.Attachments[i]
		if at.Content, err = c.content(ctx, *at); err != nil {
			return err
		}
	}
	return nil
}

func (c *chunk) content(ctx context.Context, at email.Attachment) ([]byte, error) {
	c.mu.Lock()
	data, ok := c.contents[at.BlobID]
	c.mu.Unlock()
	if ok {
		return data, nil
	}
	data, err := c.deps.BatchMail.Content(ctx, at.BlobID, at.Size)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, again := c.contents[at.BlobID]; !again && c.held+at.Size <= contentsMax {
		c.contents[at.BlobID] = data
		c.held += at.Size
	}
	return data, nil
}

// recordAll writes the ends of a lot's attempts as they come, several together. Those
// whose e-mails somebody has locked wait in the journal until the others are done.
func (c *chunk) recordAll(ctx context.Context, ends <-chan ended) (failed error) {
	within := c.limits.finishWithin
	record := func(some []ended, write recorder) []ended {
		left, err := c.record(ctx, within, some, write)
		if err != nil {
			failed, within = err, min(within, time.Second) // it has been waited for
		}
		return left
	}
	var left []ended
	for e := range ends {
		some := []ended{e}
		soon := time.NewTimer(recordSoon)
		for waiting := true; waiting; {
			select {
			case e, ok := <-ends:
				if ok {
					some = append(some, e)
				}
				waiting = ok && len(some) < recordAtOnce
			case <-soon.C:
				waiting = false
			}
		}
		soon.Stop()
		for range len(ends) { // those that came while the last were being written
			some = append(some, <-ends)
		}
		left = append(left, record(some, c.deps.BatchJournal.RecordFree)...)
	}
	if len(left) > 0 {
		record(left, c.deps.BatchJournal.RecordBatch)
	}
	return failed
}

// recordKept writes the outcomes of earlier lots of the batch that this process could not
// write. It comes before the next lot is opened: the gate would take over an attempt whose
// lease has run out, as one whose answer never came, and the mail would be sent again.
func (c *chunk) recordKept(ctx context.Context) error {
	var some []ended
	for _, u := range c.exchanges.lotUnrecorded(c.in.BatchID) {
		some = append(some, ended{Ending: delivery.Ending{EmailID: u.EmailID, Attempt: u.Attempt, Owner: u.Owner, Relay: u.Relay, Outcomes: u.Outcomes}})
	}
	if len(some) == 0 {
		return nil
	}
	_, err := c.record(ctx, c.limits.finishWithin, some, c.deps.BatchJournal.RecordBatch)
	return err
}

// recorder is RecordBatch or RecordFree.
type recorder func(ctx context.Context, endings []delivery.Ending) (delivery.BatchRecorded, error)

// record writes some ends, trying for a while. What cannot be written goes to the run,
// which has longer, and is kept for the next activity; what write leaves is given back.
func (c *chunk) record(ctx context.Context, within time.Duration, some []ended, write recorder) (left []ended, _ error) {
	endings := make([]delivery.Ending, len(some))
	for i, e := range some {
		endings[i] = e.Ending
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	var rec delivery.BatchRecorded
	var err error
	if !retryUntil(wait, journalRetry, func() bool {
		rec, err = write(wait, endings)
		return err == nil
	}) {
		c.deps.Log.WarnContext(ctx, "journal.unrecorded", "batch_id", c.in.BatchID, "attempts", len(some), "error", err)
		lost := make([]delivery.UnrecordedAttempt, len(some))
		for i, e := range some {
			lost[i] = delivery.UnrecordedAttempt{
				EmailID: e.EmailID, Attempt: e.Attempt, Owner: e.Owner, Relay: e.Relay, Outcomes: maskedOutcomes(e.Outcomes, addresses(e.opening.Recipients)),
			}
		}
		c.exchanges.keepLot(c.in.BatchID, lost) // Temporal may have given up the activity that returns them
		c.result.Unrecorded = append(c.result.Unrecorded, lost...)
		c.result.More = true
		return nil, err
	}
	c.result.Sent.Add(batchCounts(rec.Statuses))
	c.result.HandedOver += rec.HandedOver
	for _, id := range rec.Endpoints {
		if c.endpoints == nil {
			c.endpoints = map[string]bool{}
		}
		c.endpoints[id] = true
	}
	for _, e := range some {
		c.exchanges.recorded(exchangeKey{e.EmailID, e.Attempt})
		if slices.ContainsFunc(rec.Left, func(l delivery.Ending) bool { return l.EmailID == e.EmailID }) {
			left = append(left, e)
		}
	}
	return left, nil
}

// keepLeases renews the leases of a lot until stopped.
func (c *chunk) keepLeases(ctx context.Context, ids []string, owner string) (stop func()) {
	return renewing(ctx, func(ctx context.Context) {
		// One that is lost is noticed at its mark, before the dot.
		if err := c.deps.BatchJournal.RenewMany(ctx, ids, owner); err != nil && ctx.Err() == nil {
			c.deps.Log.WarnContext(ctx, "journal.renew", "batch_id", c.in.BatchID, "error", err)
		}
	})
}

// obstruct notes on what is due that no relay is there, and why.
func (c *chunk) obstruct(ctx context.Context, why error) error {
	for {
		n, err := c.deps.BatchGate.ObstructBatch(ctx, c.in.BatchID, c.in.Route, relayObstacle(why), 10*lotSize)
		if err != nil || n < 10*lotSize {
			return err
		}
	}
}
