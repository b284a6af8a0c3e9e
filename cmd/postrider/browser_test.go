package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// browser is a Chromium without a window. There has to be one where
// POSTRIDER_TEST_BROWSER=required; elsewhere a test without one is skipped.
func browser(t *testing.T) context.Context {
	t.Helper()
	bin := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			bin = found
			break
		}
	}
	if bin == "" {
		require.NotEqual(t, "required", os.Getenv("POSTRIDER_TEST_BROWSER"), "there is no Chromium: apt-get install chromium")
		t.Skip("no Chromium on PATH: what the Temporal UI shows is not looked at")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1400, 900), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	alloc, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(func() { // gracefully, so that nothing of it is left
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		end()
	})
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	return ctx
}

// innerText is the page's, and that of the frames in which the UI shows Markdown.
const innerText = `[document, ...[...document.querySelectorAll("iframe")].map(f => f.contentDocument)].map(d => d?.body?.innerText ?? "").join(" ")
	+ [...document.querySelectorAll("iframe")].map(f => " FRAME " + f.src + (f.srcdoc ?? "")).join(" ")`

// page is what a person reads on a page once all these words are there.
func page(t *testing.T, ctx context.Context, url string, words ...string) string {
	t.Helper()
	_, err := within(ctx, chromedp.Navigate(url))
	require.NoError(t, err)
	deadline, text := time.Now().Add(patience), ""
	for time.Now().Before(deadline) {
		missing := false
		if text, err = within(ctx, chromedp.Evaluate[string](innerText)); err == nil { // an error: between two documents
			text = strings.Join(strings.Fields(text), " ")
			for _, w := range words {
				missing = missing || !strings.Contains(text, w)
			}
			if !missing {
				return text
			}
		}
		pass(t, 100*time.Millisecond)
	}
	require.FailNow(t, "it does not say that", "%s: want %q in %s", url, words, text)
	return ""
}

// within bounds what a browser may take for one thing.
func within[T any](ctx context.Context, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// shoot keeps a picture of the page where POSTRIDER_TEST_IMAGES names a folder.
func shoot(t *testing.T, ctx context.Context, name string, height int64) {
	t.Helper()
	dir := os.Getenv("POSTRIDER_TEST_IMAGES")
	if dir == "" || name == "" {
		return
	}
	_, err := within(ctx, chromedp.EmulateViewport(1280, height))
	require.NoError(t, err)
	pass(t, time.Second) // the page settles; nothing is judged by the picture
	png, err := within(ctx, chromedp.CaptureScreenshot())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

// columns shows the search attributes in the UI's list, as a person does with the
// gear below it.
const columns = `localStorage.setItem("namespace-workflow-table-columns", JSON.stringify({default: ["Status", "EmailStatus", "EmailRelay", "EmailStream", "Workflow ID", "Start"].map(label => ({label}))}))`

// browse reads in the Temporal UI what an operator would.
func (o *operated) browse() {
	t, ctx, ui := o.t, browser(o.t), o.env["POSTRIDER_TEMPORAL_UI_URL"]
	page(t, ctx, ui+"/namespaces/default/workflows", "Workflows")
	_, err := within(ctx, chromedp.Evaluate[any](columns))
	require.NoError(t, err)

	for i, n := range []int{6, 2, 1, 1, 2} {
		page(t, ctx, queries[i].link(ui), fmt.Sprintf("%d Workflow", n), "EmailStatus")
		if i == 0 {
			shoot(t, ctx, "open-mail", 620)
		}
	}
	page(t, ctx, queries[1].link(ui), o.mails["deferred"].WorkflowID, o.mails["deferred too"].WorkflowID, "deferred", "primary")
	page(t, ctx, queries[4].link(ui), o.mails["bounced"].WorkflowID, "hard", "Completed", "partial")
	shoot(t, ctx, "not-all-reached", 480)

	for _, look := range []struct {
		// picture and words are what the pictures are called; empty means none.
		mail, picture, words string
		// history and metadata are words of the run's two pages.
		history, metadata []string
	}{
		{"deferred", "deferred", "deferred-words",
			[]string{"transactional e-mail", "Timer Started", "attempt 2 at", "451 4.7.1 <***@example.net>: greylisted, come again", "SendSMTP Summary attempt 1"},
			[]string{"deferred: one recipient waits, 451 4.7.1 <***@example.net>: greylisted, come again.", "Next: attempt 2 at", "retry_now makes it at once."}},
		{"no relay", "relay-down", "",
			[]string{"broadcast e-mail", "Pending Activities 1", "Pending Activity Attempt", "Summary attempt 1, once a relay is there"},
			[]string{"relay_down: no relay takes mail, relay newsletters: dial", "Next: attempt 1 as soon as one does"}},
		{"bounced", "", "", []string{`"status_detail": "hard"`, `"smtp_code": 550`, "b***@example.net"}, []string{"bounced hard: of its recipients 1 bounced, 550 5.1.1"}},
		{"held", "", "", []string{"transactional e-mail"}, []string{"held: its customer holds it; one recipient waits.", "Next: nothing before it is resumed."}},
	} {
		page(t, ctx, o.get(o.mails[look.mail].ID).WorkflowURL, look.history...)
		shoot(t, ctx, look.picture, 920)
		at, err := within(ctx, chromedp.Evaluate[string]("location.href"))
		require.NoError(t, err)
		page(t, ctx, strings.Replace(at, "/history", "/user-metadata", 1), look.metadata...)
		shoot(t, ctx, look.words, 600)
	}
}
