package senderdomain

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// KeyState is where a DKIM key is in its life. It goes forward only, except that an active
// Ed25519 key without a record is pending again.
type KeyState string

const (
	// PendingKey is before the key's record is seen. It does not sign yet.
	PendingKey KeyState = "pending"
	// ActiveKey is while the key signs new mail.
	ActiveKey KeyState = "active"
	// RetiringKey is after a newer key has taken over. Mail signed with it is still on its way, so
	// its record has to stay.
	RetiringKey KeyState = "retiring"
	// RevokedKey is at the end: the private key is destroyed, and the record may be removed.
	RevokedKey KeyState = "revoked"
)

// The algorithms of keys. Their names are the tag k= of the record.
const (
	RSA     = "rsa"
	Ed25519 = "ed25519"
)

// DKIMKey is a DKIM key of a domain, without its private part.
type DKIMKey struct {
	ID       string
	Selector string
	// Generation is the number in the selector. The two keys made together have the same.
	Generation int
	Algorithm  string
	State      KeyState
	// Since is when the key entered its state.
	Since time.Time
	// SeenAt is the first of the latest checks that all have found the record; zero if the last
	// one did not.
	SeenAt time.Time
	// Value is the text of the TXT record.
	Value string
}

// SafeToRemove reports whether the key's record may be removed from the DNS.
func (k DKIMKey) SafeToRemove() bool { return k.State == RevokedKey }

const (
	// seenFor is how long the records of new keys have to be there before the keys take over.
	seenFor = 10 * time.Minute
	// RetireTime is how long a key is retiring. Retries of mail take at most days, and receivers
	// verify a signature again later.
	RetireTime = 14 * 24 * time.Hour
)

// Selector is the selector of a key of a generation: pr1r for RSA, pr1e for Ed25519.
func Selector(generation int, algorithm string) string {
	return fmt.Sprintf("pr%d%c", generation, algorithm[0])
}

// currentKeys are the keys that the domain's status depends on: those that sign, else those
// that will sign first. nextKeys are newer ones that take over from them.
func currentKeys(keys []DKIMKey) (current, next []DKIMKey) {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b DKIMKey) int {
		return cmp.Or(b.Generation-a.Generation, cmp.Compare(b.Algorithm, a.Algorithm)) // rsa before ed25519
	})
	generation := 0
	for _, k := range keys {
		if k.Algorithm == RSA && (k.State == ActiveKey || k.State == PendingKey && generation == 0) {
			generation = k.Generation
			if k.State == ActiveKey {
				break
			}
		}
	}
	for _, k := range keys {
		switch {
		case k.State != ActiveKey && k.State != PendingKey:
		case k.Generation == generation:
			current = append(current, k)
		case k.Generation > generation:
			next = append(next, k)
		}
	}
	return current, next
}

// Rotating reports whether newer keys wait to take over.
func Rotating(keys []DKIMKey) bool {
	_, next := currentKeys(keys)
	return len(next) > 0
}

// DomainRecords lists the records of a domain with these keys: n without its keys says what
// else is needed. The records of keys that will take over come behind those of the current
// ones. The domain's status does not depend on them.
func DomainRecords(n Needs, keys []DKIMKey) []Record {
	current, next := currentKeys(keys)
	out := Records(n.with(current))
	var more []Record
	for _, r := range Records((Needs{Domain: n.Domain}).with(next)) {
		if r.Kind == DKIM {
			r.Required = false
			more = append(more, r)
		}
	}
	at := 0
	for at < len(out) && out[at].Kind == DKIM {
		at++
	}
	return slices.Insert(out, at, more...)
}

func (n Needs) with(keys []DKIMKey) Needs {
	for _, k := range keys {
		published := Key{Selector: k.Selector, Value: k.Value}
		if k.Algorithm == RSA {
			n.RSA = published
		} else {
			n.Ed25519 = published
		}
	}
	return n
}

// NextKeys are the keys after a check at now that found these records.
//
//   - The first keys of a domain sign as soon as a check finds them.
//   - Newer keys take over when checks at least 10 minutes apart have found their records. The
//     older ones are retiring from then on. An Ed25519 key need not be published, unless one
//     signs already.
//   - A retiring key is revoked after 14 days, unless mail on its way is signed with it: inUse has the ids
//     of such keys among Retired.
func NextKeys(keys []DKIMKey, records []Record, inUse map[string]bool, now time.Time) []DKIMKey {
	keys = slices.Clone(keys)
	found := map[string]bool{}
	for i, k := range keys {
		at := slices.IndexFunc(records, func(r Record) bool {
			return r.Kind == DKIM && r.Name == k.Selector+"._domainkey" && r.Value == k.Value
		})
		switch {
		case at < 0, records[at].Status == TemporaryFailure:
		case records[at].Status == Verified:
			found[k.Selector] = true
			if k.SeenAt.IsZero() {
				keys[i].SeenAt = now
			}
		default:
			keys[i].SeenAt = time.Time{}
			if k.Algorithm == Ed25519 && k.State == ActiveKey {
				keys[i] = keys[i].enter(PendingKey, now) // mail would name a key that receivers do not find
			}
		}
	}
	ready := func(k DKIMKey) bool { return found[k.Selector] && now.Sub(k.SeenAt) >= seenFor }
	current, next := currentKeys(keys)
	signs := func(algorithm string) bool {
		return slices.ContainsFunc(current, func(k DKIMKey) bool { return k.State == ActiveKey && k.Algorithm == algorithm })
	}
	switch at := slices.IndexFunc(next, func(k DKIMKey) bool { return k.Algorithm == RSA }); {
	case !signs(RSA):
		if slices.ContainsFunc(current, func(k DKIMKey) bool { return k.Algorithm == RSA && found[k.Selector] }) {
			keys = enterAll(keys, current, ActiveKey, now, func(k DKIMKey) bool { return found[k.Selector] })
		}
	case at >= 0 && ready(next[at]) && !slices.ContainsFunc(next, func(k DKIMKey) bool { return k.Algorithm == Ed25519 && signs(Ed25519) && !ready(k) }):
		keys = enterAll(keys, current, RetiringKey, now, func(DKIMKey) bool { return true })
		keys = enterAll(keys, next, ActiveKey, now, ready)
	default:
		keys = enterAll(keys, current, ActiveKey, now, ready)
	}
	for i, k := range keys {
		if k.hasRetired(now) && !inUse[k.ID] {
			keys[i] = k.enter(RevokedKey, now)
		}
	}
	return keys
}

func (k DKIMKey) hasRetired(now time.Time) bool {
	return k.State == RetiringKey && now.Sub(k.Since) >= RetireTime
}

// Retired are the ids of the keys that may be revoked.
func Retired(keys []DKIMKey, now time.Time) (ids []string) {
	for _, k := range keys {
		if k.hasRetired(now) {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

func (k DKIMKey) enter(state KeyState, now time.Time) DKIMKey {
	if k.State != state {
		k.State, k.Since = state, now
	}
	return k
}

// enterAll moves those of some keys that meet a condition.
func enterAll(keys, some []DKIMKey, state KeyState, now time.Time, condition func(DKIMKey) bool) []DKIMKey {
	for i, k := range keys {
		if condition(k) && slices.ContainsFunc(some, func(s DKIMKey) bool { return s.Selector == k.Selector }) {
			keys[i] = k.enter(state, now)
		}
	}
	return keys
}

// RotationPause is how long to wait for the next check while new keys, made that long ago, wait
// to take over: 10 s, later 1 minute, 10 minutes, an hour and 6 hours. After 14 days it is 0:
// the domain's own schedule holds.
func RotationPause(age time.Duration) time.Duration {
	switch {
	case age < time.Minute:
		return 10 * time.Second
	case age < 30*time.Minute:
		return time.Minute
	case age < 2*time.Hour:
		return 10 * time.Minute
	case age < 48*time.Hour:
		return time.Hour
	case age < pendingDays:
		return 6 * time.Hour
	}
	return 0
}
