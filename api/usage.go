package api

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/internal/account"
)

// Usage counts the accepted e-mails of a customer by month.
type Usage interface {
	Usage(ctx context.Context, customerID string, months int) ([]account.Usage, error)
}

// usageHandlers answers /v1.0/usage.
type usageHandlers struct{ store Usage }

// usageMonths is how many months the answer covers at most.
const usageMonths = 24

type usageJSON struct {
	Month      string `json:"month"`
	Emails     int64  `json:"emails"`
	Recipients int64  `json:"recipients"`
}

// get counts the accepted e-mails of each month in UTC.
func (h *usageHandlers) get(c *gin.Context) (int, any, error) {
	us, err := h.store.Usage(c.Request.Context(), customerOf(c).ID, usageMonths)
	if err != nil {
		return 0, nil, err
	}
	out := make([]usageJSON, len(us))
	for i, u := range us {
		out[i] = usageJSON{Month: u.Month.Format("2006-01"), Emails: u.Emails, Recipients: u.Recipients}
	}
	return http.StatusOK, gin.H{"result": out, "credits": customerOf(c).Credits}, nil
}
