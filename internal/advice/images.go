package advice

import (
	"fmt"
	"net/url"
	"strings"
)

func (r *reader) image() {
	r.images++
	if _, ok := r.attr["alt"]; !ok { // an empty one says: nothing to say
		r.noAlt.add(r.where(), "<img>")
	}
	r.imageURL(r.attr["src"], r.where())
}

// imageURL judges where an image comes from.
func (r *reader) imageURL(src, where string) {
	src = strings.TrimSpace(src)
	scheme, rest := schemeOf(src)
	switch scheme {
	case "https":
	case "http":
		r.insecureImages.add(where, "http:")
	case "cid":
		id, err := url.PathUnescape(rest) // RFC 2392 section 2
		if err != nil {
			id = rest
		}
		if !r.attached[id] {
			r.brokenImages.add(where, "cid: of a file that is not attached")
			return
		}
		r.shown[id] = true
	case "data":
		r.brokenImages.add(where, "data:")
	case "":
		switch {
		case strings.HasPrefix(src, "#"): // url(#…) names no file
		case src == "":
			r.brokenImages.add(where, "no address")
		case strings.HasPrefix(src, "//"):
			r.brokenImages.add(where, "an address without https:")
		default:
			r.brokenImages.add(where, "a relative address")
		}
	default:
		r.brokenImages.add(where, "an address that is not of the web")
	}
}

// schemeOf splits an address at its scheme (RFC 3986 section 3.1), which is empty
// in a relative one.
func schemeOf(addr string) (scheme, rest string) {
	scheme, rest, found := strings.Cut(addr, ":")
	if !found || scheme == "" || strings.Trim(scheme, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.-") != "" {
		return "", addr
	}
	return strings.ToLower(scheme), rest
}

func (l *letter) imageAlt() verdict {
	switch f := l.page.noAlt; {
	case l.page.images == 0:
		return verdict{}
	case f.count > 0:
		return warn(f.where, `%s of %d without alt text. Many programs show images only when asked: say in alt what is to be seen, and write alt="" where it is decoration.`, times(f.count, "image"), l.page.images)
	default:
		return fine("%s, all with alt.", times(l.page.images, "image"))
	}
}

func (l *letter) imageURLs() verdict {
	broken, insecure := l.page.brokenImages, l.page.insecureImages
	switch {
	case broken.count > 0:
		return warn(broken.where, "%s will not be shown everywhere: %s. Use absolute https: addresses, or attach the file with a content_id and name it as cid:….",
			times(broken.count, "image"), strings.Join(broken.kinds, ", "))
	case insecure.count > 0:
		return advise(insecure.where, "%s by http:, which some programs do not load. Use https:.", times(insecure.count, "image"))
	case l.page.images == 0:
		return verdict{}
	}
	return fine("All addresses are absolute.")
}

// inlineFiles looks for files that are attached for the HTML and do not stand in it.
func (l *letter) inlineFiles() verdict {
	inline := 0
	for i, a := range l.Attachments {
		if a.ContentID == "" {
			continue
		}
		inline++
		if !l.page.shown[a.ContentID] {
			return advise(fmt.Sprintf("/attachments/%d", i), "A file has a content_id that the HTML does not show as cid:…; some programs list it as an attachment, others not at all. Remove the content_id, or show the file.")
		}
	}
	if inline == 0 {
		return verdict{}
	}
	return fine("%s, all shown.", times(inline, "inline file"))
}
