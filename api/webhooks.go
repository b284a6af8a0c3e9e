package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/endpoint"
)

// Webhooks stores the webhook endpoints of customers and their deliveries.
type Webhooks interface {
	CreateEndpoint(ctx context.Context, e endpoint.Endpoint) (out endpoint.Endpoint, secret string, err error)
	Endpoints(ctx context.Context, customerID string) ([]endpoint.Endpoint, error)
	Endpoint(ctx context.Context, customerID, id string) (endpoint.Endpoint, error)
	UpdateEndpoint(ctx context.Context, e endpoint.Endpoint) (endpoint.Endpoint, error)
	DeleteEndpoint(ctx context.Context, customerID, id string) (endpoint.Endpoint, error)
	EnableEndpoint(ctx context.Context, customerID, id string) (endpoint.Endpoint, error)
	RotateSecret(ctx context.Context, customerID, id string) (e endpoint.Endpoint, secret string, err error)
	TestEndpoint(ctx context.Context, customerID, id string) (endpoint.Delivery, error)
	Deliveries(ctx context.Context, customerID, endpointID string, status endpoint.Status, after email.Cursor, limit int) ([]endpoint.Delivery, *email.Cursor, error)
	RetryDelivery(ctx context.Context, customerID, deliveryID string) (endpoint.Delivery, error)
}

// Replays writes events anew for an endpoint.
type Replays interface {
	Replay(ctx context.Context, customerID, endpointID string, since, until time.Time, types []string) (n int, err error)
}

// EndpointWaker starts the workflow of a webhook endpoint if none runs, and signals it to read its
// deliveries. It may fail: a sweep does the same later.
type EndpointWaker interface {
	WakeEndpoint(ctx context.Context, endpointID string) error
}

// webhookHandlers answers /v1.0/webhooks and, in deliveries.go, the deliveries of endpoints.
type webhookHandlers struct {
	store    Webhooks
	replays  Replays
	waker    EndpointWaker
	checkURL func(string) error
	now      func() time.Time
	log      *slog.Logger
}

type webhookJSON struct {
	ID             string          `json:"id"`
	Kind           endpoint.Kind   `json:"kind"`
	URL            string          `json:"url"`
	Method         string          `json:"method"`
	Format         endpoint.Format `json:"format"`
	Events         []string        `json:"events"`
	Tags           []string        `json:"tags"`
	Streams        []string        `json:"streams"`
	Disabled       bool            `json:"disabled"`
	DisabledReason string          `json:"disabled_reason,omitempty"`
	// Failures is how many calls have failed in a row, FailingSince when the first of them did.
	// No call is made until BlockedUntil. At DisablesAt the endpoint is disabled if calls go on
	// failing.
	Failures     int     `json:"failures"`
	FailingSince *string `json:"failing_since"`
	LastError    string  `json:"last_error,omitempty"`
	BlockedUntil *string `json:"blocked_until"`
	DisablesAt   *string `json:"disables_at"`
	CreatedAt    *string `json:"created_at"`
	UpdatedAt    *string `json:"updated_at"`
	// Secret is only in the answer to the request that created it.
	Secret string `json:"secret,omitempty"`
}

func webhook(e endpoint.Endpoint, secret string) webhookJSON {
	out := webhookJSON{
		ID: e.ID, Kind: e.Kind, URL: e.URL, Method: e.Method, Format: e.Format, Events: append([]string{}, e.Events...), Tags: append([]string{}, e.Tags...),
		Streams: append([]string{}, e.Streams...), Disabled: e.Disabled, DisabledReason: e.DisabledReason, Failures: e.Failures, LastError: e.LastError,
		FailingSince: moment(e.FailingSince), BlockedUntil: moment(e.BlockedUntil), CreatedAt: moment(e.CreatedAt), UpdatedAt: moment(e.UpdatedAt), Secret: secret,
	}
	if !e.FailingSince.IsZero() && !e.Disabled {
		out.DisablesAt = moment(endpoint.DisablesAt(e.FailingSince, e.WarnedAt))
	}
	return out
}

// webhookRequest creates an endpoint, or updates the members that it has.
type webhookRequest struct {
	URL     *string          `json:"url"`
	Method  *string          `json:"method"`
	Format  *endpoint.Format `json:"format"`
	Events  *[]string        `json:"events"`
	Tags    *[]string        `json:"tags"`
	Streams *[]string        `json:"streams"`
}

// apply sets the members that a request has, and checks the whole endpoint.
func (r webhookRequest) apply(e *endpoint.Endpoint, checkURL func(string) error) error {
	for _, set := range []struct{ from, to *string }{{r.URL, &e.URL}, {r.Method, &e.Method}} {
		if set.from != nil {
			*set.to = *set.from
		}
	}
	for _, set := range []struct{ from, to *[]string }{{r.Events, &e.Events}, {r.Tags, &e.Tags}, {r.Streams, &e.Streams}} {
		if set.from != nil {
			*set.to = *set.from
		}
	}
	if r.Format != nil && *r.Format != e.Format {
		e.Format = *r.Format
		if r.Events == nil {
			e.Events = nil
		}
	}
	if e.Format != endpoint.FormatStandard && e.Format != endpoint.FormatVoIPBIN {
		return invalid("/format", "invalid", "give standard or voipbin")
	}
	if len(e.Events) == 0 {
		e.Events = endpoint.DefaultEvents(e.Format)
	}
	switch {
	case e.URL == "":
		return invalid("/url", "missing", "give the URL to call")
	case len(e.URL) > maxDetailBytes:
		return invalid("/url", "too_long", "shorten it")
	case !slices.Contains([]string{"POST", "GET", "PUT", "DELETE"}, e.Method):
		return invalid("/method", "invalid", "give POST, GET, PUT or DELETE")
	}
	if err := checkURL(e.URL); err != nil {
		return invalid("/url", "invalid", err.Error())
	}
	known := endpoint.Events(e.Format)
	if r.Events != nil {
		if err := choices("/events", len(e.Events), len(known)); err != nil {
			return err
		}
	}
	for i, name := range e.Events {
		if !slices.Contains(known, name) {
			return invalid("/events/"+strconv.Itoa(i), "unknown", "there is no such event in this format; docs/webhooks.md lists them")
		}
	}
	if r.Streams != nil {
		if err := choices("/streams", len(e.Streams), 2); err != nil {
			return err
		}
	}
	for i, s := range e.Streams {
		if s != string(email.StreamTransactional) && s != string(email.StreamBroadcast) {
			return invalid("/streams/"+strconv.Itoa(i), "invalid", "give transactional or broadcast")
		}
	}
	if len(e.Tags) > maxRestrictions {
		return invalid("/tags", "too_many", "give at most 100")
	}
	for i, t := range e.Tags {
		if err := checkTexts(map[string]string{"/tags/" + strconv.Itoa(i): t}); err != nil {
			return err
		}
	}
	return nil
}

func (h *webhookHandlers) post(c *gin.Context) (int, any, error) {
	var in webhookRequest
	e := endpoint.Endpoint{CustomerID: customerOf(c).ID, Method: "POST", Format: endpoint.FormatStandard}
	err := decode(c, &in)
	if err == nil {
		err = in.apply(&e, h.checkURL)
	}
	if err != nil {
		return 0, nil, err
	}
	e, secret, err := h.store.CreateEndpoint(c.Request.Context(), e)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, webhook(e, secret), nil
}

func (h *webhookHandlers) list(c *gin.Context) (int, any, error) {
	es, err := h.store.Endpoints(c.Request.Context(), customerOf(c).ID)
	if err != nil {
		return 0, nil, err
	}
	out := make([]webhookJSON, len(es))
	for i, e := range es {
		out[i] = webhook(e, "")
	}
	return http.StatusOK, gin.H{"result": out}, nil
}

func (h *webhookHandlers) put(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "webhook endpoint")
	if err != nil {
		return 0, nil, err
	}
	e, err := h.store.Endpoint(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	var in webhookRequest
	before := e.URL
	if err = decode(c, &in); err == nil {
		err = in.apply(&e, h.checkURL)
	}
	// Deliveries that wait for the endpoint go to the new URL. They describe past events, so the
	// credential must be allowed to read those.
	if err == nil && e.URL != before && !grantOf(c).May(account.ScopeRead) {
		err = lacks(account.ScopeRead)
	}
	if err != nil {
		return 0, nil, err
	}
	if e, err = h.store.UpdateEndpoint(c.Request.Context(), e); err != nil {
		return 0, nil, err
	}
	h.wake(c.Request.Context(), id)
	return http.StatusOK, webhook(e, ""), nil
}

// one returns a handler for the endpoint that the path names. It calls do and answers with the
// endpoint.
func (h *webhookHandlers) one(do func(ctx context.Context, customerID, id string) (endpoint.Endpoint, error)) handler {
	return func(c *gin.Context) (int, any, error) {
		id, err := pathID(c, "id", "webhook endpoint")
		if err != nil {
			return 0, nil, err
		}
		e, err := do(c.Request.Context(), customerOf(c).ID, id)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, webhook(e, ""), nil
	}
}

// enable enables an endpoint and wakes its workflow, which makes the waiting deliveries.
func (h *webhookHandlers) enable(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	e, err := h.store.EnableEndpoint(ctx, customerID, id)
	if err == nil {
		h.wake(ctx, id)
	}
	return e, err
}

// delete deletes an endpoint and wakes its workflow, which then ends.
func (h *webhookHandlers) delete(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	e, err := h.store.DeleteEndpoint(ctx, customerID, id)
	if err == nil {
		h.wake(ctx, id)
	}
	return e, err
}

// wake wakes the workflow of an endpoint. If that fails, a sweep does it later.
func (h *webhookHandlers) wake(ctx context.Context, id string) {
	if err := h.waker.WakeEndpoint(context.WithoutCancel(ctx), id); err != nil {
		h.log.WarnContext(ctx, "webhook.wake", "endpoint_id", id, "error", err)
	}
}

func (h *webhookHandlers) rotateSecret(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "webhook endpoint")
	if err != nil {
		return 0, nil, err
	}
	e, secret, err := h.store.RotateSecret(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, webhook(e, secret), nil
}

func (h *webhookHandlers) test(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "webhook endpoint")
	if err != nil {
		return 0, nil, err
	}
	d, err := h.store.TestEndpoint(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	h.wake(c.Request.Context(), id)
	return http.StatusAccepted, delivery(d), nil
}

// replayRequest selects the events from Since to before Until, which defaults to now. Types are
// event names; an empty list is those of the endpoint.
type replayRequest struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Types []string  `json:"types"`
}

func (h *webhookHandlers) replay(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "webhook endpoint")
	if err != nil {
		return 0, nil, err
	}
	var in replayRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	if in.Until.IsZero() {
		in.Until = h.now()
	}
	if in.Since.IsZero() || !in.Since.Before(in.Until) || !storableTime(in.Since) || !storableTime(in.Until) {
		return 0, nil, invalid("/since", "invalid", "give the time of the first event to send again, in RFC 3339 format, earlier than until")
	}
	e, err := h.store.Endpoint(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	known := endpoint.Events(e.Format)
	if err := choices("/types", len(in.Types), len(known)); err != nil {
		return 0, nil, err
	}
	for i, name := range in.Types {
		if !slices.Contains(known, name) {
			return 0, nil, invalid("/types/"+strconv.Itoa(i), "unknown", "there is no such event in this format; docs/webhooks.md lists them")
		}
	}
	n, err := h.replays.Replay(c.Request.Context(), customerOf(c).ID, id, in.Since, in.Until, in.Types)
	if err != nil {
		return 0, nil, err
	}
	h.wake(c.Request.Context(), id)
	return http.StatusAccepted, gin.H{"deliveries": n}, nil
}
