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

// Lengths of an address (RFC 5321 section 4.5.3.1).
const (
	maxLocalPart = 64
	maxAddress   = 254
	maxNameBytes = 255
)

// domains turns a domain into lower-case A-labels (RFC 5891).
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// Domain normalises a domain name. Errors say what is wrong without the name.
func Domain(name string) (string, error) {
	ascii, err := domains.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil || ascii == "" {
		return "", errors.New("the domain is not a valid domain name")
	}
	if !strings.Contains(ascii, ".") {
		return "", errors.New("the domain has no dot; give a full domain name")
	}
	return ascii, nil
}

// atext are the characters of a dot-atom (RFC 5322 section 3.2.3) besides
// letters and digits; with SMTPUTF8, letters of any script (RFC 6531).
const atext = "!#$%&'*+-/=?^_`{|}~"

// Address checks and normalises one address: an addr-spec without comments,
// quoted strings or address literals, its domain as lower-case A-labels, and a
// display name without control characters.
func Address(addr, name string) (email.Address, error) {
	i := strings.LastIndexByte(addr, '@')
	if i <= 0 || i == len(addr)-1 {
		return email.Address{}, errors.New("an address looks like local@domain")
	}
	local := addr[:i]
	if len(local) > maxLocalPart {
		return email.Address{}, fmt.Errorf("the part before the @ has %d bytes, the limit is %d", len(local), maxLocalPart)
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return email.Address{}, errors.New("the part before the @ begins or ends with a dot, or has two in a row")
		}
	}
	for _, r := range local {
		switch {
		case r == '.', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(atext, r):
		case r >= 0x80 && r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r)):
		default:
			return email.Address{}, errors.New("the part before the @ has a character that is not allowed; quoted names are not supported")
		}
	}
	domain, err := Domain(addr[i+1:])
	if err != nil {
		return email.Address{}, err
	}
	a := email.Address{Email: local + "@" + domain, Name: strings.TrimSpace(name)}
	if len(a.Email) > maxAddress {
		return email.Address{}, fmt.Errorf("the address has %d bytes, the limit is %d", len(a.Email), maxAddress)
	}
	if len(a.Name) > maxNameBytes {
		return email.Address{}, fmt.Errorf("the name has %d bytes, the limit is %d", len(a.Name), maxNameBytes)
	}
	if control(a.Name) {
		return email.Address{}, errors.New("the name holds a line break or another control character")
	}
	return a, nil
}

// control reports a character that has no place in a header.
func control(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) >= 0
}
