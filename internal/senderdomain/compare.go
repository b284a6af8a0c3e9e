package senderdomain

import (
	"slices"
	"strings"
)

// compare says what is wrong with the values that a server has for a record, or "".
func compare(r Record, values []string) Problem {
	switch r.Kind {
	case DKIM:
		return compareDKIM(r.Value, values)
	case DMARC:
		return compareDMARC(values)
	}
	if len(values) == 0 {
		return Missing
	}
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

// compareDMARC finds the one DMARC record among others, and accepts any policy: the owner's is never to
// be weakened.
func compareDMARC(values []string) Problem {
	var found []string
	mangled := false
	for _, v := range values {
		if isDMARC(v) {
			found = append(found, v)
		} else if isDMARC(strings.TrimSpace(unquote(v))) {
			mangled = true
		}
	}
	switch {
	case len(found) > 1:
		return SeveralRecords // RFC 7489, section 6.6.3
	case len(found) == 0 && mangled:
		return ValueMangled
	case len(found) == 0:
		return Missing
	}
	got, ok := tags(found[0])
	if !ok || got["v"] != "DMARC1" || !slices.Contains([]string{"none", "quarantine", "reject"}, strings.ToLower(got["p"])) {
		return OtherValue
	}
	return ""
}

// isDMARC reports whether a text begins with the version of DMARC records.
func isDMARC(text string) bool {
	const version = "v=DMARC1"
	if len(text) < len(version) || !strings.EqualFold(text[:len(version)], version) {
		return false
	}
	rest := strings.TrimLeft(text[len(version):], " \t")
	return rest == "" || rest[0] == ';' || len(rest) < len(text)-len(version)
}

// unquote removes what people copy from zone files and word processors.
func unquote(text string) string {
	return strings.NewReplacer(`"`, "", `\`, "", "“", "", "”", "").Replace(text)
}
