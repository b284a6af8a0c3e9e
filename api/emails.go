package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/portion"
)

// Emails stores e-mails. Each call sees the e-mails of one customer only.
type Emails interface {
	// Accept stores a message as an e-mail and commits. A second call with the same
	// idempotency key returns the first e-mail, and replayed is true.
	Accept(ctx context.Context, customerID string, m email.Message, owner string, idem email.Idempotency) (e email.Email, replayed bool, err error)
	Email(ctx context.Context, customerID, id string) (email.Email, error)
	Emails(ctx context.Context, customerID string, f email.Filter, after email.Cursor, limit int) ([]email.Email, *email.Cursor, error)
	// Delete removes an e-mail from lists and cancels it if it is not sent yet. wakes are orders
	// to signal the workflow, if one may wait for the e-mail.
	Delete(ctx context.Context, customerID, id string) (e email.Email, wakes []string, err error)
	// ControlFor applies an action to an e-mail. wakes are orders to signal its workflow.
	ControlFor(ctx context.Context, customerID, id string, control email.Control) (e email.Email, wakes []string, err error)
	// Resend accepts the message of a finished e-mail as a new e-mail.
	Resend(ctx context.Context, customerID, id, owner string, idem email.Idempotency) (e email.Email, replayed bool, err error)
	// FirstVerdict returns those of ids whose recipients all have a verdict.
	FirstVerdict(ctx context.Context, ids []string) ([]string, error)
	// ContentBytes returns about how many bytes Email reads into memory.
	ContentBytes(ctx context.Context, customerID, id string) (int64, error)
}

// EmailStarter starts the workflows of e-mails and signals them. It may fail: the outbox and the
// sweeps start them later.
type EmailStarter interface {
	// Owner is the holder of this process's leases in the outbox.
	Owner() string
	// Accepted starts the workflow of a new e-mail, in the background.
	Accepted(e email.Email)
	// Wake carries out orders to signal workflows, which then read their state again.
	Wake(ctx context.Context, orders []string) error
}

// emailHandlers answers /v1.0/emails and the routes of one e-mail, except its events and
// attempts.
type emailHandlers struct {
	store       Emails
	starter     EmailStarter
	submissions submissions
	links       links
	// waiters are the requests with ?wait=. waits limits them.
	waiters *waiters
	waits   *membudget.Budget
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
		e.Text, e.HTML, e.Calendar = "", "", email.Calendar{} // to free memory; settled reads them again
		releaseAll(c)
		if e, err = h.awaitVerdict(c, e.CustomerID, e.ID, wait); err != nil {
			return 0, nil, err
		}
	}
	return postStatus(c, e), h.single(c, e), nil
}

// accept decodes the message of a request and stores it.
func (h *emailHandlers) accept(c *gin.Context, key string) (e email.Email, replayed bool, err error) {
	// Three times the body: the body, the message, and the parameters of the SQL statements.
	const times = 3
	body, err := h.submissions.body(c, times)
	if err != nil {
		return email.Email{}, false, err
	}
	m, sender, err := h.submissions.message(c, body, 0, times)
	if err != nil {
		return email.Email{}, false, err
	}
	fingerprint, err := compute(c, int64(len(body)), func() (string, error) { return intake.Fingerprint(m), nil })
	if err != nil {
		return email.Email{}, false, err
	}
	if key != "" || m.CallbackURL != "" || len(m.Attachments) > 0 || m.IgnoreSuppressions { // it may wait for a row lock
		if err := reserveChange(c); err != nil {
			return email.Email{}, false, err
		}
	}
	// WithoutCancel: a client that closes the connection does not interrupt the transaction.
	e, replayed, err = h.store.Accept(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, m, h.starter.Owner(),
		email.Idempotency{Key: key, Fingerprint: fingerprint})
	return e, replayed, atSender(err, sender)
}

// postStatus returns the HTTP status for an accepted e-mail: 202, or 200 if its status is final.
// VoIPBIN's API answers 200 always.
func postStatus(c *gin.Context, e email.Email) int {
	if e.Status.Final() || voipbin(c) {
		return http.StatusOK
	}
	return http.StatusAccepted
}

// accepted starts the workflow of a new e-mail and logs it.
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
	if err := h.reserveContent(c, id); err != nil {
		return 0, nil, err
	}
	first, err := h.store.Email(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	if domain := first.From.Domain(); !grantOf(c).MaySendFrom(domain) {
		return 0, nil, email.Fail(email.CodeForbidden, "this access key may not send from %s", domain)
	}
	if first.IgnoreSuppressions && !grantOf(c).May(account.ScopeIgnoreSuppressions) {
		return 0, nil, lacks(account.ScopeIgnoreSuppressions)
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
	if err := reservePage(c, portion.Page(size)); err != nil {
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
	e, err := h.awaitVerdict(c, customerOf(c).ID, id, wait)
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
	if err := h.reserveContent(c, id); err != nil {
		return 0, nil, err
	}
	e, wakes, err := h.store.Delete(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	go h.wake(context.WithoutCancel(c.Request.Context()), id, wakes)
	return http.StatusOK, h.answered(c, e), nil
}

// rescheduleRequest is the body of reschedule; the other actions take none.
type rescheduleRequest struct {
	SendAt *time.Time `json:"send_at"`
}

// control returns a handler that applies an action to an e-mail. It changes the store first, so
// that the action works while Temporal is down, then signals the workflow.
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
				return 0, nil, invalid("/send_at", "missing", "give the new time in RFC 3339 format, as 2026-01-02T15:04:05Z")
			}
			control.SendAt = in.SendAt.UTC().Truncate(time.Microsecond)
		}
		if err := h.reserveContent(c, id); err != nil {
			return 0, nil, err
		}
		e, wakes, err := h.store.ControlFor(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id, control)
		if err != nil {
			return 0, nil, err
		}
		h.log.InfoContext(c.Request.Context(), "email.controlled", "email_id", e.ID, "action", action, "status", e.Status, "request_id", requestID(c))
		go h.wake(context.WithoutCancel(c.Request.Context()), id, wakes)
		return http.StatusOK, h.answered(c, e), nil
	}
}

// wake signals the workflow of a changed e-mail. If that fails, a sweep does it: the orders are
// rows.
func (h *emailHandlers) wake(ctx context.Context, id string, orders []string) {
	if err := h.starter.Wake(ctx, orders); err != nil {
		h.log.WarnContext(ctx, "dispatch.wake", "email_id", id, "error", err)
	}
}

// awaitVerdict waits until every recipient has a verdict, at most for wait, and reads the e-mail.
func (h *emailHandlers) awaitVerdict(c *gin.Context, customerID, id string, wait time.Duration) (email.Email, error) {
	if wait > 0 {
		if err := h.wait(c, customerID, id, wait); err != nil {
			return email.Email{}, err
		}
	}
	if err := h.reserveContent(c, id); err != nil {
		return email.Email{}, err
	}
	return h.store.Email(context.WithoutCancel(c.Request.Context()), customerID, id)
}

// wait waits until every recipient has a verdict. Meanwhile the request holds neither content nor
// its header, which is not read again. wait returns at once if too many requests of the customer
// wait already: they would use up the connections of other customers.
func (h *emailHandlers) wait(c *gin.Context, customerID, id string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), wait)
	defer cancel()
	// These reads have the request's context: if the wait ends during a read, the answer is the
	// e-mail, not an error.
	if _, err := h.store.ContentBytes(c.Request.Context(), customerID, id); err != nil {
		return err
	}
	if settled, err := h.store.FirstVerdict(c.Request.Context(), []string{id}); err != nil || len(settled) > 0 {
		return err
	}
	if !h.waits.TryAcquire(customerID, 1) {
		return nil
	}
	defer h.waits.Release(customerID, 1)
	clear(c.Request.Header)
	one := h.waiters.add(id)
	select {
	case <-one.done:
	case <-ctx.Done():
	}
	h.waiters.leave(id, one)
	return nil
}

// reserveContent reserves memory to answer with an e-mail, then a connection to read it: its content
// as it is read, and as JSON in a growing buffer. While it waits for memory or for the turn, the
// request holds no connection.
func (h *emailHandlers) reserveContent(c *gin.Context, id string) error {
	if err := reserveQuery(c); err != nil {
		return err
	}
	n, err := h.store.ContentBytes(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return err
	}
	release(c, budgetOf(c).slowQueries)
	if err := reserveAnswer(c, 3*n+smallAnswer); err != nil {
		return err
	}
	return reserveQuery(c)
}
