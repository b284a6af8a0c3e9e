package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/internal/inbound"
	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/memtest"
)

// unkept is a ResponseWriter that keeps only the size of the answer.
type unkept struct {
	*httptest.ResponseRecorder
	n int
}

func (c *unkept) Write(p []byte) (int, error) {
	if c.Code >= 400 {
		return c.ResponseRecorder.Write(p)
	}
	c.n += len(p)
	return len(p), nil
}

// Each of the largest requests takes at most api.LargestRequest bytes of memory. Not parallel: the
// memory of other tests would count.
func TestMemoryOfLargestRequests(t *testing.T) {
	const limit = 25 << 20
	b := setupFor(t, setupOptions{maxBytes: limit, spool: api.NewSpool(t.TempDir(), 1<<30), parser: inbound.Parser{Timeout: time.Hour}})
	call := func(method, path string, body func() io.Reader) (answer *unkept, held int64) {
		for began := time.Now(); ; { // Postgres may take too long on a busy machine: a client asks again then
			answer, held = b.weighed(api.LargestRequest, method, path, body)
			if answer.Code != http.StatusServiceUnavailable || time.Since(began) > 5*time.Minute {
				break
			}
		}
		require.Less(t, answer.Code, 400, answer.Body.String())
		return answer, held
	}
	repeated := func(before, text string, n int, after string) func() io.Reader {
		return func() io.Reader {
			return io.MultiReader(strings.NewReader(before), &again{text: text, left: n}, strings.NewReader(after))
		}
	}
	from := `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","send_at":"` + b.now().AddDate(0, 0, 1).UTC().Format(time.RFC3339) + `",`
	none := func() io.Reader { return http.NoBody }
	weigh := func(name string, held int64) {
		t.Logf("%s: %d MB", name, held>>20)
		require.Less(t, held, int64(api.LargestRequest), name)
	}
	id := func() (id string) {
		require.NoError(t, b.raw.NewRaw("SELECT id FROM emails ORDER BY created_at DESC LIMIT 1").Scan(t.Context(), &id))
		return id
	}
	for name, body := range map[string]func() io.Reader{
		"apostrophes": repeated(from+`"content":{"text":"`, "'", limit-1000, `"}}`),
		"lines":       repeated(from+`"content":{"text":"`, ` \n`, 11<<20, `"}}`),
		"html":        repeated(from+`"content":{"html":"`, `<p>it's 'here'</p> `, 14<<20/19, `"}}`),
		"attachment":  repeated(from+`"content":{"text":"t"},"attachments":[{"filename":"a.bin","content":"`, "AAAA", limit/3-1000, `"}]}`),
	} {
		_, held := call("POST", "/v1.0/emails", body)
		weigh("POST of "+name, held)
		_, held = call("GET", "/v1.0/emails/"+id(), none)
		weigh("GET of "+name, held)
		_, held = call("POST", "/v1.0/emails/"+id()+"/hold", none)
		weigh("hold of "+name, held)
	}
	_, held := call("POST", "/v1.0/emails/preview", repeated(from+`"content":{"text":"t"},"attachments":[{"filename":"a.bin","content":"`, "AAAA", limit/3-1000, `"}]}`))
	weigh("preview of an attachment", held)
	_, held = call("POST", "/v1.0/emails/preview", repeated(from+`"content":{"text":"`, ` \n`, 2<<20, `"}}`))
	weigh("preview of lines", held)
	one := `{"email":"b@x.test","variables":{"name":"` + strings.Repeat("x", 3400) + `"}},`
	_, held = call("POST", "/v1.0/emails/batch", repeated(`{"message":{"from":{"email":"shop@acme.test"},"subject":"s","content":{"text":"Dear {{name}}"}},"recipients":[`, one, 9999, strings.TrimSuffix(one, ",")+`]}`))
	weigh("batch of variables", held)
	_, held = call("POST", "/v1.0/emails/batch", repeated(`{"message":{"from":{"email":"shop@acme.test"},"subject":"s","content":{"html":"`, "<b>'</b>", 2<<20, `"}},"recipients":[{"email":"b@x.test"},{"email":"c@x.test"}]}`))
	weigh("batch of a large message", held)

	box, err := b.store.Mailboxes.CatchAllMailbox(t.Context(), b.customer.ID, "inbox@x.test")
	require.NoError(t, err)
	m := b.receivedLargest(box)
	path := fmt.Sprintf("/v1.0/mailboxes/%s/messages/%s", box.ID, m.ID)
	_, held = call("GET", path, none)
	weigh("received message", held)
	_, held = call("GET", path+"/attachments/0", none)
	weigh("attachment of a received message", held)
	_, held = call("GET", path+"/raw", none)
	weigh("received message as it came", held)
}

// weighed returns the answer to a request, and the most memory that it took, in bytes. It asks again if
// that seems to reach limit.
func (b *bench) weighed(limit int64, method, path string, body func() io.Reader) (answer *unkept, held int64) {
	held = memtest.Peak(limit, func() {
		answer = &unkept{ResponseRecorder: httptest.NewRecorder()}
		req := httptest.NewRequest(method, path, body())
		req.ContentLength = -1
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+b.key)
		b.server.ServeHTTP(answer, req)
	})
	return answer, held
}

// HTML that is written to take much memory takes no more than api.LargestRequest. The test uses a
// quarter of the largest HTML and half of the memory, because smaller buffers grow in coarser
// steps. Not parallel: the memory of other tests would count.
func TestMemoryOfHostileHTML(t *testing.T) {
	const limit = 6 << 20
	b := setupFor(t, setupOptions{maxBytes: limit, spool: api.NewSpool(t.TempDir(), 1<<30), parser: inbound.Parser{Timeout: time.Hour}})
	var names strings.Builder
	for i := 0; names.Len() < limit-1000; i++ {
		fmt.Fprintf(&names, "a%x=1 ", i)
	}
	fill := func(text string, size int) string { return strings.Repeat(text, size/len(text)) }
	for name, tc := range map[string]struct {
		html string
		code int
	}{
		"attributes":           {"<p " + names.String() + ">", http.StatusBadRequest},
		"attributes of an end": {"</p " + names.String() + ">", http.StatusBadRequest},
		"one name":             {"<p " + fill("a", limit-1000) + "=1>", http.StatusBadRequest},
		"words":                {fill("a ", limit/2-1000), http.StatusAccepted},
		"script":               {"x<script>" + fill("a", limit-1000) + "</script>", http.StatusAccepted},
		"image":                {"x<img src='data:image/png;base64," + fill("A", limit-1000) + "'>", http.StatusAccepted},
		"link":                 {"x<a href='https:" + fill("a ", limit-1000) + "'>x</a>", http.StatusAccepted},
		"lists":                {fill("<ul>", limit-1000) + "x", http.StatusAccepted},
		"entities":             {fill("&lt;", limit*3/4), http.StatusAccepted},
	} {
		body := `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@x.test"}],"subject":"s","send_at":"` + b.now().AddDate(0, 0, 1).UTC().Format(time.RFC3339) + `","content":{"html":"` + tc.html + `"}}`
		answer, held := b.weighed(api.LargestRequest/2, "POST", "/v1.0/emails", func() io.Reader { return strings.NewReader(body) })
		t.Logf("%s: %d, %d MB", name, answer.Code, held>>20)
		assert.Equal(t, tc.code, answer.Code, "%s: %s", name, answer.Body)
		assert.Less(t, held, int64(api.LargestRequest/2), name)
	}
}

// receivedLargest stores the largest message that can be received, with a long HTML part and an
// attachment of many short lines.
func (b *bench) receivedLargest(box mailbox.Mailbox) mailbox.Message {
	b.t.Helper()
	head := "From: a@x.test\r\nSubject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n" + strings.Repeat("<p>\x01'\r\n", 1<<20) +
		"\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=a\r\n\r\n"
	raw := []byte(head + strings.Repeat("x\r\n", (50<<20-len(head)-10)/3) + "\r\n--b--\r\n")
	m := mailbox.Message{ID: uuid.New(), MailboxID: box.ID, CustomerID: box.CustomerID, EnvelopeTo: []string{"a@x.test"}, Size: int64(len(raw)), SHA256: strings.Repeat("a", 64), ReceivedAt: time.Now()}
	require.NoError(b.t, b.store.Mailboxes.StoreMessages(b.t.Context(), []mailbox.Message{m}, raw))
	return m
}

// again is a reader of a text, left times.
type again struct {
	text string
	left int
	at   int
}

func (a *again) Read(p []byte) (n int, err error) {
	for n < len(p) && a.left > 0 {
		m := copy(p[n:], a.text[a.at:])
		n, a.at = n+m, a.at+m
		if a.at == len(a.text) {
			a.at, a.left = 0, a.left-1
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
