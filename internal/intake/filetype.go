package intake

import (
	"mime"
	"net/http"
	"strings"

	"github.com/postrider/postrider/email"
)

// byExtension are the media types of files whose content does not identify them. The system's
// table is not used: it differs between machines.
var byExtension = map[string]string{
	"csv": "text/csv", "ics": "text/calendar", "md": "text/markdown", "css": "text/css", "vcf": "text/vcard",
	"txt": "text/plain", "log": "text/plain", "html": "text/html", "htm": "text/html", "rtf": "application/rtf",
	"json": "application/json", "xml": "application/xml", "svg": "image/svg+xml", "eml": "application/octet-stream",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	"odt":  "application/vnd.oasis.opendocument.text", "ods": "application/vnd.oasis.opendocument.spreadsheet",
	"doc": "application/msword", "xls": "application/vnd.ms-excel", "ppt": "application/vnd.ms-powerpoint",
	"pdf": "application/pdf", "zip": "application/zip", "gz": "application/gzip", "epub": "application/epub+zip",
	"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
	"tif": "image/tiff", "tiff": "image/tiff", "heic": "image/heic",
	"mp3": "audio/mpeg", "wav": "audio/wav", "ogg": "audio/ogg", "m4a": "audio/mp4", "mp4": "video/mp4", "webm": "video/webm",
}

// general are the detected types that an extension can refine.
var general = map[string]bool{octetStream: true, "text/plain": true, "text/xml": true, "application/zip": true}

// sniff detects a media type by the content, or by the name if the content gives a general type
// only. In doubt it is application/octet-stream.
func sniff(filename string, content []byte) string {
	found := http.DetectContentType(content)
	base, params, err := mime.ParseMediaType(found)
	if err != nil || !general[base] {
		return found
	}
	byName, ok := byExtension[email.Extension(filename)]
	if !ok {
		return found
	}
	if !strings.HasPrefix(byName, "text/") {
		return byName
	}
	if params["charset"] == "" { // the extension is a text's, but the content is not text
		return found
	}
	return mime.FormatMediaType(byName, params)
}

const blockedRemedy = "put the file where it can be downloaded, and send the link"

// blocked refuses a file that is not sent, because of its name, its media type or its first
// bytes. It stops at the first reason.
func (c *Checks) blocked(at attachmentPointers, a email.Attachment, head []byte) {
	list := c.limits.Blocked
	for _, found := range []struct{ pointer, why string }{
		{at.filename, list.Name(a.Filename)}, {at.mediaType, list.Type(a.Type)}, {at.content, list.Content(head)},
	} {
		if found.why != "" {
			c.Refuse(found.pointer, CodeBlocked, "%s: %s", found.why, blockedRemedy)
			return
		}
	}
}
