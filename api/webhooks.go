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

// Webhooks keeps a customer's endpoints and what they are told.
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
	Replay(ctx context.Context, customerID, endpointID string, since, until time.Time, types []string) (n int, err error)
}

// EndpointWaker has the run of a webhook endpoint look, best effort.
type EndpointWaker interface {
	WakeEndpoint(ctx context.Context, endpointID string) error
}

// webhookHandlers answer /v1.0/webhooks and /v1.0/deliveries.
type webhookHandlers struct {
	store    Webhooks
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
	// Failures in a row; since when; until when it is left alone; and when it will be
	// disabled if it goes on like that.
	Failures     int     `json:"failures"`
	FailingSince *string `json:"failing_since"`
	LastError    string  `json:"last_error,omitempty"`
	BlockedUntil *string `json:"blocked_until"`
	DisablesAt   *string `json:"disables_at"`
	CreatedAt    *string `json:"created_at"`
	UpdatedAt    *string `json:"updated_at"`
	// Secret is shown once, when it is made.
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

// webhookRequest makes an endpoint, or changes what it names.
type webhookRequest struct {
	URL     *string          `json:"url"`
	Method  *string          `json:"method"`
	Format  *endpoint.Format `json:"format"`
	Events  *[]string        `json:"events"`
	Tags    *[]string        `json:"tags"`
	Streams *[]string        `json:"streams"`
}

// apply sets what a request names and checks the whole.
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
		return invalid("/url", "missing", "give the address to call")
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
	// What waits for the endpoint goes to the new address, and happened before.
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

// oneWebhook is a handler for what is done to one endpoint.
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

// enableWebhook also wakes what waits for the endpoint.
func (h *webhookHandlers) enable(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	e, err := h.store.EnableEndpoint(ctx, customerID, id)
	if err == nil {
		h.wake(ctx, id)
	}
	return e, err
}

// deleteWebhook also ends the endpoint's run, which has nothing to wait for any more.
func (h *webhookHandlers) delete(ctx context.Context, customerID, id string) (endpoint.Endpoint, error) {
	e, err := h.store.DeleteEndpoint(ctx, customerID, id)
	if err == nil {
		h.wake(ctx, id)
	}
	return e, err
}

// wakeEndpoint has the endpoint's run look, as soon as Temporal lets it; a sweep
// finds it else.
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

// replayRequest names a time, and the events of it; none means those the endpoint
// wants. Until defaults to now.
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
		return 0, nil, invalid("/since", "invalid", "give the time from which to tell again, in RFC 3339, before until")
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
	n, err := h.store.Replay(c.Request.Context(), customerOf(c).ID, id, in.Since, in.Until, in.Types)
	if err != nil {
		return 0, nil, err
	}
	h.wake(c.Request.Context(), id)
	return http.StatusAccepted, gin.H{"deliveries": n}, nil
}
