package intake

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/email"
)

// fingerprintVersion begins every canonical form. It has to change with the form: fingerprints
// of two versions are never equal.
const fingerprintVersion = "postrider message 1"

// Fingerprint is the SHA-256, in hex, of a message that Decode returned. Requests for the same
// message have the same fingerprint in both shapes; others have different ones. The order of
// metadata does not count, and every other order does. A text made from HTML does not count:
// the conversion may change.
func Fingerprint(m email.Message) string {
	f := NewFingerprinter(fingerprintVersion)
	f.addresses([]email.Address{m.From})
	for _, list := range [][]email.Address{m.ReplyTo, m.To, m.Cc, m.Bcc} {
		f.addresses(list)
	}
	body := m.Text
	if m.TextFromHTML {
		body = ""
	}
	f.Add(m.Subject, body, m.HTML)
	f.Count(len(m.Attachments))
	for _, a := range m.Attachments {
		content := a.SHA256
		if a.Content != nil {
			sum := sha256.Sum256(a.Content)
			content = hex.EncodeToString(sum[:])
		}
		// It has either an id or a URL; the type says which.
		f.Add(a.Filename, a.Type, a.ContentID, string(a.ReferenceType), a.ReferenceID+a.URL, strconv.FormatBool(a.Optional), content)
	}
	f.Count(len(m.Headers))
	for _, h := range m.Headers {
		f.Add(h.Name, h.Value)
	}
	f.Count(len(m.Metadata))
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		f.Add(name, m.Metadata[name])
	}
	f.Count(len(m.Tags))
	f.Add(m.Tags...)
	f.Add(moment(m.SendAt), moment(m.ExpiresAt), string(m.OnAmbiguous), string(m.Stream))
	if m.CallbackURL != "" { // added later: messages without one keep their fingerprint
		f.Add("callback_url", m.CallbackURL)
	}
	if m.Calendar.ICS != "" { // added later, too
		f.Add("calendar", m.Calendar.Method, m.Calendar.ICS)
	}
	if m.IgnoreSuppressions { // likewise
		f.Add("ignore_suppressions")
	}
	// A link that is the stream's default counts for nothing: keys of an earlier version keep their meaning.
	if m.Topic != "" || m.Unsubscribe && m.Stream != email.StreamBroadcast {
		f.Add("unsubscribe", m.Topic)
	}
	return f.Sum()
}

// NewFingerprinter begins a fingerprint. version names the canonical form.
func NewFingerprinter(version string) Fingerprinter {
	f := Fingerprinter{hash: sha256.New()}
	f.Add(version)
	return f
}

// Sum is the SHA-256 of the added values, in hex.
func (f Fingerprinter) Sum() string { return hex.EncodeToString(f.hash.Sum(nil)) }

// Fingerprinter hashes values, each with its length before it, so that no two different
// sequences hash the same bytes. Writing to a hash never fails.
type Fingerprinter struct{ hash hash.Hash }

// Add adds values in their order.
func (f Fingerprinter) Add(values ...string) {
	for _, v := range values {
		f.Count(len(v))
		f.hash.Write([]byte(v))
	}
}

// Count adds a number: how many values or groups follow.
func (f Fingerprinter) Count(n int) { f.hash.Write(binary.AppendUvarint(nil, uint64(n))) }

func (f Fingerprinter) addresses(as []email.Address) {
	f.Count(len(as))
	for _, a := range as {
		f.Add(a.Email, a.Name, a.Label, a.Detail)
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
