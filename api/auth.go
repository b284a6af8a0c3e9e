package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Accounts knows who a credential stands for.
type Accounts interface {
	Authenticate(ctx context.Context, username, password string) (account.User, error)
	GrantByToken(ctx context.Context, token string) (account.Grant, error)
	Customer(ctx context.Context, id string) (account.Customer, error)
	UpdateCustomer(ctx context.Context, c account.Customer) (account.Customer, string, error)
}

const (
	keyCustomer   = "customer"
	keyCustomerID = "customer_id"
	keyScopes     = "scopes"
)

// authenticate finds the customer a request acts for. The seed API takes a key
// in ?accesskey= and a token in ?token=; either goes into Authorization too.
func (s *Server) authenticate(c *gin.Context) {
	cred, err := credentialOf(c.Request)
	if err != nil {
		s.problem(c, err)
		return
	}
	var grant account.Grant
	if account.IsToken(cred) {
		grant, err = s.deps.Accounts.GrantByToken(c.Request.Context(), cred)
	} else {
		var id string
		if id, err = s.tokens.customer(cred); err == nil {
			grant.Customer, err = s.deps.Accounts.Customer(c.Request.Context(), id)
		}
		if email.FailureCode(err) == email.CodeNotFound {
			err = errBadToken
		}
	}
	cust := grant.Customer
	switch {
	case err != nil:
		s.problem(c, err)
		return
	case !cust.DeletedAt.IsZero():
		s.problem(c, errBadToken)
		return
	case cust.Status == account.StatusSuspended:
		s.problem(c, email.Fail(email.CodeForbidden, "this customer is suspended; ask the operator"))
		return
	}
	c.Set(keyCustomer, cust)
	c.Set(keyCustomerID, cust.ID)
	c.Set(keyScopes, grant.Scopes)
}

// administrate lets only those through who may act for the whole installation.
func (s *Server) administrate(c *gin.Context) {
	if !slices.Contains(c.MustGet(keyScopes).([]account.Scope), account.ScopeAdmin) {
		s.problem(c, errNotAdmin)
	}
}

// customerOf is the customer that authenticate found.
func customerOf(c *gin.Context) account.Customer { return c.MustGet(keyCustomer).(account.Customer) }

var (
	errNoCredential = email.Fail(email.CodeUnauthorized, "no credential: put an access key into ?accesskey= or Authorization: Bearer, or a token from POST /auth/login into ?token=")
	errTwo          = email.Fail(email.CodeInvalidRequest, "the request carries two different credentials; send one")
	errNotAdmin     = email.Fail(email.CodeForbidden, "this takes an access key with the scope admin; the operator makes one with: postrider key create --admin")
	errBadToken     = email.Fail(email.CodeUnauthorized, "the token is not valid or has expired; get one from POST /auth/login")
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
	if cred == "" {
		return "", errNoCredential
	}
	return cred, nil
}

// tokenLife is how long a login lasts, as in the seed API.
const tokenLife = 7 * 24 * time.Hour

// tokens makes and checks login tokens: JWTs with HS256 (RFC 7519).
type tokens struct{ key []byte }

type claims struct {
	jwt.RegisteredClaims
	CustomerID string `json:"customer_id"`
}

func (t tokens) issue(u account.User, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		CustomerID: u.CustomerID,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: u.ID, Issuer: "postrider",
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
		},
	}).SignedString(t.key)
}

func (t tokens) customer(token string) (string, error) {
	var cl claims
	_, err := jwt.ParseWithClaims(token, &cl, func(*jwt.Token) (any, error) { return t.key, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("postrider"), jwt.WithExpirationRequired())
	if err != nil || cl.CustomerID == "" {
		return "", errBadToken
	}
	return cl.CustomerID, nil
}

type loginRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type loginAnswer struct {
	Username string `json:"username"`
	Token    string `json:"token"`
}

func (s *Server) login(c *gin.Context) (int, any, error) {
	var in loginRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	switch {
	case in.Username == "":
		return 0, nil, invalid("/username", "missing", "give the username")
	case in.Password == "":
		return 0, nil, invalid("/password", "missing", "give the password")
	}
	user, err := s.deps.Accounts.Authenticate(c.Request.Context(), in.Username, in.Password)
	if err != nil {
		return 0, nil, err
	}
	token, err := s.tokens.issue(user, time.Now())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, loginAnswer{Username: user.Username, Token: token}, nil
}
