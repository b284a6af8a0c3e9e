package files_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/memtest"
)

// reading calls then once a number of bytes has been read, and passes its error on.
type reading struct {
	io.Reader
	after int
	then  func() error
}

func (r *reading) Read(p []byte) (int, error) {
	if r.after <= 0 {
		if err := r.then(); err != nil {
			return 0, err
		}
	}
	n, err := r.Reader.Read(p)
	r.after -= n
	return n, err
}

func (b *bench) requireNoBlob() {
	b.T.Helper()
	require.Zero(b.T, b.Count("SELECT count(*) FROM blobs"))
	require.Zero(b.T, b.Count("SELECT count(*) FROM blob_chunks"))
}

func TestAFileComesBackAsItWas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const chunk = 512 << 10
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3*chunk + 7} {
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(rand.IntN(256))
		}
		f := b.StoreFile(content)
		require.Equal(t, email.File{
			ID: f.ID, CustomerID: b.Customer, Filename: "report.pdf", Type: "application/pdf", Size: int64(size), SHA256: dbsetup.HexSum(content), CreatedAt: f.CreatedAt,
		}, f)
		require.WithinDuration(t, time.Now(), f.CreatedAt, time.Minute)
		got, body, err := b.Files.FileContent(b.Ctx, b.Customer, f.ID)
		require.NoError(t, err)
		require.Equal(t, f, got)
		back, err := io.ReadAll(body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, back), "%d bytes", size)
	}
	require.Zero(t, b.Count("SELECT count(*) FROM blobs WHERE expires_at IS NOT NULL"))
	require.Equal(t, 4, b.Count("SELECT max(seq) + 1 FROM blob_chunks"))
}

// io.ErrUnexpectedEOF is what net/http says of a connection that broke off.
func TestAnUploadThatBreaksOffLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, broken := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		content := &reading{Reader: bytes.NewReader(make([]byte, 2<<20)), after: 1 << 20, then: func() error {
			require.NotZero(t, b.Count("SELECT count(*) FROM blob_chunks"), "it is stored as it comes")
			require.Zero(t, b.Count("SELECT count(*) FROM files"))
			return broken
		}}
		_, err := b.Files.StoreFile(b.Ctx, b.Customer, dbsetup.PDF, content)
		require.ErrorIs(t, err, broken)
		b.requireNoBlob()
	}
}

// A process that was killed could not clear up.
func TestWhatAStoppedProcessLeftBehindGoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	kept := b.StoreFile([]byte("kept"))
	b.Exec(`INSERT INTO blobs (id, customer_id, size, sha256, created_at, expires_at) VALUES
		(?0, ?2, 0, repeat('0', 64), now(), now() - interval '1 second'), (?1, ?2, 0, repeat('0', 64), now(), now() + interval '1 minute')`,
		uuid.NewString(), uuid.NewString(), b.Customer)
	require.Equal(t, 3, b.Count("SELECT count(*) FROM blobs"))
	b.StoreFile([]byte("next"))
	require.Equal(t, 3, b.Count("SELECT count(*) FROM blobs"), "the expired one is gone, the one being written is not")
	_, err := b.Files.File(b.Ctx, b.Customer, kept.ID)
	require.NoError(t, err)
}

// One that took longer than it may has been taken away: it must not come back
// without its bytes.
func TestAnExpiredUploadIsNotKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	content := &reading{Reader: bytes.NewReader(make([]byte, 1<<20)), after: 600 << 10, then: func() error {
		b.Exec("DELETE FROM blobs")
		return nil
	}}
	_, err := b.Files.StoreFile(b.Ctx, b.Customer, dbsetup.PDF, content)
	require.Error(t, err)
	require.Zero(t, b.Count("SELECT count(*) FROM files"))
	b.requireNoBlob()
}

func TestFilesAreTheCustomersOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.StoreFile([]byte("mine"))
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	for _, id := range []string{f.ID, uuid.NewString()} {
		_, err = b.Files.File(b.Ctx, other.ID, id)
		require.Equal(t, email.CodeNotFound, email.FailureCode(err))
		_, _, err = b.Files.FileContent(b.Ctx, other.ID, id)
		require.Equal(t, email.CodeNotFound, email.FailureCode(err))
		_, err = b.Files.DeleteFile(b.Ctx, other.ID, id)
		require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	}
	deleted, err := b.Files.DeleteFile(b.Ctx, b.Customer, f.ID)
	require.NoError(t, err)
	require.Equal(t, f, deleted)
	_, err = b.Files.File(b.Ctx, b.Customer, f.ID)
	require.Equal(t, email.CodeNotFound, email.FailureCode(err))
	b.requireNoBlob()
}

// A reader that has begun says so when the file goes away under it.
func TestADeletedFileBreaksOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.StoreFile(make([]byte, 1<<20))
	_, body, err := b.Files.FileContent(b.Ctx, b.Customer, f.ID)
	require.NoError(t, err)
	_, err = io.ReadFull(body, make([]byte, 100))
	require.NoError(t, err)
	_, err = b.Files.DeleteFile(b.Ctx, b.Customer, f.ID)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, body)
	require.Error(t, err)
}

// measured makes bytes and notes, at each MiB, how much is held.
type measured struct {
	left int64
	next int64
	peak int64
}

func (m *measured) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	if m.left <= m.next {
		m.peak, m.next = max(m.peak, memtest.Live()), m.left-1<<20
	}
	n := int(min(int64(len(p)), m.left))
	for i := range p[:n] {
		p[i] = byte(i)
	}
	m.left -= int64(n)
	return n, nil
}

// Not parallel: other tests' memory would count.
func TestAFileIsNeverInMemoryWhole(t *testing.T) {
	b := setup(t)
	const size, bound = 25 << 20, 8 << 20
	before := memtest.Live()
	source := &measured{left: size, next: size}
	f, err := b.Files.StoreFile(b.Ctx, b.Customer, dbsetup.PDF, source)
	require.NoError(t, err)
	require.Equal(t, int64(size), f.Size)
	require.Less(t, source.peak-before, int64(bound), "while it is stored")

	_, body, err := b.Files.FileContent(b.Ctx, b.Customer, f.ID)
	require.NoError(t, err)
	digest, peak := sha256.New(), int64(0)
	for n := int64(1); n > 0; {
		n, err = io.CopyN(digest, body, 1<<20)
		if !errors.Is(err, io.EOF) {
			require.NoError(t, err)
		}
		peak = max(peak, memtest.Live())
	}
	require.Equal(t, f.SHA256, hex.EncodeToString(digest.Sum(nil)))
	require.Less(t, peak-before, int64(bound), "while it is read")
	t.Logf("stored with %d KiB, read with %d KiB", (source.peak-before)>>10, (peak-before)>>10)
}

func TestAnEmailSharesTheFilesBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.StoreFile([]byte("%PDF-1.4"))
	m := dbsetup.Message("bob@x.test")
	renamed := dbsetup.Reference(f)
	renamed.Filename, renamed.Type, renamed.ContentID = "r.bin", "application/octet-stream", "r"
	m.Attachments = []email.Attachment{dbsetup.Reference(f), renamed}
	e := b.Accept(m)
	require.Equal(t, dbsetup.Untimed(e), dbsetup.Untimed(b.Get(e.ID)))
	one, two := e.Attachments[0], e.Attachments[1]
	require.Equal(t, email.Attachment{
		ID: one.ID, ReferenceType: email.ReferenceFile, ReferenceID: f.ID, Filename: "report.pdf", Type: "application/pdf", BlobID: one.BlobID, Size: 8, SHA256: f.SHA256,
	}, one)
	require.Equal(t, []string{"r.bin", "application/octet-stream", "r", one.BlobID}, []string{two.Filename, two.Type, two.ContentID, two.BlobID})
	require.Equal(t, 1, b.Count("SELECT count(*) FROM blobs"))
	plan, err := b.Mail.Plan(b.Ctx, e.ID)
	require.NoError(t, err)
	require.Empty(t, plan.Unresolved)
	require.Equal(t, int64(len(m.Text)+16), plan.Route.Bytes, "what decides how it is sent")

	// Deleted, it can still be sent, and sent again.
	_, err = b.Files.DeleteFile(b.Ctx, b.Customer, f.ID)
	require.NoError(t, err)
	require.NoError(t, b.Control(e.ID, email.ActionCancel))
	again, _, err := b.Mail.Resend(b.Ctx, b.Customer, e.ID, uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM blobs"))
	for _, id := range []string{e.ID, again.ID} {
		back, err := b.Mail.Message(b.Ctx, id)
		require.NoError(t, err)
		require.Equal(t, "%PDF-1.4", string(back.Attachments[0].Content))
		require.Equal(t, "%PDF-1.4", string(back.Attachments[1].Content))
	}
	_, _, err = b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
	require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), "a new one cannot have it any more")
}

func TestFilesThatCannotBeAttached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	theirs, err := b.Files.StoreFile(b.Ctx, other.ID, dbsetup.PDF, bytes.NewReader(nil))
	require.NoError(t, err)
	// As it is where the list has grown since the upload.
	program, err := b.Files.StoreFile(b.Ctx, b.Customer, email.File{Filename: "a.exe", Type: "text/plain"}, bytes.NewReader(nil))
	require.NoError(t, err)
	m := dbsetup.Message("bob@x.test")
	m.Attachments = []email.Attachment{dbsetup.Reference(theirs), {Filename: "a.txt", Content: []byte("x")}, dbsetup.Reference(email.File{ID: uuid.NewString()}), dbsetup.Reference(program)}
	_, _, err = b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, email.CodeInvalidRequest, f.Code)
	var got []string
	for _, field := range f.Fields {
		got = append(got, field.Pointer+" "+field.Code)
	}
	require.Equal(t, []string{"/attachments/0/reference_id not_found", "/attachments/2/reference_id not_found", "/attachments/3/reference_id attachment_blocked"}, got)
	require.Zero(t, b.Count("SELECT count(*) FROM emails"))
}

func TestFilesCountAgainstTheMessagesLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.StoreFile(make([]byte, 10<<20))
	m := dbsetup.Message("bob@x.test")
	m.Attachments = []email.Attachment{dbsetup.Reference(f), dbsetup.Reference(f)}
	b.Accept(m)
	m.Attachments = append(m.Attachments, dbsetup.Reference(f))
	_, _, err := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
	require.Equal(t, email.CodeTooLarge, email.FailureCode(err))
	require.ErrorContains(t, err, "31457282 bytes together, the limit is 26214400")
}

// In either order: no e-mail is accepted whose bytes are gone.
func TestAcceptingAndDeletingAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 10 {
		f := b.StoreFile([]byte("x"))
		m := dbsetup.Message("bob@x.test")
		m.Attachments = []email.Attachment{dbsetup.Reference(f)}
		accepted := make(chan error)
		go func() {
			_, _, err := b.Mail.Accept(b.Ctx, b.Customer, m, uuid.NewString(), email.Idempotency{})
			accepted <- err
		}()
		_, err := b.Files.DeleteFile(b.Ctx, b.Customer, f.ID)
		require.NoError(t, err)
		if err := <-accepted; err != nil {
			require.Equal(t, email.CodeInvalidRequest, email.FailureCode(err), "%v", err)
		}
	}
	require.Equal(t, b.Count("SELECT count(*) FROM emails"), b.Count("SELECT count(*) FROM attachments JOIN blob_chunks USING (blob_id)"))
}
