package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPutCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("PUT", "/v1.0/customer", `{"webhook_uri":"https://hooks.example.com/in","default_source":{"email":"Shop@ACME.test","name":"Shop"}}`)
	require.Equal(t, 200, res.status, res.body)
	require.Equal(t, "ACME", res.field(t, "name"), "what is not named stays")
	require.Regexp(t, `^whsec_`, res.field(t, "webhook_secret"))
	for _, bad := range []string{"not an address", "@acme.test", "a@acme", "a@acme.test,b@acme.test", "A <a@acme.test>", " a@acme.test"} {
		no := b.as("PUT", "/v1.0/customer", `{"email":"`+bad+`"}`)
		require.Equal(t, 400, no.status, bad)
		require.Contains(t, no.body, "/email")
	}
	mail := b.as("PUT", "/v1.0/customer", `{"email":"Post@ACME.test"}`)
	require.Equal(t, 200, mail.status, mail.body)
	require.Equal(t, "Post@acme.test", mail.field(t, "email"))
	require.Equal(t, 200, b.as("PUT", "/v1.0/customer", `{"email":""}`).status, "an empty text takes it away")
	again := b.as("PUT", "/v1.0/customer", `{"name":"ACME Inc."}`)
	require.Equal(t, "https://hooks.example.com/in", again.field(t, "webhook_uri"))
	require.NotContains(t, again.body, "webhook_secret")
	require.NotContains(t, b.as("GET", "/v1.0/customer", "").body, "webhook_secret")

	sent := b.as("POST", "/v1.0/emails", `{"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`)
	require.Equal(t, 202, sent.status, sent.body)
	var got struct {
		Source struct{ Target string } `json:"source"`
	}
	sent.decode(t, &got)
	require.Equal(t, "Shop@acme.test", got.Source.Target, "the default source serves where the sender is left out")
	refused := b.as("PUT", "/v1.0/customer", `{"default_source":{"email":"shop@unknown.test"}}`)
	require.Equal(t, 403, refused.status, refused.body)
	require.Contains(t, refused.body, `"pointer":"/default_source"`)
	require.Contains(t, b.as("GET", "/v1.0/customer", "").body, "Shop@acme.test")
	verified := func(to string) {
		_, err := b.raw.ExecContext(t.Context(), "UPDATE domains SET verified_at = "+to)
		require.NoError(t, err)
	}
	verified("NULL")
	require.Equal(t, 200, b.as("PUT", "/v1.0/customer", `{"name":"ACME Ltd."}`).status, "one that is there keeps nobody from changing the rest")
	verified("now()")
	require.Equal(t, 200, b.as("PUT", "/v1.0/customer", `{"default_source":{"email":"","name":""}}`).status)
	require.Equal(t, 400, b.as("POST", "/v1.0/emails", `{"to":[{"email":"b@x.test"}],"subject":"s","content":"t"}`).status)

	for _, uri := range []string{"http://hooks.example.com/", "https://user:pw@example.com/", "ftp://example.com", "nonsense"} {
		require.Equal(t, 400, b.as("PUT", "/v1.0/customer", `{"webhook_uri":"`+uri+`"}`).status, uri)
	}
	require.Contains(t, b.as("GET", "/v1.0/customers", "").body, b.customer.ID)
}
