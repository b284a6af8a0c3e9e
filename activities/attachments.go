package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/postrider/postrider/email"
)

// resolveWindow is how long a resolver may fail in passing before the e-mail
// fails for want of its attachment.
const resolveWindow = time.Hour

// ResolveAttachments makes stored bytes of every attachment and tells the run
// where the e-mail stands. Inline it fetches nothing: Remote says that it has to
// be called again as a regular activity.
func (a *Activities) ResolveAttachments(ctx context.Context, in email.ResolveAttachmentsInput) (email.ResolveAttachmentsResult, error) {
	start := time.Now()
	plan, err := a.deps.Mail.Plan(ctx, in.EmailID)
	if err != nil {
		return email.ResolveAttachmentsResult{}, failed(ctx, a.deps.Log, "reading the e-mail", err)
	}
	res := email.ResolveAttachmentsResult{
		State: plan.State, Route: plan.Route, RecipientDomains: firstDomains(plan.RecipientDomains),
		CustomerID: plan.CustomerID, Stored: plan.Attachments - len(plan.Unresolved),
	}
	if plan.State.Final || plan.State.Waiting != "" || len(plan.Unresolved) == 0 {
		res.Took = since(start)
		return res, nil
	}
	if in.Inline {
		res.Remote, res.Took = true, since(start)
		return res, nil
	}
	for _, att := range plan.Unresolved {
		activity.RecordHeartbeat(ctx, res.Stored)
		problem, err := a.resolve(ctx, plan.CustomerID, att)
		if err != nil {
			return res, failed(ctx, a.deps.Log, "resolving an attachment", err)
		}
		if problem != "" {
			res.Problem = problem
			break
		}
		res.Stored++
	}
	res.Took = since(start)
	return res, nil
}

// resolve fetches and stores one attachment. A problem is for good; an error is
// worth another try.
func (a *Activities) resolve(ctx context.Context, customerID string, att email.Attachment) (problem string, err error) {
	got, err := a.deps.Resolver.Resolve(ctx, customerID, att)
	if f, ok := errors.AsType[*email.Failure](err); ok {
		problem = f.Detail
	} else if err != nil {
		if time.Since(activity.GetInfo(ctx).ScheduledTime) < resolveWindow {
			return "", err
		}
		problem = "the attachment could not be fetched within " + resolveWindow.String()
	}
	switch {
	case problem == "":
	case att.Optional:
		got = att
		got.Problem = problem
	default:
		return problem, nil
	}
	got.ID = att.ID
	return "", a.deps.Mail.StoreAttachment(ctx, customerID, got)
}

// firstDomains bounds the keyword list of the search attribute.
func firstDomains(ds []string) []string { return ds[:min(len(ds), 10)] }
