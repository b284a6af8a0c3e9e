package intake

import (
	"bytes"
	"mime"
	"net/http"
	"path"
	"strings"
	"unicode"
)

// byExtension are types that content alone does not tell. The system's own table
// differs from machine to machine, so it is not asked.
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

// general are the answers of sniffing that an extension refines.
var general = map[string]bool{"application/octet-stream": true, "text/plain": true, "text/xml": true, "application/zip": true}

// sniff finds a media type out: by the content, or, where that says little, by
// the name. It errs on the side of application/octet-stream.
func sniff(filename string, content []byte) string {
	found := http.DetectContentType(content)
	base, params, err := mime.ParseMediaType(found)
	if err != nil || !general[base] {
		return found
	}
	byName, ok := byExtension[extension(filename)]
	if !ok {
		return found
	}
	if !strings.HasPrefix(byName, "text/") {
		return byName
	}
	if params["charset"] == "" { // the name says text, the content says that it is none
		return found
	}
	return mime.FormatMediaType(byName, params)
}

// extension is what a file manager takes for a name's type, in lower case: other
// systems drop trailing dots and spaces, and what follows a colon.
func extension(filename string) string {
	name, _, _ := strings.Cut(strings.ToLower(filename), ":")
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, name)
	return strings.TrimPrefix(path.Ext(strings.TrimRight(name, ".")), ".")
}

// executables are the extensions that mail servers refuse, and that nobody
// should open from a mail.
var executables = words(`ade adp apk app appinstaller application appref-ms appx appxbundle bat cab chm cmd com cpl
	diagcab diagcfg diagpkg dll dmg ex ex_ exe gadget hlp hta img inf ins iso isp jar jnlp js jse lib lnk mde mjs msc msh
	msi msix msixbundle msp mst nsh ocx osd pif pkg ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 reg scf scr sct shb shs sys
	url vb vbe vbs vhd vhdx vxd wsc wsf wsh xll`)

// executableTypes are the media types that say the same.
var executableTypes = words(`application/x-msdownload application/x-msdos-program application/x-dosexec application/x-executable
	application/x-elf application/x-sharedlib application/x-mach-binary application/vnd.microsoft.portable-executable
	application/x-msi application/x-ms-installer application/hta application/java-archive application/x-java-archive
	application/javascript application/x-javascript text/javascript application/vnd.android.package-archive
	application/x-apple-diskimage application/x-ms-shortcut application/x-bat`)

func words(list string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}

const blockedRemedy = "put the file where it can be downloaded, and send the link"

// blockedName refuses executables by name.
func (c *checker) blockedName(pointer, filename string) bool {
	ext := extension(filename)
	if executables[ext] {
		c.refuse(pointer, codeBlocked, "files of type .%s are not sent, because mail servers refuse them: %s", ext, blockedRemedy)
	}
	return executables[ext]
}

// blockedType refuses executables by what the client calls them.
func (c *checker) blockedType(pointer, mediaType string) bool {
	base, _, _ := strings.Cut(mediaType, ";")
	if executableTypes[base] {
		c.refuse(pointer, codeBlocked, "files of type %s are not sent, because mail servers refuse them: %s", base, blockedRemedy)
	}
	return executableTypes[base]
}

// machO are the first bytes of macOS programs; the universal ones share theirs
// with compiled Java classes.
var machO = [][]byte{
	{0xfe, 0xed, 0xfa, 0xce}, {0xfe, 0xed, 0xfa, 0xcf}, {0xce, 0xfa, 0xed, 0xfe}, {0xcf, 0xfa, 0xed, 0xfe},
	{0xca, 0xfe, 0xba, 0xbe}, {0xca, 0xfe, 0xba, 0xbf},
}

// blockedContent refuses executables whatever they are called.
func (c *checker) blockedContent(pointer string, content []byte) {
	kind := ""
	switch {
	case bytes.HasPrefix(content, []byte("MZ")) && bytes.IndexByte(content[:min(64, len(content))], 0) >= 0: // a text has no NUL
		kind = "Windows"
	case bytes.HasPrefix(content, []byte("\x7fELF")):
		kind = "Linux"
	}
	for _, start := range machO {
		if bytes.HasPrefix(content, start) {
			kind = "macOS or Java"
		}
	}
	if kind != "" {
		c.refuse(pointer, codeBlocked, "the content is a %s program, which is not sent whatever its name: %s", kind, blockedRemedy)
	}
}
