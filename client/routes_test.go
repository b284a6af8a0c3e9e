package client_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
)

// asked records what a client asks for and answers 404.
type asked map[string]bool

func (a asked) RoundTrip(r *http.Request) (*http.Response, error) {
	path := regexp.MustCompile(`/(an-id|an\.id|1)(/|$)`).ReplaceAllString(r.URL.Path, "/:/")
	path = regexp.MustCompile(`/(an-id|an\.id|1)(/|$)`).ReplaceAllString(path, "/:/")
	a[r.Method+" "+strings.TrimRight(path, "/")] = true
	return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
}

// notOfTheClient are the routes that no program calls through it.
var notOfTheClient = []string{"GET", "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /openapi.yaml", "GET /docs", "GET /u/:", "POST /u/:", "POST /auth/login"}

// TestTheGoClientCoversTheRouteTable calls every method of the client and compares what it
// asks for with the route table: a new route needs a method.
func TestTheGoClientCoversTheRouteTable(t *testing.T) {
	t.Parallel()
	seen := asked{}
	c, err := client.New("http://postrider.test", "key", client.WithHTTPClient(&http.Client{Transport: seen}), client.WithRetry(client.Retry{Tries: 1}))
	require.NoError(t, err)
	v := reflect.ValueOf(c)
	for i := range v.NumMethod() {
		m := v.Method(i)
		if m.Type().NumIn() == 0 || m.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue // it asks for nothing
		}
		args := make([]reflect.Value, 0, m.Type().NumIn())
		for j := range m.Type().NumIn() {
			in := m.Type().In(j)
			switch {
			case m.Type().IsVariadic() && j == m.Type().NumIn()-1:
			case in == reflect.TypeFor[context.Context]():
				args = append(args, reflect.ValueOf(t.Context()))
			case in == reflect.TypeFor[io.Reader]():
				args = append(args, reflect.ValueOf(strings.NewReader("x")))
			case in == reflect.TypeFor[client.Batch]():
				args = append(args, reflect.ValueOf(client.Batch{Messages: []client.Message{{}}}))
			case in.Kind() == reflect.String:
				args = append(args, reflect.ValueOf("an-id").Convert(in))
			case in.Kind() == reflect.Int:
				args = append(args, reflect.ValueOf(1))
			default:
				args = append(args, reflect.Zero(in))
			}
		}
		for _, out := range m.Call(args) {
			if out.Kind() == reflect.Func { // a list asks when it is walked through
				out.Call([]reflect.Value{reflect.MakeFunc(out.Type().In(0), func([]reflect.Value) []reflect.Value { return []reflect.Value{reflect.ValueOf(false)} })})
			}
		}
	}
	var missing []string
	// The description has every route: a test of the API compares it with the table.
	text, err := os.ReadFile("../api/openapi.yaml")
	require.NoError(t, err)
	path, routes := "", 0
	for line := range strings.Lines(string(text)) {
		if m := regexp.MustCompile(`^  (/\S*):$`).FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			path = regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(m[1], ":")
		}
		m := regexp.MustCompile(`^    (get|post|put|delete):$`).FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		routes++
		if route := strings.TrimRight(strings.ToUpper(m[1])+" "+path, "/ "); !seen[route] && !slices.Contains(notOfTheClient, route) {
			missing = append(missing, route)
		}
	}
	require.Greater(t, routes, 60)
	require.Empty(t, missing)
}
