package intake

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/postrider/postrider/email"
)

// Lengths in bytes (RFC 5321 section 4.5.3.1). maxAddress is a path of 256 bytes without its
// angle brackets.
const (
	maxLocalPart = 64
	maxAddress   = 254
	maxNameBytes = 255
)

// Address checks and normalises one address and its display name. The address is an addr-spec
// without comments, quoted strings or address literals; its domain becomes lower-case A-labels.
// The display name has no control characters. Errors do not repeat the refused value.
func Address(addr, name string) (email.Address, error) {
	spec, err := addrSpec(addr)
	if err != nil {
		return email.Address{}, err
	}
	name, err = displayName(name)
	if err != nil {
		return email.Address{}, err
	}
	return email.Address{Email: spec, Name: name}, nil
}

// domains turns a domain into lower-case A-labels as a lookup does (RFC 5891
// section 5).
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// Domain normalises a domain name. Errors say what is wrong without the name.
func Domain(name string) (string, error) {
	ascii, err := domains.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil || ascii == "" || !utf8.ValidString(name) {
		return "", errors.New("the domain is not a valid domain name")
	}
	dot := strings.LastIndexByte(ascii, '.')
	if dot < 0 {
		return "", errors.New("the domain has no dot; give a full domain name")
	}
	if strings.Trim(ascii[dot+1:], "0123456789") == "" {
		return "", errors.New("the domain is an IP address; give a domain name")
	}
	return ascii, nil
}

// atext are the characters of a dot-atom (RFC 5322 section 3.2.3) besides
// letters and digits; with SMTPUTF8, letters of any script (RFC 6531).
const atext = "!#$%&'*+-/=?^_`{|}~"

// addrSpec checks an address and normalises its domain. The local part is not changed: only
// the receiving server interprets it.
func addrSpec(addr string) (string, error) {
	if severalAddresses(addr) {
		return "", errors.New("there is more than one address; give each by itself")
	}
	i := strings.LastIndexByte(addr, '@')
	if i <= 0 || i == len(addr)-1 {
		return "", errors.New("an address looks like local@domain")
	}
	local := addr[:i]
	if len(local) > maxLocalPart {
		return "", fmt.Errorf("the part before the @ has %d bytes, the limit is %d", len(local), maxLocalPart)
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return "", errors.New("the part before the @ begins or ends with a dot, or has two in a row")
		}
	}
	if strings.IndexFunc(local, notLocal) >= 0 {
		return "", errors.New("the part before the @ has a character that is not allowed; give the bare address, without quotes, brackets and comments")
	}
	domain, err := Domain(addr[i+1:])
	if err != nil {
		return "", err
	}
	spec := local + "@" + domain
	if len(spec) > maxAddress {
		return "", fmt.Errorf("the address has %d bytes, the limit is %d", len(spec), maxAddress)
	}
	return spec, nil
}

// severalAddresses reports a list of addresses, separated by commas, semicolons or
// space.
func severalAddresses(addr string) bool {
	parts := strings.FieldsFunc(addr, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) })
	n := 0
	for _, part := range parts {
		if strings.Contains(part, "@") {
			n++
		}
	}
	return n > 1
}

// notLocal reports a character that no local part may hold.
func notLocal(r rune) bool {
	switch {
	case r == '.', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	case r < utf8.RuneSelf:
		return !strings.ContainsRune(atext, r)
	}
	return r == utf8.RuneError || !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r)
}

// displayName checks the display name of an address.
func displayName(name string) (string, error) {
	switch {
	case Control(name):
		return "", errors.New("remove line breaks and other control characters from the name")
	case len(name) > maxNameBytes:
		return "", fmt.Errorf("the name has %d bytes, the limit is %d", len(name), maxNameBytes)
	}
	return strings.TrimSpace(name), nil
}

// Control reports a character that is not allowed in a header: C0, DEL, C1, and the two
// separators (U+2028, U+2029) that some programs treat as a line break.
func Control(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) >= 0
}
