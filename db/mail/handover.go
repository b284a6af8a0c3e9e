package mail

import (
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

const (
	// handoverFor is how long a process keeps an e-mail for its run. It is the time that the run has
	// to begin before others may start it.
	handoverFor = startLease
	// handoverBytes bounds the messages that a process keeps.
	handoverBytes = 8 << 20
)

// handover keeps e-mails that this process has just stored, or has claimed, until their runs ask for
// them: Plan and Message answer once from here instead of from the tables. A message never changes.
// Under the lock the gate finds what another process has changed meanwhile.
type handover struct {
	mu   sync.Mutex
	byID map[string]*handedOver
	// oldest has the e-mails in the order in which they came, also those that are not in byID any more.
	oldest []*handedOver
	bytes  int64
}

// handedOver is an e-mail that nothing has been done with.
type handedOver struct {
	plan    delivery.Plan
	message email.Message
	id      string
	at      time.Time
	// planned: Plan has answered from it, or the e-mail has changed.
	planned bool
}

func newHandover() *handover { return &handover{byID: map[string]*handedOver{}} }

// mayHandOver reports whether the first steps of an e-mail's run need nothing but its rows: it is due,
// and has no attachments.
func mayHandOver(e *emailRow) bool {
	return e.Status == email.StatusQueued && e.Attempts == 0 && e.Attachments == 0 && e.SizeBytes <= sharedMessageMax && !e.batched()
}

// handOver keeps an e-mail whose row has this state now, unless its run has to wait.
func (s *Store) handOver(e *emailRow, rs []*recipientRow, c *contentRow, now time.Time) {
	if !mayHandOver(e) {
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
	s.handover.keep(&handedOver{plan: p, message: emailOf(e, rs, c, nil).Message, id: e.ID, at: time.Now()})
}

// keep keeps an e-mail, unless there are too many.
func (h *handover) keep(m *handedOver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.oldest) > 0 && (h.byID[h.oldest[0].id] != h.oldest[0] || m.at.Sub(h.oldest[0].at) > handoverFor) {
		h.drop(h.oldest[0])
		h.oldest[0] = nil
		h.oldest = h.oldest[1:]
	}
	if h.byID[m.id] != nil || h.bytes+m.message.Size() > handoverBytes {
		return
	}
	h.byID[m.id] = m
	h.oldest = append(h.oldest, m)
	h.bytes += m.message.Size()
}

// drop forgets an e-mail. The caller holds mu.
func (h *handover) drop(m *handedOver) {
	if h.byID[m.id] == m {
		delete(h.byID, m.id)
		h.bytes -= m.message.Size()
	}
}

// takePlan answers once for an e-mail that is here.
func (h *handover) takePlan(id string) (delivery.Plan, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byID[id]
	if m == nil || m.planned {
		return delivery.Plan{}, false
	}
	age := time.Since(m.at)
	if age > handoverFor {
		h.drop(m)
		return delivery.Plan{}, false
	}
	m.planned = true
	p := m.plan
	p.Now = p.Now.Add(age)
	return p, true
}

// outdate notes that an e-mail has changed: its message remains.
func (h *handover) outdate(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.byID[id]; m != nil {
		m.planned = true
	}
}

// takeMessage answers once for an e-mail that is here.
func (h *handover) takeMessage(id string) (email.Message, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.byID[id]
	if m == nil {
		return email.Message{}, false
	}
	h.drop(m)
	return m.message, true
}
