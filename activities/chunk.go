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

// Sizes of a chunk's work. A lot is the e-mails that one transaction claims and opens.
// Outcomes are recorded several at a time.
const (
	// chunkSpan is how long an activity opens new lots. It ends then, so that its run can
	// publish the progress.
	chunkSpan = 20 * time.Second
	// lotSize bounds a lot. A hold comes too late for the e-mails of an open lot, and a
	// killed process leaves them until their leases end.
	lotSize = 100
	// lotSenders is how many sessions send a lot.
	lotSenders = 8
	// recordAtOnce outcomes are recorded in one transaction, or as many as there are after
	// recordSoon. If the process is killed in that time, those e-mails are sent again.
	recordAtOnce = 20
	recordSoon   = 50 * time.Millisecond
	// lotAhead bounds a lot where the relay has a rate: to the transactions that may begin
	// in that time. Broadcast mail reserves slots no further ahead.
	lotAhead = time.Second
	// contentsMax bounds the attachment contents, in bytes, that a chunk keeps in memory for
	// later messages.
	contentsMax = 64 << 20
)

// chunk is one activity's work on a batch.
type chunk struct {
	*Activities
	in        delivery.SendChunkInput
	result    delivery.SendChunkResult
	endpoints map[string]bool
	// throttled: the e-mails that wait for the relay's rate say so.
	throttled bool

	mu sync.Mutex
	// contents holds the attachments that e-mails share, by blob id, up to contentsMax.
	contents      map[string][]byte
	contentsBytes int64
}

// run sends lots until nothing is due, chunkSpan is over, ctx is canceled, or the process
// drains. drained is canceled when the drain's time is over.
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

// lot opens and sends one lot. It takes a session first, so that a relay that is down changes
// no recipient.
func (c *chunk) lot(ctx, drained context.Context) (more bool, err error) {
	session, err := c.deps.Relays.Session(ctx, c.in.Route)
	if throttled, ok := errors.AsType[*delivery.Throttled](err); ok {
		c.result.Turn, c.result.More = throttled.Turn, true
		if c.throttle(ctx, delivery.BatchThrottle{Relay: throttled.Turn.Relay, First: throttled.Turn.At}) { // another route of the plan has them now
			c.result.Turn, c.result.More = delivery.Turn{}, false
		}
		waiting, err := c.deps.BatchGate.ExpireBatch(ctx, c.in.BatchID, c.in.Route)
		c.result.ExpiresAt = waiting.LookAt
		return false, err
	}
	if err != nil {
		return false, err
	}
	shared := &sharedSession{session: session}
	defer shared.close()
	c.result.Relay = session.Relay()
	if c.in.Route.Stream != email.StreamBroadcast {
		c.in.Route.Turn = delivery.Turn{} // a reserved slot is for one transaction
	}
	// A broadcast reservation is for one lot: the next lot reserves again.
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
	finished := make(chan finishedAttempt, len(opened))
	go func() {
		defer close(finished)
		c.sendAll(drained, owner, ids, opened, shared, finished)
	}()
	var marking sync.WaitGroup
	defer marking.Wait()
	if more && !c.throttled {
		marking.Go(func() { c.throttle(ctx, delivery.BatchThrottle{Relay: route.Relay, Taken: len(opened)}) })
	}
	return more, c.recordAll(ctx, finished)
}

// throttle notes on the due e-mails of the route that they wait for a relay's rate, if it has one. An
// activity does that once, so that a large batch is not searched for each lot. moved says that e-mails
// have left the route.
func (c *chunk) throttle(ctx context.Context, t delivery.BatchThrottle) (moved bool) {
	c.throttled = true
	route := c.in.Route
	route.Relay = t.Relay
	if t.Pace = c.deps.Relays.Pace(route); t.Pace == 0 {
		return false
	}
	moved, err := c.deps.BatchGate.ThrottleBatch(ctx, c.in.BatchID, c.in.Route, t)
	if err != nil { // they are sent all the same
		c.deps.Log.WarnContext(ctx, "batch.throttle", "batch_id", c.in.BatchID, "error", err)
	}
	return moved
}

// finishedAttempt is an attempt of a lot with its outcomes.
type finishedAttempt struct {
	delivery.Ending
	opening delivery.BatchOpening
}

// sharedSession is the session with which the lot was opened. The first sender of the lot
// takes it; the others open sessions of their own.
type sharedSession struct {
	mu      sync.Mutex
	session Session
}

func (s *sharedSession) take() Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.session
	s.session = nil
	return session
}

func (s *sharedSession) close() {
	if session := s.take(); session != nil {
		session.Close()
	}
}

// sendAll makes every opened attempt and sends each to finished. An attempt that cannot be
// made is given back.
func (c *chunk) sendAll(ctx context.Context, owner string, ids []string, opened []delivery.BatchOpening, shared *sharedSession, finished chan<- finishedAttempt) {
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
					c.sendOne(ctx, o, m, &e, shared)
				}
				finished <- finishedAttempt{e, o}
			}
		})
	}
	for _, o := range opened {
		next <- o
	}
	close(next)
	wg.Wait()
}

// giveBack ends an attempt in which nothing was sent, for a reason that no recipient caused.
// The recipients are deferred, and the attempt does not count.
func giveBack(e *delivery.Ending, o delivery.BatchOpening, after time.Duration, why string) {
	for _, r := range o.Recipients {
		e.Outcomes = append(e.Outcomes, delivery.Outcome{RecipientID: r.ID, Status: email.RecipientDeferred, Uncounted: true, Unasked: true, RetryAfter: max(after, time.Second), Reply: email.Reply{Text: why}})
	}
}

// sendOne makes one attempt.
func (c *chunk) sendOne(ctx context.Context, o delivery.BatchOpening, m email.Message, e *delivery.Ending, shared *sharedSession) {
	if o.Bytes > largeMessage {
		// While it waits for memory it must hold no session: a sender that has memory may
		// wait for a session.
		shared.close()
	}
	release, err := c.reserveMemory(ctx, c.in.Route, o.Bytes)
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
	message, unsendable, err := c.compose(ctx, m, o.Settled)
	if err != nil {
		c.deps.Log.ErrorContext(ctx, "signing", "email_id", o.EmailID, "error", err)
		giveBack(e, o, time.Minute, "the message could not be signed")
		return
	}
	if unsendable != nil {
		e.Outcomes = unsendableOutcomes(o.Recipients, unsendable)
		return
	}
	session := shared.take()
	if session == nil {
		route := c.in.Route
		route.For, route.ForBatch = o.EmailID, ""
		if session, err = c.deps.Relays.Session(ctx, route); err != nil {
			e.Outcomes = notTried(o.Recipients, err).Outcomes
			e.Relay = relayOf(err, e.Relay)
			return
		}
	}
	env := o.Envelope()
	if session, err = c.deps.Relays.Fitting(ctx, c.in.Route, session, env, message); err != nil {
		e.Outcomes = notTried(o.Recipients, err).Outcomes
		e.Relay = relayOf(err, e.Relay)
		return
	}
	defer session.Close()
	e.Relay = session.Relay()
	ex := session.Send(ctx, env, message, c.marker(*e, message))
	e.Outcomes, e.Transcript = ex.Outcomes, ex.Transcript
	c.logAttempt(delivery.SendSMTPInput{EmailID: o.EmailID, Attempt: o.Attempt}, delivery.SendSMTPResult{Relay: e.Relay, Reply: ex.Final}, ex)
}

// retryAfter is the wait until a relay that gave no session is asked again.
func retryAfter(err error) time.Duration {
	if relay, ok := errors.AsType[*delivery.RelayError](err); ok {
		return relay.RetryAfter
	}
	if throttled, ok := errors.AsType[*delivery.Throttled](err); ok {
		return time.Until(throttled.Turn.At)
	}
	return time.Second
}

// load reads the contents of a message's attachments into it.
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
	if _, again := c.contents[at.BlobID]; !again && c.contentsBytes+at.Size <= contentsMax {
		c.contents[at.BlobID] = data
		c.contentsBytes += at.Size
	}
	return data, nil
}

// recordAll records the attempts of a lot as they finish, several in one transaction. An
// attempt whose e-mail another transaction has locked is recorded after all others.
func (c *chunk) recordAll(ctx context.Context, finished <-chan finishedAttempt) (failed error) {
	within := c.limits.finishWithin
	record := func(some []finishedAttempt, write recorder) []finishedAttempt {
		left, err := c.record(ctx, within, some, write)
		if err != nil {
			failed, within = err, min(within, time.Second) // the full time is spent once per lot
		}
		return left
	}
	var left []finishedAttempt
	for e := range finished {
		some := []finishedAttempt{e}
		soon := time.NewTimer(recordSoon)
		for waiting := true; waiting; {
			select {
			case e, ok := <-finished:
				if ok {
					some = append(some, e)
				}
				waiting = ok && len(some) < recordAtOnce
			case <-soon.C:
				waiting = false
			}
		}
		soon.Stop()
		for range len(finished) { // those that finished during the last transaction
			some = append(some, <-finished)
		}
		left = append(left, record(some, c.deps.BatchJournal.RecordFree)...)
	}
	if len(left) > 0 {
		record(left, c.deps.BatchJournal.RecordBatch)
	}
	return failed
}

// recordKept records the outcomes of earlier lots of the batch that this process could not
// record. It must come before the next lot is opened: the gate would take over an attempt
// whose lease has ended as one without an answer, and the e-mail would be sent again.
func (c *chunk) recordKept(ctx context.Context) error {
	var some []finishedAttempt
	for _, u := range c.exchanges.lotUnrecorded(c.in.BatchID) {
		some = append(some, finishedAttempt{Ending: delivery.Ending{EmailID: u.EmailID, Attempt: u.Attempt, Owner: u.Owner, Relay: u.Relay, Outcomes: u.Outcomes}})
	}
	if len(some) == 0 {
		return nil
	}
	_, err := c.record(ctx, c.limits.finishWithin, some, c.deps.BatchJournal.RecordBatch)
	return err
}

// recorder is RecordBatch or RecordFree.
type recorder func(ctx context.Context, endings []delivery.Ending) (delivery.BatchRecorded, error)

// record records finished attempts and tries again until within is over. Attempts that it
// cannot record go to the run, which tries without end, and are kept for the next activity.
// left are those whose e-mails write found locked.
func (c *chunk) record(ctx context.Context, within time.Duration, some []finishedAttempt, write recorder) (left []finishedAttempt, _ error) {
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
		c.finishLater(endings...)
		lost := make([]delivery.UnrecordedAttempt, len(some))
		for i, e := range some {
			lost[i] = delivery.UnrecordedAttempt{
				EmailID: e.EmailID, Attempt: e.Attempt, Owner: e.Owner, Relay: e.Relay, Outcomes: maskedOutcomes(e.Outcomes, addresses(e.opening.Recipients)),
			}
		}
		c.exchanges.keepLot(c.in.BatchID, lost) // the result is lost if the activity has timed out
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
		c.exchanges.forget(exchangeKey{e.EmailID, e.Attempt})
		if slices.ContainsFunc(rec.Left, func(l delivery.Ending) bool { return l.EmailID == e.EmailID }) {
			left = append(left, e)
		}
	}
	return left, nil
}

// keepLeases renews the leases of a lot until stopped.
func (c *chunk) keepLeases(ctx context.Context, ids []string, owner string) (stop func()) {
	return renewing(ctx, func(ctx context.Context) {
		// A lost lease is noticed when the attempt is marked, before the final dot.
		if err := c.deps.BatchJournal.RenewMany(ctx, ids, owner); err != nil && ctx.Err() == nil {
			c.deps.Log.WarnContext(ctx, "journal.renew", "batch_id", c.in.BatchID, "error", err)
		}
	})
}

// obstruct notes on all due e-mails of the route why no relay takes them. It ends e-mails
// that have expired, and describes those that go on waiting.
func (c *chunk) obstruct(ctx context.Context, why error) (delivery.BatchWaiting, error) {
	for {
		n, err := c.deps.BatchGate.ObstructBatch(ctx, c.in.BatchID, c.in.Route, relayObstacle(why), 10*lotSize)
		if err != nil {
			return delivery.BatchWaiting{}, err
		}
		if n < 10*lotSize {
			return c.deps.BatchGate.ExpireBatch(ctx, c.in.BatchID, c.in.Route)
		}
	}
}
