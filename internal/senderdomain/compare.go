package senderdomain

import (
	"cmp"
	"fmt"
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
	if got, wrong := tags(values[0]); wrong == "" && sameKey(want, got) && versionFirst(values[0], got) {
		return ""
	}
	got, _ := tags(unquote(values[0]))
	key, hasKey := got["p"]
	key = strings.Join(strings.Fields(key), "")
	got["p"] = key
	switch {
	case dkimFault(expected, values[0]) != "":
		return OtherValue
	case sameKey(want, got):
		return ValueMangled
	case hasKey && key == "":
		return KeyRevoked
	case hasKey && strings.HasPrefix(want["p"], key) && key != want["p"]:
		return ValueTruncated
	}
	return OtherValue
}

// versionFirst reports whether the tag v of a key record, if it has one, is the first (RFC 6376, section
// 3.6.1).
func versionFirst(text string, has map[string]string) bool {
	_, versioned := has["v"]
	name, _, _ := strings.Cut(text, "=")
	return !versioned || strings.TrimSpace(name) == "v"
}

// sameKey reports whether a key record verifies our signatures. Tags that do not limit
// this, such as t=s and n=, may differ.
func sameKey(want, got map[string]string) bool {
	return got["p"] == want["p"] && want["p"] != "" && limitOf(want, got) == ""
}

// limitOf says why verifiers do not take our signatures by a record that has our key, or "".
func limitOf(want, got map[string]string) string {
	version, hasVersion := got["v"]
	hashes, hasHashes := got["h"]
	services, hasServices := got["s"]
	switch {
	case hasVersion && version != "DKIM1":
		return fmt.Sprintf("v=%s is no version, it has to be DKIM1", version)
	case algorithm(got) != algorithm(want):
		return fmt.Sprintf("k=%s is another algorithm than %s", algorithm(got), algorithm(want))
	case listed(got["t"], "y"):
		return "t=y says that the domain only tests DKIM, so that receivers take its mail for unsigned"
	case hasHashes && !listed(hashes, "sha256"):
		return fmt.Sprintf("h=%s does not allow sha256, which signatures have", hashes)
	case hasServices && !listed(services, "*") && !listed(services, "email"):
		return fmt.Sprintf("s=%s says that the key is not for mail", services)
	}
	return ""
}

// dkimFault says why a record that has the expected key, as it has to be, does not verify signatures: by
// its other tags. It is empty if the key is another or mangled, or if all is well.
func dkimFault(expected, text string) string {
	want, _ := tags(expected)
	got, wrong := tags(text)
	switch {
	case got["p"] != want["p"] || want["p"] == "" || unquote(text) != text:
		return ""
	case wrong != "":
		return wrong
	case !versionFirst(text, got):
		return "v=DKIM1 is not its first tag"
	}
	return limitOf(want, got)
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

// tags reads a tag list (RFC 6376, section 3.2). wrong says what is wrong with it, or is empty. The first
// of two tags of one name counts.
func tags(text string) (out map[string]string, wrong string) {
	out = map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, has := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		_, twice := out[name]
		switch {
		case !has && name != "":
			wrong = cmp.Or(wrong, fmt.Sprintf("%q is no tag, which has a name, = and a value: remove it", name))
		case !has:
		case twice:
			wrong = cmp.Or(wrong, fmt.Sprintf("it has the tag %s= twice: keep one", name))
		default:
			out[name] = strings.TrimSpace(value)
		}
	}
	return out, wrong
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
	if dmarcFault(found[0]) != "" {
		return OtherValue
	}
	return ""
}

// oneDMARC is the DMARC record among the texts at a name, or "".
func oneDMARC(values []string) string {
	at := slices.IndexFunc(values, isDMARC)
	if at < 0 {
		return ""
	}
	return values[at]
}

// dmarcFault says what is wrong with a DMARC record (RFC 7489, section 6.4), and what to do. It is empty if
// nothing is.
func dmarcFault(text string) string {
	const policies = "p=none, p=quarantine or p=reject"
	got, wrong := tags(text)
	policy, has := got["p"]
	switch version := got["v"]; {
	case strings.EqualFold(version, "DMARC1") && version != "DMARC1":
		return fmt.Sprintf("v=%s has to be v=DMARC1, in capital letters", version)
	case version != "DMARC1":
		return "a semicolon is missing behind v=DMARC1"
	case wrong != "":
		return wrong
	case !has:
		return "it has no policy. Add one to it: " + policies
	case !slices.Contains([]string{"none", "quarantine", "reject"}, strings.ToLower(policy)):
		return fmt.Sprintf("p=%s is no policy. Make it %s", policy, policies)
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
