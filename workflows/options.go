package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Every step runs first as a local activity: one workflow task for the whole
// e-mail. What does not succeed there at once runs as a regular one, visible in
// the UI and retried by the server for as long as it takes.
//
// A workflow task lasts 10 s; a local activity that takes longer than 8 s keeps
// it alive at three events each time, and signals wait meanwhile.

// localOptions bound a step inside the workflow task: three tries, 0.1 and 0.3 s
// apart, 3 s in all.
func localOptions(summary string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		StartToCloseTimeout: 3 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 3, MaximumAttempts: 3},
		Summary:             summary,
	}
}

// localSend bounds an inline attempt. The activity hands over by itself after
// 5 s; the timeout is for one that is stuck. One try: what follows is the
// regular activity, which finds the attempt in the journal.
func localSend(summary string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		StartToCloseTimeout: 7 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             summary,
	}
}

// regularOptions are for steps that only need Postgres: retried after 1, 2, 4 …
// 60 s without end.
func regularOptions(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout:   time.Minute,
		RetryPolicy:           &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute},
		Summary:               summary,
		DisableEagerExecution: true,
	}
}

// While a message cannot be accepted because something of our own is away, it is tried
// again after 5, 10, 20 … 300 s: a timer each, so that the message stays out of the
// history, where a regular activity's input would repeat it.
const (
	acceptWaitFirst = 5 * time.Second
	acceptWaitMost  = 5 * time.Minute
)

// regularFollow looks after an e-mail that another run sends, after 1, 1.5, 2.25 … 60 s.
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

// regularSend is for an attempt at its own pace. RFC 5321 section 4.5.3.2 adds
// up to 32 minutes for a transaction with few recipients. A worker that died is
// noticed after 20 s. Relay faults carry their own delay, 10 s to 5 min.
func regularSend(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = time.Hour
	o.HeartbeatTimeout = 20 * time.Second
	return o
}

// regularChunk is for sending a batch: an activity takes what is due for 20 s and then
// ends the lot it has. A worker that died is noticed after 20 s. Relay faults carry
// their own delay, as for a single e-mail.
func regularChunk(summary string) workflow.ActivityOptions {
	return regularSend(summary)
}

// regularControlBatch is for an action on up to 10,000 e-mails.
func regularControlBatch(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = 10 * time.Minute
	return o
}

// regularWebhooks is for one round of an endpoint's deliveries: calls of 15 s, five
// at a time, begun within 45 s.
func regularWebhooks(summary string) workflow.ActivityOptions {
	o := regularOptions(summary)
	o.StartToCloseTimeout = 2 * time.Minute
	o.HeartbeatTimeout = time.Minute
	return o
}

// ranked gives regular activities the e-mail's place in the task queue, for
// servers that order it: by stream, and in turns among customers. A run that was
// started with the same hands it down anyway; this is for those that were not.
// Local activities are never queued.
func (s *sendEmail) ranked(o workflow.ActivityOptions) workflow.ActivityOptions {
	if s.plan.CustomerID != "" {
		o.Priority = temporal.Priority{PriorityKey: s.plan.Route.Stream.Priority(), FairnessKey: s.plan.CustomerID}
	}
	return o
}

// urgent is for what somebody wants done now.
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
