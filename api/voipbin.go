package api

import (
	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// voipbin reports whether the customer of a request wants VoIPBIN's dialect. A
// request without a customer, or before it is known, does not.
func voipbin(c *gin.Context) bool {
	g, ok := c.Get(keyGrant)
	return ok && g.(account.Grant).Customer.Profile == account.ProfileVoIPBIN
}

// voipbinError is VoIPBIN's error.
type voipbinError struct {
	Status    int        `json:"status"`
	Reason    email.Code `json:"reason"`
	Message   string     `json:"message"`
	RequestID string     `json:"request_id"`
}
