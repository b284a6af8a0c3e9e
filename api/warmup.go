package api

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/internal/account"
)

type warmupRequest struct {
	Plan []int  `json:"plan"`
	From string `json:"from"`
}

type warmupAnswer struct {
	Name string `json:"name"`
	Plan []int  `json:"plan"`
	// From is the first day of the plan, in UTC; null without a plan. Limit is null on a day that
	// the plan does not limit.
	From            *string `json:"from"`
	Day             int     `json:"day"`
	Limit           *int    `json:"limit"`
	Used            int     `json:"used"`
	UsedByBroadcast int     `json:"used_by_broadcast"`
	Waiting         int     `json:"waiting"`
}

func newWarmupAnswer(d account.Domain) warmupAnswer {
	w := d.Warmup
	out := warmupAnswer{Name: d.Name, Plan: w.Plan, Day: w.Day, Used: w.Used, UsedByBroadcast: w.UsedByBroadcast, Waiting: w.Waiting}
	if len(w.Plan) == 0 {
		out.Plan = []int{}
		return out
	}
	from := w.From.Format(time.DateOnly)
	out.From = &from
	if w.Day >= 1 && w.Day <= len(w.Plan) {
		out.Limit = &w.Plan[w.Day-1]
	}
	return out
}

// warmup returns a handler for the warm-up plan of the domain that the path names. It calls change
// and answers with the plan.
func (h *domainHandlers) warmup(change func(c *gin.Context, customerID, name string) (account.Domain, error)) handler {
	return func(c *gin.Context) (int, any, error) {
		k, name, err := h.named(c)
		if err != nil {
			return 0, nil, err
		}
		d, err := change(c, k.ID, name)
		return http.StatusOK, newWarmupAnswer(d), err
	}
}

func (h *domainHandlers) putWarmup(c *gin.Context, customerID, name string) (account.Domain, error) {
	var in warmupRequest
	if err := decode(c, &in); err != nil {
		return account.Domain{}, err
	}
	w := account.Warmup{Plan: in.Plan}
	if err := w.Check(); err != nil {
		return account.Domain{}, invalid("/plan", "invalid", err.Error())
	}
	var err error
	if w.From, err = w.Beginning(in.From, h.now()); err != nil {
		return account.Domain{}, invalid("/from", "invalid", err.Error())
	}
	return h.store.SetWarmup(c.Request.Context(), customerID, name, w)
}

func (h *domainHandlers) deleteWarmup(c *gin.Context, customerID, name string) (account.Domain, error) {
	return h.store.SetWarmup(c.Request.Context(), customerID, name, account.Warmup{})
}
