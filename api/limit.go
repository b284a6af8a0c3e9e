package api

import (
	"math"
	"strconv"
	"sync"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// limiters are token buckets by name, in this process. Those that are full again
// are forgotten.
type limiters struct {
	every rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	// sweepAt is how many there may be before the full ones are looked for.
	sweepAt int
}

func newLimiters(every rate.Limit, burst int) *limiters {
	return &limiters{every: every, burst: burst, buckets: map[string]*rate.Limiter{}, sweepAt: 1000}
}

func (l *limiters) bucket(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.buckets[name]; ok {
		return b
	}
	if len(l.buckets) >= l.sweepAt {
		for n, b := range l.buckets {
			if b.Tokens() >= float64(l.burst) {
				delete(l.buckets, n)
			}
		}
		l.sweepAt = max(1000, 2*len(l.buckets))
	}
	b := rate.NewLimiter(l.every, l.burst)
	l.buckets[name] = b
	return b
}

// requestLimits are how many requests a second a credential and a customer may make; nil is
// any number.
type requestLimits struct{ credentials, customers *limiters }

func newRequestLimits(perCredential, perCustomer int) (l requestLimits) {
	if perCredential > 0 {
		l.credentials = newLimiters(rate.Limit(perCredential), 2*perCredential)
	}
	if perCustomer > 0 {
		l.customers = newLimiters(rate.Limit(perCustomer), 2*perCustomer)
	}
	return l
}

// allow counts a request of a credential and refuses what is too much. Every
// answer says how much is left, as the RateLimit headers of
// draft-ietf-httpapi-ratelimit-headers-03 have it.
// A customer's credentials share a limit besides, so that many keys are not many times
// the rate. The headers tell of the limit of which less is left.
func (l requestLimits) allow(c *gin.Context, grant account.Grant) error {
	left := math.Inf(1)
	for _, l := range []struct {
		limiters *limiters
		name     string
		refusal  string
	}{
		{l.credentials, grant.Actor, "this credential may make %.0f requests a second; wait a second, or send several mails at once"},
		{l.customers, grant.Customer.ID, "all credentials of this customer together may make %.0f requests a second; wait a second, or send several mails at once"},
	} {
		if l.limiters == nil {
			continue
		}
		b := l.limiters.bucket(l.name)
		allowed := b.Allow()
		if tokens := max(b.Tokens(), 0); tokens < left {
			left = tokens
			l.limiters.tell(c, left)
		}
		if !allowed {
			c.Header("Retry-After", "1")
			return email.Fail(email.CodeTooMany, l.refusal, float64(l.limiters.every))
		}
	}
	return nil
}

func (l *limiters) tell(c *gin.Context, left float64) {
	c.Header("RateLimit-Limit", strconv.Itoa(l.burst))
	c.Header("RateLimit-Remaining", strconv.Itoa(int(left)))
	c.Header("RateLimit-Reset", strconv.Itoa(int(math.Ceil((float64(l.burst)-left)/float64(l.every)))))
}
