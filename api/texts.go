package api

import (
	"maps"
	"slices"
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
