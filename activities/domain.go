package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/senderdomain"
)

const (
	// domainCheckTimeout bounds one look. A server that has not answered by then is a temporary failure.
	domainCheckTimeout = 90 * time.Second
	// turnsGiven is how many waiting domains a look wakes at most when it ends. Places may be free besides
	// its own.
	turnsGiven = 3
)

// CheckDomain looks at the DNS records of a sender domain and writes what it has found. It does nothing
// unless a check is due and it is the domain's turn. It holds no transaction while it asks the DNS. A
// domain that does not exist is a result.
func (a *Activities) CheckDomain(ctx context.Context, in delivery.CheckDomainInput) (delivery.CheckDomainResult, error) {
	start := time.Now()
	ctx = account.WithActor(ctx, account.Actor{Name: "workflow"})
	begun, err := a.deps.Domains.BeginCheck(ctx, in.DomainID, in.VerifyNow)
	d := begun.Domain
	if err == nil && begun.Due {
		found, cerr := a.lookUp(ctx, begun)
		if cerr != nil {
			return delivery.CheckDomainResult{}, cerr
		}
		d, err = a.deps.Domains.SaveCheck(ctx, begun, found)
		a.wakeNext(ctx)
	}
	switch {
	case email.FailureCode(err) == email.CodeNotFound:
		return delivery.CheckDomainResult{Deleted: true, Took: since(start)}, nil
	case err != nil:
		return delivery.CheckDomainResult{}, failed(ctx, a.deps.Log, "checking a domain", err)
	}
	res := delivery.CheckDomainResult{
		Checked: d.CheckedAt.After(begun.CheckedAt), Waits: begun.Waits, Domain: d.Name, Status: string(d.Status), Problem: problemOf(d), NextAt: d.NextCheckAt, Took: since(start),
	}
	if res.Checked {
		a.deps.Log.InfoContext(ctx, "domain.checked", "domain_id", d.ID, "domain", d.Name, "status", res.Status, "problem", res.Problem, "next_at", res.NextAt, "ms", res.MS)
	}
	return res, nil
}

// wakeNext wakes the domains whose turn it is after a look. If that fails, a sweep finds them.
func (a *Activities) wakeNext(ctx context.Context) {
	ids, err := a.deps.Domains.GiveTurns(ctx, turnsGiven)
	for _, id := range ids {
		err = errors.Join(err, a.deps.Waker.WakeDomain(ctx, id))
	}
	if err != nil {
		a.deps.Log.WarnContext(ctx, "domain.turns", "error", err)
	}
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
