package advice

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/postrider/postrider/email"
)

// Sizes of a whole message, in bytes, on the wire: base64 has added a third.
const (
	// smallServers is the default limit of Postfix (message_size_limit), which many
	// servers have never changed.
	smallServers = 10_240_000
	// largeServers is the limit of Outlook.com; Gmail's is 25 MB.
	largeServers = 20_000_000
)

const asLink = "put the file where it can be downloaded, and send the link"

func (l *letter) messageSize() verdict {
	switch n := l.facts.SizeBytes; {
	case n > largeServers:
		return warn("", "The message has %d bytes. Outlook.com takes 20 MB, Gmail 25 MB, company servers often 10 MB: compress the files, or %s.", n, asLink)
	case n > smallServers:
		return advise("", "The message has %d bytes; many servers take no more than %d: compress the files, or %s.", n, smallServers, asLink)
	default:
		return fine("The message has %d bytes.", n)
	}
}

func (l *letter) attachmentReferences() verdict {
	n, where := 0, ""
	for i, a := range l.Attachments {
		if a.Content == nil {
			if n++; n == 1 {
				where = pointer(i)
			}
		}
	}
	switch {
	case len(l.Attachments) == 0:
		return verdict{}
	case n > 0:
		return advise(where, "%s by reference. Files, recordings and URLs are not opened for a preview: nothing is known of what is in them, nor, but for files, of their size.", times(n, "attachment"))
	}
	return fine("All contents are here.")
}

func pointer(i int) string { return fmt.Sprintf("/attachments/%d", i) }

// refused are the files that servers refuse, even if an operator allows them here.
var refused email.Blocklist

// Other formats by what servers make of them.
var (
	macros   = words("docm dotm xlsm xltm xlam xlsb pptm potm ppam ppsm sldm")
	markup   = words("html htm xhtml xht shtml mht mhtml svg")
	archives = words("rar 7z tar tgz gz bz2 xz z lz lzh ace arj")
)

func (l *letter) attachmentTypes() verdict {
	if len(l.Attachments) == 0 {
		return verdict{}
	}
	out := fine("%s, none of a kind that servers are known to refuse.", times(len(l.Attachments), "attachment"))
	for i, a := range l.Attachments {
		v := attachmentType(a, pointer(i))
		if v.level == LevelWarning {
			return v
		}
		if v.level == LevelAdvice && out.level == LevelOK {
			out = v
		}
	}
	return out
}

func attachmentType(a email.Attachment, where string) verdict {
	ext := email.Extension(a.Filename)
	switch {
	case refused.Name(a.Filename) != "" || refused.Type(a.Type) != "" || refused.Content(a.Content) != "":
		return warn(where, "A program is refused by nearly every server: %s.", asLink)
	case macros[ext]:
		return warn(where, "A document with macros (.%s) is refused by many servers. Send it without them, as a PDF, or %s.", ext, asLink)
	case a.ContentID != "" && ext == "svg":
		return advise(where, "An SVG image is not shown by Gmail and Outlook. Use PNG or JPEG.")
	case markup[ext] || strings.HasPrefix(a.Type, "text/html"):
		return warn(where, "A web page as an attachment (%s) is what phishing comes as, and is held back by many servers. Send a PDF, or a link.", either(ext, a.Type))
	case archives[ext]:
		return advise(where, "An archive of type .%s is opened by few programs and refused by some servers. Use .zip, or %s.", ext, asLink)
	}
	if kind := zipHolds(a.Content); kind != "" {
		return warn(where, "The archive holds %s, and is refused by Gmail and others: %s.", kind, asLink)
	}
	return verdict{}
}

func either(ext, mediaType string) string {
	if ext == "" {
		return mediaType
	}
	return "." + ext
}

// maxEntries is how many files of an archive are looked at.
const maxEntries = 10_000

// zipHolds says what servers refuse in a ZIP archive, or nothing. It reads the
// central directory (APPNOTE.TXT sections 4.3.12 and 4.3.16) and unpacks nothing.
// archive/zip would keep every entry, of which 25 MiB can hold half a million.
func zipHolds(content []byte) string {
	const header, end, maxComment = 46, 22, 1<<16 - 1
	tail := content[max(0, len(content)-end-maxComment):]
	i := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if !bytes.HasPrefix(content, []byte("PK\x03\x04")) || i < 0 || len(tail) < i+end {
		return ""
	}
	at := uint64(binary.LittleEndian.Uint32(tail[i+16:]))
	for range maxEntries {
		if at+header > uint64(len(content)) || !bytes.HasPrefix(content[at:], []byte("PK\x01\x02")) {
			return ""
		}
		entry := content[at:]
		length := func(field int) uint64 { return uint64(binary.LittleEndian.Uint16(entry[field:])) }
		name := entry[header:min(header+length(28), uint64(len(entry)))]
		switch {
		case entry[8]&1 != 0:
			return "encrypted files, which cannot be scanned"
		case refused.Name(string(name)) != "":
			return "a program"
		}
		at += header + length(28) + length(30) + length(32)
	}
	return ""
}
