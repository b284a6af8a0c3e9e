package api

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/portion"
)

type deliveryJSON struct {
	ID            string            `json:"id"`
	EndpointID    string            `json:"endpoint_id"`
	EmailID       string            `json:"email_id,omitempty"`
	Type          string            `json:"type"`
	Status        endpoint.Status   `json:"status"`
	Attempts      int               `json:"attempts"`
	NextAttemptAt *string           `json:"next_attempt_at"`
	CreatedAt     *string           `json:"created_at"`
	Calls         []deliveryCallDoc `json:"calls"`
}

type deliveryCallDoc struct {
	Attempt int     `json:"attempt"`
	At      *string `json:"at"`
	Code    int     `json:"code"`
	MS      int64   `json:"ms"`
	Error   string  `json:"error,omitempty"`
	Answer  string  `json:"answer,omitempty"`
}

func delivery(d endpoint.Delivery) deliveryJSON {
	out := deliveryJSON{
		ID: d.ID, EndpointID: d.EndpointID, EmailID: d.EmailID, Type: d.Type, Status: d.Status, Attempts: d.Attempts,
		NextAttemptAt: moment(d.NextAttemptAt), CreatedAt: moment(d.CreatedAt), Calls: make([]deliveryCallDoc, len(d.Log)),
	}
	for i, a := range d.Log {
		out.Calls[i] = deliveryCallDoc{Attempt: a.Number, At: moment(a.At), Code: a.Code, MS: a.Duration.Milliseconds(), Error: a.Error, Answer: a.Answer}
	}
	return out
}

func (h *webhookHandlers) listDeliveries(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "webhook endpoint")
	if err != nil {
		return 0, nil, err
	}
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	status := endpoint.Status(c.Query("status"))
	if status != "" && !slices.Contains([]endpoint.Status{endpoint.StatusPending, endpoint.StatusDelivered, endpoint.StatusFailed}, status) {
		return 0, nil, invalid("status", "invalid", "give pending, delivered or failed")
	}
	if err := reservePage(c, portion.Page(size)); err != nil {
		return 0, nil, err
	}
	ds, next, err := h.store.Deliveries(c.Request.Context(), customerOf(c).ID, id, status, after, size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(ds, next, delivery), nil
}

func (h *webhookHandlers) retryDelivery(c *gin.Context) (int, any, error) {
	d, err := h.store.RetryDelivery(c.Request.Context(), customerOf(c).ID, c.Param("id"))
	if err != nil {
		return 0, nil, err
	}
	h.wake(c.Request.Context(), d.EndpointID)
	return http.StatusAccepted, delivery(d), nil
}
