package senderdomain

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// spfFault says what is wrong with the syntax of an SPF record (RFC 7208, section 12), or "". A text that is
// no SPF record has no fault.
func spfFault(text string) string {
	const version = "v=spf1"
	if len(text) < len(version) || !strings.EqualFold(text[:len(version)], version) || len(text) > len(version) && text[len(version)] != ' ' {
		return ""
	}
	seen := map[string]bool{}
	for term := range strings.SplitSeq(text[len(version):], " ") {
		if term != "" && !isSPFTerm(term, seen) {
			return fmt.Sprintf("the term %q of the SPF record is wrong", term)
		}
	}
	return ""
}

var (
	spfModifier = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9._-]*)=(.*)$`)
	spfMask     = regexp.MustCompile(`^(?:/([0-9]{1,2}))?(?://([0-9]{1,3}))?$`)
	// spfMacro is one element of a macro-string. Those of c, r and t are for exp alone.
	spfMacro = `(?:%%\{[slodiphv%s][0-9]*r?[-.+,/_=]*\}|%%%%|%%_|%%-|[!-$&-~])`
	// spfString may be empty. spfDomain ends in a macro, or in a label that is not all digits.
	spfString    = regexp.MustCompile(`(?i)^` + fmt.Sprintf(spfMacro, "") + `*$`)
	spfExplained = regexp.MustCompile(`(?i)^` + fmt.Sprintf(spfMacro, "crt") + `*$`)
	spfDomainEnd = regexp.MustCompile(`(?i)(?:%\{[^}]*\}|\.(?:[a-z0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9-]*[a-z0-9])\.?)$`)
)

// isSPFTerm reports whether a term is right. seen has the modifiers that may be there once.
func isSPFTerm(term string, seen map[string]bool) bool {
	if m := spfModifier.FindStringSubmatch(term); m != nil {
		name := strings.ToLower(m[1])
		switch name {
		case "redirect", "exp":
			once := !seen[name]
			seen[name] = true
			return once && isSPFDomain(m[2])
		}
		return spfExplained.MatchString(m[2])
	}
	if strings.HasPrefix(strings.ToLower(strings.TrimLeft(term, "-+?~")), "ip") {
		return isSPFNetwork(term)
	}
	name, argument, mask := splitMechanism(term)
	switch name {
	case "all":
		return argument == "" && mask == ""
	case "include", "exists":
		return len(argument) > 1 && isSPFDomain(argument[1:]) && mask == ""
	case "ptr":
		return (argument == "" || isSPFDomain(argument[1:])) && mask == ""
	case "a", "mx":
		return (argument == "" || isSPFDomain(argument[1:])) && areMasks(mask)
	}
	return false
}

// splitMechanism splits a mechanism into its name in lower case, ":" with its domain, and "/" with its masks.
// A slash in a macro is of the domain.
func splitMechanism(term string) (name, argument, mask string) {
	tail := strings.LastIndexByte(term, '}') + 1
	head, rest := term[:tail], term[tail:]
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		rest, mask = rest[:at], rest[at:]
	}
	term = head + rest
	if term != "" && strings.ContainsRune("-+?~", rune(term[0])) {
		term = term[1:]
	}
	if at := strings.IndexByte(term, ':'); at >= 0 {
		term, argument = term[:at], term[at:]
	}
	return strings.ToLower(term), argument, mask
}

func isSPFDomain(text string) bool {
	return spfString.MatchString(text) && spfDomainEnd.MatchString(text)
}

// areMasks reports whether the masks of a or mx are right: of IPv4, IPv6 or both.
func areMasks(text string) bool {
	m := spfMask.FindStringSubmatch(text)
	return m != nil && isMask(m[1], 32) && isMask(m[2], 128)
}

func isMask(digits string, most int) bool {
	n, err := strconv.Atoi(digits)
	return digits == "" || err == nil && n <= most && (digits == "0" || digits[0] != '0')
}

// isSPFNetwork reports whether a mechanism ip4 or ip6 is right.
func isSPFNetwork(term string) bool {
	name, value, _ := strings.Cut(strings.TrimLeft(term[:1], "-+?~")+term[1:], ":")
	address, mask, masked := strings.Cut(value, "/")
	at, err := netip.ParseAddr(address)
	if err != nil || at.Zone() != "" || masked && (mask == "" || !isMask(mask, at.BitLen())) {
		return false
	}
	switch strings.ToLower(name) {
	case "ip4":
		return at.Is4()
	case "ip6":
		return at.Is6()
	}
	return false
}
