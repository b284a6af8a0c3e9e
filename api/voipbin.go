package api

import (
	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// voipbin reports whether the customer of a request has the profile voipbin. It is false before
// the request is authenticated.
func voipbin(c *gin.Context) bool {
	g, ok := c.Get(keyGrant)
	return ok && g.(account.Grant).Customer.Profile == account.ProfileVoIPBIN
}

// voipbinError is an error in the form of VoIPBIN's API.
type voipbinError struct {
	Status    int        `json:"status"`
	Reason    email.Code `json:"reason"`
	Message   string     `json:"message"`
	RequestID string     `json:"request_id"`
}
