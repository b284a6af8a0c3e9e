package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Every step runs first as a local activity, so that one workflow task can send the whole
// e-mail. A step that does not succeed there at once runs as a regular activity: the UI shows
// it, and the server retries it without end.
//
// The timeout of a workflow task is 10 s. A local activity that takes longer than 8 s extends
// it, which adds three events to the history each time, and signals wait meanwhile.

// localOptions bound a step inside the workflow task: three tries, 0.1 and 0.3 s
// apart, each of at most 3 s.
func localOptions(summary string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		StartToCloseTimeout: 3 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 3, MaximumAttempts: 3},
		Summary:             summary,
	}
}

// localSend bounds an inline attempt. The activity hands over by itself after 5 s; the timeout
// is for one that is stuck. There is one try: the regular activity follows, which finds the
// attempt in the journal.
func localSend(summary string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		StartToCloseTimeout: 7 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             summary,
	}
}

// regularOptions are for steps that need Postgres only: retried after 1, 2, 4 … 60 s, without
// end.
func regularOptions(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout:   time.Minute,
		RetryPolicy:           &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute},
		Summary:               summary,
		DisableEagerExecution: true,
	}
}

// While a message cannot be stored because Postgres is unavailable, the run tries again after
// 5, 10, 20 … 300 s. Each wait is a timer, not the retry of a regular activity: that activity's
// input would repeat the message in the history.
const (
	acceptWaitFirst = 5 * time.Second
	acceptWaitMost  = 5 * time.Minute
)

// regularFollow is for FollowEmail, which fails until the e-mail is finished: retried after
// 1, 1.5, 2.25 … 60 s.
func regularFollow(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.RetryPolicy = &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1.5, MaximumInterval: time.Minute}
	return o
}

// regularResolve is for fetching attachments: retried after 5, 10, 20 … 300 s;
// the activity itself gives up after an hour.
func regularResolve(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = 10 * time.Minute
	o.RetryPolicy = &temporal.RetryPolicy{InitialInterval: delivery.FetchWaitFirst, BackoffCoefficient: 2, MaximumInterval: delivery.FetchWaitMost}
	return o
}

// regularSend is for an attempt without a time budget: the timeouts of RFC 5321 section
// 4.5.3.2 add up to 32 minutes for a transaction with few recipients. A killed worker is
// noticed after 20 s. Relay faults carry their own retry delay, 10 s to 5 min.
func regularSend(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = time.Hour
	o.HeartbeatTimeout = 20 * time.Second
	return o
}

// regularChunk is for sending a batch: an activity opens lots for 20 s and then finishes the
// one that is open. A killed worker is noticed after 20 s. Relay faults carry their own retry
// delay, as for a single e-mail.
func regularChunk(summary string) workflow.ActivityOptions {
	return regularSend(summary)
}

// regularControlBatch is for an action on up to 10,000 e-mails.
func regularControlBatch(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = 10 * time.Minute
	return o
}

// regularWebhooks is for one round of an endpoint's deliveries: calls of at most 15 s, five at
// a time, started within 45 s.
func regularWebhooks(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = 2 * time.Minute
	o.HeartbeatTimeout = time.Minute
	return o
}

// regularDomain is for a look at the DNS: servers that do not answer are given 90 s in all.
func regularDomain(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = 3 * time.Minute
	return o
}

// prioritized sets the priority of regular activities, for servers that order the task queue: by
// stream, and fairly among customers. A run that was started with this priority passes it on
// to its activities; other runs need it here. Local activities are never queued.
func (s *sendEmail) prioritized(o workflow.ActivityOptions) workflow.ActivityOptions {
	if s.plan.CustomerID != "" {
		o.Priority = temporal.Priority{PriorityKey: s.plan.Route.Stream.Priority(), FairnessKey: s.plan.CustomerID}
	}
	return o
}

// urgent gives an activity the priority of operators' and customers' actions.
func urgent(o workflow.ActivityOptions) workflow.ActivityOptions {
	o.Priority.PriorityKey = email.PriorityControl
	return o
}

// The search attributes of SendEmail; `postrider migrate up` creates them.
var (
	attrStatus   = temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStatus)
	attrCustomer = temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeCustomerID)
	attrStream   = temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeStream)
	attrRelay    = temporal.NewSearchAttributeKeyKeyword(email.SearchAttributeRelay)
	attrDomains  = temporal.NewSearchAttributeKeyKeywordList(email.SearchAttributeRecipientDomains)
)
