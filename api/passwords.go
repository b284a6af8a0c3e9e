package api

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/httpserver"
)

// passwordChecks limits wrong passwords and concurrent password hashes.
type passwordChecks struct {
	pairs, networks *guessLimiter
	queue           *hashQueue
	now             func() time.Time
}

func newPasswordChecks(now func() time.Time, patience time.Duration, hashesAtOnce int) *passwordChecks {
	return &passwordChecks{pairs: newGuessLimiter(guessEvery, guessBurst), networks: newGuessLimiter(networkGuessEvery, networkGuessBurst), queue: newHashQueue(cmp.Or(patience, hashPatience), hashesAtOnce, now), now: now}
}

// check calls do, which checks the password of a name. An error of do with the code wrong means a
// wrong password.
//
// Wrong passwords are limited by name and network together, and by network. Those from another
// network never lock a name. Those of other names from the same network do not lock a name that has
// logged in from there before. check counts a password before it is hashed. do is not canceled when
// the client closes the connection, so that its guess counts.
func (p *passwordChecks) check(c *gin.Context, name string, wrong email.Code, do func(context.Context) error) error {
	network := httpserver.ClientNetwork(c.ClientIP())
	pair, all := guessKey(name, network), guessKey("", network)
	wait, ok := p.pairs.begin(pair, p.now())
	if !ok {
		return tooManyGuesses(c, wait)
	}
	failed := false
	defer func() { p.pairs.end(pair, p.now(), failed) }()
	if !p.queue.knows(name, network) {
		if wait, ok = p.networks.begin(all, p.now()); !ok {
			return tooManyGuesses(c, wait)
		}
		defer func() { p.networks.end(all, p.now(), failed) }()
	}
	if err := p.queue.enter(c.Request.Context(), name, network); err != nil {
		return err
	}
	defer p.queue.leave()
	err := do(context.WithoutCancel(c.Request.Context()))
	failed = email.FailureCode(err) == wrong
	if err == nil {
		p.queue.succeeded(name, network)
	}
	return err
}

// hash calls do, which hashes a new password and checks none.
func (p *passwordChecks) hash(c *gin.Context, do func(context.Context) error) error {
	actor, network := grantOf(c).Actor, httpserver.ClientNetwork(c.ClientIP())
	if err := p.queue.enter(c.Request.Context(), actor, network); err != nil {
		return err
	}
	defer p.queue.leave()
	defer p.queue.uncount(actor, network) // it is no guess
	return do(c.Request.Context())
}

// tooManyGuesses refuses a login. wait is the value of Retry-After.
func tooManyGuesses(c *gin.Context, wait time.Duration) error {
	seconds := int(wait / time.Second)
	c.Header("Retry-After", strconv.Itoa(seconds))
	return email.Fail(email.CodeTooMany, "too many logins from here have failed, or are being checked; wait %d s", seconds)
}
