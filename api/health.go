package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// readyTimeout is how long Postgres may take to answer a probe.
const readyTimeout = 2 * time.Second

// healthz says that the process answers; nothing else.
func (s *Server) healthz(*gin.Context) (int, any, error) {
	return http.StatusOK, gin.H{"status": "ok"}, nil
}

// readyz says whether mail can be accepted: that takes Postgres, not Temporal.
func (s *Server) readyz(c *gin.Context) (int, any, error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	if err := s.deps.Ready(ctx); err != nil {
		f := email.Fail(email.CodeUnavailable, "Postgres does not answer, or has no schema yet")
		f.Err = err
		return 0, nil, f
	}
	return http.StatusOK, gin.H{"status": "ready"}, nil
}

// Health answers the probes and scrapes of a process without an API, such as a
// worker.
func Health(ready func(context.Context) error, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	answer := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// The prober has hung up if this fails; there is nobody to tell.
		_, _ = w.Write([]byte(`{"status":"` + text + `"}`))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := ready(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, "unavailable")
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	return mux
}
