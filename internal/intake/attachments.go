package intake

import (
	"fmt"
	"mime"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
)

// Limits of attachments. Lengths are in bytes.
const (
	maxAttachments = 50
	maxFilename    = 255
	maxMediaType   = 255
)

var contentID = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,128}$`)

// attachmentPointers are the JSON Pointers to the members of an attachment.
type attachmentPointers struct{ filename, mediaType, content string }

func pointersOf(pointer string) attachmentPointers {
	return attachmentPointers{filename: pointer + "/filename", mediaType: pointer + "/type", content: pointer + "/content"}
}

func (c *Checks) attachments(as []attachment) []email.Attachment {
	if len(as) > maxAttachments {
		c.Refuse("/attachments", CodeTooMany, "there are %d attachments, the limit is %d", len(as), maxAttachments)
		return nil
	}
	seen := map[string]bool{}
	var out []email.Attachment
	for i, a := range as {
		if c.limits.IgnoreUnknown && a.none() {
			continue
		}
		pointer := fmt.Sprintf("/attachments/%d", i)
		got := c.attachment(pointer, a)
		if got.ContentID != "" && seen[got.ContentID] {
			c.Refuse(pointer+"/content_id", CodeNamedTwice, "another attachment has this content_id; give each its own")
		}
		seen[got.ContentID] = true
		out = append(out, got)
	}
	return out
}

// none reports an attachment by which VoIPBIN's programs mean that there is none: its
// reference_type is "", and its reference_id is absent, empty or the nil UUID.
func (a attachment) none() bool {
	id := text(a.ReferenceID)
	return a.ReferenceType != nil && *a.ReferenceType == "" && (id == "" || id == uuid.Nil.String()) && a.Content == nil && text(a.URL) == ""
}

// attachment reads content, a reference or a URL. In VoIPBIN's e-mail API, "reference_type": ""
// means that there is no reference. Answers have "reference_type": "url" for a URL.
func (c *Checks) attachment(pointer string, a attachment) email.Attachment {
	url := text(a.URL) != "" || text(a.ReferenceType) == string(email.ReferenceURL)
	reference := text(a.ReferenceID) != "" || text(a.ReferenceType) != "" && text(a.ReferenceType) != string(email.ReferenceURL)
	switch {
	case reference && a.Content != nil || url && a.Content != nil || reference && url:
		c.Refuse(pointer, CodeNamedTwice, "the attachment has more than one of content, a reference and a url; give one of them")
	case reference:
		return c.reference(pointer, a)
	case url:
		return c.linked(pointer, a)
	case a.Content == nil:
		c.Refuse(pointer+"/content", CodeMissing, "give the content in base64, a reference, or a url")
	default:
		return c.file(pointer, a)
	}
	return email.Attachment{}
}

// linked reads an attachment that is fetched from a URL when the e-mail is due.
func (c *Checks) linked(pointer string, a attachment) email.Attachment {
	out := email.Attachment{Optional: a.Optional, ReferenceType: email.ReferenceURL, URL: text(a.URL)}
	switch check := c.limits.CheckAttachmentURL; {
	case out.URL == "":
		c.Refuse(pointer+"/url", CodeMissing, "give the URL to fetch")
	case check == nil:
		c.Refuse(pointer+"/url", CodeUnsupported, "attachments are not fetched here; give the content")
	default:
		if err := check(c.limits.CustomerID, out.URL); err != nil {
			c.Refuse(pointer+"/url", CodeInvalid, "%s", err)
		}
	}
	out.Filename = c.filename(pointer+"/filename", text(a.Filename))
	out.ContentID, out.Type = c.contentID(pointer+"/content_id", text(a.ContentID)), c.typeGiven(pointer+"/type", text(a.Type))
	c.blocked(pointersOf(pointer), out, nil)
	return out
}

func (c *Checks) reference(pointer string, a attachment) email.Attachment {
	out := email.Attachment{Optional: a.Optional, ReferenceType: email.ReferenceType(text(a.ReferenceType))}
	switch out.ReferenceType {
	case "":
		c.Refuse(pointer+"/reference_type", CodeMissing, `give the reference's type: "file" or "recording"`)
	case email.ReferenceFile, email.ReferenceRecording:
		id, err := uuid.Parse(text(a.ReferenceID))
		if err != nil || len(text(a.ReferenceID)) != len(id.String()) {
			c.Refuse(pointer+"/reference_id", CodeInvalid, "give the %s's id, a UUID", out.ReferenceType)
		}
		out.ReferenceID = id.String()
	default:
		c.Refuse(pointer+"/reference_type", CodeUnsupported, `the type of a reference is "file" or "recording"; give anything else as content, or by its url`)
	}
	out.Filename = c.filename(pointer+"/filename", text(a.Filename))
	if out.ReferenceType == email.ReferenceRecording {
		if c.limits.NoRecordings {
			c.Refuse(pointer+"/reference_type", CodeUnsupported, "call recordings are not set up here; the operator does so with POSTRIDER_RECORDING_URL")
		}
		if text(a.Type) != "" {
			c.Refuse(pointer+"/type", CodeUnsupported, "the type of a recording is found out; remove this member")
		}
		if text(a.ContentID) != "" {
			c.Refuse(pointer+"/content_id", CodeUnsupported, "a recording does not stand inside HTML; remove this member")
		}
	} else {
		out.ContentID, out.Type = c.contentID(pointer+"/content_id", text(a.ContentID)), c.typeGiven(pointer+"/type", text(a.Type))
	}
	c.blocked(pointersOf(pointer), out, nil)
	return out
}

func (c *Checks) file(pointer string, a attachment) email.Attachment {
	out := email.Attachment{Optional: a.Optional, Content: *a.Content}
	if out.Content == nil {
		out.Content = []byte{} // empty, not absent
	}
	before := len(c.fields)
	if out.Filename = c.filename(pointer+"/filename", text(a.Filename)); out.Filename == "" && len(c.fields) == before {
		c.Refuse(pointer+"/filename", CodeMissing, "give the file a name")
	}
	out.ContentID = c.contentID(pointer+"/content_id", text(a.ContentID))
	if out.Type = c.typeGiven(pointer+"/type", text(a.Type)); text(a.Type) == "" {
		out.Type = sniff(out.Filename, out.Content)
	}
	c.blocked(pointersOf(pointer), out, out.Content)
	return out
}

// contentID accepts the id with or without the angle brackets of its header field.
func (c *Checks) contentID(pointer, id string) string {
	if strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") {
		id = id[1 : len(id)-1]
	}
	if id != "" && !contentID.MatchString(id) {
		c.Refuse(pointer, CodeInvalid, "a content_id has 1 to 128 of the characters A-Z a-z 0-9 . _ @ + -")
	}
	return id
}

// fieldFile is the pointer of an upload's problems: the name of the form's field.
const fieldFile = "file"

// Upload checks a file that is uploaded ahead of a message, by the rules of an attachment. It
// returns the safe name and the type. It detects the type if the client gives none, or gives
// application/octet-stream. head are the file's first 512 bytes. The error is an
// *email.Failure.
func Upload(filename, mediaType string, head []byte, l Limits) (name, typ string, err error) {
	c := NewChecks(l.WithDefaults())
	if name = c.filename(fieldFile, filename); name == "" && len(c.fields) == 0 {
		c.Refuse(fieldFile, CodeMissing, "give the file a name")
	}
	if base, _, _ := strings.Cut(mediaType, ";"); base == "" || strings.EqualFold(strings.TrimSpace(base), octetStream) {
		typ = sniff(name, head)
	} else {
		typ = c.mediaType(fieldFile, mediaType)
	}
	c.blocked(attachmentPointers{fieldFile, fieldFile, fieldFile}, email.Attachment{Filename: name, Type: typ}, head)
	return name, typ, c.Err()
}

const octetStream = "application/octet-stream"

// filename keeps the last element of a path, without the invisible characters that make a name
// look like another one.
func (c *Checks) filename(pointer, name string) string {
	if Control(name) {
		c.Refuse(pointer, CodeControl, "remove line breaks and other control characters")
		return ""
	}
	name = strings.Map(func(r rune) rune {
		if turnsText(r) {
			return -1
		}
		return r
	}, name)
	name = strings.TrimSpace(path.Base(strings.ReplaceAll(name, `\`, "/")))
	if strings.Trim(name, "./ ") == "" {
		return ""
	}
	if len(name) > maxFilename {
		c.Refuse(pointer, CodeTooLong, "the name has %d bytes, the limit is %d", len(name), maxFilename)
		return ""
	}
	return name
}

// turnsText reports the characters that change the direction of text (Unicode UAX 9). With
// them, a name that ends in gpj.exe can be displayed so that it ends in exe.jpg.
func turnsText(r rune) bool {
	return r == '\u061c' || r == '\u200e' || r == '\u200f' || '\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}

// typeGiven is the normalised media type; empty if the client gives none.
func (c *Checks) typeGiven(pointer, given string) string {
	if given == "" {
		return ""
	}
	return c.mediaType(pointer, given)
}

// mediaType normalises the client's media type (RFC 2045 section 5.1). It removes the parameter
// name, which could contradict filename.
func (c *Checks) mediaType(pointer, given string) string {
	t, params, err := mime.ParseMediaType(given)
	main, sub, slash := strings.Cut(t, "/")
	if err != nil || !slash || main == "" || sub == "" || len(given) > maxMediaType || Control(given) || !utf8.ValidString(given) {
		c.Refuse(pointer, CodeInvalid, "give a media type such as application/pdf, at most %d bytes long", maxMediaType)
		return ""
	}
	if main == "multipart" || main == "message" && sub != "rfc822" {
		c.Refuse(pointer, CodeUnsupported, "multipart types, and message types other than message/rfc822, are not sent as attachments; use application/octet-stream")
		return ""
	}
	delete(params, "name")
	out := mime.FormatMediaType(t, params)
	if _, _, err := mime.ParseMediaType(out); err != nil {
		c.Refuse(pointer, CodeInvalid, "give a media type such as application/pdf, with parameters in ASCII")
		return ""
	}
	return out
}
