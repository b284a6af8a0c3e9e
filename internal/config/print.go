package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// shown is a setting with its value without secrets.
type shown struct{ name, value string }

// shown are the settings that the command uses, in the order of the table.
func (c Config) shown() []shown {
	v, t := reflect.ValueOf(c), reflect.TypeFor[Config]()
	fields := map[string]any{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("env"); name != "" {
			fields[name] = v.Field(i).Interface()
		}
	}
	var out []shown
	for _, s := range settings {
		if s.Uses&c.use != 0 {
			out = append(out, shown{s.Name, show(s, fields[s.Name])})
		}
	}
	return out
}

// Lines are NAME=value, one for each setting that the command uses. For a secret, the value is
// "set" or "not set". Passwords in URLs are masked.
func (c Config) Lines() []string {
	var out []string
	for _, s := range c.shown() {
		out = append(out, s.name+"="+s.value)
	}
	return out
}

// Log writes the settings as one line.
func (c Config) Log(log *slog.Logger) {
	var attrs []any
	for _, s := range c.shown() {
		attrs = append(attrs, slog.String(s.name, s.value))
	}
	log.Info("config.loaded", attrs...)
}

func show(s Setting, value any) string {
	switch value := value.(type) {
	case Secret:
		if value.Reveal() == "" {
			return "not set"
		}
		if s.HasPassword {
			return maskPassword(value.Reveal())
		}
		return "set"
	case Key:
		if len(value.Bytes()) == 0 {
			return "not set"
		}
		return "set"
	case PayloadKeys:
		return orNotSet(value.ids())
	case RelayURLs:
		return orNotSet(strings.Join(value.Redacted(), " "))
	case []time.Duration:
		return join(value, short)
	case time.Duration:
		return short(value)
	case Interval:
		return short(time.Duration(value))
	case []netip.Prefix:
		return orNotSet(join(value, netip.Prefix.String))
	case DNSServers:
		return orNotSet(strings.Join(value, ","))
	case []string:
		if value != nil && len(value) == 0 {
			return none
		}
		return orNotSet(strings.Join(value, ","))
	case []CustomerNetwork:
		return orNotSet(join(value, func(n CustomerNetwork) string { return n.CustomerID + "=" + n.Network.String() }))
	case []RecipientRate:
		return orNotSet(join(value, func(r RecipientRate) string { return r.Domain + "=" + r.Rate }))
	case slog.Level:
		return strings.ToLower(value.String())
	default:
		return orNotSet(fmt.Sprint(value))
	}
}

func orNotSet(text string) string {
	if text == "" {
		return "not set"
	}
	return text
}

func join[T any](values []T, text func(T) string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = text(v)
	}
	return strings.Join(out, ",")
}

// short formats a duration without trailing zero units: 2h, not 2h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
