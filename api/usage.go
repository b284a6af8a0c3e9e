package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// usageMonths is how far usage looks back.
const usageMonths = 24

type usageJSON struct {
	Month      string `json:"month"`
	Emails     int64  `json:"emails"`
	Recipients int64  `json:"recipients"`
}

// usage counts what was accepted, by month in UTC.
func (s *Server) usage(c *gin.Context) (int, any, error) {
	us, err := s.deps.Customers.Usage(c.Request.Context(), customerOf(c).ID, usageMonths)
	if err != nil {
		return 0, nil, err
	}
	out := make([]usageJSON, len(us))
	for i, u := range us {
		out[i] = usageJSON{Month: u.Month.Format("2006-01"), Emails: u.Emails, Recipients: u.Recipients}
	}
	return http.StatusOK, gin.H{"result": out, "credits": customerOf(c).Credits}, nil
}
