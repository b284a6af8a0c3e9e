// Package portion says how many bytes the store reads or writes at once. The API reserves memory by it.
package portion

const (
	// entryBytes is what a page has for each entry that was asked for. Few entries have more.
	entryBytes = 16 << 10
	// leastBytes is what the smallest page has. Hardly any single entry has more.
	leastBytes = 256 << 10
	// mostBytes is what the largest page has.
	mostBytes = 1 << 20
)

// BatchInsert is the size of texts, HTML, headers and metadata after which the store inserts what it
// has read of a batch. An insert has less than that and one message.
const BatchInsert = 384 << 10

// Page is about how many bytes the entries of a page have together, if at most so many entries
// were asked for: 256 KiB for up to 16, and 1 MiB for 64 and more. A page has its first entry even
// if that entry has more bytes.
func Page(entries int) int64 {
	return max(leastBytes, entryBytes*min(int64(entries), mostBytes/entryBytes))
}
