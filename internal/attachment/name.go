package attachment

import (
	"mime"
	"net/http"
	"strings"
	"unicode"

	"github.com/postrider/postrider/internal/plaintext"
)

// maxFilenameBytes is what file systems take.
const maxFilenameBytes = 255

// maxTypeBytes bounds a media type; no registered one is longer.
const maxTypeBytes = 255

const octetStream = "application/octet-stream"

// extensions of the types that recordings and downloads have. The system's own
// table differs from machine to machine.
var extensions = map[string]string{
	"audio/wav": ".wav", "audio/x-wav": ".wav", "audio/wave": ".wav", "audio/vnd.wave": ".wav",
	"audio/mpeg": ".mp3", "audio/mp3": ".mp3", "audio/ogg": ".ogg", "audio/opus": ".opus", "application/ogg": ".ogg",
	"audio/mp4": ".m4a", "audio/x-m4a": ".m4a", "audio/aac": ".aac", "audio/flac": ".flac", "audio/amr": ".amr",
	"audio/basic": ".au", "audio/aiff": ".aiff", "audio/webm": ".webm", "video/webm": ".webm", "video/mp4": ".mp4",
	"application/zip": ".zip", "application/json": ".json", "text/plain": ".txt", "application/pdf": ".pdf",
	"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp", "image/svg+xml": ".svg",
	"text/html": ".html", "text/csv": ".csv", "text/calendar": ".ics", "text/xml": ".xml", "application/xml": ".xml",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":       ".xlsx",
}

// extension is that of a media type, ".bin" if it is not known.
func extension(mediaType string) string {
	base, _, _ := strings.Cut(mediaType, ";")
	if ext, ok := extensions[strings.TrimSpace(strings.ToLower(base))]; ok {
		return ext
	}
	return ".bin"
}

// typeOf is the media type that a source names, or what the content looks like
// where it names none, a broken or the general one. Multiparts, and messages other than
// message/rfc822, may not be in base64 (RFC 2045 section 6.4): they go as bytes of no known
// type.
func typeOf(header string, head []byte) string {
	base, params, err := mime.ParseMediaType(header)
	if strings.HasPrefix(base, "multipart/") || strings.HasPrefix(base, "message/") && base != "message/rfc822" {
		return octetStream
	}
	if err == nil && base != octetStream && strings.Contains(base, "/") {
		if t := mime.FormatMediaType(base, params); t != "" && len(t) <= maxTypeBytes {
			return t
		}
	}
	return http.DetectContentType(head)
}

// nameOf is the file name in a Content-Disposition header (RFC 6266), made
// safe; empty if there is none.
func nameOf(header string) string {
	_, params, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	return safeName(params["filename"])
}

// safeName is the last element of a path without anything that a header, a
// shell or a file system could trip over; empty if nothing is left.
func safeName(s string) string {
	s = strings.ToValidUTF8(s, "")
	if i := strings.LastIndexAny(s, `/\`); i >= 0 {
		s = s[i+1:]
	}
	s = strings.Map(func(r rune) rune {
		// Cf holds the marks that turn text around: "gpj.exe" shown as "exe.jpg".
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return -1
		}
		return r
	}, s)
	s = strings.Trim(s, " .")
	if len(s) <= maxFilenameBytes {
		return s
	}
	ext := ""
	if i := strings.LastIndexByte(s, '.'); i >= 0 && len(s)-i <= 16 {
		ext = s[i:]
	}
	return plaintext.Cut(s, maxFilenameBytes-len(ext)) + ext
}
