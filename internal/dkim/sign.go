// Package dkim signs messages (RFC 6376, 8301, 8463) and checks the DNS record of a key.
//
//  1. GenerateKey makes a key pair. PrivateKey.Record is the value of its TXT record, and
//     Key.RecordName the name. PrivateKey.Check compares what DNS has with the key.
//  2. Sign makes a header field for each key, to put before the message. The same message, keys
//     and time have the same bytes, so each attempt of an e-mail is signed anew and equal.
//  3. Signatures are relaxed/relaxed. They have no l= (text could be added), no x= (mail that
//     waits in a queue would fail) and no i=.
//  4. The tag h= names each field of the set oversigned once more than the message has it. A
//     relay that adds such a field breaks the signature, as one that changes or removes it does
//     (RFC 6376 section 8.15). Other fields are signed as they are; see neverSigned.
//
// The package takes d= as it is: whether it aligns with the From field (DMARC) is the caller's
// matter. Its functions may be called at the same time.
//
// The signer is ours because that of go-msgauth always stamps the current time.
package dkim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oversigned are the fields that must not be added to a message. Their order is that of h=. RFC
// 8058 section 4 requires both List-Unsubscribe fields in h=.
var oversigned = []string{
	"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post",
}

// maxNameBytesSigned is the longest name in h=: one line has to hold it.
const maxNameBytesSigned = 900

// neverSigned reports whether a field, its name in lower case, is left out of h=. Servers add or
// remove these fields (RFC 6376 section 5.4.1), or h= cannot hold the name. Verifiers take "=" and
// ";" in it for the marks of a tag.
func neverSigned(name string) bool {
	switch name {
	case "received", "return-path", "dkim-signature", "bcc":
		return true
	}
	return strings.HasPrefix(name, "resent-") || strings.ContainsAny(name, ";=") || len(name) > maxNameBytesSigned
}

// Sign makes the fields DKIM-Signature of a message, one for each key, those of RSA keys first.
// They end in CRLF and belong before the message. Their lines have 78 bytes where they can be
// folded, and never more than 998.
//
// The message is the one that SMTP sends, without doubled dots. Its last line may lack the CRLF,
// which SMTP adds. The tag t= is at, in whole seconds. Sign reads the body once for all keys and
// does not copy it.
//
// The error is ErrMessage if the message has no From field, or a line in its header that is no
// field. It is ErrMessage for a CR or LF outside a CRLF as well: servers take those for different
// things, so no signature would be good at all of them. Package smtp does not send such a message.
// Other errors are of the keys or of the time.
func Sign(message []byte, keys []Key, at time.Time) ([]byte, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no DKIM key to sign with: give at least one")
	}
	for i, k := range keys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("DKIM key %d: %w", i, err)
		}
	}
	if at.Unix() < 0 {
		return nil, fmt.Errorf("time %s is before 1970: give the time of the first attempt", at.UTC().Format(time.RFC3339))
	}
	fields, body, err := split(message)
	if err != nil {
		return nil, err
	}
	names, signed := selectFields(fields)
	if !slices.ContainsFunc(fields, func(f field) bool { return bytes.EqualFold(f.name, []byte("From")) }) {
		return nil, fmt.Errorf("%w: it has no From field (RFC 6376 section 5.4)", ErrMessage)
	}
	bodyHash, err := hashBody(body)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, rsa := range []bool{true, false} {
		for _, k := range keys {
			if (k.Private.Algorithm() == RSA) != rsa {
				continue
			}
			if out, err = appendSignature(out, k, names, signed, bodyHash, at); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// selectFields returns the names of h= and the fields that they stand for, in the form relaxed. Of
// fields with one name the last comes first (RFC 6376 section 5.4.2).
func selectFields(fields []field) (names []string, signed []byte) {
	present := map[string][]field{}
	order := slices.Clone(oversigned)
	for _, f := range fields {
		name := strings.ToLower(string(f.name))
		if neverSigned(name) {
			continue
		}
		if present[name] == nil && !slices.ContainsFunc(oversigned, func(o string) bool { return strings.EqualFold(o, name) }) {
			order = append(order, string(f.name))
		}
		present[name] = append(present[name], f)
	}
	for i, name := range order {
		for _, f := range slices.Backward(present[strings.ToLower(name)]) {
			names = append(names, name)
			signed = append(appendField(signed, f.name, f.value), "\r\n"...)
		}
		if i < len(oversigned) {
			names = append(names, name)
		}
	}
	return names, signed
}

// appendSignature appends one field DKIM-Signature.
func appendSignature(out []byte, k Key, names []string, signed, bodyHash []byte, at time.Time) ([]byte, error) {
	w := folded{out: append(out, "DKIM-Signature:"...), column: len("DKIM-Signature:")}
	value := len(w.out)
	w.add(" v=1;")
	w.add(" a=" + string(k.Private.Algorithm()) + "-sha256;")
	w.add(" c=relaxed/relaxed;")
	w.add(" d=" + k.Domain + ";")
	w.add(" s=" + k.Selector + ";")
	w.add(" t=" + strconv.FormatInt(at.Unix(), 10) + ";")
	before := " h="
	for i, name := range names {
		after := ":"
		if i == len(names)-1 {
			after = ";"
		}
		w.add(before + name + after)
		before = ""
	}
	w.add(" bh=" + base64.StdEncoding.EncodeToString(bodyHash) + ";")
	w.add(" b=")

	// The field itself is signed with an empty b=, and without its CRLF (RFC 6376 section 3.7).
	sum := sha256.Sum256(appendField(slices.Clip(signed), []byte("DKIM-Signature"), w.out[value:]))
	signature, err := k.Private.pair.sign(sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign with the key of %s: %w", k.RecordName(), err)
	}
	for b := base64.StdEncoding.EncodeToString(signature); b != ""; {
		if w.column >= lineWidth {
			w.fold()
		}
		n := min(len(b), lineWidth-w.column)
		w.add(b[:n])
		b = b[n:]
	}
	return append(w.out, "\r\n"...), nil
}

// lineWidth is where fields are folded if they can be (RFC 5322 section 2.1.1).
const lineWidth = 78

// folded writes a field in lines.
type folded struct {
	out    []byte
	column int
}

// add writes a piece on this line, or on the next if there is no room.
func (w *folded) add(piece string) {
	if w.column+len(piece) > lineWidth {
		w.fold()
		piece = strings.TrimPrefix(piece, " ")
	}
	w.out = append(w.out, piece...)
	w.column += len(piece)
}

func (w *folded) fold() {
	w.out = append(w.out, "\r\n "...)
	w.column = 1
}
