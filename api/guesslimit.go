package api

import (
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of wrong passwords: ten for one name from one network, then one every 30 s; fifty from one
// network, then one every 5 s. Right passwords do not count.
const (
	guessBurst, guessEvery               = 10, 30 * time.Second
	networkGuessBurst, networkGuessEvery = 50, 5 * time.Second
	// guessRetry is the Retry-After while passwords are being checked that may turn out right.
	guessRetry = time.Second
)

// guessKey returns the key of a name and a network. It is a hash, because names may be long.
func guessKey(name, network string) [sha256.Size]byte {
	return sha256.Sum256([]byte(network + "\x00" + name))
}

// guessLimiter limits wrong passwords by key, in the memory of this process. A password counts as
// wrong while it is being checked, so that concurrent guesses do not exceed the limit.
type guessLimiter struct {
	every rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[[sha256.Size]byte]*guessBucket
	// sweepAt is the number of buckets at which full ones are removed.
	sweepAt int
}

type guessBucket struct {
	wrong *rate.Limiter
	// checking is the number of passwords that are being checked.
	checking int
}

func newGuessLimiter(every time.Duration, burst int) *guessLimiter {
	return &guessLimiter{every: rate.Every(every), burst: burst, buckets: map[[sha256.Size]byte]*guessBucket{}, sweepAt: 1000}
}

// begin reports whether a password may be checked. The caller then calls end. If not, wait is the
// time after which to try again.
func (g *guessLimiter) begin(key [sha256.Size]byte, now time.Time) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.buckets[key]
	if b == nil {
		g.sweep(now)
		b = &guessBucket{wrong: rate.NewLimiter(g.every, g.burst)}
		g.buckets[key] = b
	}
	left := b.wrong.TokensAt(now)
	switch {
	case left-float64(b.checking) >= 1:
		b.checking++
		return 0, true
	case left >= 1:
		return guessRetry, false
	}
	return time.Duration(math.Ceil((1-left)/float64(g.every))) * time.Second, false
}

// end records whether the password was wrong.
func (g *guessLimiter) end(key [sha256.Size]byte, now time.Time, wrong bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.buckets[key]
	b.checking--
	if wrong {
		b.wrong.AllowN(now, 1)
	}
}

// sweep removes full buckets if there are sweepAt buckets. The caller holds g.mu.
func (g *guessLimiter) sweep(now time.Time) {
	if len(g.buckets) < g.sweepAt {
		return
	}
	for key, b := range g.buckets {
		if b.checking == 0 && b.wrong.TokensAt(now) >= float64(g.burst) {
			delete(g.buckets, key)
		}
	}
	g.sweepAt = max(1000, 2*len(g.buckets))
}
