package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// linkBase is where the links of these tests lead.
const linkBase = "https://mail.test"

func setupLinks(t testing.TB) *bench {
	t.Helper()
	return setupFor(t, setupOptions{maxBytes: maxBytes, linkBase: linkBase})
}

// link is the path of an e-mail's link.
func (b *bench) link(id string) string {
	b.t.Helper()
	secret, err := b.store.Keys.Installation(b.t.Context(), "links", func(bun.Tx, []byte) error { return nil })
	require.NoError(b.t, err)
	return unsubscribe.NewLinks(secret).URL("", id)
}

// newsletter has an e-mail accepted that its recipient can unsubscribe from.
func (b *bench) newsletter(more string) string {
	b.t.Helper()
	got := b.as("POST", "/v1.0/emails", `{"from":{"email":"news@acme.test"},"to":[{"email":"Bob@x.test"}],"subject":"s","content":"t","stream":"broadcast"`+more+`}`)
	require.Equal(b.t, 202, got.status, got.body)
	return got.field(b.t, "id")
}

// events are the types of an e-mail's events after the first.
func (b *bench) events(id string) (out []email.EventType) {
	b.t.Helper()
	events, _, err := b.store.Mail.EmailEvents(b.t.Context(), b.customer.ID, id, 0)
	require.NoError(b.t, err)
	for _, ev := range events[1:] {
		require.NotEmpty(b.t, ev.RecipientID)
		out = append(out, ev.Type)
	}
	return out
}

// suppressed is what the suppression list has.
func (b *bench) suppressed() (out []string) {
	b.t.Helper()
	err := b.raw.NewRaw("SELECT concat_ws(' ', address, scope, target, reason, source, email_id) FROM suppressions ORDER BY created_at").Scan(b.t.Context(), &out)
	require.NoError(b.t, err)
	return out
}

func unsubscribedBy(id, scope string) []string {
	return []string{"Bob@x.test " + scope + " unsubscribe recipient " + id}
}

const formType = "application/x-www-form-urlencoded"

// TestOneClick: any body that a program posts unsubscribes the recipient, once. It has done so when the answer comes.
func TestOneClick(t *testing.T) {
	t.Parallel()
	multipart := "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n"
	for name, tt := range map[string]struct {
		contentType, body string
		header            []string
	}{
		"as Google":                 {formType, "List-Unsubscribe=One-Click", []string{"User-Agent", "", "Origin", "https://mail.google.com"}},
		"as Yahoo":                  {formType + "; charset=utf-8", "List-Unsubscribe=One-Click", []string{"User-Agent", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}},
		"multipart":                 {"multipart/form-data; boundary=b", multipart, nil},
		"empty":                     {"", "", nil},
		"JSON":                      {"application/json", `{"undo":"1"}`, nil},
		"no form":                   {formType, "%%%=undo&;;", nil},
		"a content type of nothing": {";;;", "x", nil},
		"10 MB":                     {"application/octet-stream", strings.Repeat("x", 10<<20), nil},
		"a form of 10 MB":           {formType, "List-Unsubscribe=One-Click&x=" + strings.Repeat("x", 10<<20), nil},
		"with a cookie":             {formType, "List-Unsubscribe=One-Click", []string{"Cookie", "a=b", "Sec-Fetch-Site", "cross-site"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupLinks(t)
			served := httptest.NewServer(b.server)
			t.Cleanup(served.Close)
			id := b.newsletter("")
			before := b.events(id)
			for range 3 {
				req, err := http.NewRequestWithContext(t.Context(), "POST", served.URL+b.link(id)+"?utm_source=x", strings.NewReader(tt.body))
				require.NoError(t, err)
				req.Header.Set("Content-Type", tt.contentType)
				for i := 0; i < len(tt.header); i += 2 {
					req.Header.Set(tt.header[i], tt.header[i+1])
				}
				res, err := http.DefaultTransport.RoundTrip(req)
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				require.Equal(t, 200, res.StatusCode)
				require.Empty(t, body)
				require.Empty(t, res.Header.Get("Set-Cookie"))
				require.Equal(t, unsubscribedBy(id, "stream broadcast"), b.suppressed())
				require.Equal(t, append(before, email.EventUnsubscribed), b.events(id), "a repetition changes nothing")
			}
		})
	}
}

// TestABrokenRequestUnsubscribes: the request has come, though its body does not.
func TestABrokenRequestUnsubscribes(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	id := b.newsletter("")
	for _, contentType := range []string{formType, "text/plain"} {
		req := httptest.NewRequest("POST", b.link(id), io.MultiReader(strings.NewReader("List-"), brokenBody{}))
		req.Header.Set("Content-Type", contentType)
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		require.Equal(t, 200, rec.Code)
	}
	require.Equal(t, unsubscribedBy(id, "stream broadcast"), b.suppressed())
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestThePageChangesNothing: a scanner opens every link of a mail, also again and again.
func TestThePageChangesNothing(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	id := b.newsletter(`,"unsubscribe":{"topic":"weekly-news"}`)
	before := b.events(id)
	for range 3 {
		for _, method := range []string{"GET", "HEAD"} {
			got := b.call(method, b.link(id), "", "User-Agent", "Mozilla/5.0 (compatible; scanner)")
			require.Equal(t, 200, got.status)
			require.Equal(t, "no-store", got.header.Get("Cache-Control"))
			require.Equal(t, "noindex, nofollow", got.header.Get("X-Robots-Tag"))
			require.Contains(t, got.header.Get("Content-Security-Policy"), "default-src 'none'")
			require.Empty(t, got.header.Get("Set-Cookie"))
		}
	}
	page := b.call("GET", b.link(id), "").body
	for _, words := range []string{"B***@x.test", "weekly-news", "acme.test", "<button>Unsubscribe</button>"} {
		require.Contains(t, page, words)
	}
	require.NotContains(t, page, "Bob")
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS"} {
		require.Equal(t, 405, b.call(method, b.link(id), "").status)
	}
	require.Empty(t, b.suppressed())
	require.Equal(t, before, b.events(id))
}

// TestTheButtonsOfThePage: each answer is the page as it is then.
func TestTheButtonsOfThePage(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	id := b.newsletter(`,"unsubscribe":{"topic":"news"}`)
	press := func(fields string) string {
		t.Helper()
		got := b.call("POST", b.link(id), fields, "Content-Type", formType)
		require.Equal(t, 200, got.status)
		return got.body
	}
	before := b.events(id)
	require.Contains(t, press("page=1"), "<h1>Unsubscribed</h1>")
	require.Equal(t, unsubscribedBy(id, "topic news"), b.suppressed())
	require.Contains(t, b.call("GET", b.link(id), "").body, "<h1>Unsubscribed</h1>")
	require.Contains(t, press("page=1&undo=1"), "<h1>Unsubscribe</h1>")
	require.Empty(t, b.suppressed())
	require.Contains(t, press("undo=1"), "<h1>Unsubscribe</h1>", "undo twice")
	require.Empty(t, press("List-Unsubscribe=One-Click"))
	require.Equal(t, append(before, email.EventUnsubscribed, email.EventResubscribed, email.EventUnsubscribed), b.events(id))
}

// TestUndoTakesBackItsOwnOnly: neither what another mail's link, a bounce or the customer has put on the list.
func TestUndoTakesBackItsOwnOnly(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	first, second := b.newsletter(""), b.newsletter("")
	require.Equal(t, 200, b.call("POST", b.link(first), "").status)
	before := b.events(second)
	require.Contains(t, b.call("GET", b.link(second), "").body, "cannot undo it")
	require.Equal(t, 200, b.call("POST", b.link(second), "").status)
	require.Contains(t, b.call("POST", b.link(second), "page=1&undo=1", "Content-Type", formType).body, "cannot undo it")
	require.Equal(t, unsubscribedBy(first, "stream broadcast"), b.suppressed())
	require.Equal(t, before, b.events(second), "the second link changed nothing")

	_, err := b.raw.NewRaw("UPDATE suppressions SET reason = 'soft_bounces', source = 'delivery', email_id = ?, expires_at = now() + interval '1 day'", second).Exec(t.Context())
	require.NoError(t, err)
	require.Contains(t, b.call("POST", b.link(second), "page=1&undo=1", "Content-Type", formType).body, "cannot undo it")
	require.Len(t, b.suppressed(), 1)
	require.Equal(t, 200, b.call("POST", b.link(second), "").status)
	require.Equal(t, unsubscribedBy(second, "stream broadcast"), b.suppressed(), "an entry that would end does not stand for it")

	_, err = b.raw.NewRaw("DELETE FROM suppressions").Exec(t.Context())
	require.NoError(t, err)
	require.Equal(t, 200, b.call("POST", b.link(second), "").status)
	require.Equal(t, unsubscribedBy(second, "stream broadcast"), b.suppressed(), "the customer has deleted the entry, and the recipient unsubscribes again")
	require.Equal(t, append(before, email.EventUnsubscribed, email.EventUnsubscribed), b.events(second))
}

// TestTokensThatAreNoLinks are all 404, also the right token of a message without a link.
func TestTokensThatAreNoLinks(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	id := b.newsletter("")
	link := b.link(id)
	last := map[bool]string{true: "b", false: "a"}[strings.HasSuffix(link, "a")]
	without := b.newsletter(`,"unsubscribe":false`)
	for _, path := range []string{"/u/x", "/u/" + id, link[:len(link)-1], link + "a", link[:len(link)-1] + last, b.link(without), b.link("01a20894-d574-79b4-a163-2c334f1ed74c"), unsubscribe.Preview.URL("", id), "/u/" + strings.Repeat("a", 5000)} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			got := b.call(method, path, "")
			require.Equal(t, 404, got.status, "%s %s", method, path)
		}
	}
	require.Contains(t, b.call("GET", "/u/x", "").body, "not valid any more")
	require.Equal(t, 404, b.call("POST", link+"/", "").status, "and no redirect")
	require.Empty(t, b.suppressed())
}

// TestABurstOfUnsubscriptions: a mailbox provider asks for many at once, and for some twice. None is refused.
func TestABurstOfUnsubscriptions(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	var links []string
	for i := range 60 {
		got := b.as("POST", "/v1.0/emails", fmt.Sprintf(`{"from":{"email":"news@acme.test"},"to":[{"email":"r%d@x.test"}],"subject":"s","content":"t","stream":"broadcast"}`, i))
		require.Equal(t, 202, got.status, got.body)
		link := b.link(got.field(t, "id"))
		links = append(links, link, link)
	}
	var wg sync.WaitGroup
	for _, link := range links {
		wg.Go(func() {
			rec := httptest.NewRecorder()
			b.server.ServeHTTP(rec, httptest.NewRequest("POST", link, strings.NewReader("List-Unsubscribe=One-Click")))
			if rec.Code != 200 {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
		})
	}
	wg.Wait()
	require.Len(t, b.suppressed(), 60)
	n, err := b.raw.NewSelect().TableExpr("email_events").Where("type = ?", email.EventUnsubscribed).Count(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 60, n)
}

// TestTheNextMailIsSuppressed: the answer to the next POST says so already, and mail that the recipient did not
// unsubscribe from goes on.
func TestTheNextMailIsSuppressed(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	require.Equal(t, 200, b.call("POST", b.link(b.newsletter(`,"unsubscribe":{"topic":"news"}`)), "").status)
	send := func(more string) string {
		got := b.as("POST", "/v1.0/emails", `{"from":{"email":"news@acme.test"},"to":[{"email":"Bob@X.test"}],"subject":"s","content":"t"`+more+`}`)
		require.Contains(t, []int{200, 202}, got.status, got.body)
		return got.field(t, "status_detail")
	}
	require.Equal(t, "suppressed", send(`,"stream":"broadcast","unsubscribe":{"topic":"news"}`))
	require.Equal(t, "suppressed", send(`,"unsubscribe":{"topic":"news"}`))
	require.Empty(t, send(`,"stream":"broadcast"`))
	require.Empty(t, send(`,"stream":"broadcast","unsubscribe":{"topic":"offers"}`))
	require.Empty(t, send(``))
}

// TestWhatAnswersSayOfTheLink: the e-mail as the request has it, and the preview with the headers.
func TestWhatAnswersSayOfTheLink(t *testing.T) {
	t.Parallel()
	b := setupLinks(t)
	require.Contains(t, b.as("GET", "/v1.0/emails/"+b.newsletter(""), "").body, `"unsubscribe":true`)
	require.Contains(t, b.as("GET", "/v1.0/emails/"+b.newsletter(`,"unsubscribe":{"topic":"news"}`), "").body, `"unsubscribe":{"topic":"news"}`)
	require.NotContains(t, b.as("GET", "/v1.0/emails/"+b.newsletter(`,"unsubscribe":false`), "").body, `"unsubscribe"`)

	p := b.preview(`{"from":{"email":"news@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","stream":"broadcast","unsubscribe":{"topic":"news"},
		"content":{"html":"<p>Hello</p><p><a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>"}}`)
	require.Equal(t, "ok", p.level("unsubscribe"))
	require.Equal(t, "ok", p.level("link_urls"))
	require.Equal(t, "ok", p.level("placeholders"))
	for _, field := range []string{"List-Unsubscribe: <" + linkBase + "/u/", "List-Unsubscribe-Post: List-Unsubscribe=One-Click", "List-Id: <news.list.acme.test>"} {
		require.Contains(t, p.Source, field)
	}
	require.Contains(t, p.Text, linkBase+"/u/")
	require.NotContains(t, p.Source, "unsubscribe_url")
	require.Equal(t, "advice", b.preview(`{"from":{"email":"news@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","content":"t","stream":"broadcast"}`).level("unsubscribe"))
	require.Equal(t, "warning", b.preview(`{"from":{"email":"news@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","content":"t","stream":"broadcast","unsubscribe":false}`).level("unsubscribe"))
	require.NotContains(t, p.Text, "{{")
}
