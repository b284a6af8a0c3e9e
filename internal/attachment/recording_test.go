package attachment_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/attachment"
)

// wav is the beginning of a wave file.
var wav = append([]byte("RIFF\x24\x00\x00\x00WAVEfmt "), make([]byte, 2000)...)

func ref(id string) email.Attachment {
	return email.Attachment{ID: "a1", ReferenceType: email.ReferenceRecording, ReferenceID: id}
}

// serve runs the operator's recording server.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return srv.URL
}

func recordings(t *testing.T, opts attachment.RecordingOptions) source {
	t.Helper()
	r, err := attachment.NewRecordings(opts)
	require.NoError(t, err)
	return source{attachment.Resolvers{ByType: map[email.ReferenceType]attachment.Resolver{email.ReferenceRecording: r.Resolve}}, email.DefaultMaxMessageBytes}
}

// source reads what Resolvers open.
type source struct {
	attachment.Resolvers
	limit int64
}

// Resolve gives an attachment with its content, read to the end.
func (s source) Resolve(ctx context.Context, customerID string, a email.Attachment) (email.Attachment, error) {
	got, body, err := s.Resolvers.Resolve(ctx, customerID, a, s.limit)
	if err != nil {
		return got, err
	}
	if got.Content, err = io.ReadAll(body); err != nil {
		return got, errors.Join(err, body.Close())
	}
	return got, body.Close()
}

// permanent asserts that an error is for good, and returns its code.
func permanent(t *testing.T, err error) email.Code {
	t.Helper()
	require.Error(t, err)
	require.NotEmpty(t, email.FailureCode(err), "%v", err)
	return email.FailureCode(err)
}

func transient(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.Empty(t, email.FailureCode(err), "%v", err)
}

func TestRecording(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var target, auth string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		target, auth = r.RequestURI, r.Header.Get("Authorization")
		mu.Unlock()
		w.Header().Set("Content-Type", "audio/x-wav")
		w.Write(wav)
	})
	rs := recordings(t, attachment.RecordingOptions{URL: url + "/c/{customer_id}/r/{id}/file?id={id}", Token: "t0ken"})
	got, err := rs.Resolve(t.Context(), "cust 1", ref("a/../b?x&y=é"))
	require.NoError(t, err)
	require.Equal(t, "a1", got.ID)
	require.Equal(t, wav, got.Content)
	require.Equal(t, "audio/x-wav", got.Type)
	require.Equal(t, "recording-a_.._b?x&y=é.wav", got.Filename)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, "/c/cust%201/r/a%2F..%2Fb%3Fx%26y%3D%C3%A9/file?id=a%2F..%2Fb%3Fx%26y%3D%C3%A9", target)
	require.Equal(t, "Bearer t0ken", auth)
}

func TestWithoutATokenNoneIsSent(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["Authorization"]; ok {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	got, err := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}"}).Resolve(t.Context(), "c", ref("r1"))
	require.NoError(t, err)
	require.NotNil(t, got.Content, "an empty recording is content")
	require.Empty(t, got.Content)
}

func TestStatusDecidesWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]email.Code{
		401: email.CodeForbidden, 403: email.CodeForbidden, 404: email.CodeNotFound, 410: email.CodeNotFound, 400: email.CodeInvalidRequest, 422: email.CodeInvalidRequest,
		202: "", 204: "", 304: "", 408: "", 425: "", 429: "", 500: "", 502: "", 503: "",
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
			_, err := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}"}).Resolve(t.Context(), "c", ref("r1"))
			require.ErrorContains(t, err, "r1")
			require.Equal(t, code, email.FailureCode(err))
		})
	}
}

func TestSizeLimit(t *testing.T) {
	t.Parallel()
	for name, chunked := range map[string]bool{"announced": false, "found out while reading": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if chunked {
					w.(http.Flusher).Flush()
				}
				w.Write(wav[:len(wav)-1])
				if r.URL.Path == "/over" {
					w.Write(wav[:1])
				}
			})
			rs := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}"})
			rs.limit = int64(len(wav)) - 1
			got, err := rs.Resolve(t.Context(), "c", ref("fits"))
			require.NoError(t, err)
			require.Equal(t, wav[:len(wav)-1], got.Content)
			_, err = rs.Resolve(t.Context(), "c", ref("over"))
			require.Equal(t, email.CodeTooLarge, permanent(t, err))
			if chunked {
				require.ErrorContains(t, err, "more than 2015 bytes")
			} else {
				require.ErrorContains(t, err, "recording over: 2016 bytes, limit 2015")
			}
		})
	}
}

func TestSizeLimitWithinTheSniffedPart(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		w.Write(wav)
	})
	for _, limit := range []int64{0, 10} {
		rs := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}"})
		rs.limit = limit
		_, err := rs.Resolve(t.Context(), "c", ref("r1"))
		require.Equal(t, email.CodeTooLarge, permanent(t, err))
	}
}

func TestABrokenOffAnswerIsTriedAgain(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5000")
		w.Write(wav)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	_, err := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}"}).Resolve(t.Context(), "c", ref("r1"))
	transient(t, err)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestNetworkErrorsAreTriedAgainAndKeepSecrets(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	rs := recordings(t, attachment.RecordingOptions{URL: "http://" + addr + "/{id}?key=s3cret&c={customer_id}", Token: "t0ken"})
	_, err = rs.Resolve(t.Context(), "c", ref("r1"))
	transient(t, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		require.NotContains(t, e.Error(), "s3cret")
		require.NotContains(t, e.Error(), "t0ken")
	}
}

func TestAHangingServerIsTriedAgain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.Write(wav)
			w.(http.Flusher).Flush()
		}
		<-release
	})
	t.Cleanup(func() { close(release) })
	rs := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}", Timeout: 200 * time.Millisecond})
	for _, id := range []string{"head", "body"} {
		_, err := rs.Resolve(t.Context(), "c", ref(id))
		transient(t, err)
		netErr, ok := errors.AsType[net.Error](err)
		require.True(t, ok && netErr.Timeout(), "%s: %v", id, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := rs.Resolve(ctx, "c", ref("head"))
	require.ErrorIs(t, err, context.Canceled)
}

// An object store that the server redirects to gets no token.
func TestTheTokenStaysWithItsHost(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header.Get("Authorization"))
		mu.Unlock()
		w.Write(wav)
	})
	store = strings.Replace(store, "127.0.0.1", "localhost", 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, store+"/signed", http.StatusFound) })
	got, err := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}", Token: "t0ken"}).Resolve(t.Context(), "c", ref("r1"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(wav, got.Content))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{""}, seen)
}

// TestBlockedContent: only the answer shows the name and the type of a source's content.
func TestBlockedContent(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/name":
			w.Header().Set("Content-Disposition", `attachment; filename="call.wav.js"`)
		case "/type":
			w.Header().Set("Content-Type", "application/x-msdownload")
		case "/content":
			w.Header().Set("Content-Type", "audio/wav")
			w.Write([]byte("MZ\x90\x00\x03"))
			return
		}
		w.Write(wav)
	})
	for _, id := range []string{"name", "type", "content"} {
		rs := recordings(t, attachment.RecordingOptions{URL: url + "/{id}?c={customer_id}"})
		_, err := rs.Resolve(t.Context(), "c", ref(id))
		require.Equal(t, email.CodeBlocked, permanent(t, err), id)
		named := ref(id)
		named.Filename, named.Type = "call.wav", "audio/wav"
		_, err = rs.Resolve(t.Context(), "c", named)
		require.Equal(t, id != "name", err != nil, "the client's name wins, but changes nothing in what it is: %s", id)
		rs.Blocked = email.Block([]string{})
		_, err = rs.Resolve(t.Context(), "c", ref(id))
		require.NoError(t, err, id)
	}
}

func TestIDsThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	rs := recordings(t, attachment.RecordingOptions{URL: "http://127.0.0.1:1/{customer_id}/{id}"})
	for _, id := range []string{"", ".", ".."} {
		_, err := rs.Resolve(t.Context(), "c", ref(id))
		require.Equal(t, email.CodeNotFound, permanent(t, err))
		_, err = rs.Resolve(t.Context(), id, ref("r1"))
		require.Equal(t, email.CodeNotFound, permanent(t, err))
	}
}

func TestWhatIsNotSetUp(t *testing.T) {
	t.Parallel()
	_, err := source{}.Resolve(t.Context(), "c", ref("r1"))
	require.Equal(t, email.CodeInvalidRequest, permanent(t, err))
	require.ErrorContains(t, err, `"recording" are not set up`)
	for _, url := range []string{"", "recordings/{id}", "ftp://x/{id}", "http:///{id}", "http://x/", "http://{id}.x/", "http://u:s3cret@x/{id}", "http://x/%zz{id}", "http://x/{customer_id}#{id}", "http://x/{id}"} {
		_, err := attachment.NewRecordings(attachment.RecordingOptions{URL: url})
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "s3cret")
	}
	_, err = attachment.NewRecordings(attachment.RecordingOptions{URL: "http://x/{customer_id}/{id}", Token: "s3cret\n"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}
