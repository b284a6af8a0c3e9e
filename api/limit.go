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

// limiters are token buckets by name, in the memory of this process. Full buckets are removed.
type limiters struct {
	every rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	// sweepAt is the number of buckets at which full ones are removed.
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

// requestLimits limits the requests per second of each credential, and of each customer; nil
// limiters are no limit.
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

// allow counts a request, and refuses it with CodeTooMany if the credential or its customer has
// none left. The limit of the customer is for all its credentials together: more keys do not
// raise the rate. The headers RateLimit-Limit, -Remaining and -Reset
// (draft-ietf-httpapi-ratelimit-headers-03) describe the limit with less left.
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
			l.limiters.setHeaders(c, left)
		}
		if !allowed {
			c.Header("Retry-After", "1")
			return email.Fail(email.CodeTooMany, l.refusal, float64(l.limiters.every))
		}
	}
	return nil
}

func (l *limiters) setHeaders(c *gin.Context, left float64) {
	c.Header("RateLimit-Limit", strconv.Itoa(l.burst))
	c.Header("RateLimit-Remaining", strconv.Itoa(int(left)))
	c.Header("RateLimit-Reset", strconv.Itoa(int(math.Ceil((float64(l.burst)-left)/float64(l.every)))))
}
