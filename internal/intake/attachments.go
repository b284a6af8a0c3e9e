package intake

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
)

const maxFilename = 255

var contentID = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,128}$`)

func (c *checker) attachments(as []attachment) []email.Attachment {
	if len(as) > maxAttachments {
		c.refuse("/attachments", "too_many", "there are %d attachments, the limit is %d", len(as), maxAttachments)
		return nil
	}
	seen := map[string]bool{}
	var out []email.Attachment
	for i, a := range as {
		pointer := fmt.Sprintf("/attachments/%d", i)
		got, ok := c.attachment(pointer, a)
		if !ok {
			continue
		}
		if got.ContentID != "" && seen[got.ContentID] {
			c.refuse(pointer+"/content_id", "named_twice", "another attachment has this content_id")
		}
		seen[got.ContentID] = true
		out = append(out, got)
	}
	return out
}

func (c *checker) attachment(pointer string, a attachment) (email.Attachment, bool) {
	out := email.Attachment{Optional: a.Optional, ContentID: strings.Trim(text(a.ContentID), "<>")}
	before := len(c.fields)
	if out.ContentID != "" && !contentID.MatchString(out.ContentID) {
		c.refuse(pointer+"/content_id", "invalid", "a content_id has 1 to 128 of the characters A-Z a-z 0-9 . _ @ + -")
	}
	out.Filename = c.filename(pointer, text(a.Filename))
	switch reference := text(a.ReferenceType); {
	case reference != "" && a.Content != nil:
		c.refuse(pointer, "named_twice", "the attachment has content and a reference; give one of them")
	case reference == string(email.ReferenceRecording):
		out.ReferenceType = email.ReferenceRecording
		out.ReferenceID = c.reference(pointer, text(a.ReferenceID))
	case reference != "":
		c.refuse(pointer+"/reference_type", "unsupported", `the type of a reference is "recording"`)
	case a.Content == nil:
		c.refuse(pointer+"/content", "missing", "give the content in base64, or a reference")
	case out.Filename == "" && len(c.fields) == before:
		c.refuse(pointer+"/filename", "missing", "give the file a name")
	default:
		out.Content = *a.Content
		if out.Content == nil {
			out.Content = []byte{}
		}
		out.Type = c.mediaType(pointer, text(a.Type), out)
		c.blocked(pointer, out)
	}
	return out, len(c.fields) == before
}

func (c *checker) reference(pointer, id string) string {
	u, err := uuid.Parse(id)
	if err != nil {
		c.refuse(pointer+"/reference_id", "invalid", "give the recording's id, a UUID")
		return ""
	}
	return u.String()
}

// filename keeps the last element of a path.
func (c *checker) filename(pointer, name string) string {
	if control(name) {
		c.refuse(pointer+"/filename", "control_character", "remove line breaks and other control characters")
		return ""
	}
	name = strings.TrimSpace(path.Base(strings.ReplaceAll(name, `\`, "/")))
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	if len(name) > maxFilename {
		c.refuse(pointer+"/filename", "too_long", "the name has %d bytes, the limit is %d", len(name), maxFilename)
		return ""
	}
	return name
}

// mediaType normalises what the client says, or finds out: by the content, or,
// where that says nothing, by the name.
func (c *checker) mediaType(pointer, given string, a email.Attachment) string {
	if given != "" {
		t, params, err := mime.ParseMediaType(given)
		if err != nil || !strings.Contains(t, "/") || control(given) || strings.HasPrefix(t, "multipart/") || strings.HasPrefix(t, "message/") {
			c.refuse(pointer+"/type", "invalid", "give a media type such as application/pdf; multipart and message types are not taken")
			return ""
		}
		if t = mime.FormatMediaType(t, params); t == "" {
			c.refuse(pointer+"/type", "invalid", "give a media type such as application/pdf")
		}
		return t
	}
	t := http.DetectContentType(a.Content)
	if t == "application/octet-stream" || strings.HasPrefix(t, "text/plain") {
		if byName := mime.TypeByExtension(strings.ToLower(path.Ext(a.Filename))); byName != "" {
			t = byName
		}
	}
	return t
}

// executables are the extensions that mail servers refuse, and that nobody
// should open from a mail.
var executables = words(`ade adp app appinstaller appx appxbundle bat chm cmd com cpl diagcab dll dmg ex exe gadget
	hta ins iso isp jar jnlp js jse lib lnk mde msc msi msix msixbundle msp mst nsh osd pif ps1 ps1xml ps2 psc1 psm1 reg scf
	scr sct shb sys vb vbe vbs vhd vhdx vxd wsc wsf wsh xll`)

func words(list string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}

// executableStarts are how executable files begin, whatever they are called.
var executableStarts = [][]byte{
	[]byte("MZ\x90\x00"), []byte("MZ\x00\x00"), []byte("\x7fELF"),
	{0xfe, 0xed, 0xfa, 0xce}, {0xfe, 0xed, 0xfa, 0xcf}, {0xce, 0xfa, 0xed, 0xfe}, {0xcf, 0xfa, 0xed, 0xfe},
}

// blocked refuses executables, by name and by content.
func (c *checker) blocked(pointer string, a email.Attachment) {
	name := strings.TrimRightFunc(strings.ToLower(a.Filename), func(r rune) bool { return r == '.' || unicode.IsSpace(r) || !utf8.ValidRune(r) })
	if ext := strings.TrimPrefix(path.Ext(name), "."); executables[strings.TrimSpace(ext)] {
		c.refuse(pointer+"/filename", "attachment_blocked", "files of type .%s are not sent: put the file where it can be downloaded, and send the link", strings.TrimSpace(ext))
		return
	}
	for _, start := range executableStarts {
		if bytes.HasPrefix(a.Content, start) {
			c.refuse(pointer+"/content", "attachment_blocked", "the content is an executable program, which is not sent: put it where it can be downloaded, and send the link")
			return
		}
	}
}
