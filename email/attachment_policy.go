package email

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
)

// executables are the extensions of programs and disk images, which mail servers refuse.
var executables = words(`ade adp apk app appinstaller application appref-ms appx appxbundle bat cab chm cmd com cpl
	diagcab diagcfg diagpkg dll dmg ex ex_ exe gadget hlp hta img inf ins iso isp jar jnlp js jse lib lnk mde mjs msc msh
	msi msix msixbundle msp mst nsh ocx osd pif pkg ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 reg scf scr sct shb shs sys
	url vb vbe vbs vhd vhdx vxd wsc wsf wsh xll`)

// executableTypes maps the media types of such files to an extension.
var executableTypes = map[string]string{
	"application/x-msdownload": "exe", "application/x-msdos-program": "exe", "application/x-dosexec": "exe",
	"application/x-executable": "exe", "application/x-elf": "exe", "application/x-sharedlib": "exe",
	"application/x-mach-binary": "exe", "application/vnd.microsoft.portable-executable": "exe",
	"application/x-msi": "msi", "application/x-ms-installer": "msi", "application/hta": "hta",
	"application/java-archive": "jar", "application/x-java-archive": "jar", "application/javascript": "js",
	"application/x-javascript": "js", "text/javascript": "js", "application/vnd.android.package-archive": "apk",
	"application/x-apple-diskimage": "dmg", "application/x-ms-shortcut": "lnk", "application/x-bat": "bat",
}

func words(list string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		out[w] = true
	}
	return out
}

// Blocklist is the list of file types that are not sent, because mail servers refuse them. The
// zero value is the built-in list.
type Blocklist struct{ own map[string]bool }

// Block makes a Blocklist of extensions, which are in lower case and without a dot. An empty
// slice blocks nothing; nil is the built-in list.
func Block(extensions []string) Blocklist {
	if extensions == nil {
		return Blocklist{}
	}
	return Blocklist{own: words(strings.Join(extensions, " "))}
}

// Extensions are the blocked extensions, sorted.
func (b Blocklist) Extensions() []string { return slices.Sorted(maps.Keys(b.list())) }

func (b Blocklist) list() map[string]bool {
	if b.own == nil {
		return executables
	}
	return b.own
}

// Name is why a file of that name is not sent; empty if it is sent. Some mail programs decode a
// name that looks encoded, so the decoded names are checked too.
func (b Blocklist) Name(filename string) string {
	for _, name := range readings(filename) {
		if ext := Extension(name); b.list()[ext] {
			return "files of type ." + ext + " are not sent, because mail servers refuse them"
		}
	}
	return ""
}

// Type is why a file of that media type is not sent; empty if it is sent. A media type is
// blocked if its extension is.
func (b Blocklist) Type(mediaType string) string {
	base, _, _ := strings.Cut(mediaType, ";")
	base = strings.ToLower(strings.TrimSpace(base))
	if b.list()[executableTypes[base]] {
		return "files of type " + base + " are not sent, because mail servers refuse them"
	}
	return ""
}

// machO are the first bytes of macOS programs. Universal binaries and compiled Java classes
// begin with the same bytes.
var machO = [][]byte{
	{0xfe, 0xed, 0xfa, 0xce}, {0xfe, 0xed, 0xfa, 0xcf}, {0xce, 0xfa, 0xed, 0xfe}, {0xcf, 0xfa, 0xed, 0xfe},
	{0xca, 0xfe, 0xba, 0xbe}, {0xca, 0xfe, 0xba, 0xbf},
}

// Content is why a file that begins with head is not sent; empty if it is sent. 64 bytes of it
// are enough. Programs are blocked under any name while exe is on the list.
func (b Blocklist) Content(head []byte) string {
	if !b.list()["exe"] {
		return ""
	}
	kind := ""
	switch {
	case bytes.HasPrefix(head, []byte("MZ")) && bytes.IndexByte(head[:min(64, len(head))], 0) >= 0: // a text has no NUL
		kind = "Windows"
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		kind = "Linux"
	}
	for _, start := range machO {
		if bytes.HasPrefix(head, start) {
			kind = "macOS or Java"
		}
	}
	if kind == "" {
		return ""
	}
	return "the content is a " + kind + " program, which is not sent whatever its name"
}

// Extension is the extension of a file name, in lower case, as the recipient's file manager
// sees it: Windows drops trailing dots and spaces, and the part after a colon.
func Extension(filename string) string {
	name, _, _ := strings.Cut(strings.ToLower(filename), ":")
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, name)
	return strings.TrimPrefix(path.Ext(strings.TrimRight(name, ".")), ".")
}
