package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
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
