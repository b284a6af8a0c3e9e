package config

import "strings"

// ParseEnvFile reads lines of NAME='value', such as those of dev.env. It skips lines without =.
func ParseEnvFile(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[name] = strings.Trim(value, "'")
		}
	}
	return out
}
