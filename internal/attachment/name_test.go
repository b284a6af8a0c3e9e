package attachment_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/attachment"
)

func TestNameAndType(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		disposition, contentType, own string
		body                          []byte
		filename, typ                 string
	}{
		"from the header":      {`attachment; filename="call.mp3"`, "audio/mpeg", "", wav, "call.mp3", "audio/mpeg"},
		"RFC 8187":             {`attachment; filename*=UTF-8''Gespr%C3%A4ch.mp3`, "audio/mpeg", "", wav, "Gespräch.mp3", "audio/mpeg"},
		"no name":              {"", "audio/mpeg", "", wav, "recording-r1.mp3", "audio/mpeg"},
		"broken name":          {`attachment; filename="`, "audio/ogg", "", wav, "recording-r1.ogg", "audio/ogg"},
		"a path":               {`attachment; filename="../../etc/passwd"`, "audio/mpeg", "", wav, "passwd", "audio/mpeg"},
		"a Windows path":       {`attachment; filename*=UTF-8''C%3A%5Ctemp%5Cx.wav`, "audio/mpeg", "", wav, "x.wav", "audio/mpeg"},
		"control characters":   {`attachment; filename*=UTF-8''a%0D%0AX%3A%00%E2%80%AEb.wav`, "audio/mpeg", "", wav, "aX:b.wav", "audio/mpeg"},
		"only dots":            {`attachment; filename=".."`, "audio/mpeg", "", wav, "recording-r1.mp3", "audio/mpeg"},
		"the client's name":    {`attachment; filename="call.mp3"`, "audio/mpeg", "mine.mp3", wav, "mine.mp3", "audio/mpeg"},
		"sniffed":              {"", "", "", wav, "recording-r1.wav", "audio/wave"},
		"sniffed over general": {"", "application/octet-stream", "", wav, "recording-r1.wav", "audio/wave"},
		"sniffed over broken":  {"", "wave", "", wav, "recording-r1.wav", "audio/wave"},
		"unknown":              {"", "audio/x-unheard-of", "", wav, "recording-r1.bin", "audio/x-unheard-of"},
		"with a parameter":     {"", "text/plain; charset=UTF-8", "", []byte("hi"), "recording-r1.txt", "text/plain; charset=UTF-8"},
		"short":                {"", "", "", []byte("hi"), "recording-r1.txt", "text/plain; charset=utf-8"},
		"a long name":          {`attachment; filename="` + strings.Repeat("n", 300) + `.wav"`, "audio/wav", "", wav, strings.Repeat("n", 251) + ".wav", "audio/wav"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{tc.contentType}
				if tc.disposition != "" {
					w.Header().Set("Content-Disposition", tc.disposition)
				}
				w.Write(tc.body)
			})
			a := ref("r1")
			a.Filename = tc.own
			got, err := recordings(t, attachment.RecordingOptions{URL: url + "/{customer_id}/{id}"}).Resolve(t.Context(), "c", a)
			require.NoError(t, err)
			require.Equal(t, tc.filename, got.Filename)
			require.Equal(t, tc.typ, got.Type)
			require.Equal(t, tc.body, got.Content)
		})
	}
}
