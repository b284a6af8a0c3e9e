package devstack

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/logtest"
)

// fakePath is a PATH with the given programs, as shell scripts, before the
// system's own; it holds neither Go nor temporal otherwise.
func fakePath(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func fakeModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n\nrequire (\n\tgithub.com/temporalio/cli v1.5.1 // indirect\n)\n"), 0o644))
	return dir
}

// fakeGo writes the program it is asked for (go build -ldflags x -o path package)
// and counts how often it is run.
const fakeGo = `
echo "$PWD $6" >>"$BUILDS"
echo partial >"$5"
sleep 0.3
printf '#!/bin/sh\necho built\n' >"$5.next" && chmod 755 "$5.next" && mv "$5.next" "$5"
`

func TestTemporalCLIIsBuiltOnce(t *testing.T) {
	module, cache, builds := fakeModule(t), t.TempDir(), filepath.Join(t.TempDir(), "builds")
	fakePath(t, map[string]string{"go": fakeGo})
	t.Setenv("BUILDS", builds)

	var group sync.WaitGroup
	var logs [6]logtest.Buffer
	for i := range logs {
		group.Go(func() {
			path, err := TemporalCLI(t.Context(), module, cache, &logs[i])
			if err != nil {
				t.Errorf("build %d: %v", i, err)
				return
			}
			if out, err := exec.Command(path).Output(); err != nil || string(out) != "built\n" {
				t.Errorf("build %d: %q %v", i, out, err)
			}
		})
	}
	group.Wait()
	content, err := os.ReadFile(builds)
	require.NoError(t, err)
	require.Equal(t, module+" "+cliPackage+"\n", string(content))
	var told int
	for i := range logs {
		told += strings.Count(logs[i].String(), "building the CLI 1.5.1 from "+module+", once; this takes minutes")
	}
	require.Equal(t, 1, told)

	path, err := TemporalCLI(t.Context(), module, cache, nil)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cache, "temporal-1.5.1"), path)
}

func TestTemporalCLIBuildFails(t *testing.T) {
	module, cache := fakeModule(t), t.TempDir()

	t.Run("with the compiler's words", func(t *testing.T) {
		fakePath(t, map[string]string{"go": "echo 'main.go:3: undefined: x'; exit 1"})
		_, err := TemporalCLI(t.Context(), module, cache, nil)
		require.ErrorContains(t, err, "go build of the Temporal CLI failed: exit status 1")
		require.ErrorContains(t, err, "undefined: x")
	})
	t.Run("without Go", func(t *testing.T) {
		fakePath(t, nil)
		if _, err := exec.LookPath("go"); err == nil {
			t.Skip("go is in /usr/bin")
		}
		_, err := TemporalCLI(t.Context(), module, cache, nil)
		require.ErrorContains(t, err, "temporal is not on PATH and building it needs Go")
	})
	t.Run("when cancelled, and a later one succeeds", func(t *testing.T) {
		fakePath(t, map[string]string{"go": `echo partial >"$5"; exec sleep 60`})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := TemporalCLI(ctx, module, cache, writerFunc(func(string) { cancel() }))
		require.ErrorIs(t, err, context.Canceled)
		require.NoFileExists(t, filepath.Join(cache, "temporal-1.5.1.building"))

		fakePath(t, map[string]string{"go": fakeGo})
		t.Setenv("BUILDS", filepath.Join(t.TempDir(), "builds"))
		_, err = TemporalCLI(t.Context(), module, cache, nil)
		require.NoError(t, err)
	})
}

func TestTemporalCLIOnPath(t *testing.T) {
	t.Run("is used if it knows the flags", func(t *testing.T) {
		fakePath(t, map[string]string{"temporal": "cat <<'X'\n  " + strings.Join(cliFlags, " string\n  ") + " int\nX\n"})
		path, err := TemporalCLI(t.Context(), "/nonexistent", t.TempDir(), nil)
		require.NoError(t, err)
		require.Equal(t, "temporal", filepath.Base(path))
	})
	t.Run("is left out if it is too old", func(t *testing.T) {
		var log logtest.Buffer
		fakePath(t, map[string]string{"go": fakeGo, "temporal": "echo '--db-filename string'"})
		t.Setenv("BUILDS", filepath.Join(t.TempDir(), "builds"))
		cache := t.TempDir()
		path, err := TemporalCLI(t.Context(), fakeModule(t), cache, &log)
		require.NoError(t, err)
		require.Equal(t, cache, filepath.Dir(path))
		require.Contains(t, log.String(), "is not used, it has no flag --dynamic-config-value")
	})
}

// Outside a clone there is no version to look for, and nothing to build.
func TestTemporalCLIOutsideAClone(t *testing.T) {
	know := "cat <<'X'\n  " + strings.Join(cliFlags, " string\n  ") + " int\nX\n"
	t.Run("the newest that was built before is used", func(t *testing.T) {
		fakePath(t, nil)
		var log logtest.Buffer
		cache := t.TempDir()
		for name, script := range map[string]string{
			"temporal-1.5.1": know, "temporal-1.10.0": know, "temporal-1.11.0": "echo '--db-filename string'", "temporal-1.12.0.building": "exit 1",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(cache, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
		}
		require.NoError(t, os.WriteFile(filepath.Join(cache, "temporal-1.13.0"), nil, 0o644))
		path, err := TemporalCLI(t.Context(), "/nonexistent", cache, &log)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(cache, "temporal-1.10.0"), path)
		require.Contains(t, log.String(), "temporal-1.11.0 is not used, it has no flag --dynamic-config-value")
	})
	t.Run("without one, the error says what to do", func(t *testing.T) {
		fakePath(t, nil)
		cache := t.TempDir()
		_, err := TemporalCLI(t.Context(), "/nonexistent", cache, nil)
		require.ErrorContains(t, err, "temporal is not on PATH, not in "+cache+", and cannot be built outside a clone of Postrider: put it on PATH: ")
	})
}

func TestProgressSaysHowLongItHasBeen(t *testing.T) {
	t.Parallel()
	lines := make(chan string, 1)
	p := startProgress(writerFunc(func(line string) {
		select {
		case lines <- line:
		default:
		}
	}), "temporal: still building", time.Millisecond)
	require.Equal(t, "temporal: still building, 0 s\n", <-lines)
	require.Positive(t, p.stop())
}
