package safehttp

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxURLBytes bounds a URL that is to be stored and called.
const maxURLBytes = 2048

// URLError says what is wrong with the shape of a URL, and what to do. It never
// repeats the URL.
type URLError struct{ Reason string }

func (e *URLError) Error() string { return e.Reason }

// CheckURL judges the shape of a URL before it is stored; a *URLError or a
// *BlockedError says what to change. It asks no name server: what a name
// resolves to is judged at every call, when it counts.
func (c *Client) CheckURL(raw string) error {
	if len(raw) > maxURLBytes {
		return &URLError{"the URL has " + strconv.Itoa(len(raw)) + " bytes, limit " + strconv.Itoa(maxURLBytes)}
	}
	if strings.Contains(raw, "#") {
		return &URLError{"a URL with a fragment (#…) is not accepted"}
	}
	u, err := url.Parse(raw)
	if err != nil { // its text holds the URL
		return &URLError{"this is not a URL"}
	}
	return c.check(u)
}

func (c *Client) check(u *url.URL) error {
	switch {
	case u.Scheme == "https", u.Scheme == "http" && c.allowHTTP:
	case u.Scheme == "http":
		return &URLError{"the URL has to start with https://"}
	default:
		return &URLError{"the URL has to be absolute and start with https://"}
	}
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return &URLError{"the URL names no host"}
	case u.User != nil:
		return &URLError{"a URL with a user name or password is not accepted"}
	}
	if err := checkPort(u); err != nil {
		return err
	}
	return c.checkHost(u.Hostname())
}

func checkPort(u *url.URL) error {
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return &URLError{"the URL has a colon and no port"}
		}
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n != 443 && n != 80 && n < 1024 {
		return &URLError{"the port has to be 443, 80, or from 1024 to 65535"}
	}
	return nil
}

// checkHost judges addresses at once and names by their shape.
func (c *Client) checkHost(host string) error {
	if strings.Contains(host, ":") || strings.Contains(host, "%") {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.Zone() != "" {
			return &URLError{"the host is not an IPv6 address"}
		}
		_, err = c.policy.check(addr)
		return err
	}
	for _, r := range host {
		if r > 0x7f {
			return &URLError{"the host has to be written in ASCII; an internationalised name in its xn-- form"}
		}
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	if last := labels[len(labels)-1]; numeric(last) {
		// 2130706433, 0x7f.1 and 017700000001 are 127.0.0.1 to inet_aton and so
		// to some resolvers. Such a form has no use but to get past a check.
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return &URLError{"the host looks like an IPv4 address but is not one; write it as four decimal numbers"}
		}
		_, err = c.policy.check(addr)
		return err
	}
	if len(name) > 253 {
		return &URLError{"the host name is longer than 253 characters"}
	}
	for _, l := range labels {
		if !validLabel(l) {
			return &URLError{"the host name is not valid"}
		}
	}
	if l := strings.ToLower(labels[len(labels)-1]); l == "localhost" {
		_, err := c.policy.check(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		return err
	}
	return nil
}

// numeric is the "ends in a number" rule of the WHATWG URL standard: such a
// host is an IPv4 address or nothing.
func numeric(label string) bool {
	digits := strings.TrimLeft(label, "0123456789")
	if label != "" && digits == "" {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(label), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// validLabel takes letters, digits, inner hyphens, and the underscore that
// names of containers have.
func validLabel(l string) bool {
	if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := range len(l) {
		switch b := l[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
		default:
			return false
		}
	}
	return true
}
