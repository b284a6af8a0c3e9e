package inbound

import (
	"container/list"
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

const (
	// deferTimes is how often defer@ refuses one message.
	deferTimes = 2
	// deferralLife is how long a message is remembered after its last attempt. It
	// is longer than any wait between two attempts.
	deferralLife = 24 * time.Hour
	// maxDeferrals bounds the memory to about 2 MB; the longest untouched is
	// forgotten first.
	maxDeferrals = 10000
)

// deferralKey stands for a message and one recipient, in a fixed size.
type deferralKey [sha256.Size]byte

// keyOf identifies a message by ENVID (RFC 3461 §4.4) where the client gives
// one, else by its sender.
func keyOf(envelopeID, from, to string) deferralKey {
	id := "envid\x00" + envelopeID
	if envelopeID == "" {
		id = "from\x00" + strings.ToLower(from)
	}
	return sha256.Sum256([]byte(id + "\x00" + strings.ToLower(to)))
}

// deferrals remembers how often defer@ has refused a message.
type deferrals struct {
	now func() time.Time

	mu    sync.Mutex
	byKey map[deferralKey]*list.Element
	order *list.List // of *deferral, the longest untouched in front
}

type deferral struct {
	key       deferralKey
	refused   int
	touchedAt time.Time
}

func newDeferrals(now func() time.Time) *deferrals {
	return &deferrals{now: now, byKey: map[deferralKey]*list.Element{}, order: list.New()}
}

// refuse counts an attempt and says whether it is one of the refused.
func (d *deferrals) refuse(key deferralKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for e := d.order.Front(); e != nil; e = d.order.Front() {
		if now.Sub(e.Value.(*deferral).touchedAt) < deferralLife {
			break
		}
		d.remove(e)
	}
	e := d.byKey[key]
	if e == nil {
		if d.order.Len() >= maxDeferrals {
			d.remove(d.order.Front())
		}
		e = d.order.PushBack(&deferral{key: key})
		d.byKey[key] = e
	}
	d.order.MoveToBack(e)
	v := e.Value.(*deferral)
	v.touchedAt = now
	if v.refused >= deferTimes {
		return false
	}
	v.refused++
	return true
}

// settle forgets messages that were stored in the end.
func (d *deferrals) settle(keys []deferralKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range keys {
		if e := d.byKey[k]; e != nil {
			d.remove(e)
		}
	}
}

func (d *deferrals) remove(e *list.Element) {
	d.order.Remove(e)
	delete(d.byKey, e.Value.(*deferral).key)
}
