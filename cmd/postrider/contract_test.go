package main

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/openapitest"
)

// contract is the API's description, as the first server of the tests serves it.
var contract struct {
	mu  sync.Mutex
	doc *openapitest.Contract
}

// description reads it. A test that fails here leaves it to the next one.
func description(t *testing.T, server string) *openapitest.Contract {
	t.Helper()
	contract.mu.Lock()
	defer contract.mu.Unlock()
	if contract.doc == nil {
		res, err := http.Get(server + "/openapi.json")
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode, string(text))
		contract.doc, err = openapitest.Load(text)
		require.NoError(t, err)
	}
	return contract.doc
}

// check holds a server's answer, whose body was data, against the API's description.
func check(t *testing.T, server string, sent []byte, res *http.Response, data []byte) {
	t.Helper()
	require.NoError(t, description(t, server).Check(openapitest.Exchange{
		Method: res.Request.Method, Target: res.Request.URL.String(), ContentType: res.Request.Header.Get("Content-Type"), Sent: sent,
		Status: res.StatusCode, Header: res.Header, Body: data,
	}))
}
