package api_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/memtest"
)

// encodedZeros is a stream of base64 that stands for n zero bytes; n is a multiple of 3.
func encodedZeros(n int64) io.Reader { return io.LimitReader(endless{}, n/3*4) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

// store is what weighed stands before.
type store = api.Emails

// weighed notes what the program holds when a message is accepted.
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

// Not parallel: other tests' memory would count.
func TestALargeAttachmentCostsTheAPIAtMostFourTimesItsSize(t *testing.T) {
	const size = 24 << 20
	w := &weighed{}
	b := setupFor(t, setupOptions{maxBytes: 25 << 20, emails: func(e api.Emails) api.Emails { w.store = e; return w }})
	head := `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t","attachments":[{"filename":"i.bin","content":"`
	body := io.MultiReader(strings.NewReader(head), encodedZeros(size), strings.NewReader(`"}]}`))
	req := httptest.NewRequest("POST", "/v1.0/emails", body)
	req.ContentLength = int64(len(head)) + size/3*4 + 4
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+b.key)
	rec, before := httptest.NewRecorder(), memtest.Live()
	b.server.ServeHTTP(rec, req)
	require.Equal(t, http.StatusAccepted, rec.Code, rec.Body.String())
	t.Logf("%.1f times its size", float64(w.held-before)/size)
	require.Less(t, w.held-before, int64(4*size))
	require.Greater(t, w.held-before, int64(size/10*9), "it was measured while it was there")
}

// stuck is a body that says when it is read, and comes to its end when told to.
type stuck struct {
	reading chan struct{}
	end     chan struct{}
}

func (s stuck) Read([]byte) (int, error) {
	close(s.reading)
	<-s.end
	return 0, io.ErrUnexpectedEOF
}

// TestLargeRequestsShareMemory: one too many is told to come again, small ones
// are not held up.
func TestLargeRequestsShareMemory(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 256<<20, 0)
	post := func(ctx context.Context, body io.Reader, length int64) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(ctx, "POST", "/v1.0/emails", body)
		req.ContentLength = length
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+b.key)
		rec := httptest.NewRecorder()
		b.server.ServeHTTP(rec, req)
		return rec
	}
	first := stuck{make(chan struct{}), make(chan struct{})}
	ended := make(chan int)
	go func() { ended <- post(t.Context(), first, 256<<20).Code }()
	<-first.reading
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	second := post(ctx, strings.NewReader(basic), 2<<20)
	require.Equal(t, http.StatusServiceUnavailable, second.Code, second.Body.String())
	require.NotEmpty(t, second.Header().Get("Retry-After"))
	require.Equal(t, http.StatusAccepted, post(t.Context(), strings.NewReader(basic), int64(len(basic))).Code)
	close(first.end)
	require.Equal(t, http.StatusBadRequest, <-ended)
	require.Equal(t, http.StatusAccepted, post(t.Context(), strings.NewReader(basic), 2<<20).Code)
}
