package api

import (
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Passwords that were wrong: ten for one name from one network at once, then one in half a
// minute; fifty from one network at once, then one in five seconds. A right password does
// not count.
const (
	guessBurst, guessEvery               = 10, 30 * time.Second
	networkGuessBurst, networkGuessEvery = 50, 5 * time.Second
	// guessRetry is when to come back while passwords are being checked that may be right.
	guessRetry = time.Second
)

// guessKey names what is counted. A name may be as long as a request; its hash is not.
func guessKey(name, network string) [sha256.Size]byte {
	return sha256.Sum256([]byte(network + "\x00" + name))
}

// guesses counts wrong passwords by key, in this process. A password that is being checked
// counts as a wrong one until it is known to be right: many at once are no way around.
type guesses struct {
	every rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[[sha256.Size]byte]*guessBucket
	// sweepAt is how many there may be before the full ones are looked for.
	sweepAt int
}

type guessBucket struct {
	wrong *rate.Limiter
	// checking is how many passwords are being checked.
	checking int
}

func newGuesses(every time.Duration, burst int) *guesses {
	return &guesses{every: rate.Every(every), burst: burst, buckets: map[[sha256.Size]byte]*guessBucket{}, sweepAt: 1000}
}

// begin lets a password be checked, or says after how long it is worth trying again.
// Whoever is let through calls end.
func (g *guesses) begin(key [sha256.Size]byte, now time.Time) (wait time.Duration, ok bool) {
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

// end says whether the password was wrong.
func (g *guesses) end(key [sha256.Size]byte, now time.Time, wrong bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.buckets[key]
	b.checking--
	if wrong {
		b.wrong.AllowN(now, 1)
	}
}

// sweep forgets those of whom nothing is held against.
func (g *guesses) sweep(now time.Time) {
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
