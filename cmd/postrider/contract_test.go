package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/internal/openapitest"
)

// contract is the API's description, as the first server of the tests serves it.
var contract struct {
	mu  sync.Mutex
	doc *openapitest.Contract
}

// description reads it. Where that fails, it is left to the next test.
func description(server string) (*openapitest.Contract, error) {
	contract.mu.Lock()
	defer contract.mu.Unlock()
	if contract.doc != nil {
		return contract.doc, nil
	}
	res, err := http.Get(server + "/openapi.json")
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the description: %s: %s", res.Status, text)
	}
	contract.doc, err = openapitest.Load(text)
	return contract.doc, err
}

// check holds a server's answer, whose body was data, against the API's
// description. It may be called from any goroutine.
func check(t testing.TB, server string, sent []byte, res *http.Response, data []byte) {
	t.Helper()
	doc, err := description(server)
	if err == nil {
		err = doc.Check(openapitest.Exchange{
			Method: res.Request.Method, Target: res.Request.URL.String(), ContentType: res.Request.Header.Get("Content-Type"), Sent: sent,
			Status: res.StatusCode, Header: res.Header, Body: data,
		})
	}
	if err != nil {
		t.Error(err)
	}
}

// checked holds every answer that a client gets against the API's description.
func checked(t testing.TB, server string) client.Option {
	return client.WithHTTPClient(&http.Client{Transport: checking{t, server}})
}

type checking struct {
	t      testing.TB
	server string
}

func (c checking) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		var err error
		if sent, err = io.ReadAll(req.Body); err != nil {
			return nil, errors.Join(err, req.Body.Close())
		}
		if err := req.Body.Close(); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	check(c.t, c.server, sent, res, data)
	res.Body = io.NopCloser(bytes.NewReader(data))
	return res, nil
}
