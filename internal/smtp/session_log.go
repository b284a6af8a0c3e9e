package smtp

import (
	"time"

	"github.com/postrider/postrider/email"
)

// sessionLog keeps what was said before the first MAIL of a session: connecting, EHLO,
// STARTTLS, AUTH. Of credentials it has only that there were some.
type sessionLog struct {
	steps []email.Step
	began time.Time
	// waiting is what the session waits for, for an error.
	waiting string
}

// begin notes a step whose answer is to come.
func (l *sessionLog) begin(command string) {
	l.await("the answer to " + command)
	l.began = time.Now()
	l.steps = append(l.steps, email.Step{Command: Printable(command)})
}

// end notes the answer to the last step.
func (l *sessionLog) end(r email.Reply) {
	last := &l.steps[len(l.steps)-1]
	last.Reply, last.MS = r, time.Since(l.began).Milliseconds()
}

// await notes what is waited for that is no step.
func (l *sessionLog) await(what string) { l.waiting = what }

// awaited is what was waited for last.
func (l *sessionLog) awaited() string { return l.waiting }

// take gives the steps away, once.
func (l *sessionLog) take() []email.Step {
	steps := l.steps
	l.steps = nil
	return steps
}
