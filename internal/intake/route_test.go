package intake_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/intake"
)

// onlyX are relays that take mail of x.com, and broadcast mail of news.com.
func onlyX(r delivery.Route) bool {
	return r.SenderDomain == "x.com" || r.SenderDomain == "news.com" && r.Stream == email.StreamBroadcast
}

func TestDecodeRefusesMailWithoutARelay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body, pointer string
		says          []string
	}{
		"taken":              {`"from":{"email":"a@X.com"}`, "", nil},
		"another domain":     {`"from":{"email":"a@y.com"}`, "/from", []string{"y.com", "domains=", "streams="}},
		"VoIPBIN's sender":   {`"source":{"target":"a@y.com"}`, "/source", []string{"y.com"}},
		"a default source":   {``, "/from", []string{"default.com"}},
		"another stream":     {`"from":{"email":"a@news.com"}`, "/stream", []string{"transactional", "only broadcast", "streams="}},
		"the stream that is": {`"from":{"email":"a@news.com"},"stream":"broadcast"`, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			l.Serves, l.DefaultSource = onlyX, &email.Address{Email: "a@default.com"}
			body := `"to":[{"email":"b@z.com"}],"subject":"s","content":"c"}`
			if tt.body != "" {
				body = tt.body + "," + body
			}
			_, err := intake.Decode([]byte("{"+body), l)
			if tt.pointer == "" {
				require.NoError(t, err)
				return
			}
			f, ok := errors.AsType[*email.Failure](err)
			require.True(t, ok)
			require.Equal(t, email.CodeInvalidRequest, f.Code)
			require.Len(t, f.Fields, 1)
			require.Equal(t, tt.pointer, f.Fields[0].Pointer)
			require.Equal(t, "no_relay", f.Fields[0].Code)
			for _, words := range tt.says {
				require.Contains(t, f.Fields[0].Detail, words)
			}
		})
	}
}
