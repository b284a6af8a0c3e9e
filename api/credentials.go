package api

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Credentials finds what a credential may do. Unknown credentials are CodeUnauthorized, unknown
// users CodeNotFound.
type Credentials interface {
	GrantByToken(ctx context.Context, token string) (account.Grant, error)
	GrantByUser(ctx context.Context, userID string) (account.Grant, error)
}

// credentials authenticates and authorizes requests.
type credentials struct {
	store     Credentials
	customers CustomerByID
	tokens    tokens
	limits    requestLimits
	respond   responder
}

const (
	keyGrant      = "grant"
	keyCustomerID = "customer_id"
)

// authenticate finds the customer that a request acts for. A request has its access key in
// ?accesskey= or its login token in ?token=, as in VoIPBIN's API, or either in Authorization.
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
		err = errBadKey // in ?accesskey=, and not a login token, which has two dots
	} else {
		grant, err = cr.grantOfToken(c.Request.Context(), cred)
	}
	if err != nil {
		return account.Grant{}, err
	}
	ip, _ := netip.ParseAddr(c.ClientIP()) // the zero address is in no network
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

// grantOfToken returns the grant of a login token. A token is not valid after its user's password
// has changed or its logins were revoked.
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

// authorize refuses requests whose credential does not meet a route's requirement.
func (cr *credentials) authorize(needs requirement) gin.HandlerFunc {
	return func(c *gin.Context) {
		grant := grantOf(c)
		switch {
		case needs.login && grant.UserID == "":
			cr.respond.problem(c, errNoLogin)
		case needs.unrestricted && !grant.Full():
			cr.respond.problem(c, email.Fail(email.CodeForbidden, "this needs a login token, or an access key without scopes and restrictions"))
		case needs.scope == account.ScopeAdmin && !grant.Admin():
			cr.respond.problem(c, errNotAdmin)
		case needs.scope != "" && !grant.May(needs.scope):
			cr.respond.problem(c, lacks(needs.scope))
		case needs.also != "" && !grant.May(needs.also):
			cr.respond.problem(c, lacks(needs.also))
		default:
			if err := cr.actFor(c, needs); err != nil {
				cr.respond.problem(c, err)
			}
		}
	}
}

// actFor makes a request of an operator act for the customer that ?customer_id= names. A route that
// does not know the parameter refuses it, except for customers with the profile voipbin.
func (cr *credentials) actFor(c *gin.Context, needs requirement) error {
	grant := grantOf(c)
	switch asked, given := c.GetQuery("customer_id"); {
	case needs.anyCustomer && len(c.QueryArray("customer_id")) > 1:
		return invalid("customer_id", "duplicate", "give the parameter once")
	case !given || !needs.anyCustomer && voipbin(c):
		return nil
	case !needs.anyCustomer:
		return invalid("customer_id", "unknown", "this route acts for the customer of the credential; leave the parameter out")
	case asked == grant.Customer.ID:
		return nil
	case !grant.Admin():
		return errNotAdmin
	}
	id, err := uuid.Parse(c.Query("customer_id"))
	if err != nil {
		return invalid("customer_id", "invalid", "give the id of a customer")
	}
	if grant.Customer, err = cr.customers.Customer(c.Request.Context(), id.String()); err != nil {
		return err
	}
	c.Set(keyGrant, grant)
	return nil
}

func lacks(s account.Scope) *email.Failure {
	return email.Fail(email.CodeForbidden, "this access key lacks the scope %s", s)
}

// grantOf returns what the credential of a request may do. The route must not be public.
func grantOf(c *gin.Context) account.Grant { return c.MustGet(keyGrant).(account.Grant) }

// customerOf returns the customer that a request acts for. The route must not be public.
func customerOf(c *gin.Context) account.Customer { return grantOf(c).Customer }

// actsForAnother reports whether an operator's request acts for a customer that is not the operator's own,
// which operatorID names.
func actsForAnother(c *gin.Context) (operatorID string, ok bool) {
	operatorID = c.GetString(keyCustomerID)
	return operatorID, operatorID != customerOf(c).ID
}

var (
	errNoCredential   = email.Fail(email.CodeUnauthorized, "no credential: put an access key into ?accesskey= or Authorization: Bearer, or a token from POST /auth/login into ?token=")
	errTwoCredentials = email.Fail(email.CodeInvalidRequest, "the request carries two different credentials; send one")
	errNotAdmin       = email.Fail(email.CodeForbidden, "this needs an access key with the scope admin; the operator creates one with: postrider key create --admin")
	errBadKey         = email.Fail(email.CodeUnauthorized, "the access key is not valid: give all of it, pr_ included, as it was shown when it was created; the operator creates one with: postrider key create")
	errNoLogin        = email.Fail(email.CodeForbidden, "this needs a token from POST /auth/login: an access key has no password")
	errBadToken       = email.Fail(email.CodeUnauthorized, "the token is not valid, has expired or was revoked; POST /auth/login returns a new one")
)

// credentialOf returns the credential of a request. A request may repeat it, but not carry two
// different ones.
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
			return "", errTwoCredentials
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

// maxCredential limits a credential, in bytes. A login token has about 300. The limit matters
// because jwt decodes the claims of a token before it verifies the signature.
const maxCredential = 2 << 10
