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
	// chunksPerRoute bounds the activities that send by one route at the same time. With
	// several, more than one worker can send, and one opens or records while another waits
	// for the relay.
	chunksPerRoute = 4
	// maxChunks bounds the activities of all routes of a batch.
	maxChunks = 16
	// duePerChunk is how many due e-mails justify one more activity.
	duePerChunk = 200
	// minBatchRound is the shortest wait between two reads of the plan. Without it a run
	// would loop while another process has locked the due e-mails.
	minBatchRound = time.Second
)

// sendBatch is the state of one run of SendBatch. Postgres holds what is due and the outcomes,
// so a lost or repeated run sends nothing twice.
type sendBatch struct {
	// ctx is disconnected: a cancellation of the run cancels the batch's e-mails, not the
	// activities under way.
	ctx  workflow.Context
	in   email.SendBatchInput
	log  log.Logger
	plan delivery.PlanBatchResult
	sent email.BatchCounts
	// handedOver counts the e-mails that continue in runs of their own.
	handedOver int
	relay      string
	// active counts the activities per route, running all of them. turns are the reserved
	// slots of relays' rates. A route without an e-mail to send gets no activity before
	// emptyUntil.
	active     map[delivery.Route]int
	running    int
	turns      map[delivery.Route]delivery.Turn
	emptyUntil map[delivery.Route]time.Time
	// down are the routes whose last activity found no relay.
	down map[delivery.Route]unreachable
	// woken wakes the run: an activity has ended, or an action was carried out.
	woken workflow.Channel
	// controlling counts the actions under way.
	controlling int
	// failed is the error of an activity, which ends the run.
	failed error
	// published is the status in the search attributes.
	published string
}

// unreachable is why no relay takes a route's mail.
type unreachable struct {
	why     string
	noRelay bool
}

// SendBatch sends a batch's e-mails until each is finished or continues in a run of its own.
// Its input is an email.SendBatchInput.
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

// run sends the batch: read the plan, start activities for what is due, wait.
func (b *sendBatch) run() (email.SendBatchResult, error) {
	for {
		if err := b.readPlan(); err != nil {
			return email.SendBatchResult{}, err
		}
		if b.plan.Open == 0 && b.idle() {
			return b.finish()
		}
		b.startChunks()
		if err := b.wait(); err != nil {
			return email.SendBatchResult{}, err
		}
	}
}

func newSendBatch(ctx workflow.Context, in email.SendBatchInput) (*sendBatch, error) {
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: the run ends by returning
	b := &sendBatch{ctx: steps, in: in, log: workflow.GetLogger(ctx), sent: in.Sent, woken: workflow.NewBufferedChannel(ctx, 1),
		active: map[delivery.Route]int{}, turns: map[delivery.Route]delivery.Turn{}, emptyUntil: map[delivery.Route]time.Time{},
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

// control carries out an action on all e-mails of the batch. It works in a canceled ctx too:
// cancel is called with one.
func (b *sendBatch) control(ctx workflow.Context, action email.Action) {
	b.controlling++
	steps, _ := workflow.NewDisconnectedContext(ctx) // never canceled: it ends with the activity
	_, err := regular(steps, email.ActivityControlBatch, act.ControlBatch, regularControlBatch(string(action)), delivery.ControlBatchInput{BatchID: b.in.BatchID, Action: action})
	b.controlling--
	if err != nil {
		b.log.Warn("signal refused", "action", action, "error", err) // a signal has no answer
	}
	b.woken.SendAsync(true)
}

// readPlan reads from Postgres what of the batch is open and due.
func (b *sendBatch) readPlan() error {
	in := email.SendBatchInput{BatchID: b.in.BatchID}
	plan, err := local(b.ctx, email.ActivityPlanBatch, act.PlanBatch, localOptions("where the batch stands"), in)
	if err != nil && nonRetryable(err) {
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

// startChunks starts activities for the due e-mails, by route.
func (b *sendBatch) startChunks() {
	if workflow.GetInfo(b.ctx).GetContinueAsNewSuggested() {
		return // the running activities end, then a new run continues
	}
	for _, route := range b.plan.Routes {
		if b.emptyUntil[route].After(workflow.Now(b.ctx)) {
			continue
		}
		want := min(chunksPerRoute, 1+b.plan.Due/duePerChunk)
		if b.turns[route].Relay != "" {
			want = 1 // a relay with a rate gives one slot after the other
		}
		for b.active[route] < want && b.running < maxChunks {
			b.active[route]++
			b.running++
			workflow.Go(b.ctx, func(ctx workflow.Context) { b.chunk(ctx, route) })
		}
	}
}

// chunk runs one activity after the other for a route until none of its e-mails is due.
func (b *sendBatch) chunk(ctx workflow.Context, route delivery.Route) {
	defer func() {
		b.active[route]--
		b.running--
		b.woken.SendAsync(true)
	}()
	var expiresAt time.Time // the first expires_at of the e-mails that wait for the turn
	for more := true; more && b.failed == nil; {
		in := delivery.SendChunkInput{BatchID: b.in.BatchID, Route: route}
		in.Route.Turn = b.turns[route]
		_, down := b.down[routeKey(route)]
		in.TellRelayDown = !down
		if at := in.Route.Turn.At; at.After(workflow.Now(ctx)) {
			summary := fmt.Sprintf("next at %s: the rate of relay %s", at.UTC().Format("15:04:05"), in.Route.Turn.Relay)
			wait := at.Sub(workflow.Now(ctx))
			if !expiresAt.IsZero() { // an activity that comes before its turn keeps it
				wait = min(wait, max(expiresAt.Sub(workflow.Now(ctx)), minBatchRound))
			}
			if err := workflow.NewTimerWithOptions(ctx, wait, workflow.TimerOptions{Summary: summary}).Get(ctx, nil); err != nil {
				return
			}
		}
		summary := fmt.Sprintf("%s from %s", route.Stream, route.SenderDomain)
		if down {
			summary += ", once a relay is there"
		}
		res, err := regular(ctx, email.ActivitySendChunk, act.SendBatchChunk, regularChunk(summary), in)
		if err == nil {
			err = b.noteRelayState(route, res)
		}
		if err != nil {
			b.failed = err
			return
		}
		b.turns[route], expiresAt = res.Turn, res.ExpiresAt
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
			b.emptyUntil[route] = workflow.Now(ctx).Add(minBatchRound)
		}
		more = res.More && !workflow.GetInfo(ctx).GetContinueAsNewSuggested()
	}
}

// routeKey is the part of a route that stays the same while a batch is sent.
func routeKey(route delivery.Route) delivery.Route {
	return delivery.Route{Stream: route.Stream, SenderDomain: route.SenderDomain}
}

// noteRelayState notes whether a relay takes a route's mail, and publishes a change. In
// histories of older runs, which did not set TellRelayDown, nothing changes, so that they
// replay without a new command.
func (b *sendBatch) noteRelayState(route delivery.Route, res delivery.SendChunkResult) error {
	_, was := b.down[routeKey(route)]
	switch {
	case res.RelayDown != "":
		b.down[routeKey(route)] = unreachable{why: res.RelayDown, noRelay: res.NoRelay}
	case was:
		delete(b.down, routeKey(route))
	default:
		return nil
	}
	b.details()
	return b.publish(b.status())
}

func (b *sendBatch) add(sent email.BatchCounts, handedOver int) {
	b.sent.Add(sent)
	b.handedOver += handedOver
}

func (b *sendBatch) idle() bool { return b.running == 0 && b.controlling == 0 }

// wait sleeps until an activity has ended, an e-mail is due, or a signal wakes the run.
func (b *sendBatch) wait() error {
	if b.idle() && workflow.GetInfo(b.ctx).GetContinueAsNewSuggested() {
		return workflow.NewContinueAsNewError(b.ctx, email.WorkflowSendBatch, email.SendBatchInput{BatchID: b.in.BatchID, Sent: b.sent})
	}
	if err := b.publish(b.status()); err != nil {
		return err
	}
	b.details()
	timerCtx, stop := workflow.WithCancel(b.ctx)
	defer stop()
	sel := workflow.NewSelector(b.ctx)
	next, summary := b.plan.NextAt, "the next is due "+b.plan.NextAt.UTC().Format("2006-01-02 15:04 UTC")
	if b.idle() && b.plan.Due > 0 { // another process has locked the due e-mails
		next, summary = workflow.Now(b.ctx), "look again"
	}
	if !next.IsZero() {
		d := max(next.Sub(workflow.Now(b.ctx)), minBatchRound)
		sel.AddFuture(workflow.NewTimerWithOptions(timerCtx, d, workflow.TimerOptions{Summary: summary}), func(workflow.Future) {})
	}
	onWake(b.ctx, sel, b.woken, func() {})
	sel.Select(b.ctx)
	return nil
}

// status is the batch's status for the search attribute.
func (b *sendBatch) status() string {
	switch {
	case b.plan.Held:
		return string(email.DetailHeld)
	case b.allRoutesDown():
		return string(b.downDetail())
	case b.running > 0 || b.plan.Due > 0:
		return string(email.StatusSending)
	case b.sent.Attempted() == 0 && !b.plan.NextAt.IsZero():
		return string(email.DetailScheduled)
	}
	return string(email.StatusSending)
}

// allRoutesDown reports whether all routes wait for a relay.
func (b *sendBatch) allRoutesDown() bool {
	for _, route := range b.plan.Routes {
		if _, down := b.down[routeKey(route)]; !down {
			return false
		}
	}
	return b.running > 0 && len(b.plan.Routes) > 0
}

// downDetail is no_relay only if no route has a relay. If one has, its outage may end without
// a change of the configuration, so it is relay_down.
func (b *sendBatch) downDetail() email.Detail {
	for _, route := range b.plan.Routes {
		if !b.down[routeKey(route)].noRelay {
			return email.DetailRelayDown
		}
	}
	return email.DetailNoRelay
}

// publish writes the status to the search attributes, if it has changed.
func (b *sendBatch) publish(status string) error {
	if status == b.published {
		return nil
	}
	b.published = status
	return workflow.UpsertTypedSearchAttributes(b.ctx, attrStatus.ValueSet(status), attrStream.ValueSet(string(b.plan.Stream)))
}

func (b *sendBatch) details() {
	details := fmt.Sprintf("%d of %d attempted, %d delivered, %d go on in runs of their own", b.sent.Attempted(), b.plan.Total, b.sent.Delivered, b.handedOver)
	if b.relay != "" {
		details += "; relay " + b.relay
	}
	for _, route := range b.plan.Routes {
		if down, ok := b.down[routeKey(route)]; ok {
			details += fmt.Sprintf("; no relay takes %s mail from %s, %s, tried every 10 s to 5 min", route.Stream, route.SenderDomain, quoted(down.why))
		}
		if turn := b.turns[route]; turn.At.After(workflow.Now(b.ctx)) {
			details += fmt.Sprintf("; %s mail from %s waits until %s for the rate of relay %s", route.Stream, route.SenderDomain, turn.At.UTC().Format("15:04:05"), turn.Relay)
		}
	}
	if b.plan.Held {
		details += "; held"
	}
	workflow.SetCurrentDetails(b.ctx, details)
}

func (b *sendBatch) finish() (email.SendBatchResult, error) {
	if err := b.publish("completed"); err != nil {
		return email.SendBatchResult{}, err
	}
	b.details()
	return email.SendBatchResult{BatchID: b.in.BatchID, Sent: b.sent}, nil
}
