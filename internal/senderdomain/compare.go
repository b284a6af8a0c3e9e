package senderdomain

import (
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/dnslookup"
)

// compare says what is wrong with the values that a server has for a record, or "".
func compare(r Record, values []string) Problem {
	switch r.Kind {
	case DKIM:
		return compareDKIM(r.Value, values)
	case SPF:
		return compareVersioned("v=spf1", values, func(found string) Problem { return compareSPF(r.Value, found) })
	case DMARC:
		return compareVersioned("v=DMARC1", values, compareDMARC)
	}
	if len(values) == 0 {
		return Missing
	}
	if r.Type == dnslookup.TXT {
		return compareText(r.Value, values)
	}
	// Mail to an MX record of another host is lost, so there may be none.
	if slices.ContainsFunc(values, func(v string) bool { return !strings.EqualFold(v, r.Value) }) {
		return OtherValue
	}
	return ""
}

// compareDKIM compares a key record tag by tag (RFC 6376, section 3.6.1).
func compareDKIM(expected string, values []string) Problem {
	switch len(values) {
	case 0:
		return Missing
	case 1:
	default:
		return SeveralRecords // what a verifier does then is undefined (section 3.6.2.2)
	}
	want, _ := tags(expected)
	if got, ok := tags(values[0]); ok && sameKey(want, got) && (got["v"] == "" || strings.HasPrefix(strings.TrimSpace(values[0]), "v")) {
		return ""
	}
	got, _ := tags(unquote(values[0]))
	key, hasKey := got["p"]
	key = strings.Join(strings.Fields(key), "")
	got["p"] = key
	switch {
	case sameKey(want, got):
		return ValueMangled
	case hasKey && key == "":
		return KeyRevoked
	case hasKey && strings.HasPrefix(want["p"], key) && key != want["p"]:
		return ValueTruncated
	}
	return OtherValue
}

// sameKey reports whether a key record verifies our signatures. Tags that do not limit
// this, such as t=s and n=, may differ. With t=y verifiers take the mail for unsigned.
func sameKey(want, got map[string]string) bool {
	version, hasVersion := got["v"]
	hashes, hasHashes := got["h"]
	services, hasServices := got["s"]
	return got["p"] == want["p"] && want["p"] != "" && algorithm(got) == algorithm(want) &&
		(!hasVersion || version == "DKIM1") && !listed(got["t"], "y") &&
		(!hasHashes || listed(hashes, "sha256")) &&
		(!hasServices || listed(services, "*") || listed(services, "email"))
}

func algorithm(tags map[string]string) string {
	if k, ok := tags["k"]; ok {
		return k
	}
	return "rsa"
}

// listed reports whether a list with colons has an element.
func listed(list, element string) bool {
	return slices.ContainsFunc(strings.Split(list, ":"), func(e string) bool { return strings.TrimSpace(e) == element })
}

// tags reads a tag list (RFC 6376, section 3.2). ok is false if it is not one.
func tags(text string) (out map[string]string, ok bool) {
	out, ok = map[string]string{}, true
	for part := range strings.SplitSeq(text, ";") {
		name, value, has := strings.Cut(part, "=")
		if !has {
			ok = ok && strings.TrimSpace(part) == ""
			continue
		}
		name = strings.TrimSpace(name)
		if _, twice := out[name]; twice {
			ok = false
			continue
		}
		out[name] = strings.TrimSpace(value)
	}
	return out, ok
}

// compareVersioned finds the one record that begins with a version, among others.
func compareVersioned(version string, values []string, compare func(found string) Problem) Problem {
	var found []string
	mangled := false
	for _, v := range values {
		if hasVersion(v, version) {
			found = append(found, v)
		} else if hasVersion(strings.TrimSpace(unquote(v)), version) {
			mangled = true
		}
	}
	switch {
	case len(found) > 1:
		return SeveralRecords // SPF: RFC 7208, section 4.5; DMARC: RFC 7489, section 6.6.3
	case len(found) == 1:
		return compare(found[0])
	case mangled:
		return ValueMangled
	}
	return Missing
}

func hasVersion(text, version string) bool {
	if len(text) < len(version) || !strings.EqualFold(text[:len(version)], version) {
		return false
	}
	rest := strings.TrimLeft(text[len(version):], " \t")
	return rest == "" || rest[0] == ';' || len(rest) < len(text)-len(version)
}

// compareSPF looks for every term of the expected record. Others may be there too.
func compareSPF(expected, found string) Problem {
	has := strings.Fields(strings.ToLower(found))
	for _, term := range strings.Fields(strings.ToLower(expected)) {
		if !strings.HasSuffix(term, "all") && !slices.Contains(has, term) {
			return OtherValue
		}
	}
	return ""
}

// compareDMARC accepts any policy: the owner's is never to be weakened.
func compareDMARC(found string) Problem {
	got, ok := tags(found)
	if !ok || got["v"] != "DMARC1" || !slices.Contains([]string{"none", "quarantine", "reject"}, strings.ToLower(got["p"])) {
		return OtherValue
	}
	return ""
}

// compareText looks for a text. Other records at the name do not matter.
func compareText(expected string, values []string) Problem {
	problem := OtherValue
	for _, v := range values {
		if strings.TrimSpace(v) == expected {
			return ""
		}
		if strings.Join(strings.Fields(unquote(v)), "") == expected {
			problem = ValueMangled
		}
	}
	return problem
}

// unquote removes what people copy from zone files and word processors.
func unquote(text string) string {
	return strings.NewReplacer(`"`, "", `\`, "", "“", "", "”", "").Replace(text)
}
