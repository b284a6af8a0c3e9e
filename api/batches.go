package api

import (
	"context"
	"math"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// Batches keeps batches. Every call is bounded by a customer.
type Batches interface {
	// AcceptBatch stores many messages as e-mails of their own, once per idempotency key.
	AcceptBatch(ctx context.Context, customerID string, req email.BatchRequest, owner string, idem email.Idempotency) (b email.Batch, items []email.BatchItem, replayed bool, err error)
	// PreviewBatch refuses what AcceptBatch would refuse, and stores nothing. It tells
	// which items would be refused, and the first that would not.
	PreviewBatch(ctx context.Context, customerID string, req email.BatchRequest) (refused []email.RefusedItem, first int, err error)
	Batch(ctx context.Context, customerID, id string) (email.BatchProgress, error)
	Batches(ctx context.Context, customerID string, after email.Cursor, limit int) ([]email.BatchProgress, *email.Cursor, error)
	// ControlBatchFor gives the e-mails that have runs of their own, too.
	ControlBatchFor(ctx context.Context, customerID, id string, action email.Action) (p email.BatchProgress, own []email.Email, err error)
}

type batchErrorJSON struct {
	Code   email.Code     `json:"code"`
	Detail string         `json:"detail"`
	Errors []problemField `json:"errors,omitempty"`
}

// batchItemJSON is what became of one item: an e-mail, or an error.
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

// acceptedBatchJSON is the answer to POST: what became of each item.
type acceptedBatchJSON struct {
	batchJSON
	Items []batchItemJSON `json:"items"`
}

// batchProgressJSON is a batch as it stands.
type batchProgressJSON struct {
	batchJSON
	// Emails counts by status, with their total; Details the open ones by status_detail.
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

func (s *Server) batch(b email.Batch, open int) batchJSON {
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
	if s.opts.WorkflowURL != nil {
		out.WorkflowURL = s.opts.WorkflowURL(b.WorkflowID)
	}
	return out
}

func (s *Server) progress(p email.BatchProgress) batchProgressJSON {
	open := p.Emails[email.StatusQueued] + p.Emails[email.StatusSending]
	out := batchProgressJSON{batchJSON: s.batch(p.Batch, open), Emails: statusCounts(p.Emails), Details: p.Details, Rate: math.Round(p.Rate*100) / 100, NextAt: moment(p.NextAt)}
	if open > 0 && p.Details[email.DetailHeld] == open {
		out.Status = batchHeld // one by one, or by a pause
	}
	if out.Details == nil {
		out.Details = map[email.Detail]int{}
	}
	return out
}

func (s *Server) postBatch(c *gin.Context) (int, any, error) {
	if err := parameters(c, "a batch is watched at GET /v1.0/batches/{id}"); err != nil {
		return 0, nil, err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return 0, nil, err
	}
	b, items, replayed, err := s.acceptBatch(c, key)
	if err != nil {
		return 0, nil, err
	}
	c.Header("Location", s.opts.PublicURL+"/v1.0/batches/"+b.ID)
	if replayed {
		c.Header("Idempotent-Replayed", "true")
	} else {
		s.deps.Dispatcher.AcceptedBatch(b)
		s.deps.Log.InfoContext(c.Request.Context(), "batch.accepted", "batch_id", b.ID, "customer_id", b.CustomerID, "request_id", requestID(c),
			"accepted", b.Accepted(), "refused", len(b.Refused))
	}
	out := acceptedBatchJSON{batchJSON: s.batch(b, 1), Items: make([]batchItemJSON, 0, b.Total)}
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

// acceptBatch stores the messages of a request.
func (s *Server) acceptBatch(c *gin.Context, key string) (b email.Batch, items []email.BatchItem, replayed bool, err error) {
	body, err := readBody(c, MaxBody(s.opts.Limits.MaxMessageBytes), 4)
	if err != nil {
		return b, nil, false, err
	}
	in, err := intake.DecodeBatch(body, s.limits(c))
	if err != nil {
		return b, nil, false, err
	}
	// An insert has the copies as they are, and as they are written.
	if err := hold(c, s.budget.copies, 3*min(in.Bytes(), batchInsertBytes)); err != nil {
		return b, nil, false, err
	}
	if err := holdQuery(c); err != nil {
		return b, nil, false, err
	}
	idem := email.Idempotency{Key: key}
	if key != "" {
		idem.Fingerprint = in.Fingerprint()
	}
	// The client may hang up; what it sent is accepted or not, never half.
	return s.deps.Batches.AcceptBatch(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, batchRequest(c, in), s.deps.Dispatcher.Owner(), idem)
}

// batchInsertBytes is about the most that the store inserts of a batch at once.
const batchInsertBytes = 4 << 20

// batchRequest is a batch as the credential may send it.
func batchRequest(c *gin.Context, in *intake.Batch) email.BatchRequest {
	grant := grantOf(c)
	return email.BatchRequest{
		Mode: in.Mode, Len: in.Len(), Message: in.Message, Place: in.Place, Sender: in.Sender,
		Refuse: func(i int, m email.Message) *email.Failure {
			if grant.MaySendFrom(m.From.Domain()) {
				return nil
			}
			return foreignSender(m.From.Domain(), in.Sender(i))
		},
	}
}

func (s *Server) getBatch(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "batch")
	if err != nil {
		return 0, nil, err
	}
	p, err := s.deps.Batches.Batch(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.progress(p), nil
}

func (s *Server) listBatches(c *gin.Context) (int, any, error) {
	if err := parameters(c, "there are page_size and page_token", "page_size", "page_token"); err != nil {
		return 0, nil, err
	}
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	if err := s.holdPage(c); err != nil {
		return 0, nil, err
	}
	bs, next, err := s.deps.Batches.Batches(c.Request.Context(), customerOf(c).ID, after, size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(bs, next, s.progress), nil
}

// controlBatch carries out an action on all e-mails of a batch, in the store first.
// The runs that are not told find out at the gate.
func (s *Server) controlBatch(action email.Action) handler {
	return func(c *gin.Context) (int, any, error) {
		id, err := pathID(c, "id", "batch")
		if err != nil {
			return 0, nil, err
		}
		if err := holdQuery(c); err != nil {
			return 0, nil, err
		}
		p, own, err := s.deps.Batches.ControlBatchFor(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, id, action)
		if err != nil {
			return 0, nil, err
		}
		s.deps.Log.InfoContext(c.Request.Context(), "batch.controlled", "batch_id", id, "action", action, "request_id", requestID(c))
		go s.wakeBatch(context.WithoutCancel(c.Request.Context()), p.Batch, own)
		return http.StatusOK, s.progress(p), nil
	}
}

// wakeBatch is wake for a batch's run, and for those of e-mails that have their own.
func (s *Server) wakeBatch(ctx context.Context, b email.Batch, own []email.Email) {
	if err := s.deps.Dispatcher.WakeBatch(ctx, b); err != nil {
		s.deps.Log.WarnContext(ctx, "dispatch.wake", "batch_id", b.ID, "error", err)
		return // Temporal is away: the runs find out by themselves
	}
	for _, e := range own {
		s.wake(ctx, e)
	}
}
