package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/httpserver"
	"github.com/postrider/postrider/internal/logtest"
	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/memtest"
)

// encodedZeros returns a request body with n zero bytes in base64; n is a multiple of 3.
func encodedZeros(n int64) io.Reader { return io.LimitReader(endless{}, n/3*4) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

// store is the type that weighed embeds.
type store = api.Emails

// weighed measures how much memory the process holds when a message is accepted.
type weighed struct {
	store
	held int64
}

func (w *weighed) Accept(ctx context.Context, customerID string, m email.Message, owner string, idem email.Idempotency) (email.Email, bool, error) {
	w.held = max(w.held, memtest.Live())
	e, replayed, err := w.store.Accept(ctx, customerID, m, owner, idem)
	w.held = max(w.held, memtest.Live())
	return e, replayed, err
}

// Not parallel: the memory of other tests would count.
func TestMemoryOfLargeAttachment(t *testing.T) {
	const size = 24 << 20
	w := &weighed{}
	b := setupFor(t, setupOptions{maxBytes: 25 << 20, emails: func(e api.Emails) api.Emails { w.store = e; return w }})
	head := `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t","attachments":[{"filename":"i.bin","content":"`
	body := io.MultiReader(strings.NewReader(head), encodedZeros(size), strings.NewReader(`"}]}`))
	req := httptest.NewRequest("POST", "/v1.0/emails", body)
	req.ContentLength = int64(len(head)) + size/3*4 + 4
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+b.key)
	rec, before := httptest.NewRecorder(), memtest.Idle()
	b.server.ServeHTTP(rec, req)
	require.Equal(t, http.StatusAccepted, rec.Code, rec.Body.String())
	t.Logf("%.1f times its size", float64(w.held-before)/size)
	require.Less(t, w.held-before, int64(4*size))
	require.Greater(t, w.held-before, int64(size/10*9), "it was measured while it was there")
}

// post sends a body with a key. size is its Content-Length, -1 for none.
func (b *bench) post(ctx context.Context, key, path string, body io.Reader, length int64) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(ctx, "POST", path, body)
	req.ContentLength = length
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	rec := httptest.NewRecorder()
	b.server.ServeHTTP(rec, req)
	return rec
}

// Twenty bodies of 30 MB each, of which 20 MB have arrived, hold 64 KiB of memory each. The rest is
// in files. Another customer is served at the same time, and the first customer's next request gets
// 503. Not parallel: the memory of other tests would count.
func TestMemoryOfSlowBodies(t *testing.T) {
	const bodies, came, announced = 20, 20 << 20, 30 << 20
	log := &logtest.Buffer{}
	b := setupFor(t, setupOptions{maxBytes: 25 << 20, log: log, spool: api.NewSpool(t.TempDir(), 2*bodies*came+16<<20)})
	_, other := b.newCustomer("Other", "other.test")
	before := memtest.Live()
	arrived, ended, answers := make(chan struct{}, bodies), make(chan struct{}), make(chan int, bodies)
	for range bodies {
		go func() {
			answers <- b.post(t.Context(), b.key, "/v1.0/emails", io.MultiReader(encodedZeros(came/4*3), &halted{reading: arrived, end: ended}), announced).Code
		}()
	}
	for range bodies {
		<-arrived
	}
	held := memtest.Live() - before
	t.Logf("%d bytes", held)
	require.Less(t, held, int64(bodies*128<<10))
	full := b.post(t.Context(), b.key, "/v1.0/emails", encodedZeros(announced/4*3), announced)
	require.Equal(t, http.StatusServiceUnavailable, full.Code, "half of the files is one customer's")
	require.Contains(t, full.Body.String(), "no disk space for a request")
	require.NotEmpty(t, full.Header().Get("Retry-After"))
	require.Contains(t, log.String(), "POSTRIDER_REQUEST_SPOOL_BYTES")
	mail := strings.ReplaceAll(basic, "acme.test", "other.test")
	large := mail[:len(mail)-1] + strings.Repeat(" ", 10<<20) + "}"
	require.Equal(t, http.StatusAccepted, b.post(t.Context(), other, "/v1.0/emails", strings.NewReader(large), int64(len(large))).Code)
	close(ended)
	for range bodies {
		require.Equal(t, http.StatusBadRequest, <-answers)
	}
	large = strings.ReplaceAll(large, "other.test", "acme.test")
	require.Equal(t, http.StatusAccepted, b.post(t.Context(), b.key, "/v1.0/emails", strings.NewReader(large), -1).Code, "all is given back")
}

// The requests of a customer that has used its quota wait. Requests of another customer do not, even
// large ones. Everything is released in the end.
func TestMemoryQuotaPerCustomer(t *testing.T) {
	t.Parallel()
	const fit = 8 // blocks of 64 KiB, half of a quarter of 4 MiB
	b := setupFor(t, setupOptions{maxBytes: 25 << 20, memory: 4 << 20})
	_, other := b.newCustomer("Other", "other.test")
	arrived, ended, answers := make(chan struct{}, fit), make(chan struct{}), make(chan int, fit)
	for range fit {
		go func() {
			answers <- b.post(t.Context(), b.key, "/v1.0/emails", &halted{reading: arrived, end: ended}, 30<<20).Code
		}()
	}
	for range fit {
		<-arrived
	}
	large := basic[:len(basic)-1] + strings.Repeat(" ", 1<<20) + "}"
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan *httptest.ResponseRecorder)
	go func() { waited <- b.post(ctx, b.key, "/v1.0/emails", strings.NewReader(large), int64(len(large))) }()
	require.Eventually(t, func() bool { return b.server.BodiesWaiting() == 1 }, time.Minute, 10*time.Millisecond)
	cancel()
	refused := <-waited
	require.Equal(t, http.StatusServiceUnavailable, refused.Code, refused.Body.String())
	require.NotEmpty(t, refused.Header().Get("Retry-After"))
	mail := strings.ReplaceAll(large, "acme.test", "other.test")
	require.Equal(t, http.StatusAccepted, b.post(t.Context(), other, "/v1.0/emails", strings.NewReader(mail), int64(len(mail))).Code)
	close(ended)
	for range fit {
		require.Equal(t, http.StatusBadRequest, <-answers)
	}
	require.Equal(t, http.StatusAccepted, b.post(t.Context(), b.key, "/v1.0/emails", strings.NewReader(large), int64(len(large))).Code, "all is given back")
}

// Without a spool directory, large requests get 503 and the log names the setting. Small requests
// are accepted.
func TestFullDiskRefusesLargeBodies(t *testing.T) {
	t.Parallel()
	log, dir := &logtest.Buffer{}, filepath.Join(t.TempDir(), "spool")
	b := setupFor(t, setupOptions{maxBytes: 25 << 20, log: log, spool: api.NewSpool(dir, 1<<30)})
	large := basic[:len(basic)-1] + strings.Repeat(" ", 1<<20) + "}"
	require.Equal(t, http.StatusAccepted, b.as("POST", "/v1.0/emails", basic).status)
	refused := b.as("POST", "/v1.0/emails", large)
	require.Equal(t, http.StatusServiceUnavailable, refused.status, refused.body)
	require.NotContains(t, refused.body, dir)
	require.Contains(t, log.String(), "POSTRIDER_REQUEST_SPOOL_DIR")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.Equal(t, http.StatusAccepted, b.as("POST", "/v1.0/emails", large).status)
}

// Without disk space for its answer, a request that changes nothing gets 503. One that changed
// something is answered with shortened texts, because a client would repeat it after a 503.
func TestFullDiskShortensAnswers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.Mkdir(dir, 0o700))
	b := setupFor(t, setupOptions{maxBytes: 25 << 20, spool: api.NewSpool(dir, 1<<30)})
	body := fmt.Sprintf(`{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","send_at":%q,"content":{"text":%q,"html":%q}}`,
		b.now().AddDate(0, 0, 1).UTC().Format(time.RFC3339), strings.Repeat("x", 1<<20), strings.Repeat("é", 1<<19))
	sent := b.as("POST", "/v1.0/emails", body)
	require.Equal(t, http.StatusAccepted, sent.status, sent.body)
	require.Len(t, sent.field(t, "content_html"), 1<<20)
	path := "/v1.0/emails/" + sent.field(t, "id")
	require.NoError(t, os.Remove(dir))
	require.Equal(t, http.StatusServiceUnavailable, b.as("GET", path, "").status)
	held := b.as("POST", path+"/hold", "")
	require.Equal(t, http.StatusOK, held.status, held.body)
	require.Equal(t, strings.Repeat("x", 4096), held.field(t, "content"))
	require.Equal(t, strings.Repeat("é", 2048), held.field(t, "content_html"))
	require.Contains(t, held.body, `"content_truncated":true`)
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.Len(t, b.as("GET", path, "").field(t, "content"), 1<<20)
}

// halted is a reader that reports when it is read, and fails when end is closed.
type halted struct {
	once    sync.Once
	reading chan<- struct{}
	end     <-chan struct{}
}

func (a *halted) Read([]byte) (int, error) {
	a.once.Do(func() { a.reading <- struct{}{} })
	<-a.end
	return 0, io.ErrUnexpectedEOF
}

// A body without Content-Length reserves memory as it arrives, not for the largest body.
func TestMemoryOfChunkedBodies(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 25<<20, 0)
	text := strings.Repeat("x", 5<<20)
	body := `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"` + text + `"}`
	answers := make(chan int, 20)
	for range cap(answers) {
		go func() {
			answers <- b.post(t.Context(), b.key, "/v1.0/emails", io.MultiReader(strings.NewReader(basic)), -1).Code
		}()
	}
	for range cap(answers) {
		require.Equal(t, http.StatusAccepted, <-answers)
	}
	rec := b.post(t.Context(), b.key, "/v1.0/emails", io.MultiReader(strings.NewReader(body)), -1)
	require.Equal(t, http.StatusAccepted, rec.Code)
	e := answer{status: rec.Code, body: rec.Body.String()}
	require.Equal(t, text, e.field(t, "content"))
}

// listing decodes a page of e-mails.
type listing struct {
	Result []struct {
		ID               string `json:"id"`
		Content          string `json:"content"`
		ContentTruncated bool   `json:"content_truncated"`
	} `json:"result"`
	Next string `json:"next_page_token"`
}

// Lists cut texts, at the boundary of a character. The answer for one e-mail has the whole text.
func TestListEmailsCutsTexts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, tc := range []struct {
		text, listed string
		cut          bool
	}{
		{text: strings.Repeat("x", 4096), listed: strings.Repeat("x", 4096)},
		{text: strings.Repeat("x", 4097), listed: strings.Repeat("x", 4096), cut: true},
		{text: strings.Repeat("x", 4095) + "é", listed: strings.Repeat("x", 4095), cut: true},
		{text: strings.Repeat("x", 4094) + "é", listed: strings.Repeat("x", 4094) + "é"},
		{text: strings.Repeat("é", 2049), listed: strings.Repeat("é", 2048), cut: true},
		{text: strings.Repeat("🙂", 5000), listed: strings.Repeat("🙂", 1024), cut: true},
		{text: "xx" + strings.Repeat("🙂", 1500), listed: "xx" + strings.Repeat("🙂", 1023), cut: true},
	} {
		body, err := json.Marshal(map[string]any{"from": map[string]string{"email": "a@acme.test"}, "to": []any{map[string]string{"email": "b@x.test"}}, "subject": "s", "content": tc.text})
		require.NoError(t, err)
		sent := b.as("POST", "/v1.0/emails", string(body))
		require.Equal(t, http.StatusAccepted, sent.status, sent.body)
		var page listing
		b.as("GET", "/v1.0/emails?page_size=1", "").decode(t, &page)
		require.Equal(t, tc.listed, page.Result[0].Content)
		require.Equal(t, tc.cut, page.Result[0].ContentTruncated)
		one := b.as("GET", "/v1.0/emails/"+sent.field(t, "id"), "")
		require.Equal(t, tc.text, one.field(t, "content"))
		require.NotContains(t, one.body, "content_truncated")
	}
}

// Pages with large entries are shorter. Following the tokens returns each e-mail once, including
// e-mails of the same time.
func TestPageLimitInBytes(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 25<<20, 0)
	metadata := map[string]string{}
	for i := range 50 {
		metadata[fmt.Sprintf("key%d", i)] = strings.Repeat("m", 512)
	}
	recipients := make([]any, 150)
	for i := range recipients {
		recipients[i] = map[string]string{"email": fmt.Sprintf("r%d@x.test", i)}
	}
	body, err := json.Marshal(map[string]any{"recipients": recipients, "message": map[string]any{"from": map[string]string{"email": "a@acme.test"}, "subject": "s",
		"content": strings.Repeat("t", 8192), "metadata": metadata}})
	require.NoError(t, err)
	sent := b.as("POST", "/v1.0/emails/batch", string(body))
	require.Equal(t, http.StatusAccepted, sent.status, sent.body)
	seen, pages := map[string]bool{}, 0
	for token := ""; ; pages++ {
		got := b.as("GET", "/v1.0/emails?page_token="+url.QueryEscape(token), "")
		require.Less(t, len(got.body), 2<<20)
		var page listing
		got.decode(t, &page)
		require.NotEmpty(t, page.Result)
		for _, e := range page.Result {
			require.False(t, seen[e.ID], "no e-mail is listed twice")
			seen[e.ID] = true
		}
		if token = page.Next; token == "" {
			break
		}
		require.Less(t, len(page.Result), 100, "the bytes end a page, not the number")
	}
	require.Len(t, seen, len(recipients))
	require.Greater(t, pages, 2)
}

// measured measures how much memory the process holds at each write of an answer.
type measured struct {
	http.ResponseWriter
	held *int64
	sum  int64
}

func (m *measured) Write(p []byte) (int, error) {
	if *m.held == 0 || m.sum%(8<<20) == 0 {
		*m.held = max(*m.held, memtest.Live())
	}
	m.sum += int64(len(p))
	return len(p), nil
}

// Not parallel: the memory of other tests would count.
func TestMemoryOfListOfLargeEmails(t *testing.T) {
	const limit = 8 << 20
	const size = limit + 1<<20 // a single body is more than the list may take
	b := setupWith(t, 25<<20, 0)
	recipients := strings.Repeat(`{"email":"b@x.test"},`, 23) + `{"email":"b@x.test"}`
	body := `{"message":{"from":{"email":"a@acme.test"},"subject":"s","content":"` + strings.Repeat("x", size) + `","tags":["amp"]},"recipients":[` + recipients + `]}`
	sent := b.post(t.Context(), b.key, "/v1.0/emails/batch", strings.NewReader(body), int64(len(body)))
	require.Equal(t, http.StatusAccepted, sent.Code, sent.Body.String())
	req := httptest.NewRequest("GET", "/v1.0/emails?tag=amp", nil)
	req.Header.Set("Authorization", "Bearer "+b.key)
	var held int64
	before := memtest.Idle()
	w := &measured{ResponseWriter: httptest.NewRecorder(), held: &held}
	b.server.ServeHTTP(w, req)
	require.Less(t, w.sum, int64(2<<20), "24 e-mails without their bodies")
	require.Greater(t, w.sum, int64(24*4096))
	t.Logf("%d bytes", held-before)
	require.Less(t, held-before, int64(limit))
}

// Not parallel: the memory of other tests would count.
func TestMemoryOfRawMessage(t *testing.T) {
	const size = 31 << 20
	b := setup(t)
	box, err := b.store.Mailboxes.CatchAllMailbox(t.Context(), b.customer.ID, "inbox@x.test")
	require.NoError(t, err)
	m := mailbox.Message{ID: uuid.New(), MailboxID: box.ID, CustomerID: uuid.MustParse(b.customer.ID), EnvelopeTo: []string{"a@x.test"},
		Size: size, SHA256: strings.Repeat("a", 64), ReceivedAt: time.Now()}
	require.NoError(t, b.store.Mailboxes.StoreMessages(t.Context(), []mailbox.Message{m}, make([]byte, size)))
	req := httptest.NewRequest("GET", "/v1.0/mailboxes/"+box.ID.String()+"/messages/"+m.ID.String()+"/raw", nil)
	req.Header.Set("Authorization", "Bearer "+b.key)
	var held int64
	before := memtest.Live()
	w := &measured{ResponseWriter: httptest.NewRecorder(), held: &held}
	b.server.ServeHTTP(w, req)
	require.EqualValues(t, size, w.sum)
	t.Logf("%d bytes", held-before)
	require.Less(t, held-before, int64(4<<20), "a chunk, not the message")
}

// Forty clients that read nothing hold a limited amount of memory, and are disconnected. Everything
// is released in the end. Not parallel: the memory of other tests would count.
func TestMemoryOfClientsThatReadNothing(t *testing.T) {
	const size, clients = 31 << 20, 40
	b := setup(t)
	box, err := b.store.Mailboxes.CatchAllMailbox(t.Context(), b.customer.ID, "inbox@x.test")
	require.NoError(t, err)
	m := mailbox.Message{ID: uuid.New(), MailboxID: box.ID, CustomerID: uuid.MustParse(b.customer.ID), EnvelopeTo: []string{"a@x.test"},
		Size: size, SHA256: strings.Repeat("a", 64), ReceivedAt: time.Now()}
	require.NoError(t, b.store.Mailboxes.StoreMessages(t.Context(), []mailbox.Message{m}, make([]byte, size)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := httpserver.NewPaced(b.server, httpserver.Pace{BodyGrace: time.Minute, BodyRate: 1 << 20, BodyMax: time.Minute, AnswerPiece: 128 << 10, AnswerTime: 2 * time.Second})
	closed := make(chan struct{}, clients)
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	go func() { _ = srv.Serve(l) }() // closed below
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	before, held := memtest.Live(), int64(0)
	for range clients {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		_, err = fmt.Fprintf(conn, "GET /v1.0/mailboxes/%s/messages/%s/raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", box.ID, m.ID, b.key)
		require.NoError(t, err)
	}
	weigh := time.NewTicker(50 * time.Millisecond)
	defer weigh.Stop()
	for n := 0; n < clients; {
		select {
		case <-closed:
			n++
		case <-weigh.C:
			held = max(held, memtest.Live()-before)
		}
	}
	t.Logf("%d bytes", held)
	require.Less(t, held, int64(96<<20), "a share of the memory for answers, not %d messages", clients)
	require.Equal(t, http.StatusOK, b.as("GET", "/v1.0/emails", "").status, "all is given back")
}
