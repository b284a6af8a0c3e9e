package api_test

import (
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/mailbox"
)

// request is a request to a route.
type request struct {
	path, body, contentType string
	// owned: the path names a resource of customer A.
	owned bool
	// acting: the request acts for customer A.
	acting bool
	// beyond reports whether the request exceeds the rights of a credential that meets the
	// route's requirement; nil is never.
	beyond func(account.Grant) bool
	// keys are the keys that the request may delete.
	keys []targetKey
	// user is the user that the request may change or delete; nil is none.
	user *account.User
}

// actingFor is the request with ?customer_id=.
func (q request) actingFor(c account.Customer) request {
	separator := "?"
	if strings.Contains(q.path, "?") {
		separator = "&"
	}
	q.path, q.acting = q.path+separator+"customer_id="+c.ID, true
	return q
}

type targetKey struct {
	key   account.AccessKey
	token string
}

// asking returns the requests of one route. It creates the resources of customer A that they need.
type asking func(*rights) []request

func plainGet(path string) asking { return func(*rights) []request { return []request{{path: path}} } }

// on returns a request for a resource of customer A.
func on(path func(*rights) string, body string) asking {
	return func(r *rights) []request { return []request{{path: path(r), body: body, owned: true}} }
}

// rightsRows has a row for each line of the route table.
func rightsRows() map[string]asking {
	rows := map[string]asking{}
	for _, add := range []map[string]asking{openRows(), emailRows(), keyRows(), customerRows(), operatorRows(), webhookRows(), mailboxRows(), senderDomainRows(), suppressionRows()} {
		for name, row := range add {
			rows[name] = row
		}
	}
	return rows
}

func openRows() map[string]asking {
	login := func(path string) asking {
		return func(r *rights) []request {
			return []request{{path: path, body: `{"username":"user-B","password":"correct horse"}`}}
		}
	}
	link := func(r *rights) []request {
		// The suppression list shows the address afterwards.
		news := strings.Replace(strings.Replace(secretMail, "{", `{"stream":"broadcast",`, 1), "secretmail@x.test", "ann@x.test", 1)
		return []request{{path: r.link(r.with(r.keyA, "POST", "/v1.0/emails", news).field(r.t, "id"))}}
	}
	return map[string]asking{
		"GET /u/:token": link, "HEAD /u/:token": link, "POST /u/:token": link,
		"GET /": plainGet("/"), "GET /healthz": plainGet("/healthz"), "GET /readyz": plainGet("/readyz"), "GET /metrics": plainGet("/metrics"),
		"GET /openapi.json": plainGet("/openapi.json"), "GET /openapi.yaml": plainGet("/openapi.yaml"), "GET /docs": plainGet("/docs"),
		"POST /auth/login": login("/auth/login"), "POST /v1.0/auth/login": login("/v1.0/auth/login"),
	}
}

// mail creates an e-mail of A. done creates a canceled one.
func (r *rights) mail() string {
	r.t.Helper()
	return r.with(r.keyA, "POST", "/v1.0/emails", secretMail).field(r.t, "id")
}

func (r *rights) done() string {
	r.t.Helper()
	id := r.mail()
	require.Equal(r.t, 200, r.with(r.keyA, "POST", "/v1.0/emails/"+id+"/cancel", "").status)
	return id
}

func (r *rights) file() string {
	r.t.Helper()
	body, contentType := form(r.t, "SECRETFILE.txt", "text/plain", []byte("SECRETFILE"))
	return r.call("POST", "/v1.0/files", body, "Content-Type", contentType, "Authorization", "Bearer "+r.keyA).field(r.t, "id")
}

func (r *rights) batch() string {
	r.t.Helper()
	return r.with(r.keyA, "POST", "/v1.0/emails/batch", messages(secretMail)).field(r.t, "id")
}

func emailRows() map[string]asking {
	mail := func(action string) func(*rights) string {
		return func(r *rights) string { return "/v1.0/emails/" + r.mail() + action }
	}
	batch := func(action string) func(*rights) string {
		return func(r *rights) string { return "/v1.0/batches/" + r.batch() + action }
	}
	file := func(part string) func(*rights) string {
		return func(r *rights) string { return "/v1.0/files/" + r.file() + part }
	}
	// Each customer has its own domain, so only one credential may send.
	posted := func(path string, body func(message string) string) asking {
		return func(r *rights) (out []request) {
			for _, c := range []account.Customer{r.a, r.b, r.operator} {
				domain := strings.ToLower(c.Name) + ".test"
				out = append(out, request{path: path, body: body(strings.ReplaceAll(basic, "acme.test", domain)), beyond: func(g account.Grant) bool {
					return g.Customer.ID != c.ID || !g.MaySendFrom(domain)
				}})
			}
			return out
		}
	}
	plain := func(m string) string { return m }
	at := time.Now().AddDate(0, 0, 3).UTC().Format(time.RFC3339)
	return map[string]asking{
		"POST /v1.0/emails": posted("/v1.0/emails", plain), "POST /v1.0/emails/preview": posted("/v1.0/emails/preview", plain),
		"POST /v1.0/emails/batch": posted("/v1.0/emails/batch", func(m string) string { return messages(m) }),
		"GET /v1.0/emails":        plainGet("/v1.0/emails"), "GET /v1.0/emails/stats": plainGet("/v1.0/emails/stats"),
		"GET /v1.0/emails/:id": on(mail(""), ""), "DELETE /v1.0/emails/:id": on(mail(""), ""),
		"POST /v1.0/emails/:id/cancel": on(mail("/cancel"), ""), "POST /v1.0/emails/:id/hold": on(mail("/hold"), ""),
		"POST /v1.0/emails/:id/resume": on(func(r *rights) string {
			id := r.mail()
			require.Equal(r.t, 200, r.with(r.keyA, "POST", "/v1.0/emails/"+id+"/hold", "").status)
			return "/v1.0/emails/" + id + "/resume"
		}, ""),
		"POST /v1.0/emails/:id/retry-now": on(mail("/retry-now"), ""), "POST /v1.0/emails/:id/reschedule": on(mail("/reschedule"), `{"send_at":"`+at+`"}`),
		"POST /v1.0/emails/:id/resend": on(func(r *rights) string { return "/v1.0/emails/" + r.done() + "/resend" }, ""),
		"GET /v1.0/emails/:id/events":  on(mail("/events"), ""), "GET /v1.0/emails/:id/attempts": on(mail("/attempts"), ""),
		"GET /v1.0/events": plainGet("/v1.0/events"), "GET /v1.0/batches": plainGet("/v1.0/batches"), "GET /v1.0/batches/:id": on(batch(""), ""),
		"POST /v1.0/batches/:id/cancel": on(batch("/cancel"), ""), "POST /v1.0/batches/:id/hold": on(batch("/hold"), ""),
		"POST /v1.0/batches/:id/resume": on(batch("/resume"), ""),
		"POST /v1.0/files": func(r *rights) []request {
			body, contentType := form(r.t, "a.txt", "text/plain", []byte("a"))
			return []request{{path: "/v1.0/files", body: body, contentType: contentType}}
		},
		"GET /v1.0/files": plainGet("/v1.0/files"), "GET /v1.0/files/:id": on(file(""), ""), "DELETE /v1.0/files/:id": on(file(""), ""), "GET /v1.0/files/:id/content": on(file("/content"), ""),
	}
}

// target creates a key of A to be deleted.
func (r *rights) target(scopes ...account.Scope) targetKey {
	r.t.Helper()
	k, token, err := r.store.Accounts.CreateAccessKey(r.t.Context(), account.AccessKey{CustomerID: r.a.ID, Name: "SECRETKEY", Scopes: scopes})
	require.NoError(r.t, err)
	return targetKey{k, token}
}

// keyRows also create keys with all rights, and delete keys of the operator.
func keyRows() map[string]asking {
	made := func(path func(*rights) string, owned bool) asking {
		return func(r *rights) (out []request) {
			for body, k := range map[string]account.AccessKey{
				`{"name":"all"}`: {}, `{"scopes":["emails:send"]}`: {Scopes: []account.Scope{account.ScopeSend}},
			} {
				out = append(out, request{path: path(r), body: body, owned: owned, beyond: func(g account.Grant) bool {
					member, _ := g.Exceeded(k)
					return member != ""
				}})
			}
			return out
		}
	}
	ended := func(prefix, action string) asking {
		return func(r *rights) (out []request) {
			for _, k := range []targetKey{r.target(), r.target(account.ScopeAdmin), r.target(account.ScopeRead)} {
				out = append(out, request{path: strings.ReplaceAll(prefix, "CUSTOMER", r.a.ID) + "/accesskeys/" + k.key.ID + action, owned: true, keys: []targetKey{k}, beyond: func(g account.Grant) bool {
					member, _ := g.Exceeded(k.key)
					return member != ""
				}})
			}
			return out
		}
	}
	return map[string]asking{
		"GET /v1.0/accesskeys": plainGet("/v1.0/accesskeys"), "POST /v1.0/accesskeys": made(func(*rights) string { return "/v1.0/accesskeys" }, false),
		"GET /v1.0/accesskeys/:id":    on(func(r *rights) string { return "/v1.0/accesskeys/" + r.target().key.ID }, ""),
		"DELETE /v1.0/accesskeys/:id": ended("/v1.0", ""), "POST /v1.0/accesskeys/:id/rotate": ended("/v1.0", "/rotate"),
		"GET /v1.0/customers/:id/accesskeys":         on(func(r *rights) string { return "/v1.0/customers/" + r.a.ID + "/accesskeys" }, ""),
		"GET /v1.0/customers/:id/accesskeys/:key":    on(func(r *rights) string { return "/v1.0/customers/" + r.a.ID + "/accesskeys/" + r.target().key.ID }, ""),
		"DELETE /v1.0/customers/:id/accesskeys/:key": ended("/v1.0/customers/CUSTOMER", ""),
		"POST /v1.0/customers/:id/accesskeys":        made(func(r *rights) string { return "/v1.0/customers/" + r.a.ID + "/accesskeys" }, true),
	}
}

func customerRows() map[string]asking {
	customer := func(part, body string) asking {
		return on(func(r *rights) string { return "/v1.0/customers/" + r.a.ID + part }, body)
	}
	return map[string]asking{
		"GET /v1.0/usage": plainGet("/v1.0/usage"), "GET /v1.0/audit": plainGet("/v1.0/audit"), "GET /v1.0/customer": plainGet("/v1.0/customer"), "GET /v1.0/customers": plainGet("/v1.0/customers"),
		"PUT /v1.0/customer":      func(*rights) []request { return []request{{path: "/v1.0/customer", body: `{"detail":"x"}`}} },
		"POST /v1.0/customers":    func(*rights) []request { return []request{{path: "/v1.0/customers", body: `{"name":"C"}`}} },
		"GET /v1.0/customers/:id": customer("", ""), "PUT /v1.0/customers/:id": customer("", `{"credits":null}`),
		"POST /v1.0/customers/:id/domains": func(r *rights) []request {
			return []request{{path: "/v1.0/customers/" + r.a.ID + "/domains", body: `{"name":"a.test","verified":true}`, owned: true,
				beyond: func(g account.Grant) bool { return !g.MaySendFrom("a.test") }}}
		},
		"GET /v1.0/customers/:id/domains/:domain/warmup":    customer("/domains/a.test/warmup", ""),
		"PUT /v1.0/customers/:id/domains/:domain/warmup":    customer("/domains/a.test/warmup", `{"plan":[50]}`),
		"DELETE /v1.0/customers/:id/domains/:domain/warmup": customer("/domains/a.test/warmup", ""),
		"GET /v1.0/pauses": plainGet("/v1.0/pauses"),
		"PUT /v1.0/pauses": func(*rights) []request {
			return []request{{path: "/v1.0/pauses", body: `{"scope":"relay","key":"primary","reason":"test"}`}}
		},
		"DELETE /v1.0/pauses": func(r *rights) []request {
			require.Less(r.t, r.with(r.credentialOf("Operator: admin"), "PUT", "/v1.0/pauses", `{"scope":"relay","key":"primary","reason":"test"}`).status, 300)
			return []request{{path: "/v1.0/pauses?scope=relay&key=primary"}}
		},
	}
}

func (r *rights) credentialOf(name string) string {
	r.t.Helper()
	for _, c := range r.credentials {
		if c.name == name {
			return c.token
		}
	}
	require.Fail(r.t, "no credential "+name)
	return ""
}

// hook creates an endpoint of A that receives no events of these tests' e-mails.
func (r *rights) hook() string {
	r.t.Helper()
	for len(r.hooks) > 2 { // a customer has so many at most
		_, err := r.store.Webhooks.DeleteEndpoint(r.t.Context(), r.a.ID, r.hooks[0])
		require.True(r.t, err == nil || email.FailureCode(err) == email.CodeNotFound, err)
		r.hooks = r.hooks[1:]
	}
	id := r.with(r.keyA, "POST", "/v1.0/webhooks", `{"url":"https://secrethook.test/in","tags":["none"]}`).field(r.t, "id")
	r.hooks = append(r.hooks, id)
	return id
}

func webhookRows() map[string]asking {
	hook := func(part string) func(*rights) string {
		return func(r *rights) string {
			id := r.hook()
			return "/v1.0/webhooks/" + id + part
		}
	}
	return map[string]asking{
		"GET /v1.0/webhooks": plainGet("/v1.0/webhooks"),
		"POST /v1.0/webhooks": func(*rights) []request {
			return []request{{path: "/v1.0/webhooks", body: `{"url":"https://hooks.x.test/in","tags":["none"]}`}}
		},
		"GET /v1.0/webhooks/:id": on(hook(""), ""), "DELETE /v1.0/webhooks/:id": on(hook(""), ""),
		"PUT /v1.0/webhooks/:id": func(r *rights) []request {
			return []request{{path: hook("")(r), body: `{"tags":["other"]}`, owned: true},
				{path: hook("")(r), body: `{"url":"https://elsewhere.test/"}`, owned: true, beyond: func(g account.Grant) bool { return !g.May(account.ScopeRead) }}}
		},
		"POST /v1.0/webhooks/:id/enable": on(hook("/enable"), ""), "POST /v1.0/webhooks/:id/rotate-secret": on(hook("/rotate-secret"), ""),
		"POST /v1.0/webhooks/:id/test": on(hook("/test"), ""), "POST /v1.0/webhooks/:id/replay": on(hook("/replay"), `{"since":"2020-01-01T00:00:00Z"}`),
		"GET /v1.0/webhooks/:id/deliveries": on(hook("/deliveries"), ""),
		"POST /v1.0/deliveries/:id/retry": on(func(r *rights) string {
			id := r.hook()
			d, err := r.store.Webhooks.TestEndpoint(r.t.Context(), r.a.ID, id)
			require.NoError(r.t, err)
			due, err := r.store.Webhooks.ClaimForEndpoint(r.t.Context(), id, 1)
			require.NoError(r.t, err)
			require.NoError(r.t, r.store.Webhooks.RecordDelivery(r.t.Context(), due[0].Delivery, endpoint.Result{Verdict: endpoint.VerdictRetry, Status: 503}))
			return "/v1.0/deliveries/" + url.PathEscape(d.ID) + "/retry"
		}, ""),
	}
}

// receive stores a message in the mailbox of A.
func (r *rights) receive(raw string) {
	r.t.Helper()
	m, err := r.store.Mailboxes.CatchAllMailbox(r.t.Context(), r.a.ID, "in@a.test")
	require.NoError(r.t, err)
	got := mailbox.Message{ID: uuid.New(), MailboxID: m.ID, CustomerID: m.CustomerID, EnvelopeFrom: "bob@x.test", EnvelopeTo: []string{"in@a.test"},
		Size: int64(len(raw)), SHA256: strings.Repeat("0", 64), ReceivedAt: time.Now()}
	require.NoError(r.t, r.store.Mailboxes.StoreMessages(r.t.Context(), []mailbox.Message{got}, []byte(raw)))
	r.mailbox, r.message = m.ID.String(), got.ID.String()
}

func mailboxRows() map[string]asking {
	box := func(part string) asking {
		return on(func(r *rights) string {
			return "/v1.0/mailboxes/" + r.mailbox + strings.ReplaceAll(part, "MESSAGE", r.message)
		}, "")
	}
	return map[string]asking{
		"GET /v1.0/mailboxes": plainGet("/v1.0/mailboxes"), "GET /v1.0/mailboxes/:id/messages": box("/messages"),
		"GET /v1.0/mailboxes/:id/messages/:message": box("/messages/MESSAGE"), "GET /v1.0/mailboxes/:id/messages/:message/raw": box("/messages/MESSAGE/raw"),
		"GET /v1.0/mailboxes/:id/messages/:message/attachments/:index": box("/messages/MESSAGE/attachments/0"),
	}
}

// domain adds a sender domain of A, and forgets how many requests were made.
func (r *rights) domain() (id, name string) {
	r.t.Helper()
	name = uuid.NewString() + ".test"
	d, err := r.store.Accounts.AddDomain(r.t.Context(), r.a.ID, name, false)
	require.NoError(r.t, err)
	_, err = r.raw.ExecContext(r.t.Context(), "DELETE FROM domain_requests")
	require.NoError(r.t, err)
	return d.ID, name
}

func senderDomainRows() map[string]asking {
	change := func(part string) asking {
		return func(r *rights) []request {
			id, name := r.domain()
			return []request{{path: "/v1.0/domains/" + id + part, owned: true, beyond: func(g account.Grant) bool { return !g.MaySendFrom(name) }}}
		}
	}
	return map[string]asking{
		"GET /v1.0/domains": plainGet("/v1.0/domains"),
		"POST /v1.0/domains": func(r *rights) []request {
			_, name := r.domain()
			return []request{{path: "/v1.0/domains", body: `{"name":"` + name + `"}`, beyond: func(g account.Grant) bool { return !g.MaySendFrom(name) }}}
		},
		"GET /v1.0/domains/:id": on(func(r *rights) string {
			id, _ := r.domain()
			return "/v1.0/domains/" + id
		}, ""),
		"GET /v1.0/domains/:id/reputation": on(func(r *rights) string {
			id, _ := r.domain()
			return "/v1.0/domains/" + id + "/reputation"
		}, ""),
		"DELETE /v1.0/domains/:id": change(""), "POST /v1.0/domains/:id/verify": change("/verify"), "POST /v1.0/domains/:id/rotate-dkim": change("/rotate-dkim"),
	}
}

// suppression adds an entry to the list of A.
func (r *rights) suppression() string {
	r.t.Helper()
	return r.with(r.keyA, "POST", "/v1.0/suppressions", `{"address":"secretlist@x.test","topic":"`+uuid.NewString()+`"}`).field(r.t, "id")
}

func suppressionRows() map[string]asking {
	one := func(r *rights) string { return "/v1.0/suppressions/" + r.suppression() }
	plain := func(path, body, contentType string) asking {
		return func(r *rights) []request {
			r.suppression()
			return []request{{path: path, body: body, contentType: contentType}}
		}
	}
	return map[string]asking{
		"GET /v1.0/suppressions": plain("/v1.0/suppressions", "", ""), "POST /v1.0/suppressions": plain("/v1.0/suppressions", `{"address":"bob@x.test"}`, ""),
		"POST /v1.0/suppressions/check":  plain("/v1.0/suppressions/check", `{"addresses":["bob@x.test"]}`, ""),
		"POST /v1.0/suppressions/import": plain("/v1.0/suppressions/import", "bob@x.test\n", "text/csv"),
		"GET /v1.0/suppressions/export":  plainGet("/v1.0/suppressions/export"),
		"GET /v1.0/suppressions/:id":     on(one, ""), "DELETE /v1.0/suppressions/:id": on(one, ""),
	}
}
