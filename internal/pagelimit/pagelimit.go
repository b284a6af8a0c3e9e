// Package pagelimit says how many bytes a page of a list has. The store ends pages by it, and the
// API reserves memory by it.
package pagelimit

const (
	// entryBytes is what a page has for each entry that was asked for. Few entries have more.
	entryBytes = 16 << 10
	// leastBytes is what the smallest page has. Hardly any single entry has more.
	leastBytes = 256 << 10
	// mostBytes is what the largest page has.
	mostBytes = 1 << 20
)

// Bytes is about how many bytes the entries of a page have together, if at most so many entries
// were asked for: 256 KiB for up to 16, and 1 MiB for 64 and more. A page has its first entry even
// if that entry has more bytes.
func Bytes(entries int) int64 {
	return max(leastBytes, entryBytes*min(int64(entries), mostBytes/entryBytes))
}
