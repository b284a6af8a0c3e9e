package render_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/jhillyerd/enmime/v2"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/render"
)

func TestAPreviewKnowsTheFullSize(t *testing.T) {
	t.Parallel()
	const limit = 60
	for _, n := range []int{0, 1, 2, 3, 56, 57, 58, limit, limit + 1, 113, 114, 115, 171, 1000, 300_000} {
		for _, contentID := range []string{"", "logo"} {
			m := basic()
			m.Attachments = []email.Attachment{
				{Filename: "small.txt", Type: "text/plain", Content: []byte("hi")},
				{Filename: "a.bin", Type: "application/octet-stream", ContentID: contentID, Content: bytes.Repeat([]byte{7}, n)},
			}
			full := rendered(t, m)
			stored := m
			stored.Attachments = []email.Attachment{m.Attachments[0], m.Attachments[1]}
			a := &stored.Attachments[1]
			a.Content, a.BlobID, a.Size = nil, "01890a5d-ac96-774b-bcce-b302099a8058", int64(n)
			unread, err := render.MakePreview(stored, composition, limit)
			require.NoError(t, err)
			require.Equal(t, int64(len(full)), unread.SizeBytes, "the size of what is stored is known")
			require.Equal(t, []int{1}, unread.Shortened)
			got, err := render.MakePreview(m, composition, limit)
			require.NoError(t, err)
			require.Equal(t, int64(len(full)), got.SizeBytes, "%d bytes", n)
			require.Contains(t, string(got.Source), "aGk=", "what is small is there")
			if n <= limit {
				require.Equal(t, string(full), string(got.Source))
				require.Empty(t, got.Shortened)
				continue
			}
			require.Equal(t, []int{1}, got.Shortened)
			require.Contains(t, string(got.Source), fmt.Sprintf("\r\n\r\n[%d bytes in base64 are left out of this preview]\r\n--", n))
			require.NotContains(t, string(got.Source), "BwcHBwcH")
		}
	}
}

func TestAPreviewLeavesOpenWhatIsNotFetched(t *testing.T) {
	t.Parallel()
	m := basic()
	m.Attachments = []email.Attachment{{ReferenceType: email.ReferenceRecording, ReferenceID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411", Filename: "call.wav"}}
	_, err := render.Render(m, composition)
	require.ErrorIs(t, err, render.ErrUnresolved)
	got, err := render.MakePreview(m, composition, 4096)
	require.NoError(t, err)
	require.Equal(t, []int{0}, got.Shortened)
	require.Contains(t, string(got.Source), "[what this recording holds is fetched when the e-mail is due]")
	require.Equal(t, int64(len(got.Source)), got.SizeBytes)
	env, err := enmime.ReadEnvelope(bytes.NewReader(got.Source))
	require.NoError(t, err)
	require.Equal(t, "call.wav", env.Attachments[0].FileName)
	wellFormed(t, got.Source)
}

func TestAPreviewIsRefusedAsTheMessageWouldBe(t *testing.T) {
	t.Parallel()
	m := basic()
	m.Headers = []email.Header{{Name: "X-A", Value: strings.Repeat("a\r\nb", 2)}}
	_, err := render.MakePreview(m, composition, 1)
	require.ErrorIs(t, err, render.ErrUnsafe)
}
