package advice

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// endLink judges the <a> that ends.
func (r *reader) endLink() {
	if r.link == nil {
		return
	}
	l := r.link
	r.link = nil
	text, href := strings.Join(strings.Fields(l.text.String()), " "), strings.TrimSpace(l.href)
	if namesUnsubscribing(text) || namesUnsubscribing(plaintext.Cut(href, 2048)) {
		r.unsubscribeLink = true
	}
	scheme, _ := schemeOf(href)
	switch scheme {
	case "http", "https":
	case "javascript", "vbscript", "data", "file", "blob":
		r.brokenLinks.add(l.where, scheme+":")
		return
	case "":
		switch {
		case href == "" || href == "#":
			r.weakLinks.add(l.where, "no target")
		case strings.HasPrefix(href, "#"): // within the mail
		case strings.HasPrefix(href, "//"):
			r.brokenLinks.add(l.where, "an address without https:")
		default:
			r.brokenLinks.add(l.where, "a relative address")
		}
		return
	default: // mailto:, tel:, an app's own
		return
	}
	u, err := url.Parse(href)
	if err != nil || u.Hostname() == "" {
		r.brokenLinks.add(l.where, "an address that cannot be read")
		return
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		r.brokenLinks.add(l.where, "an IP address in place of a name")
	} else if scheme == "http" {
		r.weakLinks.add(l.where, "http:")
	}
	if shown := shownDomain(text); shown != "" && !related(shown, host) {
		r.disguisedLinks.add(l.where, shown+" leads to "+plaintext.Cut(host, 100))
	}
}

// notDomains are the last labels of file names.
var notDomains = words("pdf doc docx xls xlsx ppt pptx txt csv zip gz rar png jpg jpeg gif svg webp mp3 mp4 wav avi js ts css html htm xml json md py go rs sh ics eml exe")

// shownDomain is the domain that a link's text names, or nothing. A word that
// begins as an address counts anywhere; a bare domain only if it is all there is.
func shownDomain(text string) string {
	if !strings.Contains(text, ".") {
		return ""
	}
	fields := strings.Fields(text)
	for _, w := range fields {
		w = strings.ToLower(strings.Trim(w, `<>()[]"'“”„‚‘’«».,;:!?…`))
		rest, scheme := strings.CutPrefix(w, "https://")
		if !scheme {
			rest, scheme = strings.CutPrefix(w, "http://")
		}
		if !scheme && !strings.HasPrefix(w, "www.") && (len(fields) > 1 || strings.Contains(w, "@")) {
			continue
		}
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i]
		}
		rest = rest[strings.LastIndexByte(rest, '@')+1:]
		rest, _, _ = strings.Cut(rest, ":")
		if isDomain(rest, scheme) {
			return rest
		}
	}
	return ""
}

// isDomain reports whether a text is a domain in ASCII. One that is not ASCII is
// left alone: its link may be written in xn-- form.
func isDomain(s string, certain bool) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(last) >= 2 && strings.Trim(last, "abcdefghijklmnopqrstuvwxyz") == "" && (certain || !notDomains[last])
}

// related reports whether two hosts look like one owner's: the same registered
// name. There is no list of public suffixes here; two short labels at the end, as
// in co.uk, are taken for one.
func related(a, b string) bool { return registered(a) == registered(b) }

func registered(host string) string {
	labels := strings.Split(host, ".")
	keep := 2
	if n := len(labels); n > 2 && len(labels[n-1]) == 2 && len(labels[n-2]) <= 3 {
		keep = 3
	}
	return strings.Join(labels[max(0, len(labels)-keep):], ".")
}

func (l *letter) linkURLs() verdict {
	broken, weak := l.page.brokenLinks, l.page.weakLinks
	switch {
	case l.HTML == "":
		return verdict{}
	case broken.count > 0:
		return warn(broken.where, "%s will not work everywhere: %s. Use absolute https: addresses of your own domain.", times(broken.count, "link"), strings.Join(broken.kinds, ", "))
	case weak.count > 0:
		return advise(weak.where, "%s could be better: %s. Use absolute https: addresses.", times(weak.count, "link"), strings.Join(weak.kinds, ", "))
	}
	return fine("Every link has an absolute address.")
}

func (l *letter) linkText() verdict {
	f := l.page.disguisedLinks
	switch {
	case l.HTML == "":
		return verdict{}
	case f.count > 0:
		return warn(f.where, "%s with the address of another site than it leads to (%s), as in phishing. Name links in words, or lead them where they say.",
			times(f.count, "link"), strings.Join(f.kinds, ", "))
	}
	return fine("No link shows another site's address.")
}

// unsubscribing are the words of such links, in lower case.
var unsubscribing = []string{
	"unsubscribe", "opt out", "opt-out", "optout", "manage preferences", "email preferences", "abmelden", "abbestellen", "austragen",
	"désabonn", "désinscri", "desabonn", "dar de baja", "darse de baja", "cancelar la suscripción", "cancelar suscripción", "cancelar inscrição",
	"disiscri", "annulla iscrizione", "afmelden", "uitschrijven", "avregistrera", "avprenumerera", "afmeld", "wypisz", "отписаться",
	"수신거부", "수신 거부", "配信停止", "退订", "退訂",
}

func namesUnsubscribing(s string) bool {
	s = strings.ToLower(s)
	for _, w := range unsubscribing {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// unsubscribe is about mail to many. Gmail and Yahoo ask those who send much of it
// for one-click unsubscribing (RFC 8058) since 2024.
func (l *letter) unsubscribe() verdict {
	if l.Message.Unsubscribe {
		if l.page.unsubscribeLink || strings.Contains(l.Text, sampleLink) {
			return fine("With one click, and by a link.")
		}
		return advise("", "The headers are written for you. Put the link into the text too, as %s: not every program shows a button.", unsubscribe.Placeholder)
	}
	if l.Stream != email.StreamBroadcast {
		return verdict{}
	}
	list, oneClick, at := "", "", ""
	for _, h := range l.Headers {
		switch strings.ToLower(h.Name) {
		case "list-unsubscribe":
			list, at = h.Value, "/headers/"+h.Name
		case "list-unsubscribe-post":
			oneClick = h.Value
		}
	}
	text := plaintext.Cut(l.Text, maxText)
	link := l.page.unsubscribeLink || !l.TextFromHTML && namesUnsubscribing(text) && strings.ContainsAny(text, ":@")
	https := strings.Contains(strings.ToLower(list), "<https://")
	const header = `Say "unsubscribe": true, or add the headers "List-Unsubscribe": "<https://…>" and "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" (RFC 8058) yourself: large providers require them of mail to many.`
	switch {
	case list == "" && !link:
		return warn("", "A broadcast from which nobody can unsubscribe is marked as spam instead. Add a link that needs no login. %s", header)
	case list == "":
		return advise("", "There is a link, but no header, from which programs make their own button. %s", header)
	case !https && !strings.Contains(strings.ToLower(list), "<mailto:"):
		return warn(at, "List-Unsubscribe holds addresses in angle brackets, <https://…> or <mailto:…> (RFC 2369); this one is not read.")
	case !https || !strings.EqualFold(strings.TrimSpace(oneClick), "List-Unsubscribe=One-Click"):
		return advise(at, "The header is there, but takes more than one click. %s", header)
	case !link:
		return advise("", "The headers are there. Add a link to the text too: not every program shows a button.")
	}
	return fine("With one click, and by a link.")
}
