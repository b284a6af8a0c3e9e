package email

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
)

// executables are the extensions that mail servers refuse, and that nobody
// should open from a mail.
var executables = words(`ade adp apk app appinstaller application appref-ms appx appxbundle bat cab chm cmd com cpl
	diagcab diagcfg diagpkg dll dmg ex ex_ exe gadget hlp hta img inf ins iso isp jar jnlp js jse lib lnk mde mjs msc msh
	msi msix msixbundle msp mst nsh ocx osd pif pkg ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 reg scf scr sct shb shs sys
	url vb vbe vbs vhd vhdx vxd wsc wsf wsh xll`)

// executableTypes are the media types that say the same as an extension.
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

// Blocklist says which files are not sent, because mail servers refuse them. The
// zero value is the built-in list.
type Blocklist struct{ own map[string]bool }

// Block makes a list of extensions, in lower case and without a dot. None at all
// blocks nothing; nil is the built-in list.
func Block(extensions []string) Blocklist {
	if extensions == nil {
		return Blocklist{}
	}
	return Blocklist{own: words(strings.Join(extensions, " "))}
}

// Extensions are those on the list, in their order.
func (b Blocklist) Extensions() []string { return slices.Sorted(maps.Keys(b.list())) }

func (b Blocklist) list() map[string]bool {
	if b.own == nil {
		return executables
	}
	return b.own
}

// Name says why a file of that name is not sent; empty if it may be. Some mail programs
// decode a name that looks encoded, so what it decodes to counts too.
func (b Blocklist) Name(filename string) string {
	for _, name := range readings(filename) {
		if ext := Extension(name); b.list()[ext] {
			return "files of type ." + ext + " are not sent, because mail servers refuse them"
		}
	}
	return ""
}

// Type says the same of a media type: one is as blocked as its extension.
func (b Blocklist) Type(mediaType string) string {
	base, _, _ := strings.Cut(mediaType, ";")
	base = strings.ToLower(strings.TrimSpace(base))
	if b.list()[executableTypes[base]] {
		return "files of type " + base + " are not sent, because mail servers refuse them"
	}
	return ""
}

// machO are the first bytes of macOS programs; the universal ones share theirs
// with compiled Java classes.
var machO = [][]byte{
	{0xfe, 0xed, 0xfa, 0xce}, {0xfe, 0xed, 0xfa, 0xcf}, {0xce, 0xfa, 0xed, 0xfe}, {0xcf, 0xfa, 0xed, 0xfe},
	{0xca, 0xfe, 0xba, 0xbe}, {0xca, 0xfe, 0xba, 0xbf},
}

// Content says the same of a file that begins with head, of which 64 bytes are
// enough: programs are blocked whatever their name while exe is on the list.
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

// Extension is what a file manager takes for a name's type, in lower case: other
// systems drop trailing dots and spaces, and what follows a colon.
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
