// Package apidoc turns an OpenAPI document, as people write it, into what is
// served: JSON, YAML, and a page for reading that needs nothing else.
package apidoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"gopkg.in/yaml.v3"
)

// Document is an OpenAPI document. Its members keep their order everywhere.
type Document struct{ root *yaml.Node }

// Parse reads YAML.
func Parse(text []byte) (Document, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return Document{}, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	if doc.Kind != yaml.DocumentNode || doc.Content[0].Kind != yaml.MappingNode {
		return Document{}, errors.New("read the OpenAPI document: it is not a mapping")
	}
	return Document{root: doc.Content[0]}, nil
}

// SetServer says where the API is; the document's own servers are replaced.
func (d Document) SetServer(url string) error {
	servers := get(d.root, "servers")
	if servers == nil {
		return errors.New("the OpenAPI document has no servers")
	}
	var fresh yaml.Node
	if err := fresh.Encode([]map[string]string{{"url": url}}); err != nil {
		return fmt.Errorf("write the server: %w", err)
	}
	*servers = fresh
	return nil
}

// YAML writes the document as such.
func (d Document) YAML() ([]byte, error) { return yaml.Marshal(d.root) }

// JSON writes the document as such.
func (d Document) JSON() ([]byte, error) { return marshal(d.root, "  ") }

// marshal writes JSON with the members in their order.
func marshal(n *yaml.Node, indent string) ([]byte, error) {
	var flat, out bytes.Buffer
	if err := write(&flat, n); err != nil {
		return nil, err
	}
	if indent == "" {
		return flat.Bytes(), nil
	}
	if err := json.Indent(&out, flat.Bytes(), "", indent); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func write(out *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeValue(out, n.Content[i].Value); err != nil {
				return err
			}
			out.WriteByte(':')
			if err := write(out, n.Content[i+1]); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := write(out, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	case yaml.ScalarNode:
		var v any
		if err := n.Decode(&v); err != nil {
			return fmt.Errorf("line %d of the OpenAPI document: %w", n.Line, err)
		}
		return writeValue(out, v)
	default:
		return fmt.Errorf("line %d of the OpenAPI document: aliases are not supported", n.Line)
	}
	return nil
}

// writeValue leaves <, > and & readable.
func writeValue(out *bytes.Buffer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the line break that Encode adds
	return nil
}

// get is a mapping's member, nil where there is none.
func get(n *yaml.Node, names ...string) *yaml.Node {
	for _, name := range names {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		var found *yaml.Node
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				found = n.Content[i+1]
			}
		}
		n = found
	}
	return n
}

// text is a scalar's, empty where there is none.
func text(n *yaml.Node, names ...string) string {
	if n = get(n, names...); n == nil {
		return ""
	}
	return n.Value
}

// members walks a mapping in its order.
func members(n *yaml.Node, visit func(name string, value *yaml.Node)) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i < len(n.Content); i += 2 {
		visit(n.Content[i].Value, n.Content[i+1])
	}
}

// items is a sequence's content.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}
