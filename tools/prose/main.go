// Command prose looks at the language of comments and documents: it reports words that
// make a sentence hard to understand, and sentences that are too long. docs/decisions.md
// says why.
//
//	prose [path ...]
//
// Paths are files or directories; the default is the working directory. It reads Go
// comments, Markdown, and the descriptions in OpenAPI files. A finding is a line with
// file, line number and what to do; with any finding the exit code is 1.
package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	paths := os.Args[1:]
	if len(paths) == 0 {
		paths = []string{"."}
	}
	n, err := run(paths, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(2)
	case n > 0:
		fmt.Fprintf(os.Stderr, "prose: %d findings\n", n)
		os.Exit(1)
	}
}

// run writes the findings in all files below the paths, in order, and returns how many
// they are.
func run(paths []string, out io.Writer) (int, error) {
	n := 0
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				if skipped(entry.Name()) && path != "." {
					return filepath.SkipDir
				}
				return nil
			}
			read := reader(path)
			if read == nil {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			blocks, err := read(text)
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			for _, f := range check(blocks) {
				n++
				fmt.Fprintf(out, "%s:%d: %s\n", path, f.line, f.what)
			}
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// skipped reports whether a directory holds nothing of ours.
func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "node_modules", "bin"}, name)
}

// reader is what reads a file's blocks; nil for a file without prose.
func reader(path string) func([]byte) ([]block, error) {
	switch filepath.Ext(path) {
	case ".go":
		return goBlocks
	case ".md":
		return markdownBlocks
	case ".yaml":
		if filepath.Base(path) == "openapi.yaml" {
			return openapiBlocks
		}
	}
	return nil
}
