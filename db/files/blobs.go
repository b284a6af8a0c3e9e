package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/postrider/postrider/db/internal/pg"
)

type Blob struct {
	bun.BaseModel `bun:"table:blobs,alias:b"`

	ID         string    `bun:"id,pk,type:uuid"`
	CustomerID string    `bun:"customer_id,type:uuid"`
	Size       int64     `bun:"size"`
	SHA256     string    `bun:"sha256"`
	CreatedAt  time.Time `bun:"created_at"`
	ExpiresAt  time.Time `bun:"expires_at,nullzero"`
}

type chunkRow struct {
	bun.BaseModel `bun:"table:blob_chunks,alias:bc"`

	BlobID string `bun:"blob_id,pk,type:uuid"`
	Seq    int    `bun:"seq,pk"`
	Data   []byte `bun:"data"`
}

// chunkBytes is the size of a stored chunk: the driver sends bytes as hex text
// and would hold a large attachment four times over.
const chunkBytes = 512 << 10

// StoreBlob keeps bytes that are in memory.
func StoreBlob(ctx context.Context, tx bun.IDB, customerID string, data []byte, now time.Time) (*Blob, error) {
	sum := sha256.Sum256(data)
	blob := &Blob{ID: pg.NewID(), CustomerID: customerID, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), CreatedAt: now}
	if _, err := tx.NewInsert().Model(blob).Exec(ctx); err != nil {
		return nil, fmt.Errorf("insert blob: %w", err)
	}
	for seq := 0; len(data) > 0; seq++ {
		n := min(chunkBytes, len(data))
		if err := storeChunk(ctx, tx, blob.ID, seq, data[:n]); err != nil {
			return nil, err
		}
		data = data[n:]
	}
	return blob, nil
}

// storeChunk inserts one chunk. It goes into the statement as it is: the driver would
// make a copy first that is twice its size.
func storeChunk(ctx context.Context, db bun.IDB, blobID string, seq int, data []byte) error {
	if _, err := db.NewRaw("INSERT INTO blob_chunks (blob_id, seq, data) VALUES (?, ?, ?)", blobID, seq, hexBytes(data)).Exec(ctx); err != nil {
		return fmt.Errorf("insert chunk %d: %w", seq, err)
	}
	return nil
}

// hexBytes is a bytea in a statement.
type hexBytes []byte

// AppendQuery implements schema.QueryAppender.
func (h hexBytes) AppendQuery(_ schema.QueryGen, b []byte) ([]byte, error) {
	b = append(b, `'\x`...)
	b = hex.AppendEncode(b, h)
	return append(b, `'::bytea`...), nil
}

// stageLife is how long a stream may take to arrive. Callers bound a stream to minutes.
const stageLife = time.Hour

// Stage writes a stream as a blob of its own, a chunk and a transaction at a time: a slow source
// holds neither a connection nor memory. The blob expires unless Keep takes it. The next Stage
// deletes blobs that a stopped process has left behind. An error of content comes back in the
// chain, untranslated, and the blob is deleted.
func (s *Store) Stage(ctx context.Context, customerID string, content io.Reader) (*Blob, error) {
	if _, err := s.db.NewRaw("DELETE FROM blobs WHERE expires_at < now()").Exec(ctx); err != nil {
		return nil, pg.Translate(fmt.Errorf("delete expired blobs: %w", err))
	}
	blob := &Blob{ID: pg.NewID(), CustomerID: customerID, SHA256: strings.Repeat("0", 2*sha256.Size)}
	_, err := s.db.NewRaw("INSERT INTO blobs (id, customer_id, size, sha256, created_at, expires_at) VALUES (?, ?, 0, ?, now(), now() + ? * interval '1 second')",
		blob.ID, blob.CustomerID, blob.SHA256, stageLife.Seconds()).Exec(ctx)
	if err != nil {
		return nil, pg.Translate(fmt.Errorf("insert blob: %w", err))
	}
	if err := s.fill(ctx, blob, content); err != nil {
		return nil, errors.Join(err, s.Discard(ctx, blob))
	}
	return blob, nil
}

// fill reads content to its end and sets the blob's size and digest.
func (s *Store) fill(ctx context.Context, blob *Blob, content io.Reader) error {
	digest, buf := sha256.New(), make([]byte, chunkBytes)
	for seq, end := 0, false; !end; seq++ {
		var n int
		var err error
		if n, end, err = readFull(content, buf); err != nil {
			return err
		}
		if n == 0 {
			break
		}
		digest.Write(buf[:n]) // hash.Hash never fails
		if err := storeChunk(ctx, s.db, blob.ID, seq, buf[:n]); err != nil {
			return pg.Translate(err)
		}
		blob.Size += int64(n)
	}
	blob.SHA256 = hex.EncodeToString(digest.Sum(nil))
	return nil
}

// readFull reads until p is full or r is at its end. To io.ReadFull the end of a
// file and a connection that broke off (io.ErrUnexpectedEOF) look the same.
func readFull(r io.Reader, p []byte) (n int, end bool, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// Keep makes a staged blob permanent, in the transaction that stores a reference to it.
func Keep(ctx context.Context, tx bun.Tx, blob *Blob) error {
	err := tx.NewRaw("UPDATE blobs SET size = ?, sha256 = ?, expires_at = NULL WHERE id = ? AND expires_at IS NOT NULL RETURNING created_at",
		blob.Size, blob.SHA256, blob.ID).Scan(ctx, &blob.CreatedAt)
	if err != nil {
		return fmt.Errorf("keep blob %s: %w", blob.ID, err)
	}
	return nil
}

// discardTimeout bounds clearing up after what has failed already.
const discardTimeout = 10 * time.Second

// Discard deletes a staged blob, also after the end of ctx. A blob that was kept meanwhile stays.
func (s *Store) Discard(ctx context.Context, blob *Blob) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if _, err := s.db.NewRaw("DELETE FROM blobs WHERE id = ? AND expires_at IS NOT NULL", blob.ID).Exec(ctx); err != nil {
		return pg.Translate(fmt.Errorf("discard blob %s: %w", blob.ID, err))
	}
	return nil
}

// ReadBlob reads stored bytes whole and checks that all are there.
func ReadBlob(ctx context.Context, db bun.IDB, id string, size int64) ([]byte, error) {
	data := make([]byte, 0, size)
	for seq := 0; int64(len(data)) < size; seq++ {
		chunk, err := readChunk(ctx, db, id, seq)
		if err != nil {
			return nil, err
		}
		data = append(data, chunk...)
	}
	if int64(len(data)) != size {
		return nil, fmt.Errorf("blob %s: %d bytes, expected %d", id, len(data), size)
	}
	return data, nil
}

func readChunk(ctx context.Context, db bun.IDB, id string, seq int) ([]byte, error) {
	var chunk chunkRow
	if err := db.NewSelect().Model(&chunk).Where("bc.blob_id = ?", id).Where("bc.seq = ?", seq).Scan(ctx); err != nil {
		return nil, fmt.Errorf("read chunk %d of blob %s: %w", seq, id, err)
	}
	return chunk.Data, nil
}

// NewReader reads a blob of so many bytes, a chunk at a time.
func NewReader(ctx context.Context, db bun.IDB, id string, size int64) io.Reader {
	return &blobReader{ctx: ctx, db: db, id: id, left: size}
}

// blobReader reads stored bytes a chunk at a time.
type blobReader struct {
	ctx  context.Context
	db   bun.IDB
	id   string
	seq  int
	left int64
	data []byte
}

func (r *blobReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		data, err := readChunk(r.ctx, r.db, r.id, r.seq)
		if err != nil {
			return 0, pg.Translate(err)
		}
		r.seq, r.left, r.data = r.seq+1, r.left-int64(len(data)), data
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}
