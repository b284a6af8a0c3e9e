package api_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
)

func TestPauses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		refused := b.as(method, "/v1.0/pauses", "")
		require.Equal(t, 403, refused.status, "a customer's key is not enough")
		require.Contains(t, refused.field(t, "detail"), "key create --admin")
	}
	_, admin, err := b.store.Accounts.CreateAccessKey(t.Context(), account.AccessKey{CustomerID: b.customer.ID, Scopes: []account.Scope{account.ScopeAdmin}})
	require.NoError(t, err)
	do := func(method, path, body string) answer {
		return b.call(method, "/v1.0/pauses"+path, body, "Authorization", "Bearer "+admin)
	}
	require.JSONEq(t, `{"result":[],"waiting":0}`, do("GET", "", "").body)
	for _, bad := range []struct{ body, pointer string }{
		{`{}`, "/scope"}, {`{"scope":"planet"}`, "/scope"}, {`{"scope":"installation","key":"x"}`, "/key"}, {`{"scope":"customer","key":"ACME"}`, "/key"},
		{`{"scope":"stream","key":"pigeon"}`, "/key"}, {`{"scope":"relay"}`, "/key"}, {`{"scope":"relay","key":"x","until":"monday"}`, "/until"},
		{`{"scope":"domain_stream","key":"acme.test"}`, "/key"}, {`{"scope":"domain_stream","key":"acme/acme.test/broadcast"}`, "/key"},
		{`{"scope":"domain_stream","key":"` + b.customer.ID + `/acme.test/pigeon"}`, "/key"}, {`{"scope":"domain_stream","key":"` + b.customer.ID + `/ACME.test/broadcast"}`, "/key"},
		{`{"scope":"relay","key":"x","set_by":"me"}`, "/set_by"},
	} {
		a := do("PUT", "", bad.body)
		require.Equal(t, 400, a.status, bad.body)
		var p struct{ Errors []struct{ Pointer string } }
		a.decode(t, &p)
		require.Equal(t, bad.pointer, p.Errors[0].Pointer, bad.body)
	}
	require.Equal(t, 404, do("PUT", "", `{"scope":"customer","key":"`+uuid.NewString()+`"}`).status, "nobody has that id")
	require.Equal(t, 404, do("PUT", "", `{"scope":"domain_stream","key":"`+uuid.NewString()+`/acme.test/broadcast"}`).status, "nobody has that id")
	require.JSONEq(t, `{"result":[],"waiting":0}`, do("GET", "", "").body)

	paused := do("PUT", "", `{"scope":"customer","key":"`+b.customer.ID+`","reason":"spam run"}`)
	require.Equal(t, 200, paused.status, paused.body)
	require.Equal(t, "spam run", paused.field(t, "reason"))
	require.NotEmpty(t, paused.field(t, "created_at"))
	require.Contains(t, paused.field(t, "set_by"), "key", "it says who did it")
	domain := b.customer.ID + "/acme.test/broadcast"
	require.Equal(t, domain, do("PUT", "", `{"scope":"domain_stream","key":"`+domain+`"}`).field(t, "key"))
	require.Equal(t, 200, do("DELETE", "?scope=domain_stream&key="+domain, "").status)
	require.Equal(t, 200, do("PUT", "", `{"scope":"relay","key":"primary"}`).status)
	id := b.as("POST", "/v1.0/emails", basic).field(t, "id")
	o, err := b.store.Mail.Open(t.Context(), delivery.OpenRequest{EmailID: id, Attempt: 1, Owner: uuid.NewString(), Relay: email.Relay{Name: "other"}})
	require.NoError(t, err)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	var list struct {
		Result  []struct{ Scope, Key string }
		Waiting int
	}
	do("GET", "", "").decode(t, &list)
	require.Len(t, list.Result, 2)
	require.Equal(t, 1, list.Waiting)
	require.Equal(t, 400, do("DELETE", "", "").status)
	require.Equal(t, 404, do("DELETE", "?scope=relay&key=secondary", "").status)
	rest := do("DELETE", "?scope=customer&key="+b.customer.ID, "")
	require.Equal(t, 200, rest.status)
	rest.decode(t, &list)
	require.Len(t, list.Result, 1, "what is still paused")
}
