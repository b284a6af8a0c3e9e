package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

const (
	// chunksPerRoute is how many activities send one way at once: several workers may
	// help, and one opens or records while another waits for the relay.
	chunksPerRoute = 4
	// chunksAtOnce bounds them over all ways of a batch.
	chunksAtOnce = 16
	// chunkFor is how much one more activity has to find to be worth it.
	chunkFor = 200
	// batchRoundAtLeast keeps a run from spinning on e-mails that somebody else holds
	// at the moment.
	batchRoundAtLeast = time.Second
)

// sendBatch is one run's view of one batch. What is due, and what became of it, is in
// Postgres: a run that is lost or comes twice changes nothing.
type sendBatch struct {
	// ctx is disconnected: a cancellation of the run cancels the batch, it does not
	// tear the steps away.
	ctx  workflow.Context
	in   email.SendBatchInput
	log  log.Logger
	plan delivery.PlanBatchResult
	sent email.BatchCounts
	// handedOver are the e-mails that go on in runs of their own.
	handedOver int
	relay      string
	// active counts the activities per way, running all of them. turns are the places in
	// relays' queues, dry is until when a way is left alone that had nothing to send.
	active  map[delivery.Route]int
	running int
	turns   map[delivery.Route]delivery.Turn
	dry     map[delivery.Route]time.Time
	// down are the ways that no relay takes, as far as the run was told.
	down map[delivery.Route]unreachable
	// woken wakes the run: an activity has ended, or somebody did something.
	woken workflow.Channel
	// controlling counts the actions under way.
	controlling int
	failed      error
	published   string
}

// unreachable is why no relay takes a way's mail.
type unreachable struct {
	why     string
	noRelay bool
}

// SendBatch works through a batch's e-mails until it answers for none any more: each
// has ended, or goes on in a run of its own. Its input is an email.SendBatchInput.
func SendBatch(ctx workflow.Context, raw converter.RawValue) (email.SendBatchResult, error) {
	in, err := input[email.SendBatchInput](raw, takesBatch)
	if err == nil && in.BatchID == "" {
		err = refused(takesBatch)
	}
	if err != nil {
		return email.SendBatchResult{}, err
	}
	b, err := newSendBatch(ctx, in)
	if err != nil {
		return email.SendBatchResult{}, err
	}
	res, err := b.run()
	ignoreWakes(ctx)
	return res, err
}

// run is the way of one batch.
func (b *sendBatch) run() (email.SendBatchResult, error) {
	for {
		if err := b.look(); err != nil {
			return email.SendBatchResult{}, err
		}
		if b.plan.Open == 0 && b.idle() {
			return b.finish()
		}
		b.begin()
		if err := b.wait(); err != nil {
			return email.SendBatchResult{}, err
		}
	}
}

func newSendBatch(ctx workflow.Context, in email.SendBatchInput) (*sendBatch, error) {
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: the run ends by returning
	b := &sendBatch{ctx: steps, in: in, log: workflow.GetLogger(ctx), sent: in.Sent, woken: workflow.NewBufferedChannel(ctx, 1),
		active: map[delivery.Route]int{}, turns: map[delivery.Route]delivery.Turn{}, dry: map[delivery.Route]time.Time{},
		down: map[delivery.Route]unreachable{}}
	err := workflow.SetQueryHandlerWithOptions(ctx, email.QueryStatus, func() (delivery.PlanBatchResult, error) { return b.plan, nil },
		workflow.QueryHandlerOptions{Description: "Where the batch stands, as this run last saw it"})
	if err != nil {
		return nil, err
	}
	for _, action := range []email.Action{email.ActionCancel, email.ActionHold, email.ActionResume} {
		workflow.Go(ctx, func(ctx workflow.Context) {
			signals := workflow.GetSignalChannelWithOptions(ctx, string(action), workflow.SignalChannelOptions{Description: descriptions[action]})
			for {
				signals.Receive(ctx, nil)
				b.control(ctx, action)
			}
		})
	}
	workflow.Go(ctx, func(ctx workflow.Context) {
		ctx.Done().Receive(ctx, nil)
		b.control(ctx, email.ActionCancel)
	})
	return b, nil
}

// control carries out an action on all e-mails of the batch. Its context is not the
// canceled one, if that is why it was called.
func (b *sendBatch) control(ctx workflow.Context, action email.Action) {
	b.controlling++
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: it ends with the activity
	_, err := regular(steps, email.ActivityControlBatch, act.ControlBatch, regularControlBatch(string(action)), delivery.ControlBatchInput{BatchID: b.in.BatchID, Action: action})
	b.controlling--
	if err != nil {
		b.log.Warn("signal refused", "action", action, "error", err) // a signal has nobody to answer
	}
	b.woken.SendAsync(true)
}

// look asks where the batch stands.
func (b *sendBatch) look() error {
	in := email.SendBatchInput{BatchID: b.in.BatchID}
	plan, err := local(b.ctx, email.ActivityPlanBatch, act.PlanBatch, localOptions("where the batch stands"), in)
	if err != nil && final(err) {
		return err
	}
	if err != nil {
		if plan, err = regular(b.ctx, email.ActivityPlanBatch, act.PlanBatch, regularOptions("where the batch stands"), in); err != nil {
			return err
		}
	}
	b.plan = plan
	return b.failed
}

// begin starts activities for what is due.
func (b *sendBatch) begin() {
	if workflow.GetInfo(b.ctx).GetContinueAsNewSuggested() {
		return // those that are there end, then a new run goes on
	}
	for _, route := range b.plan.Routes {
		if b.dry[route].After(workflow.Now(b.ctx)) {
			continue
		}
		want := min(chunksPerRoute, 1+b.plan.Due/chunkFor)
		if b.turns[route].Relay != "" {
			want = 1 // a relay with a rate gives one place after the other
		}
		for b.active[route] < want && b.running < chunksAtOnce {
			b.active[route]++
			b.running++
			workflow.Go(b.ctx, func(ctx workflow.Context) { b.chunk(ctx, route) })
		}
	}
}

// chunk sends one way until nothing is due there.
func (b *sendBatch) chunk(ctx workflow.Context, route delivery.Route) {
	defer func() {
		b.active[route]--
		b.running--
		b.woken.SendAsync(true)
	}()
	for more := true; more && b.failed == nil; {
		in := delivery.SendChunkInput{BatchID: b.in.BatchID, Route: route}
		in.Route.Turn = b.turns[route]
		_, said := b.down[way(route)]
		in.TellRelayDown = !said
		if at := in.Route.Turn.At; at.After(workflow.Now(ctx)) {
			summary := fmt.Sprintf("next at %s: the rate of relay %s", at.UTC().Format("15:04:05"), in.Route.Turn.Relay)
			if err := workflow.NewTimerWithOptions(ctx, at.Sub(workflow.Now(ctx)), workflow.TimerOptions{Summary: summary}).Get(ctx, nil); err != nil {
				return
			}
		}
		summary := fmt.Sprintf("%s from %s", route.Stream, route.SenderDomain)
		if said {
			summary += ", once a relay is there"
		}
		res, err := regular(ctx, email.ActivitySendChunk, act.SendBatchChunk, regularChunk(summary), in)
		if err == nil {
			err = b.reached(route, res)
		}
		if err != nil {
			b.failed = err
			return
		}
		b.turns[route] = res.Turn
		b.add(res.Sent, res.HandedOver)
		if res.Relay.Name != "" {
			b.relay = res.Relay.Name
		}
		if len(res.Unrecorded) > 0 {
			rec, err := regular(ctx, email.ActivityRecordChunk, act.RecordBatchChunk, regularOptions(fmt.Sprintf("%d outcomes", len(res.Unrecorded))),
				delivery.RecordChunkInput{BatchID: b.in.BatchID, Attempts: res.Unrecorded})
			if err != nil {
				b.failed = err
				return
			}
			b.add(rec.Sent, rec.HandedOver)
		}
		b.details()
		if !res.More && res.Sent.Attempted() == 0 {
			b.dry[route] = workflow.Now(ctx).Add(batchRoundAtLeast)
		}
		more = res.More && !workflow.GetInfo(ctx).GetContinueAsNewSuggested()
	}
}

// way is what of a route stays the same while a batch is sent.
func way(route delivery.Route) delivery.Route {
	return delivery.Route{Stream: route.Stream, SenderDomain: route.SenderDomain}
}

// reached notes whether a relay takes a way's mail, and says so where that has changed.
// Histories of runs that did not ask for it have no change, and no command for it.
func (b *sendBatch) reached(route delivery.Route, res delivery.SendChunkResult) error {
	_, was := b.down[way(route)]
	switch {
	case res.RelayDown != "":
		b.down[way(route)] = unreachable{why: res.RelayDown, noRelay: res.NoRelay}
	case was:
		delete(b.down, way(route))
	default:
		return nil
	}
	b.details()
	return b.publish(b.words())
}

func (b *sendBatch) add(sent email.BatchCounts, handedOver int) {
	b.sent.Add(sent)
	b.handedOver += handedOver
}

func (b *sendBatch) idle() bool { return b.running == 0 && b.controlling == 0 }

// wait sleeps until an activity has ended, something is due, or somebody wakes the
// run.
func (b *sendBatch) wait() error {
	if b.idle() && workflow.GetInfo(b.ctx).GetContinueAsNewSuggested() {
		return workflow.NewContinueAsNewError(b.ctx, email.WorkflowSendBatch, email.SendBatchInput{BatchID: b.in.BatchID, Sent: b.sent})
	}
	if err := b.publish(b.words()); err != nil {
		return err
	}
	b.details()
	timerCtx, stop := workflow.WithCancel(b.ctx)
	defer stop()
	sel := workflow.NewSelector(b.ctx)
	next, summary := b.plan.NextAt, "the next is due "+b.plan.NextAt.UTC().Format("2006-01-02 15:04 UTC")
	if b.idle() && b.plan.Due > 0 { // somebody else holds it
		next, summary = workflow.Now(b.ctx), "look again"
	}
	if !next.IsZero() {
		d := max(next.Sub(workflow.Now(b.ctx)), batchRoundAtLeast)
		sel.AddFuture(workflow.NewTimerWithOptions(timerCtx, d, workflow.TimerOptions{Summary: summary}), func(workflow.Future) {})
	}
	onWake(b.ctx, sel, b.woken, func() {})
	sel.Select(b.ctx)
	return nil
}

// words is the batch's state in one.
func (b *sendBatch) words() string {
	switch {
	case b.plan.Held:
		return string(email.DetailHeld)
	case b.noWay():
		return string(b.obstacle())
	case b.running > 0 || b.plan.Due > 0:
		return string(email.StatusSending)
	case b.sent.Attempted() == 0 && !b.plan.NextAt.IsZero():
		return string(email.DetailScheduled)
	}
	return string(email.StatusSending)
}

// noWay: all that is being sent waits for a relay.
func (b *sendBatch) noWay() bool {
	for _, route := range b.plan.Routes {
		if _, down := b.down[way(route)]; !down {
			return false
		}
	}
	return b.running > 0 && len(b.plan.Routes) > 0
}

// obstacle is no_relay only where no way has one: an outage ends by itself.
func (b *sendBatch) obstacle() email.Detail {
	for _, route := range b.plan.Routes {
		if !b.down[way(route)].noRelay {
			return email.DetailRelayDown
		}
	}
	return email.DetailNoRelay
}

// publish puts that into the search attributes, where it has changed.
func (b *sendBatch) publish(status string) error {
	if status == b.published {
		return nil
	}
	b.published = status
	return workflow.UpsertTypedSearchAttributes(b.ctx, attrStatus.ValueSet(status), attrStream.ValueSet(string(b.plan.Stream)))
}

func (b *sendBatch) details() {
	words := fmt.Sprintf("%d of %d attempted, %d delivered, %d go on in runs of their own", b.sent.Attempted(), b.plan.Total, b.sent.Delivered, b.handedOver)
	if b.relay != "" {
		words += "; relay " + b.relay
	}
	for _, route := range b.plan.Routes {
		if down, ok := b.down[way(route)]; ok {
			words += fmt.Sprintf("; no relay takes %s mail from %s, %s, tried every 10 s to 5 min", route.Stream, route.SenderDomain, quoted(down.why))
		}
	}
	if b.plan.Held {
		words += "; held"
	}
	workflow.SetCurrentDetails(b.ctx, words)
}

func (b *sendBatch) finish() (email.SendBatchResult, error) {
	if err := b.publish("completed"); err != nil {
		return email.SendBatchResult{}, err
	}
	b.details()
	return email.SendBatchResult{BatchID: b.in.BatchID, Sent: b.sent}, nil
}
