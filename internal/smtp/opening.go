package smtp

import (
	"time"

	"github.com/postrider/postrider/email"
)

// opening keeps what was said before the first MAIL of a session: connecting, EHLO,
// STARTTLS, AUTH. Of credentials it is told only that there were some.
type opening struct {
	steps []email.Step
	began time.Time
	// waiting is what the session waits for, for an error.
	waiting string
}

// begin notes a step whose answer is to come.
func (o *opening) begin(command string) {
	o.await("the answer to " + command)
	o.began = time.Now()
	o.steps = append(o.steps, email.Step{Command: printable(command)})
}

// end notes the answer to the last step.
func (o *opening) end(r email.Reply) {
	last := &o.steps[len(o.steps)-1]
	last.Reply, last.MS = r, time.Since(o.began).Milliseconds()
}

// await notes what is waited for that is no step.
func (o *opening) await(what string) { o.waiting = what }

// awaited is what was waited for last.
func (o *opening) awaited() string { return o.waiting }

// take gives the steps away, once.
func (o *opening) take() []email.Step {
	steps := o.steps
	o.steps = nil
	return steps
}
