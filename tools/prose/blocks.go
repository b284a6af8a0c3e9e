package main

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// block is a piece of prose: a comment's paragraph, a Markdown paragraph, list item,
// table cell or heading, or a description.
type block struct {
	// lines are its lines without marks; the first is at the line number first.
	lines   []string
	first   int
	heading bool
}

var (
	// directive is a comment that a program reads.
	directive = regexp.MustCompile(`^(go:|nolint|line |export |\+build|lint:|Deprecated:)`)
	generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
)

// goBlocks are the paragraphs of a Go file's comments, without code.
func goBlocks(text []byte) ([]block, error) {
	if generated.Match(text) {
		return nil, nil
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []block
	for _, group := range file.Comments {
		out = append(out, commentBlocks(set, group)...)
	}
	return out, nil
}

// commentBlocks divides a comment where it has an empty line, code (indented further) or
// a list item.
func commentBlocks(set *token.FileSet, group *ast.CommentGroup) []block {
	var out []block
	var open bool
	for _, comment := range group.List {
		first := set.Position(comment.Pos()).Line
		text, isLine := strings.CutPrefix(comment.Text, "//")
		if !isLine {
			text = strings.TrimSuffix(strings.TrimPrefix(text, "/*"), "*/")
		}
		if isLine && directive.MatchString(text) {
			open = false
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			line = strings.TrimPrefix(line, " ")
			code := strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "   ")
			trimmed := strings.TrimSpace(line)
			if trimmed == "" || code && isLine {
				open = false
				continue
			}
			if item, ok := listItem(trimmed); ok {
				trimmed, open = item, false
			}
			if !open {
				out = append(out, block{first: first + i})
				open = true
			}
			last := &out[len(out)-1]
			last.lines = append(last.lines, trimmed)
		}
	}
	return out
}

var item = regexp.MustCompile(`^([-*+]|\d+[.)])\s+`)

func listItem(line string) (string, bool) {
	if at := item.FindStringIndex(line); at != nil {
		return line[at[1]:], true
	}
	return line, false
}

// markdownBlocks are the paragraphs, list items, headings and table cells of a Markdown
// file. Fenced and indented code is not prose.
func markdownBlocks(text []byte) ([]block, error) {
	var out []block
	open, fence := false, ""
	for i, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimLeft(strings.TrimSpace(line), "> ")
		if mark := fenceMark(trimmed); mark != "" && (fence == "" || fence == mark) {
			if fence == "" {
				fence = mark
			} else {
				fence = ""
			}
			open = false
			continue
		}
		indented := strings.HasPrefix(line, "    ") && !open
		if fence != "" || trimmed == "" || indented || strings.HasPrefix(trimmed, "<") {
			open = false
			continue
		}
		if strings.HasPrefix(trimmed, "|") {
			open = false
			for cell := range strings.SplitSeq(strings.Trim(trimmed, "|"), " | ") {
				out = append(out, block{lines: []string{strings.TrimSpace(cell)}, first: i + 1})
			}
			continue
		}
		content, isItem := listItem(trimmed)
		heading := strings.HasPrefix(trimmed, "#")
		if isItem || heading || !open {
			out = append(out, block{first: i + 1, heading: heading})
		}
		last := &out[len(out)-1]
		last.lines = append(last.lines, strings.TrimLeft(content, "# "))
		open = !heading
	}
	return out, nil
}

func fenceMark(line string) string {
	for _, mark := range []string{"```", "~~~"} {
		if strings.HasPrefix(line, mark) {
			return mark
		}
	}
	return ""
}

// openapiBlocks are the summaries and descriptions of an OpenAPI file, which are Markdown.
func openapiBlocks(text []byte) ([]block, error) {
	var out []block
	var walk func(n *yaml.Node) error
	walk = func(n *yaml.Node) error {
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				value := n.Content[i+1]
				if (child.Value == "description" || child.Value == "summary") && value.Kind == yaml.ScalarNode {
					blocks, err := markdownBlocks([]byte(value.Value))
					if err != nil {
						return err
					}
					first := value.Line - 1
					if value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
						first++
					}
					for _, b := range blocks {
						b.first += first
						out = append(out, b)
					}
					continue
				}
			}
			if err := walk(child); err != nil {
				return err
			}
		}
		return nil
	}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if err := walk(&document); err != nil {
			return nil, err
		}
	}
}
