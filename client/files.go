package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"
)

// File is an uploaded file, which messages attach by its id.
type File struct {
	ID       string `json:"id"`
	Filename string `json:"filename"`
	Type     string `json:"type"`
	// Size is in bytes.
	Size      int64     `json:"size"`
	SHA256    string    `json:"sha256"`
	CreatedAt time.Time `json:"created_at"`
}

// Files walks through the uploaded files, newest first. An error is the last thing it
// yields.
func (c *Client) Files(ctx context.Context, opts ...ListOption) iter.Seq2[File, error] {
	return list[File](ctx, c, url.Values{}, opts, "files")
}

// UploadFile stores a file of that name, whose type is found out. content is read into
// memory; the limit is that of a message. It is tried once: a second try might store it twice.
func (c *Client) UploadFile(ctx context.Context, filename string, content io.Reader) (File, error) {
	var out File
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("file", filename)
	if err == nil {
		_, err = io.Copy(part, content)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return out, fmt.Errorf("read %s: %w", filename, err)
	}
	_, err = c.do(ctx, call{method: http.MethodPost, path: []string{"files"}, body: form.Bytes(), contentType: w.FormDataContentType()}, &out)
	return out, err
}

// File describes a file.
func (c *Client) File(ctx context.Context, id string) (File, error) {
	var out File
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"files", id}}, &out)
	return out, err
}

// FileContent reads a file's bytes.
func (c *Client) FileContent(ctx context.Context, id string) ([]byte, error) {
	var out []byte
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"files", id, "content"}}, &out)
	return out, err
}

// DeleteFile deletes a file. E-mails that refer to it keep its bytes.
func (c *Client) DeleteFile(ctx context.Context, id string) (File, error) {
	var out File
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"files", id}}, &out)
	return out, err
}
