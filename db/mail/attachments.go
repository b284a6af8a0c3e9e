package mail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// attachFiles gives references to files what the files have: the bytes, and name
// and type where the message has none of its own. The files cannot be deleted
// until the transaction ends.
func (c *unitOfWork) attachFiles(customerID string, m email.Message) ([]email.Attachment, error) {
	var ids []string
	for _, a := range m.Attachments {
		if refersToFile(a) {
			ids = append(ids, a.ReferenceID)
		}
	}
	if len(ids) == 0 {
		return m.Attachments, nil
	}
	found, err := files.Lock(c.ctx, c.tx, customerID, ids)
	if err != nil {
		return nil, err
	}
	m.Attachments = slices.Clone(m.Attachments)
	refusal := email.Fail(email.CodeInvalidRequest, "the request is not valid; errors says where and why")
	for i := range m.Attachments {
		a := &m.Attachments[i]
		if !refersToFile(*a) {
			continue
		}
		pointer := fmt.Sprintf("/attachments/%d/reference_id", i)
		f, known := found[a.ReferenceID]
		if !known {
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

// StoreAttachment keeps what a reference was resolved to: content, read to its
// end, with name and type; or, for an optional one that cannot be had, its Problem,
// and then content is nil. It answers with the attachment as it is stored. Storing
// it again changes nothing. An error of content comes back in the chain.
func (s *Store) StoreAttachment(ctx context.Context, customerID string, a email.Attachment, content io.Reader) (email.Attachment, error) {
	if a.Problem != "" {
		return s.attach(ctx, a, nil)
	}
	blob, err := s.files.Stage(ctx, customerID, content)
	if err != nil {
		return a, err
	}
	out, err := s.attach(ctx, a, blob)
	if err != nil || out.BlobID != blob.ID {
		err = errors.Join(err, s.files.Discard(ctx, blob))
	}
	return out, err
}

// attach writes what became of an attachment, unless another has.
func (s *Store) attach(ctx context.Context, a email.Attachment, blob *files.Blob) (email.Attachment, error) {
	var row attachmentRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		// The e-mail first, as everywhere: its size is to change.
		var emailID string
		err := tx.NewRaw("SELECT e.id FROM emails AS e WHERE e.id = (SELECT email_id FROM attachments WHERE id = ?) FOR UPDATE", a.ID).Scan(ctx, &emailID)
		if err != nil {
			return fmt.Errorf("lock the e-mail of attachment %s: %w", a.ID, err)
		}
		if err := tx.NewSelect().Model(&row).Where("at.id = ?", a.ID).Scan(ctx); err != nil {
			return fmt.Errorf("read attachment %s: %w", a.ID, err)
		}
		if row.BlobID != "" || row.Problem != "" {
			return nil
		}
		if row.Problem = pg.CleanText(a.Problem); blob != nil {
			if err := files.Keep(ctx, tx, blob); err != nil {
				return err
			}
			row.BlobID, row.Size, row.SHA256 = blob.ID, blob.Size, blob.SHA256
			row.Filename, row.Type = a.Filename, a.Type
			if _, err := tx.NewRaw("UPDATE emails SET size_bytes = size_bytes + ? WHERE id = ?", row.Size, emailID).Exec(ctx); err != nil {
				return fmt.Errorf("update the e-mail's size: %w", err)
			}
		}
		if _, err := tx.NewUpdate().Model(&row).WherePK().Column("blob_id", "size", "sha256", "filename", "type", "problem").Exec(ctx); err != nil {
			return fmt.Errorf("update attachment %s: %w", a.ID, err)
		}
		return nil
	})
	return row.attachment(), err
}
