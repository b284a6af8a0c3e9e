package relay

import (
	"sync"
	"time"

	"github.com/postrider/postrider/email"
)

// blockedEvery bounds how often a relay's refusals of our reputation are logged.
const blockedEvery = 10 * time.Minute

// blocks counts the replies of a relay that refuse our address, or a sender's domain, for its reputation.
type blocks struct {
	mu     sync.Mutex
	total  int64
	logged int64
	// loggedAt is when the last line was written, zero if none was.
	loggedAt time.Time
}

// note counts n replies. It reports how many there were since the last line, and whether it is time for another one.
func (b *blocks) note(now time.Time, n int) (since int64, due bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += int64(n)
	if !b.loggedAt.IsZero() && now.Sub(b.loggedAt) < blockedEvery {
		return 0, false
	}
	since = b.total - b.logged
	b.loggedAt, b.logged = now, b.total
	return since, true
}

func (b *blocks) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// noteBlocked counts replies about our reputation, and warns of them at most once in blockedEvery.
func (p *pool) noteBlocked(now time.Time, n int, reply email.Reply) {
	if since, due := p.blocks.note(now, n); due {
		p.opts.Log.Warn("relay.ip_blocked", "relay", p.relay.Name, "replies", since, "code", reply.Code, "enhanced", reply.Enhanced, "text", reply.Text)
	}
}

// Blocked counts, by relay, the replies that refuse our address or a sender's domain. It is on a list, or its reputation
// is bad.
func (rs *Relays) Blocked() map[string]int64 {
	counts := make(map[string]int64, len(rs.pools))
	for _, p := range rs.pools {
		counts[p.relay.Name] += p.blocks.count()
	}
	return counts
}
