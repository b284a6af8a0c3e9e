// Package codec encrypts what goes into workflow histories, and decrypts it for
// the Temporal UI and CLI.
//
//  1. A payload becomes one with the encoding binary/encrypted, the id of its key
//     in the metadata, and as data a nonce of 12 bytes followed by AES-256-GCM over
//     the payload as it was. Temporal's own samples write the same form, so that
//     starters in other languages need no code of ours.
//  2. The first key encrypts, every key decrypts. Payloads that are not encrypted are
//     read as they are: keys may be set where runs exist already.
//  3. Search attributes, workflow ids and the names of activities and signals are
//     not payloads, or not encoded: they stay readable.
package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
)

const (
	encoding     = "binary/encrypted"
	metadataKey  = "encryption-key-id"
	keyBytes     = 32
	errKeyAdvice = "add it to POSTRIDER_PAYLOAD_KEYS, behind the first"
)

// Key is an AES-256 key and what it is called in payloads.
type Key struct {
	ID    string
	Bytes []byte
}

// Codec encrypts payloads. It is safe for concurrent use.
type Codec struct {
	current string
	seals   map[string]cipher.AEAD
}

var _ converter.PayloadCodec = (*Codec)(nil)

// New makes a codec whose first key encrypts. Ids are distinct and not empty.
func New(keys []Key) (*Codec, error) {
	if len(keys) == 0 {
		return nil, errors.New("codec: no key")
	}
	c := &Codec{current: keys[0].ID, seals: make(map[string]cipher.AEAD, len(keys))}
	for _, k := range keys {
		if k.ID == "" || c.seals[k.ID] != nil {
			return nil, fmt.Errorf("codec: key id %q is empty or there twice", k.ID)
		}
		if len(k.Bytes) != keyBytes {
			return nil, fmt.Errorf("codec: key %s has %d bytes, need %d", k.ID, len(k.Bytes), keyBytes)
		}
		block, err := aes.NewCipher(k.Bytes)
		if err != nil {
			return nil, fmt.Errorf("codec: key %s: %w", k.ID, err)
		}
		if c.seals[k.ID], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("codec: key %s: %w", k.ID, err)
		}
	}
	return c, nil
}

// Apply makes a Temporal client encrypt: payloads, and the messages and stack
// traces of failures, which hold what servers said.
func (c *Codec) Apply(opts *client.Options) {
	dc := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), c)
	opts.DataConverter = dc
	opts.FailureConverter = temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc, EncodeCommonAttributes: true})
}

// Encode encrypts. Payloads that are encrypted already stay as they are: the UI sends
// them back in that form.
func (c *Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return each(payloads, func(p *commonpb.Payload) (*commonpb.Payload, error) {
		if encrypted(p) {
			return p, nil
		}
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		seal := c.seals[c.current]
		nonce := make([]byte, seal.NonceSize(), seal.NonceSize()+len(plain)+seal.Overhead())
		rand.Read(nonce) // crypto/rand.Read never fails
		return &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(encoding), metadataKey: []byte(c.current)},
			Data:     seal.Seal(nonce, nonce, plain, nil),
		}, nil
	})
}

// Decode decrypts what is encrypted. Its errors tell an unknown key from data that
// is not what the key made.
func (c *Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return each(payloads, func(p *commonpb.Payload) (*commonpb.Payload, error) {
		if !encrypted(p) {
			return p, nil
		}
		id := string(p.GetMetadata()[metadataKey])
		seal, ok := c.seals[id]
		if !ok {
			return nil, fmt.Errorf("codec: a payload needs the key %q: %s", id, errKeyAdvice)
		}
		n := seal.NonceSize()
		if len(p.GetData()) < n {
			return nil, fmt.Errorf("codec: a payload of %d bytes is shorter than a nonce", len(p.GetData()))
		}
		plain, err := seal.Open(nil, p.GetData()[:n], p.GetData()[n:], nil)
		if err != nil {
			return nil, fmt.Errorf("codec: the key %q did not make this payload: %w", id, err)
		}
		out := &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out); err != nil {
			return nil, fmt.Errorf("codec: what was encrypted is no payload: %w", err)
		}
		return out, nil
	})
}

func encrypted(p *commonpb.Payload) bool {
	return string(p.GetMetadata()[converter.MetadataEncoding]) == encoding
}

func each(in []*commonpb.Payload, fn func(*commonpb.Payload) (*commonpb.Payload, error)) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(in))
	for i, p := range in {
		var err error
		if out[i], err = fn(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}
