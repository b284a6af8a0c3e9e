package api

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// Pauses stores pauses.
type Pauses interface {
	Pause(ctx context.Context, p email.Pause) (email.Pause, error)
	Unpause(ctx context.Context, p email.Pause) error
	Pauses(ctx context.Context) (ps []email.Pause, waiting int, err error)
}

// pauseHandlers answers /v1.0/pauses.
type pauseHandlers struct{ store Pauses }

type pauseJSON struct {
	Scope     email.PauseScope `json:"scope"`
	Key       string           `json:"key,omitempty"`
	Reason    string           `json:"reason,omitempty"`
	SetBy     string           `json:"set_by,omitempty"`
	CreatedAt *string          `json:"created_at"`
}

func pause(p email.Pause) pauseJSON {
	return pauseJSON{Scope: p.Scope, Key: p.Key, Reason: p.Reason, SetBy: p.SetBy, CreatedAt: moment(p.CreatedAt)}
}

// pausesJSON lists the pauses, and counts the e-mails that they hold.
type pausesJSON struct {
	Result  []pauseJSON `json:"result"`
	Waiting int         `json:"waiting"`
}

func (h *pauseHandlers) list(c *gin.Context) (int, any, error) {
	ps, waiting, err := h.store.Pauses(c.Request.Context())
	if err != nil {
		return 0, nil, err
	}
	out := pausesJSON{Result: make([]pauseJSON, len(ps)), Waiting: waiting}
	for i, p := range ps {
		out.Result[i] = pause(p)
	}
	return http.StatusOK, out, nil
}

type pauseRequest struct {
	Scope  email.PauseScope `json:"scope"`
	Key    string           `json:"key"`
	Reason string           `json:"reason"`
}

func (h *pauseHandlers) put(c *gin.Context) (int, any, error) {
	var in pauseRequest
	err := decode(c, &in)
	if err == nil {
		err = checkTexts(map[string]string{"/key": in.Key, "/reason": in.Reason})
	}
	p := email.Pause{Scope: in.Scope, Key: in.Key, Reason: in.Reason}
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return 0, nil, err
	}
	if p, err = h.store.Pause(c.Request.Context(), p); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, pause(p), nil
}

// delete removes the pause with ?scope= and ?key=, and answers with the remaining pauses.
func (h *pauseHandlers) delete(c *gin.Context) (int, any, error) {
	p := email.Pause{Scope: email.PauseScope(c.Query("scope")), Key: c.Query("key")}
	if err := p.Check(); err != nil {
		return 0, nil, err
	}
	if err := h.store.Unpause(c.Request.Context(), p); err != nil {
		return 0, nil, err
	}
	return h.list(c)
}
