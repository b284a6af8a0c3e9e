package api_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

// TestXRealIPIsNotBelieved: a proxy that appends to X-Forwarded-For passes it on as the
// client has sent it.
func TestXRealIPIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	_, key, err := b.store.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	require.NoError(t, err)
	from := func(header, value string) int {
		req := httptest.NewRequest("GET", "/v1.0/customer", nil)
		req.RemoteAddr = "127.0.0.1:1234"
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set(header, value)
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		return rec.Code
	}
	require.Equal(t, 403, from("X-Real-IP", "10.1.1.1"))
	require.Equal(t, 403, from("Forwarded", "for=10.1.1.1"))
	require.Equal(t, 200, from("X-Forwarded-For", "10.1.1.1"))
}

// TestAnswersAreKeptByNobody: they hold tokens and mail.
func TestAnswersAreKeptByNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, a := range []answer{
		b.call("POST", "/auth/login", `{"username":"nobody","password":"x"}`), b.as("GET", "/v1.0/customer", ""), b.as("POST", "/v1.0/accesskeys", `{}`),
		b.as("POST", "/v1.0/emails", basic), b.as("GET", "/v1.0/nowhere", ""), b.call("GET", "/v1.0/customer", ""), b.call("GET", "/healthz", ""),
	} {
		require.Equal(t, "no-store", a.header.Get("Cache-Control"), a.body)
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"), a.body)
	}
}

// TestATokenForNobodyIsUnauthorized: signed with the right key, for what is no user's id.
func TestATokenForNobodyIsUnauthorized(t *testing.T) {
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
