package mail

import (
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

const (
	// cachedFor is how long a process keeps an e-mail for its run. It is the time that the run has
	// to begin before others may start it.
	cachedFor = startLease
	// cachedBytes bounds the messages that a process keeps.
	cachedBytes = 8 << 20
)

// runCache keeps e-mails that this process has just stored, or has claimed, until their runs ask for
// them: Plan and Message answer once from here instead of from the tables. A message never changes.
// Under the lock the gate finds what another process has changed meanwhile.
type runCache struct {
	mu   sync.Mutex
	byID map[string]*cachedEmail
	// oldest has the e-mails in the order in which they came, also those that are not in byID any more.
	oldest []*cachedEmail
	bytes  int64
}

// cachedEmail is an e-mail that nothing has been done with.
type cachedEmail struct {
	plan    delivery.Plan
	message email.Message
	id      string
	at      time.Time
	// planned: Plan has answered from it, or the e-mail has changed.
	planned bool
}

func newRunCache() *runCache { return &runCache{byID: map[string]*cachedEmail{}} }

// mayCache reports whether the first steps of an e-mail's run need nothing but its rows: it is due,
// and has no attachments.
func mayCache(e *emailRow) bool {
	return e.Status == email.StatusQueued && e.Attempts == 0 && e.Attachments == 0 && e.SizeBytes <= sharedMessageMax && !e.batched()
}

// cacheForRun keeps an e-mail whose row has this state now, unless its run has to wait.
func (s *Store) cacheForRun(e *emailRow, rs []*recipientRow, c *contentRow, now time.Time) {
	if !mayCache(e) {
		return
	}
	p := s.planOf(e, now)
	if p.State.Waiting != "" {
		return
	}
	var domains []string
	for _, r := range rs {
		if r.Status.Open() {
			p.State.Open++
		}
		domains = append(domains, email.DomainOf(r.Address))
	}
	slices.Sort(domains)
	p.RecipientDomains = slices.Compact(domains)
	s.runCache.keep(&cachedEmail{plan: p, message: emailOf(e, rs, c, nil).Message, id: e.ID, at: time.Now()})
}

// keep keeps an e-mail, unless there are too many.
func (c *runCache) keep(m *cachedEmail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.oldest) > 0 && (c.byID[c.oldest[0].id] != c.oldest[0] || m.at.Sub(c.oldest[0].at) > cachedFor) {
		c.drop(c.oldest[0])
		c.oldest[0] = nil
		c.oldest = c.oldest[1:]
	}
	if c.byID[m.id] != nil || c.bytes+m.message.Size() > cachedBytes {
		return
	}
	c.byID[m.id] = m
	c.oldest = append(c.oldest, m)
	c.bytes += m.message.Size()
}

// drop forgets an e-mail. The caller holds mu.
func (c *runCache) drop(m *cachedEmail) {
	if c.byID[m.id] == m {
		delete(c.byID, m.id)
		c.bytes -= m.message.Size()
	}
}

// takePlan answers once for an e-mail that is here.
func (c *runCache) takePlan(id string) (delivery.Plan, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.byID[id]
	if m == nil || m.planned {
		return delivery.Plan{}, false
	}
	age := time.Since(m.at)
	if age > cachedFor {
		c.drop(m)
		return delivery.Plan{}, false
	}
	m.planned = true
	p := m.plan
	p.Now = p.Now.Add(age)
	return p, true
}

// outdate notes that an e-mail has changed: its message remains.
func (c *runCache) outdate(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.byID[id]; m != nil {
		m.planned = true
	}
}

// takeMessage answers once for an e-mail that is here.
func (c *runCache) takeMessage(id string) (email.Message, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.byID[id]
	if m == nil {
		return email.Message{}, false
	}
	c.drop(m)
	return m.message, true
}
