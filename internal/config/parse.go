package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// parsers parse the values of each type. Their errors continue a sentence that begins with the
// variable's name.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[bool]():              func(v string) (any, error) { return parseBool(v) },
	reflect.TypeFor[int]():               func(v string) (any, error) { return parsePort(v) },
	reflect.TypeFor[Count]():             func(v string) (any, error) { return parseCount(v) },
	reflect.TypeFor[int64]():             func(v string) (any, error) { return parseBytes(v) },
	reflect.TypeFor[time.Duration]():     func(v string) (any, error) { return parseDuration(v, true) },
	reflect.TypeFor[Interval]():          func(v string) (any, error) { return parseInterval(v) },
	reflect.TypeFor[[]time.Duration]():   func(v string) (any, error) { return parseDurations(v) },
	reflect.TypeFor[[]netip.Prefix]():    func(v string) (any, error) { return parsePrefixes(v) },
	reflect.TypeFor[[]string]():          func(v string) (any, error) { return parseExtensions(v) },
	reflect.TypeFor[[]CustomerNetwork](): func(v string) (any, error) { return parseCustomerNetworks(v) },
	reflect.TypeFor[DNSServers]():        func(v string) (any, error) { return parseDNSServers(v) },
	reflect.TypeFor[[]RecipientRate]():   func(v string) (any, error) { return parseRecipientRates(v) },
}

// texts are checks of the raw values, by setting.
var texts = map[string]func(string) error{
	"DATABASE_URL":                     checkDatabaseURL,
	"POSTRIDER_LISTEN":                 checkListen,
	"POSTRIDER_HEALTH_LISTEN":          checkListen,
	"POSTRIDER_INBOUND_LISTEN":         checkListen,
	"POSTRIDER_PPROF_LISTEN":           checkListen,
	"POSTRIDER_PUBLIC_URL":             checkBaseURL,
	"POSTRIDER_TEMPORAL_UI_URL":        checkBaseURL,
	"POSTRIDER_RECORDING_URL":          checkRecordingURL,
	"POSTRIDER_BOUNCE_HOST":            checkHost,
	"POSTRIDER_LOG_LEVEL":              checkLevel,
	"POSTRIDER_RETRY_SCHEDULE":         checkRetrySchedule,
	"POSTRIDER_INBOUND_SPOOL_DIR":      checkDirectory,
	"POSTRIDER_MAX_RECIPIENTS":         checkMaxRecipients,
	"POSTRIDER_REQUEST_SPOOL_DIR":      checkDirectory,
	"POSTRIDER_INBOUND_MAX_RECIPIENTS": checkRecipients,
	"POSTRIDER_CODEC_TOKEN":            checkToken,
	"POSTRIDER_DEPLOYMENT":             checkDeployment,
	"POSTRIDER_BUILD_ID":               checkBuildID,
}

// parse fills cfg and returns the problems of the values. An error is a bug of this package.
func parse(cfg *Config, values map[string]string) (Problems, error) {
	var problems Problems
	values = checkTexts(values, &problems)
	err := env.ParseWithOptions(cfg, env.Options{Environment: values, FuncMap: parsers})
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	cfg.TemporalUIURL = strings.TrimRight(cfg.TemporalUIURL, "/")
	if err == nil {
		return problems, nil
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		return nil, fmt.Errorf("config: %w", err)
	}
	for _, one := range all.Errors {
		var wrong env.ParseError
		if !errors.As(one, &wrong) {
			return nil, fmt.Errorf("config: %w", one)
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(wrong.Name)
		problems = append(problems, find(field.Tag.Get("env")).problem(wrong.Err.Error()))
	}
	return problems, nil
}

// checkTexts returns the values without the invalid ones, whose problems it adds.
func checkTexts(values map[string]string, problems *Problems) map[string]string {
	out := map[string]string{}
	for name, value := range values {
		if check := texts[name]; check != nil && value != "" {
			if err := check(value); err != nil {
				*problems = append(*problems, find(name).problem(err.Error()))
				continue
			}
		}
		out[name] = value
	}
	return out
}

func (c Config) checkRelays(check func(string) error) Problems {
	var out Problems
	s := find("POSTRIDER_SMTP_URLS")
	shown := c.SMTPURLs.Redacted()
	for i, raw := range c.SMTPURLs {
		u, err := url.Parse(raw)
		switch {
		case err != nil:
			out = append(out, s.problem(fmt.Sprintf("relay %d is not a URL: are the special characters in user and password percent-encoded?", i+1)))
			continue
		case u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "":
			out = append(out, s.problem(fmt.Sprintf("relay %d does not begin with smtp://HOST or smtps://HOST", i+1)))
			continue
		case check == nil:
			continue
		}
		if err := check(raw); err != nil {
			out = append(out, s.problem(fmt.Sprintf("relay %d (%s): %s", i+1, shown[i], scrub(err.Error(), raw, u))))
		}
	}
	return out
}

// scrub removes the URL and its password from an error text of a check.
func scrub(text, raw string, u *url.URL) string {
	text = strings.ReplaceAll(text, raw, redacted)
	if password, ok := u.User.Password(); ok && password != "" {
		_, encoded, _ := strings.Cut(u.User.String(), ":")
		text = strings.NewReplacer(password, redacted, encoded, redacted).Replace(text)
	}
	return text
}

func parseBool(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("is %q, need true or false", v)
	}
	return b, nil
}

// parsePort accepts 0, too: dev's servers then choose a free port.
func parsePort(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("is %q, need a port from 0 to 65535", v)
	}
	return int(n), nil
}

func parseCount(v string) (Count, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("is %q, need a number from 1 to 65535", v)
	}
	return Count(n), nil
}

// checkRecipients refuses fewer recipients than RFC 5321 section 4.5.3.1.8 requires a server to
// accept.
func checkRecipients(v string) error {
	n, err := parseCount(v)
	if err != nil {
		return err
	}
	if n < 100 {
		return fmt.Errorf("is %q, need 100 or more", v)
	}
	return nil
}

// checkMaxRecipients refuses more than 1000: a batch is for them. A relay accepts about 100
// recipients per transaction.
func checkMaxRecipients(v string) error {
	if n, err := parseCount(v); err != nil || n > 1000 {
		return fmt.Errorf("is %q, need a number from 1 to 1000", v)
	}
	return nil
}

func checkDirectory(v string) error {
	if !filepath.IsAbs(v) {
		return fmt.Errorf("is %q, need a path that begins with /", v)
	}
	return nil
}

func parseBytes(v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("is %q, need a number of bytes above 0, without a unit", v)
	}
	return n, nil
}

func parseDuration(v string, positive bool) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("has %q, need a duration with its unit: s, m or h", v)
	}
	if d < 0 || positive && d == 0 {
		least := "0s or more"
		if positive {
			least = "more than 0s"
		}
		return 0, fmt.Errorf("has %q, need %s", v, least)
	}
	return d, nil
}

func parseInterval(v string) (Interval, error) {
	d, err := parseDuration(v, false)
	if err == nil && d > 0 && d < time.Second {
		err = fmt.Errorf("has %q, need 1s or more, or 0 for never", v)
	}
	return Interval(d), err
}

func parseDurations(v string) ([]time.Duration, error) {
	var out []time.Duration
	for part := range strings.SplitSeq(v, ",") {
		d, err := parseDuration(strings.TrimSpace(part), false)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// checkRetrySchedule refuses waits below 1 s: with a wait of 0, attempts would repeat in a loop.
func checkRetrySchedule(v string) error {
	steps, err := parseDurations(v)
	if err != nil {
		return err
	}
	if least := slices.Min(steps); least < time.Second {
		return fmt.Errorf("has %q, need 1s or more", least)
	}
	return nil
}

func parsePrefixes(v string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }) {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("has %q, need a network as address/bits", part)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("has %q, whose address has bits beyond /%d; did you mean %s?", part, p.Bits(), p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}

var extensionShape = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// none is the value for an empty list.
const none = "none"

// parseExtensions accepts extensions with or without a dot.
func parseExtensions(v string) ([]string, error) {
	out := []string{}
	if v == none {
		return out, nil
	}
	for part := range strings.SplitSeq(v, ",") {
		ext := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(part), "."))
		if !extensionShape.MatchString(ext) || ext == none {
			return nil, fmt.Errorf("has %q, need file name extensions such as exe, or none alone", strings.TrimSpace(part))
		}
		out = append(out, ext)
	}
	return out, nil
}

var (
	// A domain is written as in DNS: an internationalized domain in its xn-- form.
	rateDomain = regexp.MustCompile(`^(\*|([a-z0-9_-]{1,63}\.)+[a-z0-9-]{1,63})$`)
	rateShape  = regexp.MustCompile(`^([1-9][0-9]{0,5})/(s|m|h)$`)
)

func parseCustomerNetworks(v string) ([]CustomerNetwork, error) {
	var out []CustomerNetwork
	for part := range strings.SplitSeq(v, ",") {
		id, network, _ := strings.Cut(strings.TrimSpace(part), "=")
		p, err := netip.ParsePrefix(network)
		if err != nil || p != p.Masked() || !customerID.MatchString(id) {
			return nil, fmt.Errorf("has %q, need a customer's id and a network whose host bits are zero, as 01a20894-d574-79b4-a163-2c334f1ed74c=10.20.0.0/16", part)
		}
		out = append(out, CustomerNetwork{CustomerID: strings.ToLower(id), Network: p})
	}
	return out, nil
}

var customerID = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

func parseRecipientRates(v string) ([]RecipientRate, error) {
	var out []RecipientRate
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		domain, rate, _ := strings.Cut(part, "=")
		domain = strings.ToLower(strings.TrimSpace(domain))
		m := rateShape.FindStringSubmatch(strings.TrimSpace(rate))
		if m == nil || !rateDomain.MatchString(domain) {
			return nil, fmt.Errorf("has %q, need a domain and its rate, as gmail.com=20/s, outlook.com=600/m or *=1000/h", part)
		}
		if slices.ContainsFunc(out, func(r RecipientRate) bool { return r.Domain == domain }) {
			return nil, fmt.Errorf("has %s twice", domain)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		pace := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[m[2]] / time.Duration(n)
		out = append(out, RecipientRate{Domain: domain, Rate: m[0], Pace: pace})
	}
	return out, nil
}

func parseDNSServers(v string) (DNSServers, error) {
	var out DNSServers
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		host, port, err := net.SplitHostPort(part)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" {
			return nil, fmt.Errorf("has %q, need host:port, as 192.0.2.53:53 or [2001:db8::53]:53", part)
		}
		out = append(out, part)
	}
	return out, nil
}

func checkListen(v string) error {
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return fmt.Errorf("is %q, need host:port or :port", v)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("is %q, need a port from 1 to 65535 after the colon", v)
	}
	return nil
}

// hostLabel is a label of a host name (RFC 1123, section 2.1).
var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkHost(v string) error {
	labels := strings.Split(v, ".")
	for _, label := range labels {
		if !hostLabel.MatchString(label) || len(labels) < 2 || len(v) > 253 {
			return fmt.Errorf("is %q, need a host name of two labels or more in lower case, as bounce.example.com", v)
		}
	}
	if _, err := netip.ParseAddr(v); err == nil {
		return fmt.Errorf("is the address %s, need the name of a host with an MX record, as bounce.example.com", v)
	}
	return nil
}

func checkBaseURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("is %q, need an http:// or https:// URL", v)
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("has a user, a query or a fragment, need scheme, host and path only")
	}
	return nil
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

func checkRecordingURL(v string) error {
	found := placeholder.FindAllString(v, -1)
	for _, p := range found {
		if p != "{id}" && p != "{customer_id}" {
			return fmt.Errorf("has %s, need {id} and may have {customer_id} only", p)
		}
	}
	if !slices.Contains(found, "{id}") {
		return errors.New("has no {id}")
	}
	// With a placeholder in the host, the id of a recording would choose the server.
	u, err := url.Parse(placeholder.ReplaceAllString(v, "x"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("is not an http:// or https:// URL")
	}
	if _, rest, _ := strings.Cut(v, "://"); strings.Contains(strings.SplitN(rest, "/", 2)[0], "{") {
		return errors.New("has a placeholder in its host")
	}
	return nil
}

// checkToken never repeats the value. The characters are those that need no escaping in a URL.
func checkToken(v string) error {
	if !tokenShape.MatchString(v) {
		return errors.New("is too short or has special characters, need 16 or more letters, digits, - and _")
	}
	return nil
}

var tokenShape = regexp.MustCompile(`^[A-Za-z0-9_-]{16,}$`)

// checkDeployment refuses dots and colons: Temporal writes a version as deployment.build or
// deployment:build.
func checkDeployment(v string) error {
	if !deploymentShape.MatchString(v) {
		return fmt.Errorf("is %q, need 1 to 100 letters, digits, - and _", v)
	}
	return nil
}

func checkBuildID(v string) error {
	if !buildIDShape.MatchString(v) {
		return fmt.Errorf("is %q, need 1 to 100 letters, digits, dots, - and _", v)
	}
	return nil
}

var (
	deploymentShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
	buildIDShape    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
)

// checkDatabaseURL never repeats the value: it contains the password.
func checkDatabaseURL(v string) error {
	u, err := url.Parse(v)
	if err != nil {
		return errors.New("is not a URL: are the special characters in user and password percent-encoded?")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("does not begin with postgres:// or postgresql://")
	}
	if u.Host == "" && u.Query().Get("host") == "" {
		return errors.New("names no host")
	}
	if strings.Trim(u.Path, "/") == "" {
		return errors.New("names no database after the host")
	}
	return nil
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func checkLevel(v string) error {
	if _, ok := levels[strings.ToLower(v)]; !ok {
		return fmt.Errorf("is %q, need debug, info, warn or error", v)
	}
	return nil
}
