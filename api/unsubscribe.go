package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// Unsubscribing is about the links by which recipients unsubscribe. The credential is the token of a link. A token
// that is no link's is CodeNotFound.
type Unsubscribing interface {
	Subscription(ctx context.Context, token string) (unsubscribe.Subscription, error)
	// Unsubscribe and Resubscribe return what the subscription is then. Calling them again changes nothing.
	Unsubscribe(ctx context.Context, token string) (unsubscribe.Subscription, error)
	Resubscribe(ctx context.Context, token string) (unsubscribe.Subscription, error)
}

const (
	// maxUnsubscribeForm limits what is read of the body of an unsubscription, in bytes: the forms of mailbox
	// providers, and of the page, have less than 100.
	maxUnsubscribeForm = 4 << 10
	// maxUnsubscribeBody limits what is received and thrown away of the rest, in bytes: many clients read the
	// answer only when they have sent all.
	maxUnsubscribeBody = 16 << 20
	// unsubscribesAtOnce limits the connections to Postgres that links use. A mailbox provider's requests come
	// all at once and from a few addresses. They wait for their turn. Only the limits of the port refuse some.
	unsubscribesAtOnce = 4
)

// unsubscribeHandlers answers /u.
type unsubscribeHandlers struct {
	store   Unsubscribing
	turns   *membudget.Budget
	respond responder
	log     *slog.Logger
}

func newUnsubscribeHandlers(store Unsubscribing, respond responder, log *slog.Logger) *unsubscribeHandlers {
	return &unsubscribeHandlers{store: store, turns: membudget.New(membudget.Options{Total: unsubscribesAtOnce}), respond: respond, log: log}
}

// inTurn does something with the store when there is a turn, which it awaits for turnWait.
func (h *unsubscribeHandlers) inTurn(ctx context.Context, token string, do func(context.Context, string) (unsubscribe.Subscription, error)) (s unsubscribe.Subscription, err error) {
	wait, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if _, err := h.turns.Acquire(wait, "", 1); err != nil {
		return s, errNoMemory
	}
	defer h.turns.Release("", 1)
	return do(ctx, token)
}

// get shows the page, which changes nothing: programs that look for malware open each link of a mail.
func (h *unsubscribeHandlers) get(c *gin.Context) {
	s, err := h.inTurn(c.Request.Context(), c.Param("token"), h.store.Subscription)
	h.page(c, &s, err)
}

// post unsubscribes with any body (RFC 8058 section 3.2). It never redirects. The page's own forms say so
// in a field, and get the page as the answer; so does undo.
func (h *unsubscribeHandlers) post(c *gin.Context) {
	form := unsubscribeForm(c)
	undo := form.Get(unsubscribe.FieldUndo) != ""
	do, what := h.store.Unsubscribe, "unsubscribe.done"
	if undo {
		do, what = h.store.Resubscribe, "unsubscribe.undone"
	}
	// WithoutCancel: what a recipient wants is done also if its program does not wait for the answer.
	s, err := h.inTurn(context.WithoutCancel(c.Request.Context()), c.Param("token"), do)
	if err == nil {
		h.log.InfoContext(c.Request.Context(), what, "request_id", requestID(c), "state", s.State, "topic", s.Topic)
		// The client may have closed the connection, or send more than this: it has been heard in any case.
		_, _ = io.CopyN(io.Discard, c.Request.Body, maxUnsubscribeBody)
	}
	if err != nil || undo || form.Get(unsubscribe.FieldPage) != "" {
		h.page(c, &s, err)
		return
	}
	h.send(c, http.StatusOK, nil)
}

// unsubscribeForm is the beginning of a body that is a form. Any other body says no more than that the recipient
// unsubscribes, and so does one that cannot be read.
func unsubscribeForm(c *gin.Context) url.Values {
	kind, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, maxUnsubscribeForm))
	if err != nil {
		return nil
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil
	}
	return form
}

// page answers with the page of a link, or of a link that is not valid.
func (h *unsubscribeHandlers) page(c *gin.Context, s *unsubscribe.Subscription, err error) {
	status := http.StatusOK
	if f, ok := errors.AsType[*email.Failure](err); ok && f.Code == email.CodeNotFound {
		status, s, err = http.StatusNotFound, nil, nil
	}
	var page []byte
	if err == nil {
		page, err = unsubscribe.Page(s)
	}
	if err != nil {
		h.respond.problem(c, err)
		return
	}
	h.send(c, status, page)
}

func (h *unsubscribeHandlers) send(c *gin.Context, status int, page []byte) {
	c.Header("Content-Security-Policy", unsubscribe.Policy)
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("X-Robots-Tag", "noindex, nofollow")
	c.Data(status, "text/html; charset=utf-8", page)
}
