package activities

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/senderdomain"
)

const (
	// maxDomainChecks is how many domains a process looks up at the same time, and maxCustomerChecks
	// how many of one customer: name servers that do not answer take a look's whole time.
	maxDomainChecks   = 100
	maxCustomerChecks = 5
	// laterLeast is how long a domain waits that finds no place among these, at least, and laterMore
	// how much longer at most. It holds no worker's slot meanwhile.
	laterLeast, laterMore = 5 * time.Second, 5 * time.Second
	// domainCheckTimeout bounds one look. A server that has not answered by then is a temporary failure.
	domainCheckTimeout = 90 * time.Second
)

// CheckDomain looks at the DNS records of a sender domain, if a check is due, and writes what it
// has found. It holds no transaction while it asks the DNS. A domain that does not exist is a
// result.
func (a *Activities) CheckDomain(ctx context.Context, in delivery.CheckDomainInput) (delivery.CheckDomainResult, error) {
	start := time.Now()
	ctx = account.WithActor(ctx, account.Actor{Name: "workflow"})
	begun, err := a.deps.Domains.BeginCheck(ctx, in.DomainID, in.VerifyNow)
	d := begun.Domain
	if err == nil && begun.Due {
		release, free := a.domainChecks.take(d.CustomerID)
		if free {
			defer release()
			found, cerr := a.lookUp(ctx, begun)
			if cerr != nil {
				return delivery.CheckDomainResult{}, cerr
			}
			d, err = a.deps.Domains.SaveCheck(ctx, begun, found)
		} else {
			d.NextCheckAt = start.Add(laterLeast + rand.N(laterMore)).UTC()
		}
	}
	switch {
	case email.FailureCode(err) == email.CodeNotFound:
		return delivery.CheckDomainResult{Deleted: true, Took: since(start)}, nil
	case err != nil:
		return delivery.CheckDomainResult{}, failed(ctx, a.deps.Log, "checking a domain", err)
	}
	res := delivery.CheckDomainResult{
		Checked: d.CheckedAt.After(begun.CheckedAt), Domain: d.Name, Status: string(d.Status), Problem: problemOf(d), NextAt: d.NextCheckAt, Took: since(start),
	}
	if res.Checked {
		a.deps.Log.InfoContext(ctx, "domain.checked", "domain_id", d.ID, "domain", d.Name, "status", res.Status, "problem", res.Problem, "next_at", res.NextAt, "ms", res.MS)
	}
	return res, nil
}

// domainChecks counts the looks at the DNS that are under way.
type domainChecks struct {
	mu  sync.Mutex
	all int
	// of counts them by customer.
	of map[string]int
}

// take takes a place for a look, if there is one.
func (c *domainChecks) take(customerID string) (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= maxDomainChecks || c.of[customerID] >= maxCustomerChecks {
		return nil, false
	}
	c.all++
	c.of[customerID]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all--
		if c.of[customerID]--; c.of[customerID] == 0 {
			delete(c.of, customerID)
		}
	}, true
}

// lookUp asks the DNS. An error means that ctx has ended: what was found then says nothing of the
// domain.
func (a *Activities) lookUp(ctx context.Context, begun senderdomain.Begun) (found senderdomain.Findings, err error) {
	lookCtx, cancel := context.WithTimeout(ctx, domainCheckTimeout)
	defer cancel()
	found.Records = senderdomain.Check(lookCtx, a.deps.Lookup, begun.Records)
	found.SPF = senderdomain.CheckSPF(lookCtx, a.deps.Lookup, begun.Name, begun.ReturnDomain(found.Records), a.deps.RelaySources)
	return found, ctx.Err()
}

// problemOf is a line on why a domain is not verified, or has a warning.
func problemOf(d senderdomain.Domain) string {
	switch d.BlockedBy {
	case senderdomain.BlockedByOperator:
		return "an operator has taken the domain back"
	case senderdomain.BlockedByCustomer:
		return "the domain is verified for another customer"
	}
	for _, r := range d.Records {
		if r.Required && r.Problem != "" {
			return fmt.Sprintf("%s %s: %s", r.Type, r.FQDN, r.Problem)
		}
	}
	return ""
}
