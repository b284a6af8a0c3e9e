package intake

import (
	"bytes"
	"encoding/base64"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// encoded is content that is base64 in JSON. It accepts both alphabets of RFC 4648, with
// padding or without. It ignores white space, because many programs break the lines as RFC 2045
// section 6.8 does. All other characters are refused, never skipped.
type encoded []byte

// base64Error is why content cannot be decoded.
type base64Error string

func (e base64Error) Error() string { return string(e) }

const (
	errBase64        = base64Error("give the content in base64 (RFC 4648 section 4 or 5)")
	errBase64DataURL = base64Error(`give the content in base64 alone, without the "data:…;base64," before it`)
	errBase64Mixed   = base64Error("the base64 mixes two alphabets: one has + and /, the other - and _; encode the content once")
	errBase64Padding = base64Error("the base64 ends in the middle, or has the wrong number of = at its end; give all of it")
)

// UnmarshalJSONFrom decodes a string.
func (e *encoded) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return WrongKind(d, TypeError("the value has the wrong type; give a string in base64"))
	}
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	text := []byte(raw[1 : len(raw)-1])
	if bytes.IndexByte(text, '\\') >= 0 {
		if text, err = jsontext.AppendUnquote(nil, raw); err != nil {
			return err
		}
	}
	out, err := decodeBase64(text)
	if err != nil {
		return err
	}
	*e = out
	return nil
}

var _ json.UnmarshalerFrom = (*encoded)(nil)

// decodeBase64 decodes text without changing it.
func decodeBase64(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n \t-_") || len(text)%4 != 0 {
		var err error
		if text, err = normalBase64(text); err != nil {
			return nil, err
		}
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	switch {
	case err == nil:
		return out[:n], nil
	case bytes.HasPrefix(text, []byte("data:")):
		return nil, errBase64DataURL
	}
	return nil, errBase64
}

// normalBase64 is a copy without white space, in the standard alphabet and with padding.
func normalBase64(text []byte) ([]byte, error) {
	out := make([]byte, 0, len(text)+3)
	var first, second bool
	for _, c := range text {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '+', '/':
			first = true
		case '-':
			c, second = '+', true
		case '_':
			c, second = '/', true
		}
		out = append(out, c)
	}
	switch padding := len(out) - len(bytes.TrimRight(out, "=")); {
	case bytes.HasPrefix(out, []byte("data:")):
		return nil, errBase64DataURL
	case first && second:
		return nil, errBase64Mixed
	case len(out)%4 == 0:
	case padding > 0, len(out)%4 == 1:
		return nil, errBase64Padding
	default:
		out = append(out, "=="[:4-len(out)%4]...)
	}
	return out, nil
}
