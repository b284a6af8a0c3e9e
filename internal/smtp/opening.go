package smtp

import (
	"crypto/tls"
	"fmt"
	"time"

	maillog "github.com/wneessen/go-mail/log"

	"github.com/postrider/postrider/email"
)

// opening keeps what was said before the first MAIL of a session: connecting, EHLO,
// STARTTLS, AUTH. It is go-mail's logger, which is told of every command and answer,
// and of credentials only that there were some.
type opening struct {
	steps []email.Step
	began time.Time
	// auth is the mechanism while AUTH runs. What a server says meanwhile may name
	// the user, so that only the codes are kept.
	auth string
}

// begin notes a step whose answer is to come.
func (o *opening) begin(command string) {
	o.began = time.Now()
	o.steps = append(o.steps, email.Step{Command: printable(command)})
}

// end notes the answer to the last step.
func (o *opening) end(r email.Reply) {
	if len(o.steps) == 0 {
		return
	}
	last := &o.steps[len(o.steps)-1]
	last.Reply, last.MS = r, time.Since(o.began).Milliseconds()
}

// Debugf implements go-mail's Logger.
func (o *opening) Debugf(l maillog.Log) {
	if l.Direction == maillog.DirClientToServer {
		if o.auth != "" {
			o.begin("AUTH " + o.auth + " [redacted]")
			return
		}
		o.begin(fmt.Sprintf(l.Format, l.Messages...))
		return
	}
	if len(l.Messages) != 2 {
		return
	}
	code, _ := l.Messages[0].(int)
	text, _ := l.Messages[1].(string)
	r := reply(code, text)
	if o.auth != "" {
		r.Text = ""
	}
	o.end(r)
}

// Infof, Warnf and Errorf are not called with commands.
func (o *opening) Infof(maillog.Log) {}

// Warnf does nothing.
func (o *opening) Warnf(maillog.Log) {}

// Errorf does nothing.
func (o *opening) Errorf(maillog.Log) {}

// tls notes how a connection is encrypted.
func (o *opening) tls(state *tls.ConnectionState) {
	o.steps = append(o.steps, email.Step{Command: "TLS", Reply: email.Reply{Text: tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)}})
}

// take gives the steps away, once.
func (o *opening) take() []email.Step {
	steps := o.steps
	o.steps = nil
	return steps
}
