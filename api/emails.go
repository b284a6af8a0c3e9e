package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// Emails keeps e-mails. Every call is bounded by a customer.
type Emails interface {
	// Accept stores a message, once per idempotency key: after it returns, the mail
	// cannot be lost. replayed says that it was stored before.
	Accept(ctx context.Context, customerID string, m email.Message, owner string, idem email.Idempotency) (e email.Email, replayed bool, err error)
	Email(ctx context.Context, customerID, id string) (email.Email, error)
	Emails(ctx context.Context, customerID string, f email.Filter, after email.Cursor, limit int) ([]email.Email, *email.Cursor, error)
	// Delete also cancels what is not sent; wake says that a run may wait for that.
	Delete(ctx context.Context, customerID, id string) (e email.Email, wake bool, err error)
	ControlFor(ctx context.Context, customerID, id string, control email.Control) (email.Email, error)
	// Resend accepts a finished e-mail's message as a new e-mail.
	Resend(ctx context.Context, customerID, id, owner string, idem email.Idempotency) (e email.Email, replayed bool, err error)
	// Settled tells which e-mails have had a verdict for every recipient.
	Settled(ctx context.Context, ids []string) ([]string, error)
	// ContentBytes is about what Email reads into memory.
	ContentBytes(ctx context.Context, customerID, id string) (int64, error)
}

// EmailStarter starts and wakes the runs of e-mails, best effort.
type EmailStarter interface {
	// Owner names this process in the leases of the outbox.
	Owner() string
	Accepted(e email.Email)
	Wake(ctx context.Context, e email.Email) error
}

// emailHandlers answer /v1.0/emails and what is below one e-mail, but for its events.
type emailHandlers struct {
	store       Emails
	starter     EmailStarter
	submissions submissions
	links       links
	// waiters are the requests with ?wait=, waits how many there may be.
	waiters *waiters
	waits   *shares
	log     *slog.Logger
}

func (h *emailHandlers) post(c *gin.Context) (int, any, error) {
	key, err := idempotencyKey(c)
	if err != nil {
		return 0, nil, err
	}
	wait, err := waitOf(c)
	if err != nil {
		return 0, nil, err
	}
	e, replayed, err := h.accept(c, key)
	if err != nil {
		return 0, nil, err
	}
	c.Header("Location", h.links.location("/v1.0/emails/"+e.ID))
	if replayed {
		c.Header("Idempotent-Replayed", "true")
		return postStatus(c, e), h.single(c, e), nil
	}
	h.accepted(c, e)
	if wait > 0 {
		e.Text, e.HTML, e.Calendar = "", "", email.Calendar{} // read again after the wait
		releaseAll(c)
		if e, err = h.settled(c, e.CustomerID, e.ID, wait); err != nil {
			return 0, nil, err
		}
	}
	return postStatus(c, e), h.single(c, e), nil
}

// accept stores the message of a request.
func (h *emailHandlers) accept(c *gin.Context, key string) (e email.Email, replayed bool, err error) {
	// The body, the message, and what is sent to Postgres of it.
	body, err := h.submissions.body(c, 3)
	if err != nil {
		return email.Email{}, false, err
	}
	m, sender, err := h.submissions.message(c, body)
	if err != nil {
		return email.Email{}, false, err
	}
	fingerprint, err := compute(c, int64(len(body)), func() (string, error) { return intake.Fingerprint(m), nil })
	if err != nil {
		return email.Email{}, false, err
	}
	if key != "" || m.CallbackURL != "" || len(m.Attachments) > 0 { // it may wait for another request of its customer
		if err := holdChange(c); err != nil {
			return email.Email{}, false, err
		}
	}
	// The client may hang up; what it sent is accepted or not, never half.
	e, replayed, err = h.store.Accept(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, m, h.starter.Owner(),
		email.Idempotency{Key: key, Fingerprint: fingerprint})
	return e, replayed, atSender(err, sender)
}

// postStatus is the status of an answer: 202 while something is still to come.
// VoIPBIN knows no such difference.
func postStatus(c *gin.Context, e email.Email) int {
	if e.Status.Final() || voipbin(c) {
		return http.StatusOK
	}
	return http.StatusAccepted
}

// accepted starts the run of a new e-mail.
func (h *emailHandlers) accepted(c *gin.Context, e email.Email) {
	h.starter.Accepted(e)
	h.log.InfoContext(c.Request.Context(), "email.accepted", "email_id", e.ID, "customer_id", e.CustomerID, "request_id", requestID(c),
		"recipients", len(e.Recipients), "bytes", e.Size(), "stream", e.Stream)
}

func (h *emailHandlers) resend(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "e-mail")
	if err != nil {
		return 0, nil, err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return 0, nil, err
	}
	if err := h.holdContent(c, id); err != nil {
		return 0, nil, err
	}
	first, err := h.store.Email(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	if domain := first.From.Domain(); !grantOf(c).MaySendFrom(domain) {
		return 0, nil, email.Fail(email.CodeForbidden, "this access key may not send from %s", domain)
	}
	e, replayed, err := h.store.Resend(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id, h.starter.Owner(),
		email.Idempotency{Key: key, Fingerprint: "resend " + id})
	if err != nil {
		return 0, nil, err
	}
	c.Header("Location", h.links.location("/v1.0/emails/"+e.ID))
	if replayed {
		c.Header("Idempotent-Replayed", "true")
	} else {
		h.accepted(c, e)
	}
	return postStatus(c, e), h.answered(c, e), nil
}

func (h *emailHandlers) list(c *gin.Context) (int, any, error) {
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	filter, err := filterOf(c, "page_size", "page_token")
	if err != nil {
		return 0, nil, err
	}
	if err := holdPage(c); err != nil {
		return 0, nil, err
	}
	es, next, err := h.store.Emails(c.Request.Context(), customerOf(c).ID, filter, after, size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(es, next, func(e email.Email) emailJSON { return h.item(c, e) }), nil
}

func (h *emailHandlers) get(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "e-mail")
	if err != nil {
		return 0, nil, err
	}
	wait, err := waitOf(c)
	if err != nil {
		return 0, nil, err
	}
	e, err := h.settled(c, customerOf(c).ID, id, wait)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, h.answered(c, e), nil
}

func (h *emailHandlers) delete(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "e-mail")
	if err != nil {
		return 0, nil, err
	}
	if err := h.holdContent(c, id); err != nil {
		return 0, nil, err
	}
	e, wake, err := h.store.Delete(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	if wake {
		go h.wake(context.WithoutCancel(c.Request.Context()), e)
	}
	return http.StatusOK, h.answered(c, e), nil
}

// rescheduleRequest is the body of reschedule; the other actions take none.
type rescheduleRequest struct {
	SendAt *time.Time `json:"send_at"`
}

// control carries out an action: in the store first, so that it works whatever
// Temporal does, then by waking the run.
func (h *emailHandlers) control(action email.Action) handler {
	return func(c *gin.Context) (int, any, error) {
		id, err := pathID(c, "id", "e-mail")
		if err != nil {
			return 0, nil, err
		}
		control := email.Control{Action: action}
		if action == email.ActionReschedule {
			var in rescheduleRequest
			if err := decode(c, &in); err != nil {
				return 0, nil, err
			}
			if in.SendAt == nil || !storableTime(*in.SendAt) {
				return 0, nil, invalid("/send_at", "missing", "give the new time as RFC 3339 has it: 2026-01-02T15:04:05Z")
			}
			control.SendAt = in.SendAt.UTC().Truncate(time.Microsecond)
		}
		if err := h.holdContent(c, id); err != nil {
			return 0, nil, err
		}
		e, err := h.store.ControlFor(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id, control)
		if err != nil {
			return 0, nil, err
		}
		h.log.InfoContext(c.Request.Context(), "email.controlled", "email_id", e.ID, "action", action, "status", e.Status, "request_id", requestID(c))
		go h.wake(context.WithoutCancel(c.Request.Context()), e)
		return http.StatusOK, h.answered(c, e), nil
	}
}

// wake tells a run that its e-mail changed. It is best effort: the gate knows.
func (h *emailHandlers) wake(ctx context.Context, e email.Email) {
	if err := h.starter.Wake(ctx, e); err != nil {
		h.log.WarnContext(ctx, "dispatch.wake", "email_id", e.ID, "error", err)
	}
}

// settled reads an e-mail, after waiting for a verdict on every recipient.
func (h *emailHandlers) settled(c *gin.Context, customerID, id string, wait time.Duration) (email.Email, error) {
	if wait > 0 {
		if err := h.wait(c, customerID, id, wait); err != nil {
			return email.Email{}, err
		}
	}
	if err := h.holdContent(c, id); err != nil {
		return email.Email{}, err
	}
	return h.store.Email(context.WithoutCancel(c.Request.Context()), customerID, id)
}

// wait waits for a verdict on every recipient. Meanwhile it holds no content, nor the
// header of the request, which nothing reads afterwards. It does not wait where as many requests
// of the customer do as may: they would hold the connections of others.
func (h *emailHandlers) wait(c *gin.Context, customerID, id string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), wait)
	defer cancel()
	if _, err := h.store.ContentBytes(ctx, customerID, id); err != nil {
		return err
	}
	if settled, err := h.store.Settled(ctx, []string{id}); err != nil || len(settled) > 0 {
		return err
	}
	if !h.waits.try(customerID, 1) {
		return nil
	}
	defer h.waits.release(customerID, 1)
	clear(c.Request.Header)
	one := h.waiters.add(id)
	select {
	case <-one.done:
	case <-ctx.Done():
	}
	h.waiters.leave(id, one)
	return nil
}

// holdContent is holdAnswer for an e-mail: its content as it is read, and as JSON twice.
func (h *emailHandlers) holdContent(c *gin.Context, id string) error {
	if err := holdQuery(c); err != nil {
		return err
	}
	n, err := h.store.ContentBytes(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return err
	}
	return holdAnswer(c, 3*n+smallAnswer)
}
