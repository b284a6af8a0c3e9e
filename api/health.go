package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// healthHandlers answers /healthz and /readyz.
type healthHandlers struct {
	// ready and workerReady are Deps.Ready and Deps.WorkerReady, which may be nil.
	ready, workerReady func(context.Context) error
	log                *slog.Logger
}

// readyTimeout is how long Postgres and, for a worker, Temporal may take together to answer a
// probe. `postrider health` waits longer, so that it receives the reason.
const readyTimeout = 3 * time.Second

// healthz answers 200 as long as the process can answer.
func (h *healthHandlers) healthz(*gin.Context) (int, any, error) {
	return http.StatusOK, gin.H{"status": "ok"}, nil
}

// readyz answers 200 if e-mails can be accepted, which needs Postgres, not Temporal. If the
// process runs a worker, the answer also has its state, which does not change the status.
func (h *healthHandlers) readyz(c *gin.Context) (int, any, error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	if err := h.ready(ctx); err != nil {
		return 0, nil, unready(err)
	}
	out := gin.H{"status": "ready"}
	if h.workerReady != nil {
		out["worker"] = "ready"
		if err := h.workerReady(ctx); err != nil {
			h.log.DebugContext(ctx, "worker.unready", "reason", err)
			out["worker"] = "unavailable"
		}
	}
	return http.StatusOK, out, nil
}

// unready returns the failure to answer with. Its detail is public, so it has no text of a
// driver's error, which may contain addresses. The error is logged.
func unready(err error) *email.Failure {
	detail := "Postgres does not answer"
	if f, ok := errors.AsType[*email.Failure](err); ok {
		detail = cmp.Or(f.Detail, detail)
	}
	f := email.Fail(email.CodeUnavailable, "%s", detail)
	f.Err = err
	return f
}

// Probe is the answer of a worker's health port to /healthz and /readyz.
type Probe struct {
	// Status is ok, ready or unavailable.
	Status string `json:"status"`
	// Reason says why the status is unavailable and what to do; empty otherwise.
	Reason string `json:"reason,omitempty"`
}

// Health answers /healthz, /readyz and /metrics of a process without an API, such as a worker.
// The answer has the error of ready, because only the operator reaches this port.
func Health(ready func(context.Context) error, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	answer := func(w http.ResponseWriter, status int, h Probe) {
		body, err := json.Marshal(h)
		if err != nil {
			panic(err) // two strings always encode
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// An error means that the client has closed the connection.
		_, _ = w.Write(body)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Probe{Status: "ok"}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := ready(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, Probe{Status: "unavailable", Reason: err.Error()})
			return
		}
		answer(w, http.StatusOK, Probe{Status: "ready"})
	})
	return mux
}
