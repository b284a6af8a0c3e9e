package senderdomain_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/senderdomain"
)

// pair makes the two keys of a generation.
func pair(generation int, state senderdomain.KeyState) []senderdomain.DKIMKey {
	var out []senderdomain.DKIMKey
	for _, algorithm := range []string{senderdomain.RSA, senderdomain.Ed25519} {
		selector := senderdomain.Selector(generation, algorithm)
		out = append(out, senderdomain.DKIMKey{Selector: selector, Generation: generation, Algorithm: algorithm, State: state, Since: begin, Value: "v=DKIM1; p=" + selector})
	}
	return out
}

// published are the records of a domain with these keys. Those of the selectors have a status.
func published(keys []senderdomain.DKIMKey, status map[string]senderdomain.Status) []senderdomain.Record {
	records := senderdomain.DomainRecords(senderdomain.Needs{Domain: "x.com"}, keys)
	for i, r := range records {
		records[i].Status = senderdomain.Pending
		for selector, s := range status {
			if r.Name == selector+"._domainkey" {
				records[i].Status = s
			}
		}
	}
	return records
}

func states(keys []senderdomain.DKIMKey) map[string]senderdomain.KeyState {
	out := map[string]senderdomain.KeyState{}
	for _, k := range keys {
		out[k.Selector] = k.State
	}
	return out
}

func TestRecordsDuringARotation(t *testing.T) {
	t.Parallel()
	keys := append(pair(2, senderdomain.PendingKey), pair(1, senderdomain.ActiveKey)...)
	require.True(t, senderdomain.Rotating(keys))
	var names []string
	for _, r := range senderdomain.DomainRecords(senderdomain.Needs{Domain: "x.com"}, keys) {
		if r.Required {
			names = append(names, r.Name+" required")
		} else {
			names = append(names, r.Name)
		}
	}
	require.Equal(t, []string{"pr1r._domainkey required", "pr1e._domainkey", "pr2r._domainkey", "pr2e._domainkey", "_dmarc"}, names)
}

// The life of the keys of one domain, check by check.
func TestKeysOverTime(t *testing.T) {
	t.Parallel()
	ok, gone, fault := senderdomain.Verified, senderdomain.Pending, senderdomain.TemporaryFailure
	keys := pair(1, senderdomain.PendingKey)
	for _, step := range []struct {
		what   string
		at     time.Duration
		rotate bool
		found  map[string]senderdomain.Status
		want   map[string]senderdomain.KeyState
	}{
		{"nothing is published", 0, false, nil, map[string]senderdomain.KeyState{"pr1r": "pending", "pr1e": "pending"}},
		{"an Ed25519 key alone does not sign", time.Minute, false, map[string]senderdomain.Status{"pr1e": ok}, map[string]senderdomain.KeyState{"pr1r": "pending", "pr1e": "pending"}},
		{"the first keys sign at once", 2 * time.Minute, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok}, map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active"}},
		{"an Ed25519 key without a record stops signing", hour, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": gone}, map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "pending"}},
		{"it waits to be seen twice", 2 * hour, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok}, map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "pending"}},
		{"it signs again", 3 * hour, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok}, map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active"}},
		{"an RSA key without a record goes on", 4 * hour, false, map[string]senderdomain.Status{"pr1e": ok}, map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active"}},
		{"new keys are seen once", 5 * hour, true, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok, "pr2r": ok, "pr2e": ok},
			map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active", "pr2r": "pending", "pr2e": "pending"}},
		{"9 minutes later is too early", 5*hour + 9*time.Minute, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok, "pr2r": ok, "pr2e": ok},
			map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active", "pr2r": "pending", "pr2e": "pending"}},
		{"a fault changes nothing", 6 * hour, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok, "pr2r": fault, "pr2e": fault},
			map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active", "pr2r": "pending", "pr2e": "pending"}},
		{"a miss begins anew", 7 * hour, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok, "pr2r": ok, "pr2e": gone},
			map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active", "pr2r": "pending", "pr2e": "pending"}},
		{"one of the two is not enough", 8 * hour, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok, "pr2r": ok, "pr2e": ok},
			map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "active", "pr2r": "pending", "pr2e": "pending"}},
		{"both take over", 8*hour + 10*time.Minute, false, map[string]senderdomain.Status{"pr1r": ok, "pr1e": ok, "pr2r": ok, "pr2e": ok},
			map[string]senderdomain.KeyState{"pr1r": "retiring", "pr1e": "retiring", "pr2r": "active", "pr2e": "active"}},
		{"the old ones stay for 14 days", 14*day + 8*hour, false, map[string]senderdomain.Status{"pr2r": ok, "pr2e": ok},
			map[string]senderdomain.KeyState{"pr1r": "retiring", "pr1e": "retiring", "pr2r": "active", "pr2e": "active"}},
		{"then they are revoked", 14*day + 9*hour, false, map[string]senderdomain.Status{"pr2r": ok, "pr2e": ok},
			map[string]senderdomain.KeyState{"pr1r": "revoked", "pr1e": "revoked", "pr2r": "active", "pr2e": "active"}},
	} {
		if step.rotate {
			keys = append(pair(2, senderdomain.PendingKey), keys...)
		}
		keys = senderdomain.NextKeys(keys, published(keys, step.found), nil, begin.Add(step.at))
		require.Equal(t, step.want, states(keys), step.what)
	}
	require.False(t, senderdomain.Rotating(keys))
	for _, k := range keys {
		require.Equal(t, k.State == senderdomain.RevokedKey, k.SafeToRemove())
	}
}

// A domain that publishes no Ed25519 key rotates its RSA key alone.
func TestRotationWithoutEd25519(t *testing.T) {
	t.Parallel()
	ok := map[string]senderdomain.Status{"pr1r": senderdomain.Verified, "pr2r": senderdomain.Verified}
	keys := senderdomain.NextKeys(pair(1, senderdomain.PendingKey), published(pair(1, senderdomain.PendingKey), ok), nil, begin)
	require.Equal(t, map[string]senderdomain.KeyState{"pr1r": "active", "pr1e": "pending"}, states(keys))
	keys = append(pair(2, senderdomain.PendingKey), keys...)
	for _, at := range []time.Duration{hour, 2 * hour} {
		keys = senderdomain.NextKeys(keys, published(keys, ok), nil, begin.Add(at))
	}
	require.Equal(t, map[string]senderdomain.KeyState{"pr1r": "retiring", "pr1e": "retiring", "pr2r": "active", "pr2e": "pending"}, states(keys))
}
