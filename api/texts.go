package api

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the small texts that customers give their things.
const (
	maxNameBytes   = 255
	maxDetailBytes = 2048
	// maxExpire is ten years, in seconds.
	maxExpire = 10 * 365 * 24 * 3600
)

// checkTexts bounds what is kept as it is given.
func checkTexts(texts map[string]string) error {
	for _, pointer := range slices.Sorted(maps.Keys(texts)) {
		limit := maxNameBytes
		if pointer == "/detail" || pointer == "/webhook_uri" {
			limit = maxDetailBytes
		}
		if len(texts[pointer]) > limit {
			return invalid(pointer, "too_long", "shorten it")
		}
		for _, r := range texts[pointer] {
			if r == 0 || r == '\r' || r == '\n' {
				return invalid(pointer, "control_character", "remove line breaks and NUL")
			}
		}
	}
	return nil
}

func storableText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// storableTime refuses the year 0, which RFC 3339 has and Postgres has not. With an
// offset, times of the first and the last day of all may be beyond, too.
func storableTime(t time.Time) bool { return t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 }
