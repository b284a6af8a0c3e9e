package apidoc

import (
	"html/template"
	"strings"

	"gopkg.in/yaml.v3"
)

// typeOf says in a few words what a schema takes. Where refs is set, a schema with
// a name is a link to it.
func (p *renderer) typeOf(n *yaml.Node, refs bool) template.HTML {
	if n == nil {
		return ""
	}
	if ref := text(n, "$ref"); ref != "" {
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if !ok || p.resolve(n) == nil {
			p.fail("%s is not a schema", ref)
			return ""
		}
		if !refs {
			return p.typeOf(p.resolve(n), true)
		}
		escaped := template.HTMLEscapeString(name)
		return template.HTML(`<a href="#schema-`+escaped+`">`+escaped+`</a>`) + p.limits(n)
	}
	var out template.HTML
	switch types := get(n, "type"); {
	case types == nil:
		out = p.anyOf(n)
	case types.Kind == yaml.SequenceNode:
		var words []string
		for _, t := range types.Content {
			words = append(words, t.Value)
		}
		out = inline(strings.Join(words, " or "))
	case types.Value == "array":
		out = "list of " + p.typeOf(get(n, "items"), true)
	case types.Value == "object" && get(n, "additionalProperties", "type") != nil:
		out = "object of " + p.typeOf(get(n, "additionalProperties"), true)
	default:
		out = inline(types.Value)
	}
	if format := text(n, "format"); format != "" {
		out += inline(" (" + format + ")")
	}
	return out + p.limits(n)
}

// anyOf joins alternatives.
func (p *renderer) anyOf(n *yaml.Node) template.HTML {
	var out template.HTML
	for _, keyword := range []string{"oneOf", "anyOf"} {
		for i, alternative := range items(get(n, keyword)) {
			if i > 0 {
				out += " or "
			}
			out += p.typeOf(alternative, true)
		}
	}
	return out
}

// limits are the keywords that narrow a type, in the order in which they are shown.
func (p *renderer) limits(n *yaml.Node) template.HTML {
	var out []string
	if values := items(get(n, "enum")); values != nil {
		var words []string
		for _, v := range values {
			words = append(words, "`"+p.json(v, "")+"`")
		}
		out = append(out, "one of "+strings.Join(words, " "))
	}
	for _, keyword := range []struct{ name, before, after string }{
		{"const", "always `", "`"}, {"minimum", "from ", ""}, {"maximum", "to ", ""},
		{"minLength", "at least ", " characters"}, {"maxLength", "at most ", " characters"},
		{"minItems", "at least ", " of them"}, {"maxItems", "at most ", " of them"}, {"maxProperties", "at most ", " members"},
		{"pattern", "as `", "`"}, {"default", "default `", "`"},
	} {
		if v := get(n, keyword.name); v != nil {
			value := v.Value
			if keyword.name == "minLength" && value == "1" {
				out = append(out, "not empty")
				continue
			}
			if keyword.name == "default" || keyword.name == "const" {
				value = p.json(v, "")
			}
			out = append(out, keyword.before+value+keyword.after)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; " + inline(strings.Join(out, ", "))
}

// prose renders what descriptions use of Markdown: paragraphs, lists of one level,
// `code` and **strong** words.
func prose(s string) template.HTML {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(s), "\n\n") {
		if block == "" {
			continue
		}
		if !strings.HasPrefix(block, "- ") {
			out.WriteString("<p>" + string(inline(block)) + "</p>")
			continue
		}
		out.WriteString("<ul>")
		for _, item := range strings.Split("\n"+block, "\n- ")[1:] {
			out.WriteString("<li>" + string(inline(item)) + "</li>")
		}
		out.WriteString("</ul>")
	}
	return template.HTML(out.String())
}

// inline renders one line's worth of it.
func inline(s string) template.HTML {
	var out strings.Builder
	for i, part := range strings.Split(s, "`") {
		escaped := template.HTMLEscapeString(part)
		if i%2 == 1 {
			out.WriteString("<code>" + escaped + "</code>")
			continue
		}
		for j, words := range strings.Split(escaped, "**") {
			if j > 0 {
				out.WriteString([]string{"</strong>", "<strong>"}[j%2])
			}
			out.WriteString(words)
		}
	}
	return template.HTML(out.String())
}

// anchor makes a name fit into an address.
func anchor(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "-")) }
