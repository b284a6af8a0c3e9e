package api

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of names and descriptions, in bytes.
const (
	maxNameBytes   = 255
	maxDetailBytes = 2048
)

// checkTexts refuses texts that are too long or contain line breaks or NUL. Its keys are JSON
// Pointers; /detail and /webhook_uri may have maxDetailBytes, all others maxNameBytes.
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

// storableText reports whether Postgres can store a text: it is UTF-8 without NUL.
func storableText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// storableTime reports whether Postgres can store a time: its year in UTC is between 1 and 9999.
// RFC 3339 has a year 0, and an offset can move a time across the bounds.
func storableTime(t time.Time) bool { return t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 }
