package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// Files stores uploaded files. Each call sees those of one customer only.
type Files interface {
	// StoreFile reads content to its end and stores it. It wraps an error of content, and stores
	// nothing then.
	StoreFile(ctx context.Context, customerID string, f email.File, content io.Reader) (email.File, error)
	Files(ctx context.Context, customerID string, after email.Cursor, limit int) ([]email.File, *email.Cursor, error)
	File(ctx context.Context, customerID, id string) (email.File, error)
	FileContent(ctx context.Context, customerID, id string) (email.File, io.Reader, error)
	DeleteFile(ctx context.Context, customerID, id string) (email.File, error)
}

// fileHandlers answers /v1.0/files.
type fileHandlers struct {
	store   Files
	limits  intake.Limits
	links   links
	respond responder
	log     *slog.Logger
}

type fileJSON struct {
	ID        string  `json:"id"`
	Filename  string  `json:"filename"`
	Type      string  `json:"type"`
	Size      int64   `json:"size"`
	SHA256    string  `json:"sha256"`
	CreatedAt *string `json:"created_at"`
}

func fileAnswer(f email.File) fileJSON {
	return fileJSON{ID: f.ID, Filename: f.Filename, Type: f.Type, Size: f.Size, SHA256: f.SHA256, CreatedAt: moment(f.CreatedAt)}
}

const (
	fieldFile = "file"
	// maxFormOverhead limits a form without its file: boundaries and headers.
	maxFormOverhead = 64 << 10
	// maxPartHeader limits what precedes the file and what follows it: a boundary and a header.
	// mime/multipart alone accepts a header of 10 MB.
	maxPartHeader = 16 << 10
	// sniffBytes is how much of a file its type is detected from.
	sniffBytes = 512
	// streamBytes is the memory of a stream to or from Postgres: a chunk of 512 KiB, the chunk in
	// hexadecimal, and the driver's buffers.
	streamBytes = 4 << 20
)

// post receives an upload into a spool file, then stores it.
func (h *fileHandlers) post(c *gin.Context) (status int, answer any, err error) {
	if err := reserve(c, budgetOf(c).bodies, maxInMemory); err != nil {
		return 0, nil, err
	}
	up, err := openUpload(c, h.limits.MaxMessageBytes)
	if err != nil {
		return 0, nil, err
	}
	source := &incoming{from: up}
	content := bufio.NewReaderSize(source, sniffBytes)
	head, err := content.Peek(sniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	var f email.File
	if f.Filename, f.Type, err = intake.Upload(up.part.FileName(), up.part.Header.Get("Content-Type"), head, h.limits); err != nil {
		return 0, nil, err
	}
	// A client that closes the connection makes reading fail, before anything is stored.
	collected := budgetOf(c).spool.Spool(ownerOf(c), h.limits.MaxMessageBytes)
	defer func() { err = errors.Join(err, collected.Close()) }()
	if _, err := collected.ReadFrom(content); err != nil {
		if source.err != nil {
			return 0, nil, err
		}
		return 0, nil, noDisk(err)
	}
	if err := collected.Settle(); err != nil {
		return 0, nil, noDisk(err)
	}
	release(c, budgetOf(c).bodies)
	if err := reserve(c, budgetOf(c).work, streamBytes); err != nil {
		return 0, nil, err
	}
	f, err = h.store.StoreFile(context.WithoutCancel(c.Request.Context()), customerOf(c).ID, f, collected.Reader())
	if err != nil {
		return 0, nil, err
	}
	h.log.InfoContext(c.Request.Context(), "file.stored", "file_id", f.ID, "customer_id", f.CustomerID, "request_id", requestID(c), "bytes", f.Size)
	c.Header("Location", h.links.location("/v1.0/files/"+f.ID))
	return http.StatusCreated, fileAnswer(f), nil
}

// upload reads the file in a form. It returns io.EOF only if the form is complete, else an
// *email.Failure.
type upload struct {
	body  *formBody
	form  *multipart.Reader
	part  *multipart.Part
	limit int64
	read  int64
	// ended is the result of end, which can be called once.
	ended error
}

// openUpload finds the file in a form, which must be its first part.
func openUpload(c *gin.Context, limit int64) (*upload, error) {
	if c.Request.ContentLength > limit+maxFormOverhead {
		return nil, fileTooLarge(limit)
	}
	body := &formBody{ReadCloser: http.MaxBytesReader(c.Writer, c.Request.Body, limit+maxFormOverhead)}
	c.Request.Body = body
	form, err := c.Request.MultipartReader()
	if err != nil || c.ContentType() != "multipart/form-data" {
		return nil, email.Fail(email.CodeUnsupportedMediaType, "send the file as multipart/form-data in a field named file; with curl: --form file=@report.pdf")
	}
	up := &upload{body: body, form: form, limit: limit}
	switch up.part, err = up.next(); {
	case err != nil:
		return nil, err
	case up.part == nil:
		return nil, invalid(fieldFile, "missing", "the form is empty: put the file into a field named file")
	case up.part.FormName() != fieldFile:
		return nil, invalid(fieldFile, "missing", "the form's first field is not named file: send the file in a field of that name, and nothing else")
	}
	return up, nil
}

func (u *upload) Read(p []byte) (int, error) {
	if u.ended != nil {
		return 0, u.ended
	}
	n, err := u.part.Read(p)
	u.read += int64(n)
	if u.read > u.limit {
		return 0, fileTooLarge(u.limit)
	}
	switch {
	case errors.Is(err, io.EOF):
		u.ended = u.end()
		return n, u.ended
	case err != nil:
		return n, u.failed(err)
	}
	return n, nil
}

// end returns io.EOF if the file is the last part of the form.
func (u *upload) end() error {
	switch part, err := u.next(); {
	case err != nil:
		return err
	case part != nil:
		return invalid(fieldFile, "unsupported", "the form has more than one field: send one file in a request, and nothing else")
	}
	return io.EOF
}

// next returns the next part of the form, nil at its end.
func (u *upload) next() (*multipart.Part, error) {
	u.body.inHeader, u.body.left = true, maxPartHeader
	part, err := u.form.NextPart()
	u.body.inHeader = false
	if err == io.EOF { // a wrapped io.EOF means that the form is incomplete
		return nil, nil
	}
	if err != nil {
		return nil, u.failed(err)
	}
	return part, nil
}

// failed returns the failure to answer with for an error of reading the form.
func (u *upload) failed(err error) error {
	if errors.Is(err, errPartHeader) {
		return invalid(fieldFile, "too_long", "the header of a part of the form is larger than 16 KiB: send only a name, a file name and a type")
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fileTooLarge(u.limit)
	}
	f := email.Fail(email.CodeInvalidRequest, "the form is incomplete; send it again")
	f.Err = err
	return f
}

// formBody is the body of a form. While inHeader is set, it returns errPartHeader after left
// bytes.
type formBody struct {
	io.ReadCloser
	inHeader bool
	left     int
}

var errPartHeader = errors.New("the header of a part is too large")

func (b *formBody) Read(p []byte) (int, error) {
	if b.inHeader {
		if b.left == 0 {
			return 0, errPartHeader
		}
		p = p[:min(len(p), b.left)]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	return n, err
}

func fileTooLarge(limit int64) *email.Failure {
	f := email.Fail(email.CodeTooLarge, "the file has more than %d bytes, which is the limit of a message: compress or split it, or put it where it can be downloaded and send the link", limit)
	f.Fields = []email.FieldError{{Pointer: fieldFile, Code: string(email.CodeTooLarge), Detail: f.Detail}}
	return f
}

func (h *fileHandlers) list(c *gin.Context) (int, any, error) {
	return listPage(c, customerOf(c).ID, h.store.Files, fileAnswer)
}

func (h *fileHandlers) get(c *gin.Context) (int, any, error) { return h.one(c, h.store.File) }

func (h *fileHandlers) delete(c *gin.Context) (int, any, error) {
	return h.one(c, h.store.DeleteFile)
}

func (h *fileHandlers) one(c *gin.Context, do func(ctx context.Context, customerID, id string) (email.File, error)) (int, any, error) {
	id, err := pathID(c, "id", "file")
	if err != nil {
		return 0, nil, err
	}
	f, err := do(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, fileAnswer(f), nil
}

func (h *fileHandlers) content(c *gin.Context) {
	id, err := pathID(c, "id", "file")
	if err != nil {
		h.respond.problem(c, err)
		return
	}
	if err := reserveAnswer(c, streamBytes); err != nil {
		h.respond.problem(c, err)
		return
	}
	f, content, err := h.store.FileContent(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		h.respond.problem(c, err)
		return
	}
	sandboxed(c)
	c.Header("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Filename}))
	h.respond.stream(c, f.Type, f.Size, content)
}
