package attachment_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/attachment"
	"github.com/postrider/postrider/internal/safehttp"
)

// local lets tests be servers.
var local = safehttp.Options{AllowHTTP: true, AllowLoopback: true, Timeout: 5 * time.Second}

func urls(opts safehttp.Options) source {
	u := attachment.NewURLs(safehttp.New(opts), nil, "1.2")
	return source{attachment.Resolvers{ByType: map[email.ReferenceType]attachment.Resolver{email.ReferenceURL: u.Resolve}}, email.DefaultMaxMessageBytes}
}

func at(url string) email.Attachment {
	return email.Attachment{ID: "a1", ReferenceType: email.ReferenceURL, URL: url}
}

// passes asserts that an error may pass and that its text may be shown.
func passes(t *testing.T, err error) *email.Failure {
	t.Helper()
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, email.CodeUnavailable, f.Code, "%v", err)
	return f
}

func TestURL(t *testing.T) {
	t.Parallel()
	pdf := append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte{0}, 5000)...)
	asked := make(chan http.Header, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header
		if r.URL.Path == "/disposed" {
			w.Header().Set("Content-Disposition", `attachment; filename="../invoice.pdf"`)
		}
		w.Header().Set("Content-Type", "application/pdf; x=y")
		w.Write(pdf)
	})
	for path, want := range map[string]string{
		"/a/report.pdf?key=s3cret": "report.pdf", "/disposed": "invoice.pdf", "/": "attachment.pdf", "": "attachment.pdf", "/latest": "latest.pdf",
		"/Gr%C3%B6%C3%9Fe.pdf": "Größe.pdf", "/a%2F..%2Fb.pdf": "b.pdf", "/x.tar.gz": "x.tar.gz",
	} {
		got, err := urls(local).Resolve(t.Context(), "c", at(url+path))
		require.NoError(t, err, path)
		require.Equal(t, want, got.Filename, path)
		require.Equal(t, "application/pdf; x=y", got.Type)
		require.True(t, bytes.Equal(pdf, got.Content))
		require.Equal(t, "a1", got.ID)
		h := <-asked
		require.Equal(t, "postrider/1.2", h.Get("User-Agent"))
		require.Equal(t, "identity", h.Get("Accept-Encoding"))
	}
	own := at(url + "/a.bin")
	own.Filename, own.Type = "b.pdf", "application/x-own"
	got, err := urls(local).Resolve(t.Context(), "c", own)
	require.NoError(t, err)
	require.Equal(t, "b.pdf application/x-own", got.Filename+" "+got.Type)
}

func TestTypesThatBase64MayNotHold(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", strings.TrimPrefix(r.URL.Path, "/"))
		io.WriteString(w, "Subject: x\r\n\r\nhi")
	})
	for _, typ := range []string{"message/partial", "multipart/mixed", "Multipart/Mixed; boundary=x"} {
		got, err := urls(local).Resolve(t.Context(), "c", at(url+"/"+strings.ReplaceAll(typ, " ", "")))
		require.NoError(t, err)
		require.Equal(t, "application/octet-stream", got.Type)
	}
}

func TestStatusOfAURLDecidesWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]email.Code{
		401: email.CodeForbidden, 403: email.CodeForbidden, 404: email.CodeNotFound, 410: email.CodeNotFound, 400: email.CodeInvalidRequest, 418: email.CodeInvalidRequest,
		301: email.CodeInvalidRequest, 302: email.CodeInvalidRequest, 304: email.CodeInvalidRequest,
		202: email.CodeUnavailable, 204: email.CodeUnavailable, 408: email.CodeUnavailable, 425: email.CodeUnavailable, 429: email.CodeUnavailable,
		500: email.CodeUnavailable, 502: email.CodeUnavailable, 503: email.CodeUnavailable,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			_, err := urls(local).Resolve(t.Context(), "c", at(url+"/x?key=s3cret"))
			require.Equal(t, code, permanent(t, err))
			require.ErrorContains(t, err, strings.TrimPrefix(url, "http://")+" answered")
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestAURLThatLeadsInsideIsRefusedForGood(t *testing.T) {
	t.Parallel()
	reached := false
	url := serve(t, func(http.ResponseWriter, *http.Request) { reached = true })
	_, err := urls(safehttp.Options{AllowHTTP: true}).Resolve(t.Context(), "c", at(url+"/?key=s3cret"))
	require.Equal(t, email.CodeForbidden, permanent(t, err))
	require.ErrorContains(t, err, "the address is blocked (loopback)")
	require.NotContains(t, err.Error(), "s3cret")
	require.False(t, reached)
	// The operator no longer allows what was accepted.
	_, err = urls(safehttp.Options{AllowLoopback: true}).Resolve(t.Context(), "c", at(url))
	require.Equal(t, email.CodeInvalidRequest, permanent(t, err))
	require.ErrorContains(t, err, "https://")
}

// TestPrivateNetworksAreOpenedToOneCustomer: no other customer reads the answers of hosts there.
func TestPrivateNetworksAreOpenedToOneCustomer(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "INTERNAL") })
	u := attachment.NewURLs(safehttp.New(safehttp.Options{AllowHTTP: true}), map[string]*safehttp.Client{"ann": safehttp.New(local)}, "1.2")
	require.Error(t, u.Check("bob", url), "a message is refused at once")
	require.NoError(t, u.Check("ann", url))
	_, err := u.Resolve(t.Context(), "bob", at(url), 1000)
	require.Equal(t, email.CodeForbidden, permanent(t, err))
	c, err := u.Resolve(t.Context(), "ann", at(url), 1000)
	require.NoError(t, err)
	require.NoError(t, c.Body.Close())
}

func TestSizeLimitOfAURL(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			w.(http.Flusher).Flush()
		}
		for range 2000 { // 2 MB; the client hangs up before
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	for _, path := range []string{"/chunked", "/announced"} {
		rs := urls(local)
		rs.limit = 999_999
		_, err := rs.Resolve(t.Context(), "c", at(url+path))
		require.Equal(t, email.CodeTooLarge, permanent(t, err), path)
		require.ErrorContains(t, err, "999999")
		rs.limit = 2_000_000
		got, err := rs.Resolve(t.Context(), "c", at(url+path))
		require.NoError(t, err)
		require.Len(t, got.Content, 2_000_000)
	}
}

func TestCompressedAnswersAreRefused(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", strings.TrimPrefix(r.URL.Path, "/"))
		io.WriteString(w, "hello")
	})
	_, err := urls(local).Resolve(t.Context(), "c", at(url+"/gzip"))
	require.Equal(t, email.CodeInvalidRequest, permanent(t, err))
	_, err = urls(local).Resolve(t.Context(), "c", at(url+"/Identity"))
	require.NoError(t, err)
}

// Each in the middle of the answer, behind the part that is sniffed.
func TestWhatGoesWrongInTheMiddleMayPass(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 50_000))
		w.(http.Flusher).Flush()
		if r.URL.Path == "/hangs" {
			<-release
		}
		panic(http.ErrAbortHandler)
	})
	t.Cleanup(func() { close(release) })
	opts := local
	opts.Timeout = 300 * time.Millisecond
	_, err := urls(opts).Resolve(t.Context(), "c", at(url+"/hangs?key=s3cret"))
	require.Contains(t, passes(t, err).Detail, "timed out")
	_, err = urls(local).Resolve(t.Context(), "c", at(url+"/breaks"))
	f := passes(t, err)
	require.Contains(t, f.Detail, "the connection ended before the answer did")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	for e := err; e != nil; e = errors.Unwrap(e) {
		require.NotContains(t, e.Error(), "s3cret")
	}
}
