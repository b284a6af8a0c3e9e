package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/smtptest"
)

// TestTheUnsubscribePageInABrowser: a person opens the link, which a proxy serves below a path of its own, presses
// the button, and then undoes it. The page has no script, and its style is applied under its policy.
func TestTheUnsubscribePageInABrowser(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	peer := (&smtptest.Peer{}).Start(t)
	d := newGround(t).deploy(t, relayURL(peer), "POSTRIDER_PUBLIC_URL=https://example.com/mail")
	d.serve()
	d.worker()
	api, err := url.Parse("http://" + d.api)
	require.NoError(t, err)
	proxy := httptest.NewServer(http.StripPrefix("/mail", httputil.NewSingleHostReverseProxy(api)))
	t.Cleanup(proxy.Close)
	d.mail("reader@y.test", `,"stream":"broadcast","unsubscribe":{"topic":"news"}`)
	peer.Await("the mail", func() bool { return len(peer.Messages()) == 1 })
	link := regexp.MustCompile(`List-Unsubscribe: <https://example\.com(/mail/u/[a-z2-7]{42})>`).FindStringSubmatch(peer.Messages()[0].Data)
	require.Len(t, link, 2)
	press := func() {
		t.Helper()
		_, err := within(ctx, chromedp.Evaluate[any](`document.querySelector("button").click()`))
		require.NoError(t, err)
	}
	db := d.sql()
	suppressed := func() int { return d.count(db, "SELECT count(*) FROM suppressions WHERE target = 'news'") }

	page(t, ctx, proxy.URL+link[1], "Stop mail about “news” from acme.test to r***@y.test?", "Unsubscribe")
	styled, err := within(ctx, chromedp.Evaluate[string](`getComputedStyle(document.querySelector("button")).cursor`))
	require.NoError(t, err)
	require.Equal(t, "pointer", styled)
	shoot(t, ctx, "unsubscribe", 400)
	require.Zero(t, suppressed(), "it was only opened")
	press()
	d.eventually("the recipient is unsubscribed", func() bool { return suppressed() == 1 })
	page(t, ctx, proxy.URL+link[1], "r***@y.test gets no more mail about “news” from acme.test.")
	shoot(t, ctx, "unsubscribed", 400)
	press()
	d.eventually("it was undone", func() bool { return suppressed() == 0 })
	page(t, ctx, proxy.URL+link[1], "Stop mail about “news”")
}
