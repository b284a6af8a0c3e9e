package activities

import "github.com/postrider/postrider/internal/delivery"

// maxRecorded bounds the recorded attempts that wait in memory for their RecordStatus, which follows
// at once. The oldest is left out: Postgres has it.
const maxRecorded = 1024

// recorded is where e-mails stand whose attempts were recorded with their end.
type recorded struct {
	byKey map[exchangeKey]delivery.Recorded
	// keys are in the order in which they came. Some may be taken already.
	keys []exchangeKey
}

// keepRecorded keeps where an e-mail stands, unless rec is nil.
func (xs *exchanges) keepRecorded(key exchangeKey, rec *delivery.Recorded) {
	if rec == nil {
		return
	}
	xs.mu.Lock()
	defer xs.mu.Unlock()
	if len(xs.recorded.keys) == maxRecorded {
		delete(xs.recorded.byKey, xs.recorded.keys[0])
		xs.recorded.keys = xs.recorded.keys[1:]
	}
	xs.recorded.byKey[key] = *rec
	xs.recorded.keys = append(xs.recorded.keys, key)
}

// takeRecorded returns where an e-mail stands after an attempt, once.
func (xs *exchanges) takeRecorded(key exchangeKey) (rec delivery.Recorded, ok bool) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	rec, ok = xs.recorded.byKey[key]
	delete(xs.recorded.byKey, key)
	return rec, ok
}
