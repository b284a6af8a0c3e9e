package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
)

type fileRow struct {
	bun.BaseModel `bun:"table:files,alias:f"`

	ID         string    `bun:"id,pk,type:uuid"`
	CustomerID string    `bun:"customer_id,type:uuid"`
	BlobID     string    `bun:"blob_id,type:uuid"`
	Filename   string    `bun:"filename"`
	Type       string    `bun:"type"`
	Size       int64     `bun:"size"`
	SHA256     string    `bun:"sha256"`
	CreatedAt  time.Time `bun:"created_at"`
}

func (r *fileRow) file() email.File {
	return email.File{
		ID: r.ID, CustomerID: r.CustomerID, Filename: r.Filename, Type: r.Type, Size: r.Size, SHA256: r.SHA256, CreatedAt: utc(r.CreatedAt),
	}
}

// StoreFile keeps a customer's file, of which only name and type are taken: size
// and digest are those of content, read to its end. An error of content
// comes back in the chain, and leaves nothing behind.
func (s *Store) StoreFile(ctx context.Context, customerID string, f email.File, content io.Reader) (email.File, error) {
	blob, err := s.stage(ctx, customerID, content)
	if err != nil {
		return email.File{}, err
	}
	row := &fileRow{ID: newID(), CustomerID: customerID, BlobID: blob.ID, Filename: f.Filename, Type: f.Type, Size: blob.Size, SHA256: blob.SHA256}
	err = s.inTx(ctx, func(tx bun.Tx) error {
		if err := keep(ctx, tx, blob); err != nil {
			return err
		}
		row.CreatedAt = blob.CreatedAt
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return fmt.Errorf("insert file: %w", err)
		}
		return nil
	})
	if err != nil {
		return email.File{}, errors.Join(err, s.discard(ctx, blob))
	}
	return row.file(), nil
}

// Files lists a customer's uploaded files, newest first.
func (s *Store) Files(ctx context.Context, customerID string, after email.Cursor, limit int) (out []email.File, next *email.Cursor, err error) {
	var rows []*fileRow
	q := s.db.NewSelect().Model(&rows).Where("f.customer_id = ?", customerID).Apply(newestFirst("f", "created_at", after, limit))
	if err := q.Scan(ctx); err != nil {
		return nil, nil, translate(err)
	}
	rows, next = page(rows, limit, func(r *fileRow) (time.Time, string) { return r.CreatedAt, r.ID })
	for _, r := range rows {
		out = append(out, r.file())
	}
	return out, next, nil
}

// File reads what is known of a customer's file.
func (s *Store) File(ctx context.Context, customerID, id string) (email.File, error) {
	row, err := s.fileRow(ctx, customerID, id)
	if err != nil {
		return email.File{}, err
	}
	return row.file(), nil
}

// FileContent gives a customer's file with its bytes, which are read as the reader
// is. A file that is deleted meanwhile breaks off with an error.
func (s *Store) FileContent(ctx context.Context, customerID, id string) (email.File, io.Reader, error) {
	row, err := s.fileRow(ctx, customerID, id)
	if err != nil {
		return email.File{}, nil, err
	}
	return row.file(), &blobReader{ctx: ctx, db: s.db, id: row.BlobID, left: row.Size}, nil
}

func (s *Store) fileRow(ctx context.Context, customerID, id string) (*fileRow, error) {
	var row fileRow
	err := s.db.NewSelect().Model(&row).Where("f.id = ?", id).Where("f.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("file")
	}
	if err != nil {
		return nil, translate(err)
	}
	return &row, nil
}

// DeleteFile takes a customer's file away. Its bytes stay as long as an e-mail
// refers to them.
func (s *Store) DeleteFile(ctx context.Context, customerID, id string) (email.File, error) {
	var row fileRow
	err := s.inTx(ctx, func(tx bun.Tx) error {
		// This waits for whoever is accepting an e-mail with the file.
		err := tx.NewDelete().Model(&row).Where("f.id = ?", id).Where("f.customer_id = ?", customerID).Returning("*").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("file")
		}
		if err != nil {
			return fmt.Errorf("delete file: %w", err)
		}
		_, err = tx.NewRaw("DELETE FROM blobs AS b WHERE b.id = ? AND NOT EXISTS (SELECT 1 FROM attachments AS at WHERE at.blob_id = b.id)", row.BlobID).Exec(ctx)
		if err != nil {
			return fmt.Errorf("delete blob: %w", err)
		}
		return nil
	})
	if err != nil {
		return email.File{}, err
	}
	return row.file(), nil
}

// attachFiles gives references to files what the files have: the bytes, and name
// and type where the message has none of its own. The files cannot be deleted
// until the transaction ends.
func (c *change) attachFiles(customerID string, m email.Message) ([]email.Attachment, error) {
	var ids []string
	for _, a := range m.Attachments {
		if refersToFile(a) {
			ids = append(ids, a.ReferenceID)
		}
	}
	if len(ids) == 0 {
		return m.Attachments, nil
	}
	var rows []*fileRow
	err := c.tx.NewSelect().Model(&rows).Where("f.id IN (?)", bun.List(ids)).Where("f.customer_id = ?", customerID).Order("f.id").For("SHARE").Scan(c.ctx)
	if err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	files := make(map[string]*fileRow, len(rows))
	for _, r := range rows {
		files[r.ID] = r
	}
	m.Attachments = slices.Clone(m.Attachments)
	refusal := email.Fail(email.CodeInvalidRequest, "the request is not valid; errors says where and why")
	for i := range m.Attachments {
		a := &m.Attachments[i]
		if !refersToFile(*a) {
			continue
		}
		pointer := fmt.Sprintf("/attachments/%d/reference_id", i)
		f := files[a.ReferenceID]
		if f == nil {
			refusal.Fields = append(refusal.Fields, email.FieldError{Pointer: pointer, Code: string(email.CodeNotFound),
				Detail: "there is no such file: upload it with POST /v1.0/files, and give the id in the answer"})
			continue
		}
		a.BlobID, a.Size, a.SHA256 = f.BlobID, f.Size, f.SHA256
		if a.Filename == "" {
			a.Filename = f.Filename
		}
		if a.Type == "" {
			a.Type = f.Type
		}
		// It was checked when it was uploaded, perhaps against another list.
		if why := c.s.opts.Blocked.Name(a.Filename); why != "" {
			refusal.Fields = append(refusal.Fields, email.FieldError{Pointer: pointer, Code: string(email.CodeBlocked), Detail: why + ": put the file where it can be downloaded, and send the link"})
		}
	}
	if len(refusal.Fields) > 0 {
		return nil, refusal
	}
	if size := m.Size(); size > c.s.opts.MaxMessageBytes {
		f := email.Fail(email.CodeTooLarge, "text, HTML and attachments have %d bytes together, the limit is %d: put large files where they can be downloaded, and send the links", size, c.s.opts.MaxMessageBytes)
		f.Fields = []email.FieldError{{Pointer: "/attachments", Code: string(f.Code), Detail: f.Detail}}
		return nil, f
	}
	return m.Attachments, nil
}

// refersToFile tells a file from content, which has no reference yet, and from
// what is sent again.
func refersToFile(a email.Attachment) bool {
	return a.ReferenceType == email.ReferenceFile && a.Content == nil && a.BlobID == ""
}
