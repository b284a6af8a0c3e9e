package activities

import (
	"context"
	"errors"
	"io"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// ResolveAttachments fetches and stores every attachment that is not stored yet, and returns
// the e-mail's state. Inline it fetches nothing: Remote then asks for a second call as a
// regular activity.
func (a *Activities) ResolveAttachments(ctx context.Context, in delivery.ResolveAttachmentsInput) (delivery.ResolveAttachmentsResult, error) {
	start := time.Now()
	plan, err := a.deps.Mail.Plan(ctx, in.EmailID)
	if err != nil {
		return delivery.ResolveAttachmentsResult{}, failed(ctx, a.deps.Log, "reading the e-mail", err)
	}
	res := delivery.ResolveAttachmentsResult{
		State: plan.State, Route: plan.Route, RecipientDomains: firstDomains(plan.RecipientDomains),
		CustomerID: plan.CustomerID, Stored: plan.Attachments - len(plan.Unresolved),
	}
	if plan.State.Final || plan.State.Waiting != "" || len(plan.Unresolved) == 0 {
		res.Took = since(start)
		return res, nil
	}
	left, expires := plan.ExpiresAt.Sub(plan.Now), !plan.ExpiresAt.IsZero()
	if expires && left <= 0 {
		res.Took = since(start) // the attempt that follows ends it, before it needs any attachment
		return res, nil
	}
	if in.Inline {
		res.Remote, res.Took = true, since(start)
		return res, nil
	}
	bytesLeft := plan.BytesLeft
	for _, att := range plan.Unresolved {
		activity.RecordHeartbeat(ctx, res.Stored)
		stored, problem, err := a.resolve(ctx, plan.CustomerID, att, bytesLeft)
		if err != nil {
			err = failed(ctx, a.deps.Log, "resolving an attachment", err)
			if expires {
				err = retriedWithin(left-time.Since(start), activity.GetInfo(ctx).Attempt, err)
			}
			return res, err
		}
		if problem != "" {
			res.Problem = problem
			break
		}
		bytesLeft -= stored.Size
		res.Route.Bytes += stored.Size // a large e-mail is not sent inline
		res.Stored++
	}
	res.Took = since(start)
	return res, nil
}

// retriedWithin sets the next retry to the e-mail's expiry, where the activity's retry policy
// would wait longer. left is the time until the expiry.
func retriedWithin(left time.Duration, attempt int32, err error) error {
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || app.NonRetryable() || left >= min(delivery.FetchWaitFirst<<min(attempt-1, 10), delivery.FetchWaitMost) {
		return err
	}
	return temporal.NewApplicationErrorWithOptions(app.Message(), app.Type(), temporal.ApplicationErrorOptions{Category: app.Category(), NextRetryDelay: max(left, time.Second)})
}

// resolve fetches and stores one attachment of at most maxBytes. A problem is permanent; an
// error is retried.
func (a *Activities) resolve(ctx context.Context, customerID string, att email.Attachment, maxBytes int64) (stored email.Attachment, problem string, err error) {
	stored, faulty, err := a.fetch(ctx, customerID, att, maxBytes)
	if err == nil || !faulty {
		return stored, "", err
	}
	f, known := errors.AsType[*email.Failure](err)
	switch late := time.Since(activity.GetInfo(ctx).ScheduledTime) >= a.limits.resolveWindow; {
	case known && f.Code != email.CodeUnavailable:
		problem = f.Detail
	case !late || ctx.Err() != nil: // a canceled activity proves nothing about the source
		return att, "", err
	default:
		problem = "the attachment could not be fetched within " + a.limits.resolveWindow.String()
		if known {
			problem += ": " + f.Detail
		}
	}
	if !att.Optional {
		return att, problem, nil
	}
	att.Problem = problem
	stored, err = a.deps.Mail.StoreAttachment(ctx, customerID, att, nil)
	return stored, "", err
}

// fetch stores an attachment while it is downloaded. faulty reports that the error is the
// source's, not the store's.
func (a *Activities) fetch(ctx context.Context, customerID string, att email.Attachment, maxBytes int64) (stored email.Attachment, faulty bool, err error) {
	got, body, err := a.deps.Resolver.Resolve(ctx, customerID, att, maxBytes)
	if err != nil {
		return att, true, err
	}
	source := &errorReader{Reader: body}
	stored, err = a.deps.Mail.StoreAttachment(ctx, customerID, got, source)
	_ = body.Close() // StoreAttachment has read what it needs; an error changes nothing
	if source.err != nil {
		return att, true, source.err
	}
	return stored, false, err
}

// errorReader keeps the error that reading ended with.
type errorReader struct {
	io.Reader
	err error
}

func (r *errorReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// firstDomains bounds the keyword list of the search attribute.
func firstDomains(ds []string) []string { return ds[:min(len(ds), 10)] }
