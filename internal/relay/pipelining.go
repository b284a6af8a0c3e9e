package relay

import "time"

// noPipeliningFor is how long a relay gets one command at a time after it did not answer a
// group. To find out whether it holds PIPELINING again can cost one e-mail Timeouts.Command.
const noPipeliningFor = 24 * time.Hour

// breaksPipelining reports whether the relay has failed to answer a group of commands in the
// last noPipeliningFor.
func (p *pool) breaksPipelining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opts.Now().Before(p.noPipeliningUntil)
}

// rememberBrokenPipelining notes that the relay answers commands one by one only.
func (p *pool) rememberBrokenPipelining() {
	p.mu.Lock()
	p.noPipeliningUntil = p.opts.Now().Add(noPipeliningFor)
	p.mu.Unlock()
	p.opts.Log.Warn("relay.pipelining_broken", "relay", p.relay.Name, "not_used_for", noPipeliningFor)
}
