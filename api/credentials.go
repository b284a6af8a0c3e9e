package api

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Credentials knows who a credential stands for.
type Credentials interface {
	GrantByToken(ctx context.Context, token string) (account.Grant, error)
	GrantByUser(ctx context.Context, userID string) (account.Grant, error)
}

// credentials finds out who a request acts for, and what it may do.
type credentials struct {
	store   Credentials
	tokens  tokens
	limits  requestLimits
	respond responder
}

const (
	keyGrant      = "grant"
	keyCustomerID = "customer_id"
)

// authenticate finds out whom a request acts for. The seed API takes a key in
// ?accesskey= and a token in ?token=; either goes into Authorization too.
func (cr *credentials) authenticate(c *gin.Context) {
	grant, err := cr.grant(c)
	if err == nil {
		c.Set(keyGrant, grant)
		c.Set(keyCustomerID, grant.Customer.ID)
		err = cr.limits.allow(c, grant)
	}
	if err != nil {
		cr.respond.problem(c, err)
		return
	}
	c.Request = c.Request.WithContext(account.WithActor(c.Request.Context(), account.Actor{
		Name: grant.Actor, RemoteAddr: c.ClientIP(), RequestID: requestID(c),
	}))
}

func (cr *credentials) grant(c *gin.Context) (account.Grant, error) {
	cred, err := credentialOf(c.Request)
	if err != nil {
		return account.Grant{}, err
	}
	var grant account.Grant
	if account.IsToken(cred) {
		grant, err = cr.store.GrantByToken(c.Request.Context(), cred)
	} else if slices.Contains(c.Request.URL.Query()["accesskey"], cred) && strings.Count(cred, ".") != 2 {
		err = errBadKey // no token in the wrong place either
	} else {
		grant, err = cr.grantOfToken(c.Request.Context(), cred)
	}
	if err != nil {
		return account.Grant{}, err
	}
	ip, _ := netip.ParseAddr(c.ClientIP()) // one that cannot be told is in no network
	switch {
	case !grant.Customer.DeletedAt.IsZero():
		return account.Grant{}, errBadToken
	case grant.Customer.Status == account.StatusSuspended:
		return account.Grant{}, email.Fail(email.CodeForbidden, "this customer is suspended; ask the operator")
	case !grant.MayComeFrom(ip):
		return account.Grant{}, email.Fail(email.CodeForbidden, "this access key may not be used from %s", c.ClientIP())
	}
	return grant, nil
}

// grantOfToken finds what a login token stands for. One of before the user's password was
// changed, or its logins were revoked, stands for nothing.
func (cr *credentials) grantOfToken(ctx context.Context, token string) (account.Grant, error) {
	user, version, err := cr.tokens.user(token)
	if err != nil {
		return account.Grant{}, err
	}
	grant, err := cr.store.GrantByUser(ctx, user)
	if email.FailureCode(err) == email.CodeNotFound || err == nil && grant.TokenVersion != version {
		return account.Grant{}, errBadToken
	}
	return grant, err
}

// authorize lets only those through whose credential may do what the route needs.
func (cr *credentials) authorize(n need) gin.HandlerFunc {
	return func(c *gin.Context) {
		grant := grantOf(c)
		switch {
		case n.login && grant.UserID == "":
			cr.respond.problem(c, errNoLogin)
		case n.full && !grant.Full():
			cr.respond.problem(c, email.Fail(email.CodeForbidden, "this takes a login, or an access key without scopes and restrictions"))
		case n.scope == account.ScopeAdmin && !grant.Admin():
			cr.respond.problem(c, errNotAdmin)
		case n.scope != "" && !grant.May(n.scope):
			cr.respond.problem(c, lacks(n.scope))
		case n.also != "" && !grant.May(n.also):
			cr.respond.problem(c, lacks(n.also))
		}
	}
}

func lacks(s account.Scope) *email.Failure {
	return email.Fail(email.CodeForbidden, "this access key lacks the scope %s", s)
}

// grantOf is what authenticate found.
func grantOf(c *gin.Context) account.Grant { return c.MustGet(keyGrant).(account.Grant) }

// customerOf is the customer a request acts for.
func customerOf(c *gin.Context) account.Customer { return grantOf(c).Customer }

var (
	errNoCredential = email.Fail(email.CodeUnauthorized, "no credential: put an access key into ?accesskey= or Authorization: Bearer, or a token from POST /auth/login into ?token=")
	errTwo          = email.Fail(email.CodeInvalidRequest, "the request carries two different credentials; send one")
	errNotAdmin     = email.Fail(email.CodeForbidden, "this takes an access key with the scope admin; the operator makes one with: postrider key create --admin")
	errBadKey       = email.Fail(email.CodeUnauthorized, "the access key is not valid: it begins with pr_ and is taken whole, as it was shown when it was made; the operator makes one with: postrider key create")
	errNoLogin      = email.Fail(email.CodeForbidden, "this takes a token from POST /auth/login: an access key has no password")
	errBadToken     = email.Fail(email.CodeUnauthorized, "the token is not valid, has expired or was revoked; get one from POST /auth/login")
)

// credentialOf finds the one credential of a request.
func credentialOf(r *http.Request) (string, error) {
	q := r.URL.Query()
	found := append(q["accesskey"], q["token"]...)
	for _, h := range r.Header.Values("Authorization") {
		scheme, value, _ := strings.Cut(h, " ")
		if strings.EqualFold(scheme, "Bearer") {
			found = append(found, strings.TrimSpace(value))
		}
	}
	cred := ""
	for _, f := range found {
		switch {
		case f == "" || f == cred:
		case cred != "":
			return "", errTwo
		default:
			cred = f
		}
	}
	switch {
	case cred == "":
		return "", errNoCredential
	case len(cred) > maxCredential:
		return "", errBadToken
	}
	return cred, nil
}

// maxCredential is in bytes. A login's token has some 300; the claims of a token are
// decoded before its signature is looked at.
const maxCredential = 2 << 10
