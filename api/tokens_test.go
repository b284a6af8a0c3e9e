package api_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// A token is valid only if the key of this installation has signed it, its user exists, and it has
// not expired. The key of the test's server is 32 zero bytes.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ann := b.user("ann", false)
	key := make([]byte, 32)
	now := time.Now()
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"sub": ann.ID, "iss": "postrider", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	}
	with := func(name string, value any) jwt.MapClaims {
		c := good()
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
		return c
	}
	sign := func(m jwt.SigningMethod, c jwt.MapClaims, key any, header ...any) string {
		token := jwt.NewWithClaims(m, c)
		for i := 0; i < len(header); i += 2 {
			token.Header[header[i].(string)] = header[i+1]
		}
		s, err := token.SignedString(key)
		require.NoError(t, err)
		return s
	}
	hs256 := func(c jwt.MapClaims, header ...any) string { return sign(jwt.SigningMethodHS256, c, key, header...) }
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	valid := hs256(good())
	parts := strings.Split(valid, ".")
	other := strings.Split(hs256(with("sub", uuid.NewString())), ".")
	mac := func(h func() hash.Hash, signed string) string {
		m := hmac.New(h, key)
		m.Write([]byte(signed))
		return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	oddHeader := part(`{"alg":"hs256","typ":"JWT"}`) + "." + parts[1]
	twice := parts[0] + "." + part(fmt.Sprintf(`{"sub":%q,"iss":"postrider","exp":"never"}`, ann.ID))
	forged := map[string]string{
		"no algorithm":                 sign(jwt.SigningMethodNone, good(), jwt.UnsafeAllowNoneSignatureType),
		"no algorithm, with signature": part(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"no algorithm, capital":        part(`{"alg":"None"}`) + "." + parts[1] + ".",
		"algorithm in small letters":   oddHeader + "." + mac(sha256.New, oddHeader),
		"algorithm missing":            part(`{"typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"signature missing":            parts[0] + "." + parts[1] + ".",
		"two parts":                    parts[0] + "." + parts[1],
		"four parts":                   valid + "." + parts[2],
		"another's signature":          parts[0] + "." + parts[1] + "." + other[2],
		"another's claims":             parts[0] + "." + other[1] + "." + parts[2],
		"signature cut":                valid[:len(valid)-2],
		"signature padded":             valid + "=",
		"another key":                  sign(jwt.SigningMethodHS256, good(), []byte(strings.Repeat("k", 32))),
		"a word as key":                sign(jwt.SigningMethodHS256, good(), []byte("secret")),
		"HS384 with the key":           sign(jwt.SigningMethodHS384, good(), key),
		"HS512 with the key":           sign(jwt.SigningMethodHS512, good(), key),
		"RS256":                        sign(jwt.SigningMethodRS256, good(), private),
		"PS256":                        sign(&jwt.SigningMethodRSAPSS{SigningMethodRSA: &jwt.SigningMethodRSA{Name: "PS256", Hash: crypto.SHA256}}, good(), private),
		"a key in the header":          sign(jwt.SigningMethodHS256, good(), []byte("mine"), "jwk", map[string]any{"kty": "oct", "k": part("mine")}),
		"a key's path":                 sign(jwt.SigningMethodHS256, good(), []byte("\n"), "kid", "../../../../dev/null"),
		"expired":                      hs256(with("exp", now.Add(-time.Second).Unix())),
		"no expiry":                    hs256(with("exp", nil)),
		"an expiry that is no time":    twice + "." + mac(sha256.New, twice),
		"not yet valid":                hs256(with("nbf", now.Add(time.Hour).Unix())),
		"another issuer":               hs256(with("iss", "postrider2")),
		"no issuer":                    hs256(with("iss", nil)),
		"no subject":                   hs256(with("sub", nil)),
		"a subject that is no id":      hs256(with("sub", "ann")),
		"a customer's id":              hs256(with("sub", b.customer.ID)),
		"a user that there is not":     hs256(with("sub", uuid.NewString())),
		"SQL":                          hs256(with("sub", ann.ID+"' OR '1'='1")),
		"another version":              hs256(with("ver", 7)),
		"a negative version":           hs256(with("ver", -1)),
		"a long one":                   hs256(with("x", strings.Repeat("{", 3000))),
	}
	status := func(token string) int { return b.with(token, "GET", "/v1.0/customer", "").status }
	require.Equal(t, 200, status(valid))
	require.Equal(t, 200, b.call("GET", "/v1.0/customer?token="+valid, "").status)
	for name := range maps.Keys(forged) {
		require.Equal(t, 401, status(forged[name]), name)
		require.Equal(t, 401, b.call("GET", "/v1.0/customer?token="+strings.ReplaceAll(forged[name], "=", "%3D"), "").status, name)
	}
}

// Tokens with a valid signature whose subject is not the id of a user.
func TestTokenWithoutUserID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, subject := range []string{"x", "", "00000000-0000-0000-0000-00000000000g", "{01a225ac-5e77-7c02-908b-85802dbe647c", "01a225ac-5e77-7c02-908b-85802dbe647c"} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Subject: subject, Issuer: "postrider",
			IssuedAt: jwt.NewNumericDate(time.Now()), ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}).SignedString(make([]byte, 32))
		require.NoError(t, err)
		got := b.with(token, "GET", "/v1.0/customer", "")
		require.Equal(t, 401, got.status, "%s: %s", subject, got.body)
	}
}
