package archtest

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheMakefilesRecipesAreShell: each phony target's commands, as `make -n` prints them, are shell that can be read.
// A comma in the words of a `call` cuts them in two, and an apostrophe opens a string.
func TestTheMakefilesRecipesAreShell(t *testing.T) {
	t.Parallel()
	targets := regexp.MustCompile(`(?m)^\.PHONY: (.+)$`).FindAllStringSubmatch(read(t, "Makefile"), -1)
	require.Greater(t, len(targets), 15)
	for _, m := range targets {
		for _, target := range strings.Fields(m[1]) {
			printing := exec.CommandContext(t.Context(), "make", "-n", "REV=HEAD", target)
			printing.Dir = "../.."
			recipe, err := printing.Output()
			require.NoError(t, err, target)
			reading := exec.CommandContext(t.Context(), "bash", "-n")
			reading.Stdin = strings.NewReader(string(recipe))
			said, err := reading.CombinedOutput()
			require.NoError(t, err, "make %s: %s", target, said)
		}
	}
}
