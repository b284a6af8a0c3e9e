package api_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/account"
)

func TestRequestRate(t *testing.T) {
	t.Parallel()
	b := setupWith(t, maxBytes, 1) // a second for each: a slow machine is faster than that
	var last answer
	for range 20 {
		if last = b.as("GET", "/v1.0/customer", ""); last.status == 429 {
			break
		}
		require.Equal(t, "2", last.header.Get("RateLimit-Limit"))
	}
	require.Equal(t, 429, last.status)
	require.Equal(t, "too_many_requests", last.field(t, "code"))
	require.Equal(t, "1", last.header.Get("Retry-After"))
	require.Equal(t, "0", last.header.Get("RateLimit-Remaining"))
	reset, err := strconv.Atoi(last.header.Get("RateLimit-Reset"))
	require.NoError(t, err)
	require.Positive(t, reset)
	_, other := b.newCustomer("Other", "other.test")
	require.Equal(t, 200, b.with(other, "GET", "/v1.0/customer", "").status, "each credential by itself")
}

// The keys of a customer share a rate.
func TestCustomerRequestRate(t *testing.T) {
	t.Parallel()
	b := setupFor(t, setupOptions{maxBytes: maxBytes, customerRate: 1})
	var keys []string
	for range 40 {
		_, token, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID})
		require.NoError(t, err)
		keys = append(keys, token)
	}
	_, other := b.newCustomer("Other", "other.test")
	refused := slices.IndexFunc(keys, func(key string) bool {
		a := b.with(key, "GET", "/v1.0/customer", "")
		require.Equal(t, "2", a.header.Get("RateLimit-Limit"))
		return a.status == 429
	})
	require.GreaterOrEqual(t, refused, 2)
	require.Equal(t, 200, b.with(other, "GET", "/v1.0/customer", "").status, "each customer by itself")
}
