package unsubscribe

import "regexp"

// Name is the name of the placeholder: {{unsubscribe_url}}.
const Name = "unsubscribe_url"

// Placeholder is the placeholder as a message has it.
const Placeholder = "{{" + Name + "}}"

// MaxPlaceholders limits the placeholders of a message, because a link is longer than its placeholder.
const MaxPlaceholders = 50

// White space is what strings.TrimSpace takes away, as mailmerge reads the names of variables.
var placeholder = regexp.MustCompile(`\{\{[\s\v\x{85}\pZ]*` + Name + `[\s\v\x{85}\pZ]*\}\}`)

// Count returns how many placeholders a text has, at most one more than MaxPlaceholders.
func Count(text string) int { return len(placeholder.FindAllStringIndex(text, MaxPlaceholders+1)) }

// Fill replaces the placeholders of a text with a link.
func Fill(text, link string) string { return placeholder.ReplaceAllLiteralString(text, link) }
