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

// fingerprintVersion begins every canonical form. It changes when the form does:
// two versions never agree about a message.
const fingerprintVersion = "postrider message 1"

// Fingerprint is the SHA-256 in hex of a message as Decode gives it: two requests
// for the same thing have the same one, in whichever shape they are written, and
// others do not. It is blind to the order of metadata and to text made from HTML,
// which depends on how that is done; it sees the order of all else.
func Fingerprint(m email.Message) string {
	f := newFingerprint(fingerprintVersion)
	f.addresses([]email.Address{m.From})
	for _, list := range [][]email.Address{m.ReplyTo, m.To, m.Cc, m.Bcc} {
		f.addresses(list)
	}
	body := m.Text
	if m.TextFromHTML {
		body = ""
	}
	f.add(m.Subject, body, m.HTML)
	f.count(len(m.Attachments))
	for _, a := range m.Attachments {
		content := a.SHA256
		if a.Content != nil {
			sum := sha256.Sum256(a.Content)
			content = hex.EncodeToString(sum[:])
		}
		// It has an id or a URL; the type tells them apart.
		f.add(a.Filename, a.Type, a.ContentID, string(a.ReferenceType), a.ReferenceID+a.URL, strconv.FormatBool(a.Optional), content)
	}
	f.count(len(m.Headers))
	for _, h := range m.Headers {
		f.add(h.Name, h.Value)
	}
	f.count(len(m.Metadata))
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		f.add(name, m.Metadata[name])
	}
	f.count(len(m.Tags))
	f.add(m.Tags...)
	f.add(moment(m.SendAt), moment(m.ExpiresAt), string(m.OnAmbiguous), string(m.Stream))
	if m.CallbackURL != "" { // later than the others: messages without one keep their fingerprint
		f.add("callback_url", m.CallbackURL)
	}
	if m.Calendar.ICS != "" { // the same
		f.add("calendar", m.Calendar.Method, m.Calendar.ICS)
	}
	return f.sum()
}

func newFingerprint(version string) fingerprint {
	f := fingerprint{sha256.New()}
	f.add(version)
	return f
}

func (f fingerprint) sum() string { return hex.EncodeToString(f.Sum(nil)) }

// fingerprint writes values so that no two sequences look alike: each with its
// length before it. A hash never fails to write.
type fingerprint struct{ hash.Hash }

func (f fingerprint) add(values ...string) {
	for _, v := range values {
		f.count(len(v))
		f.Hash.Write([]byte(v))
	}
}

func (f fingerprint) count(n int) { f.Hash.Write(binary.AppendUvarint(nil, uint64(n))) }

func (f fingerprint) addresses(as []email.Address) {
	f.count(len(as))
	for _, a := range as {
		f.add(a.Email, a.Name, a.Label, a.Detail)
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
