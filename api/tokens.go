package api

import (
	"context"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/account"
)

// tokenLife is how long a login token is valid, as in VoIPBIN's API.
const tokenLife = 7 * 24 * time.Hour

// tokens issues and verifies login tokens: JWTs with HS256 (RFC 7519).
type tokens struct {
	// All keys verify tokens; signing returns the index of the key that signs them.
	keys    [][]byte
	signing func(context.Context) (int, error)
	now     func() time.Time
}

func newTokens(opts Options) tokens {
	t := tokens{keys: [][]byte{opts.TokenKey}, signing: opts.SigningKey, now: opts.Now}
	if len(opts.OldTokenKey) > 0 {
		t.keys = append(t.keys, opts.OldTokenKey)
	}
	if t.signing == nil {
		t.signing = func(context.Context) (int, error) { return 0, nil }
	}
	return t
}

func (t tokens) issue(ctx context.Context, u account.User) (string, error) {
	key, err := t.signing(ctx)
	if err != nil {
		return "", err
	}
	now := t.now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{u.TokenVersion, jwt.RegisteredClaims{
		Subject: u.ID, Issuer: "postrider", IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
	}}).SignedString(t.keys[key])
}

// claims are the claims of a login token. The subject is the user's id.
type claims struct {
	// Version is the user's TokenVersion when the token was issued; 0 in tokens of versions of
	// Postrider that had none.
	Version int `json:"ver,omitempty"`
	jwt.RegisteredClaims
}

// user verifies a token and returns its user's id and Version. All its errors are errBadToken.
func (t tokens) user(token string) (id string, version int, err error) {
	var cl claims
	_, err = jwt.ParseWithClaims(token, &cl, func(*jwt.Token) (any, error) { return t.verifying(), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("postrider"), jwt.WithExpirationRequired(), jwt.WithTimeFunc(t.now))
	if err != nil || uuid.Validate(cl.Subject) != nil {
		return "", 0, errBadToken
	}
	return cl.Subject, cl.Version, nil
}

// verifying returns all keys: while an operator replaces the secret key, tokens of both exist.
func (t tokens) verifying() jwt.VerificationKeySet {
	var set jwt.VerificationKeySet
	for _, k := range t.keys {
		set.Keys = append(set.Keys, k)
	}
	return set
}
