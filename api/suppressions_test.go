package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/memtest"
	"github.com/postrider/postrider/internal/suppression"
)

// entry is an entry of a suppression list, as answered.
type entry struct {
	ID        string  `json:"id"`
	Address   *string `json:"address"`
	Scope     string  `json:"scope"`
	Stream    *string `json:"stream"`
	Topic     *string `json:"topic"`
	Reason    string  `json:"reason"`
	Source    string  `json:"source"`
	Note      string  `json:"note"`
	ExpiresAt *string `json:"expires_at"`
	CreatedAt string  `json:"created_at"`
}

func (b *bench) suppress(body string) entry {
	b.t.Helper()
	got := b.as("POST", "/v1.0/suppressions", body)
	require.Less(b.t, got.status, 300, got.body)
	var out entry
	got.decode(b.t, &out)
	return out
}

// suppressions are the addresses of a page of the list.
func (b *bench) suppressions(query string) (addresses []string, next string) {
	b.t.Helper()
	got := b.as("GET", "/v1.0/suppressions"+query, "")
	require.Equal(b.t, 200, got.status, got.body)
	var page struct {
		Result []entry `json:"result"`
		Next   string  `json:"next_page_token"`
	}
	got.decode(b.t, &page)
	for _, e := range page.Result {
		address := "erased"
		if e.Address != nil {
			address = *e.Address
		}
		addresses = append(addresses, address)
	}
	return addresses, page.Next
}

// actions are those in the audit log, newest first.
func (b *bench) actions() (out []string) {
	b.t.Helper()
	as, _, err := b.store.Accounts.Audit(b.t.Context(), b.customer.ID, email.Cursor{}, 20)
	require.NoError(b.t, err)
	for _, a := range as {
		if strings.Contains(a.Action, "suppression") {
			require.NotContains(b.t, a.Target+a.Detail, "@", "the log has no addresses")
			out = append(out, a.Action+" "+a.Detail)
		}
	}
	return out
}

func TestAddingASuppression(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.as("POST", "/v1.0/suppressions", `{"address":"Ann+x@EXAMPLE.Net","note":"by phone"}`)
	require.Equal(t, 201, got.status, got.body)
	var first, second entry
	got.decode(t, &first)
	require.Equal(t, "Ann+x@example.net all manual manual by phone", strings.Join([]string{*first.Address, first.Scope, first.Reason, first.Source, first.Note}, " "))
	require.Nil(t, first.Stream)
	require.Nil(t, first.Topic)
	require.Nil(t, first.ExpiresAt)

	again := b.as("POST", "/v1.0/suppressions", `{"address":"Ann+x@example.net","reason":"complaint","expires_at":"`+b.ahead(2)+`"}`)
	require.Equal(t, 200, again.status, again.body)
	again.decode(t, &second)
	require.Equal(t, []string{first.ID, first.CreatedAt, "complaint", ""}, []string{second.ID, second.CreatedAt, second.Reason, second.Note})
	require.NotNil(t, second.ExpiresAt)
	require.Equal(t, again.body, b.as("GET", "/v1.0/suppressions/"+first.ID, "").body)

	unsubscribed := b.suppress(`{"address":"bob@x.test","reason":"unsubscribe","scope":null,"note":null}`)
	require.Equal(t, []string{"stream", "broadcast"}, []string{unsubscribed.Scope, *unsubscribed.Stream}, "transactional mail goes on")
	topic := b.suppress(`{"address":"bob@x.test","topic":"news"}`)
	require.Equal(t, []string{"topic", "news"}, []string{topic.Scope, *topic.Topic})
	require.Equal(t, "*@xn--e1afmkfd.xn--p1ai", *b.suppress(`{"address":"*@Пример.рф"}`).Address)
	require.Equal(t, "почта@xn--e1afmkfd.xn--p1ai", *b.suppress(`{"address":"почта@пример.рф"}`).Address)

	// Neither dots, nor +, nor case are folded.
	for _, a := range []string{"a.b@x.test", "ab@x.test", "a.b+c@x.test", "A.b@x.test"} {
		require.Equal(t, a, *b.suppress(`{"address":"` + a + `"}`).Address)
	}
	addresses, _ := b.suppressions("?address=ab@x.test")
	require.Equal(t, []string{"ab@x.test"}, addresses)
	require.Contains(t, b.actions(), "suppression.changed complaint all until "+(*second.ExpiresAt)[:19]+"Z")
}

func TestRefusedSuppressions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for body, want := range map[string]string{
		`{}`:                               "/address missing",
		`{"address":"bob"}`:                "/address invalid_address",
		`{"address":"a@x.test, b@x.test"}`: "/address invalid_address",
		`{"address":"*@"}`:                 "/address invalid_address",
		`{"address":"*@x.test","reason":"hard_bounce"}`:                    "/reason unsupported",
		`{"address":"a@x.test","reason":"soft_bounces"}`:                   "/reason invalid",
		`{"address":"a@x.test","scope":"some"}`:                            "/scope invalid",
		`{"address":"a@x.test","scope":"stream"}`:                          "/stream missing",
		`{"address":"a@x.test","scope":"all","stream":"broadcast"}`:        "/stream unsupported",
		`{"address":"a@x.test","stream":"news"}`:                           "/stream invalid",
		`{"address":"a@x.test","topic":"News"}`:                            "/topic invalid",
		`{"address":"a@x.test","topic":"news","stream":"broadcast"}`:       "/topic unsupported",
		`{"address":"a@x.test","expires_at":"2020-01-01T00:00:00Z"}`:       "/expires_at past",
		`{"address":"a@x.test","expires_at":"soon"}`:                       "/expires_at invalid",
		`{"address":"a@x.test","note":"` + strings.Repeat("n", 501) + `"}`: "/note too_long",
		`{"address":"a@x.test","note":"\u0001"}`:                           "/note control_character",
		`{"address":"a@x.test","email":"x"}`:                               "/email unknown",
		`{"address":1}`:                                                    "/address wrong_type",
	} {
		got := b.as("POST", "/v1.0/suppressions", body)
		require.Equal(t, 400, got.status, body)
		require.Contains(t, problems(t, got), want, got.body)
	}
	for query, want := range map[string]string{
		"?email=a@x.test": "email unknown", "?address=bob": "address invalid", "?reason=x": "reason invalid", "?scope=x": "scope invalid", "?source=x": "source invalid",
		"?stream=x": "stream invalid", "?topic=X": "topic invalid", "?stream=broadcast&topic=news": "topic unsupported", "?reason=manual&reason=manual": "reason duplicate",
		"?page_size=0": "page_size invalid", "?customer_id=x": "",
	} {
		got := b.as("GET", "/v1.0/suppressions"+query, "")
		if want == "" {
			require.Equal(t, 403, got.status, got.body)
			continue
		}
		require.Equal(t, 400, got.status, query)
		require.Contains(t, problems(t, got), want, got.body)
	}
	send := b.as("POST", "/v1.0/accesskeys", `{"scopes":["emails:send","suppressions:ignore"]}`).field(t, "token")
	got := b.with(send, "GET", "/v1.0/suppressions", "")
	require.Equal(t, 403, got.status)
	require.Contains(t, got.body, "lacks the scope suppressions")
}

// problems are those of an answer, as "pointer code".
func problems(t *testing.T, a answer) (out []string) {
	t.Helper()
	var p struct {
		Errors []struct{ Pointer, Code, Detail string } `json:"errors"`
	}
	a.decode(t, &p)
	for _, e := range p.Errors {
		require.NotEmpty(t, e.Detail)
		out = append(out, e.Pointer+" "+e.Code)
	}
	return out
}

func TestListingSuppressions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 5 {
		b.suppress(fmt.Sprintf(`{"address":"a%d@x.test","reason":"complaint"}`, i))
	}
	b.suppress(`{"address":"b@x.test","topic":"news"}`)
	b.suppress(`{"address":"c@x.test","reason":"unsubscribe"}`)
	var all []string
	for query, next := "?page_size=3", "first"; next != ""; query = "?page_size=3&page_token=" + strings.ReplaceAll(next, " ", "%20") {
		var page []string
		page, next = b.suppressions(query)
		all = append(all, page...)
	}
	require.Equal(t, []string{"c@x.test", "b@x.test", "a4@x.test", "a3@x.test", "a2@x.test", "a1@x.test", "a0@x.test"}, all)
	for query, want := range map[string][]string{
		"?reason=unsubscribe": {"c@x.test"}, "?scope=topic": {"b@x.test"}, "?stream=broadcast": {"c@x.test"}, "?topic=news": {"b@x.test"}, "?topic=other": nil,
		"?source=import": nil, "?source=manual&reason=complaint&address=a3@X.test": {"a3@x.test"}, "?stream=transactional": nil,
	} {
		got, _ := b.suppressions(query)
		require.Equal(t, want, got, query)
	}
	// An erased address is found by the address.
	_, err := b.raw.ExecContext(t.Context(), "UPDATE suppressions SET address = '' WHERE address = 'a3@x.test'")
	require.NoError(t, err)
	got, _ := b.suppressions("?address=a3@x.test")
	require.Equal(t, []string{"erased"}, got)
	require.Equal(t, 200, b.as("POST", "/v1.0/suppressions", `{"address":"a3@x.test"}`).status)
	got, _ = b.suppressions("?address=a3@x.test")
	require.Equal(t, []string{"erased"}, got, "it is not stored again")

	other, key := b.newCustomer("Other", "other.test")
	require.JSONEq(t, `{"result":[],"next_page_token":""}`, b.with(key, "GET", "/v1.0/suppressions", "").body)
	acting := b.with(b.adminKey(), "POST", "/v1.0/suppressions?customer_id="+other.ID, `{"address":"z@x.test"}`)
	require.Equal(t, 201, acting.status, acting.body)
	require.Contains(t, b.with(key, "GET", "/v1.0/suppressions", "").body, "z@x.test")
}

func TestCheckingAddresses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.suppress(`{"address":"all@x.test"}`)
	b.suppress(`{"address":"news@x.test","topic":"news"}`)
	b.suppress(`{"address":"broadcast@x.test","reason":"unsubscribe"}`)
	b.suppress(`{"address":"*@gone.test"}`)
	b.suppress(`{"address":"ended@x.test"}`)
	_, err := b.raw.ExecContext(t.Context(), "UPDATE suppressions SET expires_at = now() - interval '1 second' WHERE address = 'ended@x.test'")
	require.NoError(t, err)
	check := func(mail string) (out []string) {
		t.Helper()
		got := b.as("POST", "/v1.0/suppressions/check", `{"addresses":["all@X.test","ALL@x.test","news@x.test","broadcast@x.test","any@gone.test","any@sub.gone.test","ended@x.test"]`+mail+`}`)
		require.Equal(t, 200, got.status, got.body)
		var answer struct {
			Result []struct {
				Address      string  `json:"address"`
				Suppressed   bool    `json:"suppressed"`
				Suppressions []entry `json:"suppressions"`
			} `json:"result"`
		}
		got.decode(t, &answer)
		for _, r := range answer.Result {
			out = append(out, fmt.Sprint(r.Address, " ", r.Suppressed, " ", len(r.Suppressions)))
		}
		return out
	}
	require.Equal(t, []string{"all@x.test true 1", "ALL@x.test false 0", "news@x.test false 1", "broadcast@x.test false 1", "any@gone.test true 1", "any@sub.gone.test false 0", "ended@x.test false 0"}, check(""))
	require.Equal(t, []string{"all@x.test true 1", "ALL@x.test false 0", "news@x.test true 1", "broadcast@x.test true 1", "any@gone.test true 1", "any@sub.gone.test false 0", "ended@x.test false 0"},
		check(`,"stream":"broadcast","topic":"news"`))

	thousand := make([]string, 1000)
	for i := range thousand {
		thousand[i] = fmt.Sprintf(`"%s%d@x.test"`, strings.Repeat("a", 60), i)
	}
	got := b.as("POST", "/v1.0/suppressions/check", `{"addresses":[`+strings.Join(thousand, ",")+`]}`)
	require.Equal(t, 200, got.status, got.body)
	for body, want := range map[string]string{
		`{}`: "/addresses missing", `{"addresses":[]}`: "/addresses missing", `{"addresses":["a@x.test","b"]}`: "/addresses/1 invalid_address", `{"addresses":["*@x.test"]}`: "",
		`{"addresses":["a@x.test"],"stream":"x"}`: "/stream invalid", `{"addresses":["a@x.test"],"topic":"X"}`: "/topic invalid", `{"addresses":[1]}`: "/addresses/0 wrong_type",
		`{"addresses":[` + strings.Join(append(thousand, `"z@x.test"`), ",") + `]}`: "/addresses too_many",
	} {
		got := b.as("POST", "/v1.0/suppressions/check", body)
		if want == "" {
			require.Less(t, got.status, 500)
			continue
		}
		require.Equal(t, 400, got.status, got.body)
		require.Contains(t, problems(t, got), want)
	}
}

func TestDeletingASuppression(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := b.suppress(`{"address":"bob@x.test","reason":"complaint"}`)
	b.suppress(`{"address":"eve@x.test"}`)
	mail := func(to string) answer {
		got := b.as("POST", "/v1.0/emails", strings.Replace(basic, `[{"email":"bob@x.test","name":"Bob"}]`, to, 1))
		require.Less(t, got.status, 300, got.body)
		return got
	}
	both := mail(`[{"email":"bob@x.test"},{"email":"ann@x.test"}]`)
	require.Equal(t, 202, both.status)
	var shown struct {
		Recipients []struct {
			Status       string  `json:"status"`
			SuppressedBy *string `json:"suppressed_by"`
		} `json:"recipients"`
	}
	both.decode(t, &shown)
	require.Equal(t, "suppressed", shown.Recipients[0].Status)
	require.Equal(t, e.ID, *shown.Recipients[0].SuppressedBy)
	require.Nil(t, shown.Recipients[1].SuppressedBy)
	mail(`[{"email":"bob@x.test"}]`)
	old := mail(`[{"email":"bob@x.test"}]`).field(t, "id")
	_, err := b.raw.ExecContext(t.Context(), "UPDATE recipients SET status_at = now() - interval '31 days' WHERE email_id = ?", old)
	require.NoError(t, err)

	other, key := b.newCustomer("Other", "other.test")
	_ = other
	require.Equal(t, 404, b.with(key, "DELETE", "/v1.0/suppressions/"+e.ID, "").status)
	got := b.as("DELETE", "/v1.0/suppressions/"+e.ID, "")
	require.Equal(t, 200, got.status, got.body)
	require.Contains(t, got.body, `"emails_30d":2`)
	require.Contains(t, got.body, `"address":"bob@x.test"`)
	require.Equal(t, 404, b.as("DELETE", "/v1.0/suppressions/"+e.ID, "").status)
	require.Equal(t, 404, b.as("GET", "/v1.0/suppressions/not-an-id", "").status)
	require.Equal(t, "suppression.deleted complaint all", b.actions()[0])
	mail(`[{"email":"bob@x.test"}]`)
	require.Equal(t, "queued", mail(`[{"email":"bob@x.test"}]`).field(t, "status"))
}

// importFile imports a file.
func (b *bench) importFile(query, file string) answer {
	b.t.Helper()
	return b.call("POST", "/v1.0/suppressions/import"+query, file, "Authorization", "Bearer "+b.key, "Content-Type", "text/csv; charset=UTF-8")
}

func TestImportingAFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.suppress(`{"address":"note@x.test","reason":"complaint","note":"keep"}`)
	const file = "\ufeffaddress;reason;note\r\nann@x.test;hard_bounce;\"a;b\"\r\nnot an address;;\r\nBOB@x.test;unsubscribe;\r\nnote@x.test;complaint;keep\r\n"
	got := b.importFile("", file)
	require.Equal(t, 200, got.status, got.body)
	require.JSONEq(t, `{"format":"postrider","read":4,"added":2,"changed":0,"unchanged":1,"refused":1,
		"errors":[{"line":3,"column":"address","code":"invalid_address","detail":"an address looks like local@domain"}]}`, got.body)
	require.Contains(t, b.importFile("", file).body, `"added":0,"changed":0,"unchanged":3,"refused":1`, "again")
	require.Contains(t, b.importFile("", strings.Replace(file, "hard_bounce", "complaint", 1)).body, `"added":0,"changed":1,"unchanged":2`)
	require.Equal(t, "suppression.imported postrider: 4 read, 0 added, 1 changed, 2 unchanged, 1 refused", b.actions()[0])

	// An entry keeps the members that a file does not have, except its end.
	b.suppress(`{"address":"ends@x.test","reason":"complaint","note":"mine","expires_at":"` + b.ahead(2) + `"}`)
	require.Contains(t, b.importFile("", "ends@x.test\nnote@x.test\n").body, `"format":"list","read":2,"added":0,"changed":1,"unchanged":1`)
	list := b.as("GET", "/v1.0/suppressions?address=ends@x.test", "").body
	require.Contains(t, list, `"reason":"complaint"`)
	require.Contains(t, list, `"note":"mine"`)
	require.Contains(t, list, `"source":"import"`)
	require.Contains(t, list, `"expires_at":null`)

	require.Contains(t, b.importFile("?format=sendgrid&reason=complaint", "email,created\nspam@x.test,1443651125\n").body, `"added":1`)
	list = b.as("GET", "/v1.0/suppressions?address=spam@x.test", "").body
	require.Contains(t, list, `"created_at":"2015-09-30T22:12:05.000Z"`)
	require.Contains(t, list, `"reason":"complaint"`)
	require.Equal(t, 202, b.as("POST", "/v1.0/emails", basic).status)
	got = b.as("POST", "/v1.0/emails", strings.Replace(basic, "bob@x.test", "spam@x.test", 1))
	require.Equal(t, "bounced", got.field(t, "status"), "what is imported counts: %s", got.body)
}

func TestRefusedImports(t *testing.T) {
	t.Parallel()
	b := setup(t)
	typed := func(file, contentType string) answer {
		headers := []string{"Authorization", "Bearer " + b.key, "Content-Type", contentType}
		return b.call("POST", "/v1.0/suppressions/import", file, headers...)
	}
	for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded", "text/csv; charset=iso-8859-1", "text/csv; charset"} {
		got := typed("a@x.test\n", contentType)
		require.Equal(t, 415, got.status, contentType)
		require.Contains(t, got.body, "--data-binary")
	}
	require.Equal(t, 415, b.call("POST", "/v1.0/suppressions/import", "x", "Authorization", "Bearer "+b.key, "Content-Type", "text/csv", "Content-Encoding", "gzip").status)
	for query, want := range map[string]string{"?format=x": "format invalid", "?reason=x": "reason invalid", "?formt=ses": "formt unknown"} {
		got := b.importFile(query, "a@x.test\n")
		require.Equal(t, 400, got.status)
		require.Contains(t, problems(t, got), want)
	}
	got := b.importFile("", "name,phone\n")
	require.Equal(t, 400, got.status)
	require.Contains(t, got.body, "no header that is known")
	require.Equal(t, 400, typed("", "text/csv").status, "an empty file")
	got = b.importFile("", "address\n"+strings.Repeat("\n", suppression.MaxImportLines+1))
	require.Equal(t, 413, got.status)
	require.Contains(t, got.body, "more than 1000000 lines")
	require.Empty(t, b.actions(), "nothing was stored")

	// A body that breaks off stores nothing.
	req := httptest.NewRequest("POST", "/v1.0/suppressions/import", io.MultiReader(strings.NewReader("a@x.test\n"), brokenReader{}))
	req.Header.Set("Authorization", "Bearer "+b.key)
	rec := httptest.NewRecorder()
	b.server.ServeHTTP(rec, req)
	require.Equal(t, 400, rec.Code)
	addresses, _ := b.suppressions("")
	require.Empty(t, addresses)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// exported is the list as a file, from a real server.
func (b *bench) exported(key string) string {
	b.t.Helper()
	got := b.with(key, "GET", "/v1.0/suppressions/export", "")
	require.Equal(b.t, 200, got.status, got.body)
	require.Equal(b.t, `attachment; filename="suppressions.csv"`, got.header.Get("Content-Disposition"))
	return got.body
}

func TestAnExportIsImportedExactly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, body := range []string{
		`{"address":"*@gone.test"}`, `{"address":"a.b+c@x.test","note":"=1+1"}`, `{"address":"почта@пример.рф","topic":"news","note":"two\nlines, \"quoted\"; 'and' more"}`,
		`{"address":"ann@x.test","reason":"unsubscribe","expires_at":"` + b.ahead(3) + `"}`, `{"address":"=ann@x.test"}`, `{"address":"ended@x.test"}`, `{"address":"erased@x.test"}`,
	} {
		b.suppress(body)
	}
	_, err := b.raw.ExecContext(t.Context(), "UPDATE suppressions SET expires_at = now() - interval '1 second' WHERE address = 'ended@x.test'; UPDATE suppressions SET address = '' WHERE address = 'erased@x.test'")
	require.NoError(t, err)
	// Many with the same time, over more than one part.
	_, err = b.raw.ExecContext(t.Context(), `INSERT INTO suppressions (id, customer_id, address_key, address, scope, reason, source, created_at)
		SELECT gen_random_uuid(), ?, 'key-' || n, 'n' || n || '@x.test', 'all', 'hard_bounce', 'delivery', '2026-01-01' FROM generate_series(1, 12000) AS n`, b.customer.ID)
	require.NoError(t, err)
	file := b.exported(b.key)
	require.Equal(t, 1+5+12000+1, strings.Count(file, "\n"), "a note has two lines")
	require.True(t, strings.HasPrefix(file, "address,scope,stream,topic,reason,note,expires_at,created_at\nn"), file[:200])
	require.NotContains(t, file, "ended@x.test")

	_, key := b.newCustomer("Other", "other.test")
	got := b.call("POST", "/v1.0/suppressions/import", file, "Authorization", "Bearer "+key, "Content-Type", "text/csv")
	require.Contains(t, got.body, `"read":12005,"added":12005,"changed":0,"unchanged":0,"refused":0,"errors":[]`)
	require.Equal(t, file, b.exported(key))
	got = b.call("POST", "/v1.0/suppressions/import", file, "Authorization", "Bearer "+key, "Content-Type", "text/csv")
	require.Contains(t, got.body, `"added":0,"changed":0,"unchanged":12005`)
	require.Equal(t, 400, b.as("GET", "/v1.0/suppressions/export?reason=manual", "").status)
}

// TestAnExportThatFailsIsCutOff: a client does not take a part of a list for all of it.
func TestAnExportThatFailsIsCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.raw.ExecContext(t.Context(), `INSERT INTO suppressions (id, customer_id, address_key, address, scope, reason, source, created_at)
		SELECT gen_random_uuid(), ?, 'key-' || n, 'n' || n || '@x.test', 'all', 'hard_bounce', 'delivery', CASE WHEN n > 5000 THEN '2026-02-01' ELSE '2026-01-01' END::timestamptz
		FROM generate_series(1, 5001) AS n`, b.customer.ID)
	require.NoError(t, err)
	// The second part is of a time that no answer can have.
	_, err = b.raw.ExecContext(t.Context(), "UPDATE suppressions SET created_at = 'infinity' WHERE created_at = '2026-02-01'")
	require.NoError(t, err)
	srv := httptest.NewServer(b.server)
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v1.0/suppressions/export", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+b.key)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, 200, res.StatusCode)
	_, err = io.ReadAll(res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// many makes a file of n addresses as it is read.
type many struct {
	n, next int
	left    string
}

func (m *many) Read(p []byte) (int, error) {
	if m.left == "" {
		if m.next == m.n {
			return 0, io.EOF
		}
		m.left = fmt.Sprintf("user.%d+tag@mail-%d.example.com,hard_bounce,550 5.1.1 no such user here %d\n", m.next, m.next%100, m.next)
		if m.next == 0 {
			m.left = "address,reason,note\n" + m.left
		}
		m.next++
	}
	n := copy(p, m.left)
	m.left = m.left[n:]
	return n, nil
}

// TestALargeImportIsNotInMemory is not parallel: others' memory would count.
func TestALargeImportIsNotInMemory(t *testing.T) {
	b := setup(t)
	const rows, limit = 120_000, 20 << 20
	importing := func() answer {
		req := httptest.NewRequest("POST", "/v1.0/suppressions/import", io.NopCloser(&many{n: rows}))
		req.ContentLength = -1
		req.Header.Set("Authorization", "Bearer "+b.key)
		req.Header.Set("Content-Type", "text/csv")
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		return answer{rec.Code, rec.Header(), rec.Body.String()}
	}
	var got answer
	held := memtest.Peak(limit, func() { got = importing() })
	require.Equal(t, 200, got.status, got.body)
	require.Contains(t, got.body, fmt.Sprintf(`"read":%d,`, rows))
	require.Contains(t, got.body, `"refused":0`)
	require.Less(t, held, int64(limit))
	n, err := b.raw.NewSelect().Table("suppressions").Count(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, rows, n)
	held = memtest.Peak(limit, func() {
		rec := &discarded{header: http.Header{}}
		req := httptest.NewRequest("GET", "/v1.0/suppressions/export", nil)
		req.Header.Set("Authorization", "Bearer "+b.key)
		b.server.ServeHTTP(rec, req)
		require.Equal(t, rows+1, rec.lines)
	})
	require.Less(t, held, int64(limit))
}

// discarded counts the lines of an answer.
type discarded struct {
	header http.Header
	lines  int
}

func (d *discarded) Header() http.Header { return d.header }
func (d *discarded) WriteHeader(int)     {}
func (d *discarded) Write(p []byte) (int, error) {
	d.lines += strings.Count(string(p), "\n")
	return len(p), nil
}

// TestIgnoringSuppressions: it takes a scope of its own, and the audit log notes it.
func TestIgnoringSuppressions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.suppress(`{"address":"bob@x.test","reason":"complaint"}`)
	ignoring := strings.Replace(basic, "{", `{"ignore_suppressions":true,`, 1)
	got := b.as("POST", "/v1.0/emails", ignoring)
	require.Equal(t, 202, got.status, got.body)
	require.Contains(t, got.body, `"ignore_suppressions":true`)
	require.Equal(t, "queued", got.field(t, "status"))
	require.Contains(t, b.as("GET", "/v1.0/emails/"+got.field(t, "id"), "").body, `"ignore_suppressions":true`)
	as, _, err := b.store.Accounts.Audit(t.Context(), b.customer.ID, email.Cursor{}, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"email.suppressions_ignored", got.field(t, "id")}, []string{as[0].Action, as[0].Target})
	require.True(t, strings.HasPrefix(as[0].Actor.Name, "key:"), as[0].Actor.Name)
	require.Contains(t, b.as("POST", "/v1.0/emails", basic).body, `"ignore_suppressions":false`)

	key := func(scopes string) string {
		return b.as("POST", "/v1.0/accesskeys", `{"scopes":[`+scopes+`]}`).field(t, "token")
	}
	send, may := key(`"emails:send","emails:read"`), key(`"emails:send","suppressions:ignore"`)
	batch := `{"messages":[` + basic + `,` + ignoring + `]}`
	template := `{"message":{"from":{"email":"shop@acme.test"},"subject":"s","content":"t","ignore_suppressions":true},"recipients":[{"email":"bob@x.test"},{"email":"ann@x.test"}]}`
	for path, body := range map[string]string{"/v1.0/emails": ignoring, "/v1.0/emails/preview": ignoring, "/v1.0/emails/batch": batch} {
		refused := b.with(send, "POST", path, body)
		require.Equal(t, 403, refused.status, "%s: %s", path, refused.body)
		require.Contains(t, refused.body, "lacks the scope suppressions:ignore")
	}
	require.Contains(t, problems(t, b.with(send, "POST", "/v1.0/emails/batch", batch)), "/messages/1/ignore_suppressions forbidden")
	require.Contains(t, problems(t, b.with(send, "POST", "/v1.0/emails/batch", template)), "/message/ignore_suppressions forbidden")
	require.Equal(t, 202, b.with(may, "POST", "/v1.0/emails", ignoring).status)

	accepted := b.with(may, "POST", "/v1.0/emails/batch", template)
	require.Equal(t, 202, accepted.status, accepted.body)
	as, _, err = b.store.Accounts.Audit(t.Context(), b.customer.ID, email.Cursor{}, 1)
	require.NoError(t, err)
	require.Equal(t, account.Audited{
		ID: as[0].ID, At: as[0].At, CustomerID: b.customer.ID, Actor: as[0].Actor, Action: "email.suppressions_ignored", Target: accepted.field(t, "id"), Detail: "2 e-mails of a batch",
	}, as[0])

	// Sending it again ignores them again, and takes the scope again.
	id := got.field(t, "id")
	require.Equal(t, 200, b.as("POST", "/v1.0/emails/"+id+"/cancel", "").status)
	refused := b.with(send, "POST", "/v1.0/emails/"+id+"/resend", "")
	require.Equal(t, 403, refused.status, refused.body)
	require.Equal(t, 202, b.with(may, "POST", "/v1.0/emails/"+id+"/resend", "").status)
	require.Equal(t, 400, b.as("POST", "/v1.0/emails", strings.Replace(basic, "{", `{"ignore_suppressions":"yes",`, 1)).status)
}
