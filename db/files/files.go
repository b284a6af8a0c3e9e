// Package files keeps bytes in Postgres: files that customers have uploaded, and blobs, the
// stored bytes that files, attachments and received messages refer to.
package files

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// Store has the uploaded files. It is safe for concurrent use.
type Store struct{ db *pg.DB }

// New returns the files of a database.
func New(db *pg.DB) *Store { return &Store{db} }

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

func (r *fileRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

func (r *fileRow) file() email.File {
	return email.File{
		ID: r.ID, CustomerID: r.CustomerID, Filename: r.Filename, Type: r.Type, Size: r.Size, SHA256: r.SHA256, CreatedAt: pg.UTC(r.CreatedAt),
	}
}

// StoreFile stores a customer's file, of which only name and type are taken: size and digest are
// those of content, read to its end. An error of content comes back in the chain, and no file is
// stored.
func (s *Store) StoreFile(ctx context.Context, customerID string, f email.File, content io.Reader) (email.File, error) {
	blob, err := s.Stage(ctx, customerID, content)
	if err != nil {
		return email.File{}, err
	}
	row := &fileRow{ID: pg.NewID(), CustomerID: customerID, BlobID: blob.ID, Filename: f.Filename, Type: f.Type, Size: blob.Size, SHA256: blob.SHA256}
	err = s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := Keep(ctx, tx, blob); err != nil {
			return err
		}
		row.CreatedAt = blob.CreatedAt
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return fmt.Errorf("insert file: %w", err)
		}
		return nil
	})
	if err != nil {
		return email.File{}, errors.Join(err, s.Discard(ctx, blob))
	}
	return row.file(), nil
}

// Files lists a customer's uploaded files, newest first.
func (s *Store) Files(ctx context.Context, customerID string, after email.Cursor, limit int) (out []email.File, next *email.Cursor, err error) {
	q := s.db.NewSelect().Where("f.customer_id = ?", customerID)
	return pg.List(ctx, q, "f", "created_at", after, limit, (*fileRow).cursor, (*fileRow).file)
}

// File reads the description of a customer's file. A file that the customer does not have is a
// CodeNotFound.
func (s *Store) File(ctx context.Context, customerID, id string) (email.File, error) {
	row, err := s.fileRow(ctx, customerID, id)
	if err != nil {
		return email.File{}, err
	}
	return row.file(), nil
}

// FileContent gives a customer's file with its bytes, which are read from Postgres as the reader is
// read. The reader fails if the file is deleted meanwhile. A file that the customer does not have
// is a CodeNotFound.
func (s *Store) FileContent(ctx context.Context, customerID, id string) (email.File, io.Reader, error) {
	row, err := s.fileRow(ctx, customerID, id)
	if err != nil {
		return email.File{}, nil, err
	}
	return row.file(), NewReader(ctx, s.db, row.BlobID, row.Size), nil
}

func (s *Store) fileRow(ctx context.Context, customerID, id string) (*fileRow, error) {
	var row fileRow
	err := s.db.NewSelect().Model(&row).Where("f.id = ?", id).Where("f.customer_id = ?", customerID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, pg.NotFound("file")
	}
	if err != nil {
		return nil, pg.Translate(err)
	}
	return &row, nil
}

// DeleteFile deletes a customer's file. Its bytes stay as long as an e-mail refers to them. A file
// that the customer does not have is a CodeNotFound.
func (s *Store) DeleteFile(ctx context.Context, customerID, id string) (email.File, error) {
	var row fileRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		// This waits for a transaction that accepts an e-mail with the file.
		err := tx.NewDelete().Model(&row).Where("f.id = ?", id).Where("f.customer_id = ?", customerID).Returning("*").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("file")
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

// Stored is a file and where its bytes are.
type Stored struct {
	email.File
	BlobID string
}

// Lock reads those of a customer's files that have one of the ids, by id. They cannot be
// deleted until the transaction ends.
func Lock(ctx context.Context, tx bun.IDB, customerID string, ids []string) (map[string]Stored, error) {
	var rows []*fileRow
	err := tx.NewSelect().Model(&rows).Where("f.id IN (?)", bun.List(ids)).Where("f.customer_id = ?", customerID).Order("f.id").For("SHARE").Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	out := make(map[string]Stored, len(rows))
	for _, r := range rows {
		out[r.ID] = Stored{r.file(), r.BlobID}
	}
	return out, nil
}
