package api

import (
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/membudget"
)

// unavailable counts answers of 503 by reason, and bounds their log lines.
type unavailable struct {
	now func() time.Time

	mu      sync.Mutex
	answers map[string]int64
	logged  map[string]logLine
}

// logLine is the last line of a reason in the log.
type logLine struct {
	at time.Time
	// answers is the count of the reason that that it showed.
	answers int64
}

// unavailableEvery is the least time between two lines of a reason.
const unavailableEvery = 10 * time.Second

func newUnavailable(now func() time.Time) *unavailable {
	return &unavailable{now: now, answers: map[string]int64{}, logged: map[string]logLine{}}
}

// count counts an answer. log reports whether it is to be logged, and answers how many there were
// since the last line, with this one.
func (u *unavailable) count(reason string) (answers int64, log bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers[reason]++
	last, before := u.logged[reason]
	now := u.now()
	if before && now.Sub(last.at) < unavailableEvery {
		return 0, false
	}
	u.logged[reason] = logLine{now, u.answers[reason]}
	return u.answers[reason] - last.answers, true
}

// unavailableReason says in one word of a fixed set why an answer is 503.
func unavailableReason(err error) string {
	for _, known := range []struct {
		err    error
		reason string
	}{{errNoMemory, "memory"}, {errNoTurn, "turn"}, {errNoProcessor, "processor"}, {errHashing, "password"}} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	f, ok := errors.AsType[*email.Failure](err)
	switch {
	case ok && f.Detail == noDiskDetail:
		return "disk"
	case ok && f.Err != nil:
		return "dependency" // Postgres, or a schema or key that is not there yet
	}
	return "other"
}

// unavailable logs an answer of 503 as a warning, not more than once in unavailableEvery for each
// reason: under overload there are many, all alike.
func (r responder) unavailable(c *gin.Context, err error) {
	reason := unavailableReason(err)
	if answers, log := r.refusals.count(reason); log {
		r.log.WarnContext(c.Request.Context(), "http.unavailable", "request_id", requestID(c), "method", c.Request.Method, "route", c.FullPath(),
			"status", http.StatusServiceUnavailable, "reason", reason, "answers", answers, "error", err)
	}
}

// Unavailable counts the answers of 503 by reason: memory, turn, processor, password, disk,
// dependency, other.
func (s *Server) Unavailable() map[string]int64 {
	u := s.respond.refusals
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.answers)
}

// Budgets returns the state of each part of the budget, and of the connections for slow queries.
func (s *Server) Budgets() map[string]membudget.State {
	return map[string]membudget.State{
		"bodies": s.memory.bodies.State(), "work": s.memory.work.State(), "copies": s.memory.copies.State(), "answers": s.memory.answers.State(),
		"slow_queries": s.memory.slowQueries.State(),
	}
}
