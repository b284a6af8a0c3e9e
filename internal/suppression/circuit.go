package suppression

import (
	"sync"
	"time"
)

// When the circuit of a recipients' domain opens: more than CircuitShare of the last CircuitResults have
// said within CircuitWithin that an address does not exist. Either a list is worth nothing, or the fault is
// ours, a relay's or the DNS's. For CircuitOpen after that, no outcome of an attempt there suppresses.
const (
	CircuitResults = 50
	CircuitShare   = 0.2
	CircuitWithin  = 10 * time.Minute
	CircuitOpen    = time.Hour
)

// Circuits watch what becomes of mail, for each customer and recipients' domain. They know the results of
// this process. The zero value is ready, and safe for concurrent use.
type Circuits struct {
	mu    sync.Mutex
	sites map[site]*results
	swept time.Time
}

type site struct{ customerID, domain string }

// results are the last ones of a site, the oldest at next.
type results struct {
	at   [CircuitResults]time.Time
	hard [CircuitResults]bool
	next int
}

// Note adds a result: a message was delivered or refused for good. It reports whether the circuit is to be
// opened.
func (c *Circuits) Note(customerID, domain string, hard bool, at time.Time) (open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(at)
	of := site{customerID, domain}
	r := c.sites[of]
	if r == nil {
		r = &results{}
		c.sites[of] = r
	}
	r.at[r.next], r.hard[r.next] = at, hard
	r.next = (r.next + 1) % CircuitResults
	oldest, n := r.at[r.next], 0
	for _, h := range r.hard {
		if h {
			n++
		}
	}
	if !hard || oldest.IsZero() || at.Sub(oldest) > CircuitWithin || float64(n) <= CircuitShare*CircuitResults {
		return false
	}
	delete(c.sites, of) // it counts anew
	return true
}

// sweep forgets sites without results, so that they take no memory.
func (c *Circuits) sweep(now time.Time) {
	if c.sites == nil {
		c.sites = map[site]*results{}
	}
	if now.Sub(c.swept) < CircuitWithin {
		return
	}
	c.swept = now
	for of, r := range c.sites {
		if last := r.at[(r.next+CircuitResults-1)%CircuitResults]; now.Sub(last) > CircuitWithin {
			delete(c.sites, of)
		}
	}
}
