package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/memtest"
)

type fileAnswer struct {
	ID        string    `json:"id"`
	Filename  string    `json:"filename"`
	Type      string    `json:"type"`
	Size      int64     `json:"size"`
	SHA256    string    `json:"sha256"`
	CreatedAt time.Time `json:"created_at"`
}

// form returns a form with one file, and its Content-Type.
func form(t testing.TB, filename, mediaType string, content []byte) (body, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	h := textproto.MIMEHeader{"Content-Disposition": {mime.FormatMediaType("form-data", map[string]string{"name": "file", "filename": filename})}}
	if mediaType != "" {
		h.Set("Content-Type", mediaType)
	}
	part, err := w.CreatePart(h)
	require.NoError(t, err)
	_, err = part.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.String(), w.FormDataContentType()
}

func (b *bench) upload(filename, mediaType string, content []byte) answer {
	b.t.Helper()
	body, contentType := form(b.t, filename, mediaType, content)
	return b.call("POST", "/v1.0/files", body, "Content-Type", contentType, "Authorization", "Bearer "+b.key)
}

func (b *bench) uploaded(filename, mediaType string, content []byte) fileAnswer {
	b.t.Helper()
	res := b.upload(filename, mediaType, content)
	require.Equal(b.t, 201, res.status, res.body)
	var f fileAnswer
	res.decode(b.t, &f)
	return f
}

func (b *bench) count(query string, args ...any) int {
	b.t.Helper()
	var n int
	require.NoError(b.t, b.raw.NewRaw(query, args...).Scan(b.t.Context(), &n))
	return n
}

func TestUploadReadDeleteFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := bytes.Repeat([]byte("%PDF-1.4 and so on\n"), 50_000)[:900_000]
	sum := sha256.Sum256(content)
	res := b.upload("../Größe.pdf", "application/octet-stream", content)
	require.Equal(t, 201, res.status, res.body)
	var f fileAnswer
	res.decode(t, &f)
	require.Equal(t, fileAnswer{ID: f.ID, Filename: "Größe.pdf", Type: "application/pdf", Size: 900_000, SHA256: hex.EncodeToString(sum[:]), CreatedAt: f.CreatedAt}, f)
	require.WithinDuration(t, time.Now(), f.CreatedAt, time.Minute)
	path := "/v1.0/files/" + f.ID
	require.Equal(t, path, res.header.Get("Location"))

	require.JSONEq(t, res.body, b.as("GET", path, "").body)
	got := b.as("GET", path+"/content", "")
	require.Equal(t, 200, got.status)
	require.True(t, got.body == string(content))
	require.Equal(t, "application/pdf", got.header.Get("Content-Type"))
	require.Equal(t, "900000", got.header.Get("Content-Length"))
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
	disposition, params, err := mime.ParseMediaType(got.header.Get("Content-Disposition"))
	require.NoError(t, err)
	require.Equal(t, "attachment Größe.pdf", disposition+" "+params["filename"])

	require.JSONEq(t, res.body, b.as("DELETE", path, "").body)
	for _, p := range []string{path, path + "/content"} {
		require.Equal(t, 404, b.as("GET", p, "").status)
	}
	require.Equal(t, 404, b.as("DELETE", path, "").status)
	require.Zero(t, b.count("SELECT count(*) FROM blobs"))
}

func TestUploadEmptyFileOrWithoutName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.uploaded("empty.txt", "", nil)
	require.Zero(t, f.Size)
	require.Equal(t, "text/plain; charset=utf-8", f.Type)
	got := b.as("GET", "/v1.0/files/"+f.ID+"/content", "")
	require.Equal(t, 200, got.status)
	require.Empty(t, got.body)
	res := b.upload("", "text/plain", []byte("x"))
	require.Equal(t, 400, res.status)
	require.Contains(t, res.body, `"pointer":"file","code":"missing"`)
}

func TestOtherCustomersFilesAreNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, other := b.newCustomer("Other", "other.test")
	f := b.uploaded("a.txt", "", []byte("mine"))
	for _, id := range []string{f.ID, uuid.NewString(), "x"} {
		for _, call := range [][2]string{{"GET", ""}, {"GET", "/content"}, {"DELETE", ""}} {
			res := b.call(call[0], "/v1.0/files/"+id+call[1], "", "Authorization", "Bearer "+other)
			require.Equal(t, 404, res.status, call)
			require.Equal(t, "there is no such file", res.field(t, "detail"))
		}
	}
	require.Equal(t, 200, b.as("GET", "/v1.0/files/"+f.ID, "").status)
}

func TestUploadLargestFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, int64(maxBytes), b.uploaded("a.bin", "", make([]byte, maxBytes)).Size)
	for name, size := range map[string]int{"found out while reading": maxBytes + 1, "announced": maxBytes + 1<<20} {
		res := b.upload("a.bin", "", make([]byte, size))
		require.Equal(t, 413, res.status, name)
		require.Equal(t, "too_large", res.field(t, "code"))
		require.Contains(t, res.field(t, "detail"), fmt.Sprint(maxBytes))
		require.Contains(t, res.field(t, "detail"), "send the link")
	}
	require.Equal(t, 1, b.count("SELECT count(*) FROM blobs"))
}

func TestUploadInvalidForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	program, programType := form(t, "a.pdf", "application/pdf", []byte("MZ\x90\x00\x03"))
	blocked, blockedType := form(t, "a.exe", "", []byte("x"))
	whole, wholeType := form(t, "a.txt", "", []byte("hello"))
	_, boundary, _ := strings.Cut(wholeType, "boundary=")
	other := strings.Replace(whole, `name=file`, `name=data`, 1)
	second := strings.Replace(whole, "--"+boundary+"--", "--"+boundary+"\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--"+boundary+"--", 1)
	require.NotEqual(t, whole, other)
	require.NotEqual(t, whole, second)
	for _, row := range []struct{ name, body, contentType, want string }{
		{"JSON", `{"file":"x"}`, "application/json", "415 unsupported_media_type"},
		{"no boundary", whole, "multipart/form-data", "415 unsupported_media_type"},
		{"another multipart", whole, "multipart/mixed; boundary=" + boundary, "415 unsupported_media_type"},
		{"no field", "--" + boundary + "--\r\n", wholeType, "400 missing"},
		{"another field", other, wholeType, "400 missing"},
		{"two fields", second, wholeType, "400 unsupported"},
		{"broken off in the file", whole[:len(whole)-len(boundary)-12], wholeType, "400 invalid_request"},
		{"broken off after the file", whole[:len(whole)-4], wholeType, "400 invalid_request"},
		{"broken off before it", whole[:20], wholeType, "400 invalid_request"},
		{"no form", "hello", wholeType, "400 invalid_request"},
		{"a blocked name", blocked, blockedType, "400 attachment_blocked"},
		{"a program", program, programType, "400 attachment_blocked"},
	} {
		res := b.call("POST", "/v1.0/files", row.body, "Content-Type", row.contentType, "Authorization", "Bearer "+b.key)
		var p struct {
			Code   string `json:"code"`
			Errors []struct{ Code string }
		}
		res.decode(t, &p)
		if len(p.Errors) > 0 {
			p.Code = p.Errors[0].Code
		}
		require.Equal(t, row.want, fmt.Sprint(res.status, " ", p.Code), "%s: %s", row.name, res.body)
	}
	require.Equal(t, 401, b.call("POST", "/v1.0/files", whole, "Content-Type", wholeType).status)
	require.Zero(t, b.count("SELECT count(*) FROM blobs"))
	require.Zero(t, b.count("SELECT count(*) FROM files"))
}

// The client closes a real connection in the middle of the upload.
func TestInterruptedUploadStoresNothing(t *testing.T) {
	t.Parallel()
	files := api.NewSpool(t.TempDir(), 1<<30)
	b := setupFor(t, setupOptions{maxBytes: maxBytes, spool: files})
	srv := httptest.NewServer(b.server)
	t.Cleanup(srv.Close)
	body, contentType := form(t, "a.bin", "", make([]byte, 900_000))
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	_, err = fmt.Fprintf(conn, "POST /v1.0/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", b.key, contentType, len(body))
	require.NoError(t, err)
	_, err = io.WriteString(conn, body[:800_000])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return files.Use().Disk > 700_000 }, time.Minute, 10*time.Millisecond, "it is in a file as it arrives")
	require.Zero(t, b.count("SELECT count(*) FROM blob_chunks"), "nothing is stored before it is whole")
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "HTTP/1.1 400")
	require.Contains(t, string(answer), "send it again")
	for _, table := range []string{"files", "blobs", "blob_chunks"} {
		require.Zero(t, b.count("SELECT count(*) FROM "+table), table)
	}
}

// The answer must not be a part of the file with status 200.
func TestMissingChunkFailsDownload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.uploaded("a.bin", "", make([]byte, maxBytes))
	_, err := b.raw.ExecContext(t.Context(), "DELETE FROM blob_chunks WHERE seq = 1")
	require.NoError(t, err)
	require.Equal(t, http.StatusInternalServerError, b.as("GET", "/v1.0/files/"+f.ID+"/content", "").status)
}

func TestAttachFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.uploaded("report.pdf", "", []byte("%PDF-1.4"))
	body := `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t","attachments":[{"reference_type":"file","reference_id":"` + f.ID + `"}]}`
	res := b.call("POST", "/v1.0/emails", body, "Authorization", "Bearer "+b.key, "Idempotency-Key", "k")
	require.Equal(t, 202, res.status, res.body)
	var got struct{ Attachments []map[string]any }
	res.decode(t, &got)
	require.Equal(t, []map[string]any{{
		"reference_type": "file", "reference_id": f.ID, "filename": "report.pdf", "type": "application/pdf", "size": 8.0, "sha256": f.SHA256, "content_id": "",
	}}, got.Attachments)

	require.Equal(t, 200, b.as("DELETE", "/v1.0/files/"+f.ID, "").status)
	again := b.call("POST", "/v1.0/emails", body, "Authorization", "Bearer "+b.key, "Idempotency-Key", "k")
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"), "the same request has the same answer: %s", again.body)
	require.JSONEq(t, res.body, again.body)
}

func TestAttachURL(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res := b.as("POST", "/v1.0/emails", `{"from":{"email":"a@acme.test"},"to":[{"email":"b@x.test"}],"subject":"s","content":"t",
		"attachments":[{"url":"https://cdn.x.test/a.pdf?key=1","optional":true}]}`)
	require.Equal(t, 202, res.status, res.body)
	var got struct{ Attachments []map[string]any }
	res.decode(t, &got)
	require.Equal(t, []map[string]any{{
		"reference_type": "url", "reference_id": "", "url": "https://cdn.x.test/a.pdf?key=1", "filename": "", "type": "", "size": 0.0, "sha256": "", "content_id": "",
		"optional": true,
	}}, got.Attachments)
}

// zeros is a reader of zeros that measures, at each MiB, how much memory the process holds.
type zeros struct {
	left, next, peak int64
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	if z.left <= z.next {
		z.peak, z.next = max(z.peak, memtest.Live()), z.left-1<<20
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

// Not parallel: the memory of other tests would count.
func TestMemoryOfLargestUpload(t *testing.T) {
	const size = 25 << 20
	b := setupWith(t, size, 0)
	whole, contentType := form(t, "a.bin", "", []byte("|"))
	before, after, _ := strings.Cut(whole, "|")
	content := &zeros{left: size, next: size}
	req := httptest.NewRequest("POST", "/v1.0/files", io.MultiReader(strings.NewReader(before), content, strings.NewReader(after)))
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+b.key)
	rec, held := httptest.NewRecorder(), memtest.Live()
	b.server.ServeHTTP(rec, req)
	require.Equal(t, 201, rec.Code, rec.Body.String())
	require.Equal(t, size>>19, b.count("SELECT count(*) FROM blob_chunks"))
	require.Less(t, content.peak-held, int64(8<<20))
	t.Logf("held %d KiB", (content.peak-held)>>10)
}

// Files are listed page by page, newest first, and only those of the customer.
func TestListFiles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ids []string
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		f, err := b.store.Files.StoreFile(t.Context(), b.customer.ID, email.File{Filename: name, Type: "text/plain"}, strings.NewReader(name))
		require.NoError(t, err)
		ids = append([]string{f.ID}, ids...)
	}
	other, otherKey := b.newCustomer("Other", "other.test")
	_, err := b.store.Files.StoreFile(t.Context(), other.ID, email.File{Filename: "secret.txt", Type: "text/plain"}, strings.NewReader("s"))
	require.NoError(t, err)
	var page struct {
		Result []struct {
			ID string `json:"id"`
		} `json:"result"`
		NextPageToken string `json:"next_page_token"`
	}
	var got []string
	for query := "?page_size=2"; ; query = "?page_size=2&page_token=" + url.QueryEscape(page.NextPageToken) {
		page.Result = nil
		b.as("GET", "/v1.0/files"+query, "").decode(t, &page)
		for _, f := range page.Result {
			got = append(got, f.ID)
		}
		if page.NextPageToken == "" {
			break
		}
	}
	require.Equal(t, ids, got)
	theirs := b.call("GET", "/v1.0/files", "", "Authorization", "Bearer "+otherKey)
	require.Contains(t, theirs.body, "secret.txt")
	require.NotContains(t, theirs.body, ids[0])
}

// counted counts the bytes that are read from it.
type counted struct {
	io.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

// mime/multipart would keep a part header of 10 MB while the file is stored.
func TestUploadPartHeaderLimit(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 20<<20, 0)
	file := strings.Repeat("x", 100<<10)
	part := func(header, content string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n" + header + "\r\n" + content + "\r\n"
	}
	for name, tc := range map[string]struct {
		form   string
		status int
		detail string
	}{
		"15 KiB":                {part("A: "+strings.Repeat("a", 15<<10)+"\r\n", file) + "--b--\r\n", 201, ""},
		"one long line":         {part("A: "+strings.Repeat("a", 9<<20)+"\r\n", file) + "--b--\r\n", 400, "larger than 16 KiB"},
		"many lines":            {part(strings.Repeat("a:\r\n", 1<<20), file) + "--b--\r\n", 400, "larger than 16 KiB"},
		"a header with no end":  {part("A: "+strings.Repeat("a", 9<<20), ""), 400, "larger than 16 KiB"},
		"what is before a part": {strings.Repeat("a\r\n", 1<<20) + part("", file) + "--b--\r\n", 400, "larger than 16 KiB"},
		"behind the file":       {part("", file) + part("A: "+strings.Repeat("a", 9<<20)+"\r\n", "") + "--b--\r\n", 400, "larger than 16 KiB"},
	} {
		body := &counted{Reader: strings.NewReader(tc.form)}
		req, rec := httptest.NewRequest("POST", "/v1.0/files", body), httptest.NewRecorder()
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		req.Header.Set("Authorization", "Bearer "+b.key)
		b.server.ServeHTTP(rec, req)
		require.Equal(t, tc.status, rec.Code, name+rec.Body.String())
		require.Contains(t, rec.Body.String(), tc.detail, name)
		require.LessOrEqual(t, body.read, len(file)+32<<10, name)
	}
	require.Equal(t, 1, b.count("SELECT count(*) FROM blobs"))
}
