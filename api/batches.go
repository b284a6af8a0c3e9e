package api

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/portion"
)

// Batches stores batches. Each call sees those of one customer only.
type Batches interface {
	// AcceptBatch stores each message of a batch as an e-mail. A second call with the same
	// idempotency key returns the first batch, and replayed is true.
	AcceptBatch(ctx context.Context, customerID string, req email.BatchRequest, owner string, idem email.Idempotency) (b email.Batch, items []email.BatchItem, replayed bool, err error)
	Batch(ctx context.Context, customerID, id string) (email.BatchProgress, error)
	Batches(ctx context.Context, customerID string, after email.Cursor, limit int) ([]email.BatchProgress, *email.Cursor, error)
	// ControlBatchFor applies an action to the e-mails of a batch. wakes are orders to signal the
	// workflow of the batch, and those of its e-mails that have their own.
	ControlBatchFor(ctx context.Context, customerID, id string, action email.Action) (p email.BatchProgress, wakes []string, err error)
}

// BatchStarter starts the workflows of batches and signals them, and those of e-mails of batches
// that have their own. It may fail: the outbox and the sweeps start them later.
type BatchStarter interface {
	// Owner is the holder of this process's leases in the outbox.
	Owner() string
	AcceptedBatch(b email.Batch)
	// Wake carries out orders to signal workflows, which then read their state again.
	Wake(ctx context.Context, orders []string) error
}

// batchHandlers answers /v1.0/batches and POST /v1.0/emails/batch.
type batchHandlers struct {
	store       Batches
	starter     BatchStarter
	submissions submissions
	links       links
	log         *slog.Logger
}

type batchErrorJSON struct {
	Code   email.Code     `json:"code"`
	Detail string         `json:"detail"`
	Errors []problemField `json:"errors,omitempty"`
}

// batchItemJSON is the result of an item: an e-mail or an error.
type batchItemJSON struct {
	Index        int             `json:"index"`
	ID           string          `json:"id,omitempty"`
	Status       email.Status    `json:"status,omitempty"`
	StatusDetail email.Detail    `json:"status_detail,omitempty"`
	Error        *batchErrorJSON `json:"error,omitempty"`
}

type batchJSON struct {
	ID          string          `json:"id"`
	CustomerID  string          `json:"customer_id"`
	Status      string          `json:"status"`
	Mode        email.BatchMode `json:"mode"`
	Total       int             `json:"total"`
	Accepted    int             `json:"accepted"`
	Refused     int             `json:"refused"`
	CreatedAt   *string         `json:"created_at"`
	FinishedAt  *string         `json:"finished_at"`
	WorkflowID  string          `json:"workflow_id"`
	WorkflowURL string          `json:"workflow_url,omitempty"`
}

// acceptedBatchJSON is the answer to POST, with the result of each item.
type acceptedBatchJSON struct {
	batchJSON
	Items []batchItemJSON `json:"items"`
}

// batchProgressJSON is the state of a batch.
type batchProgressJSON struct {
	batchJSON
	// Emails counts e-mails by status, and all as total. Details counts the queued and sending
	// ones by status_detail.
	Emails  map[string]int       `json:"emails"`
	Details map[email.Detail]int `json:"details"`
	Rate    float64              `json:"rate"`
	NextAt  *string              `json:"next_attempt_at"`
}

// The states of a batch.
const (
	batchSending  = "sending"
	batchHeld     = "held"
	batchFinished = "finished"
)

// batch returns the common part of the answers for a batch with so many e-mails that are queued
// or sending.
func (h *batchHandlers) batch(b email.Batch, open int) batchJSON {
	out := batchJSON{
		ID: b.ID, CustomerID: b.CustomerID, Status: batchSending, Mode: b.Mode, Total: b.Total, Accepted: b.Accepted(), Refused: b.RefusedCount,
		CreatedAt: moment(b.CreatedAt), WorkflowID: b.WorkflowID,
	}
	switch {
	case open == 0:
		out.Status, out.FinishedAt = batchFinished, moment(b.FinishedAt)
	case b.Held:
		out.Status = batchHeld
	}
	out.WorkflowURL = h.links.workflow(b.WorkflowID)
	return out
}

func (h *batchHandlers) progress(p email.BatchProgress) batchProgressJSON {
	open := p.Emails[email.StatusQueued] + p.Emails[email.StatusSending]
	out := batchProgressJSON{batchJSON: h.batch(p.Batch, open), Emails: statusCounts(p.Emails), Details: p.Details, Rate: math.Round(p.Rate*100) / 100, NextAt: moment(p.NextAt)}
	if open > 0 && p.Details[email.DetailHeld] == open {
		out.Status = batchHeld // all are held, each by itself or by a pause
	}
	if out.Details == nil {
		out.Details = map[email.Detail]int{}
	}
	return out
}

func (h *batchHandlers) post(c *gin.Context) (int, any, error) {
	if err := parameters(c, "GET /v1.0/batches/{id} shows the progress of a batch"); err != nil {
		return 0, nil, err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return 0, nil, err
	}
	b, items, replayed, err := h.accept(c, key)
	if err != nil {
		return 0, nil, err
	}
	c.Header("Location", h.links.location("/v1.0/batches/"+b.ID))
	if replayed {
		c.Header("Idempotent-Replayed", "true")
	} else {
		h.starter.AcceptedBatch(b)
		h.log.InfoContext(c.Request.Context(), "batch.accepted", "batch_id", b.ID, "customer_id", b.CustomerID, "request_id", requestID(c),
			"accepted", b.Accepted(), "refused", len(b.Refused))
	}
	out := acceptedBatchJSON{batchJSON: h.batch(b, 1), Items: make([]batchItemJSON, 0, b.Total)}
	queued := email.StatusQueued
	if voipbin(c) {
		queued = email.Status(email.VoIPBINStatus(email.Email{Status: queued}))
	}
	for _, it := range items {
		out.Items = append(out.Items, batchItemJSON{Index: it.Index, ID: it.EmailID, Status: queued, StatusDetail: it.Detail})
	}
	out.Items = append(out.Items, refusedItems(b.Refused)...)
	slices.SortFunc(out.Items, func(a, b batchItemJSON) int { return a.Index - b.Index })
	return http.StatusAccepted, out, nil
}

func refusedItems(refused []email.RefusedItem) []batchItemJSON {
	out := make([]batchItemJSON, len(refused))
	for i, r := range refused {
		out[i] = batchItemJSON{Index: r.Index, Error: &batchErrorJSON{Code: r.Code, Detail: r.Detail, Errors: problemFields(r.Fields)}}
	}
	return out
}

// accept decodes the batch of a request and stores it.
func (h *batchHandlers) accept(c *gin.Context, key string) (b email.Batch, items []email.BatchItem, replayed bool, err error) {
	body, err := h.submissions.body(c, 4)
	if err != nil {
		return b, nil, false, err
	}
	in, err := h.submissions.batch(c, body)
	if err != nil {
		return b, nil, false, err
	}
	// Three times: an insert holds the messages, and their SQL in a growing buffer. That is little
	// enough to take no turn unless a message is large: the transaction may wait for Postgres.
	if err := reserve(c, budgetOf(c).copies, 3*min(in.Bytes(), portion.BatchInsert+in.Largest())); err != nil {
		return b, nil, false, err
	}
	idem := email.Idempotency{Key: key}
	if key != "" {
		idem.Fingerprint, err = compute(c, in.Bytes(), func() (string, error) { return in.Fingerprint(), nil })
		if err != nil {
			return b, nil, false, err
		}
	}
	if err := reserveQuery(c); err != nil {
		return b, nil, false, err
	}
	// A client that closes the connection ends the transaction, which stores nothing then.
	return h.store.AcceptBatch(c.Request.Context(), customerOf(c).ID, batchRequest(c, in), h.starter.Owner(), idem)
}

func (h *batchHandlers) get(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "batch")
	if err != nil {
		return 0, nil, err
	}
	p, err := h.store.Batch(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, h.progress(p), nil
}

func (h *batchHandlers) list(c *gin.Context) (int, any, error) {
	if err := parameters(c, "there are page_size and page_token", "page_size", "page_token"); err != nil {
		return 0, nil, err
	}
	return listSmall(c, customerOf(c).ID, h.store.Batches, h.progress)
}

// control returns a handler that applies an action to all e-mails of a batch. It changes the store
// first, then signals the workflows. A workflow that receives no signal reads the change at the
// gate, before its next attempt.
func (h *batchHandlers) control(action email.Action) handler {
	return func(c *gin.Context) (int, any, error) {
		id, err := pathID(c, "id", "batch")
		if err != nil {
			return 0, nil, err
		}
		if err := reserveQuery(c); err != nil {
			return 0, nil, err
		}
		p, wakes, err := h.store.ControlBatchFor(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id, action)
		if err != nil {
			return 0, nil, err
		}
		h.log.InfoContext(c.Request.Context(), "batch.controlled", "batch_id", id, "action", action, "request_id", requestID(c))
		go h.wake(context.WithoutCancel(c.Request.Context()), id, wakes)
		return http.StatusOK, h.progress(p), nil
	}
}

// wake signals the workflow of a batch, and those of its e-mails that have their own. If that
// fails, a sweep does it: the orders are rows.
func (h *batchHandlers) wake(ctx context.Context, id string, orders []string) {
	if err := h.starter.Wake(ctx, orders); err != nil {
		h.log.WarnContext(ctx, "dispatch.wake", "batch_id", id, "error", err)
	}
}
