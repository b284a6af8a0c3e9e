// Package signing puts DKIM signatures before messages. It keeps the keys in memory for some time, so that
// a message costs no query and no parsing of a key.
package signing

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/dkim"
)

const (
	// keepFor is how long a key stays in memory. A key that is destroyed may sign for that long.
	keepFor = 5 * time.Minute
	// keepMost bounds the keys in memory. One takes some 4 kB.
	keepMost = 10_000
)

// Keys reads DKIM keys with their private parts by their ids. Keys that are gone are missing.
type Keys interface {
	PrivateKeys(ctx context.Context, ids []string) (map[string]dkim.Key, error)
}

// Signer signs messages. It is safe for concurrent use.
type Signer struct {
	keys Keys
	log  *slog.Logger
	now  func() time.Time

	mu   sync.Mutex
	kept map[string]keptKey
}

type keptKey struct {
	dkim.Key
	until time.Time
}

// New returns a Signer with the keys of a store.
func New(keys Keys, log *slog.Logger) *Signer {
	return &Signer{keys: keys, log: log, now: time.Now, kept: map[string]keptKey{}}
}

// Sign puts a signature of each key before a message, with the time at. It uses the message's array if
// that has room. The same message, keys and time yield the same bytes. A key that is gone signs nothing,
// which is logged. The error is a dkim.ErrMessage if no try will do; otherwise the keys could not be read.
func (s *Signer) Sign(ctx context.Context, message []byte, keyIDs []string, at time.Time) ([]byte, error) {
	keys, err := s.find(ctx, keyIDs)
	if err != nil || len(keys) == 0 {
		return message, err
	}
	fields, err := dkim.Sign(message, keys, at)
	if err != nil {
		return nil, err
	}
	return slices.Insert(message, 0, fields...), nil
}

// find gives the keys that are there, in the order of their ids.
func (s *Signer) find(ctx context.Context, ids []string) ([]dkim.Key, error) {
	now := s.now()
	keys, missing := make(map[string]dkim.Key, len(ids)), []string{}
	s.mu.Lock()
	for _, id := range ids {
		if k, ok := s.kept[id]; ok && now.Before(k.until) {
			keys[id] = k.Key
		} else {
			missing = append(missing, id)
		}
	}
	s.mu.Unlock()
	if len(missing) > 0 {
		read, err := s.keys.PrivateKeys(ctx, missing)
		if err != nil {
			return nil, fmt.Errorf("read DKIM keys: %w", err)
		}
		s.keep(read, now.Add(keepFor))
		for _, id := range missing {
			if k, ok := read[id]; ok {
				keys[id] = k
			} else {
				s.log.WarnContext(ctx, "dkim.key_gone", "key_id", id)
			}
		}
	}
	var out []dkim.Key
	for _, id := range ids {
		if k, ok := keys[id]; ok {
			out = append(out, k)
		}
	}
	return out, nil
}

func (s *Signer) keep(read map[string]dkim.Key, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept)+len(read) > keepMost {
		clear(s.kept)
	}
	for id, k := range read {
		s.kept[id] = keptKey{k, until}
	}
}
