package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// cliPackage is the program the module in tools/temporal pins.
const cliPackage = "github.com/temporalio/cli/cmd/temporal"

// progressEvery is how often a long step is mentioned.
const progressEvery = 10 * time.Second

// cliFlags are what StartTemporal passes; an older CLI lacks some of them.
var cliFlags = []string{"--db-filename", "--dynamic-config-value", "--headless", "--ip", "--port",
	"--search-attribute", "--sqlite-pragma", "--ui-ip", "--ui-port"}

var cliVersion = regexp.MustCompile(`(?m)^\s*(?:require\s+)?github\.com/temporalio/cli\s+v(\S+)`)

// TemporalCLI returns the path of a temporal program. It prefers the one on PATH if that
// knows the flags we need, then the one built before in cacheDir. Otherwise it builds the
// version that the module in moduleDir pins. The first build takes minutes; log gets a
// line every 10 s. Processes that need it at the same time wait for the first. Without a
// moduleDir (outside a clone) it takes the newest program in cacheDir.
func TemporalCLI(ctx context.Context, moduleDir, cacheDir string, log io.Writer) (path string, err error) {
	log = orDiscard(log)
	if path, ok := installedCLI(ctx, log); ok {
		return path, nil
	}
	if cacheDir, err = filepath.Abs(cacheDir); err != nil {
		return "", err
	}
	gomod, err := os.ReadFile(filepath.Join(moduleDir, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) { // outside a clone
		if path, ok := builtCLI(ctx, cacheDir, log); ok {
			return path, nil
		}
		return "", fmt.Errorf("temporal is not on PATH, not in %s, and cannot be built outside a clone of Postrider: put it on PATH: %w", cacheDir, err)
	}
	if err != nil {
		return "", fmt.Errorf("temporal is not on PATH and cannot be built: %w", err)
	}
	match := cliVersion.FindSubmatch(gomod)
	if match == nil {
		return "", fmt.Errorf("temporal is not on PATH and cannot be built: %s/go.mod does not require github.com/temporalio/cli", moduleDir)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return "", fmt.Errorf("build temporal: %w", err)
	}
	version := string(match[1])
	path = filepath.Join(cacheDir, "temporal-"+version)
	if executable(path) { // it appears complete, so this needs no lock
		return path, nil
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", fmt.Errorf("build temporal: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	progress := startProgress(log, "temporal: waiting for another process that builds the CLI", progressEvery)
	err = waitLock(ctx, lock, func() error { return nil })
	progress.stop()
	if err != nil {
		return "", fmt.Errorf("build temporal: %w", err)
	}
	if executable(path) {
		return path, nil
	}
	return path, buildCLI(ctx, moduleDir, version, path, log)
}

// installedCLI finds a suitable temporal on PATH.
func installedCLI(ctx context.Context, log io.Writer) (string, bool) {
	path, err := exec.LookPath("temporal")
	if err != nil {
		return "", false
	}
	return path, suitable(ctx, path, log)
}

// builtCLI finds the newest suitable temporal in cacheDir, by the version in its name.
func builtCLI(ctx context.Context, cacheDir string, log io.Writer) (string, bool) {
	const prefix = "temporal-"
	paths, err := filepath.Glob(filepath.Join(cacheDir, prefix+"*"))
	if err != nil {
		return "", false // cacheDir is no pattern
	}
	version := func(path string) string { return "v" + strings.TrimPrefix(filepath.Base(path), prefix) }
	paths = slices.DeleteFunc(paths, func(path string) bool { return !semver.IsValid(version(path)) || !executable(path) })
	slices.SortFunc(paths, func(a, b string) int { return semver.Compare(version(b), version(a)) })
	for _, path := range paths {
		if suitable(ctx, path, log) {
			return path, true
		}
	}
	return "", false
}

// suitable says whether a temporal knows the flags we need.
func suitable(ctx context.Context, path string, log io.Writer) bool {
	help, err := exec.CommandContext(ctx, path, "server", "start-dev", "--help").CombinedOutput()
	if err != nil {
		fmt.Fprintf(log, "temporal: %s is not used, its help fails: %v\n", path, err)
		return false
	}
	for _, flag := range cliFlags {
		if !strings.Contains(string(help), flag+" ") && !strings.Contains(string(help), flag+".") {
			fmt.Fprintf(log, "temporal: %s is not used, it has no flag %s\n", path, flag)
			return false
		}
	}
	return true
}

// buildCLI builds into path, which appears when it is complete. The caller holds
// the lock.
func buildCLI(ctx context.Context, moduleDir, version, path string, log io.Writer) (err error) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("temporal is not on PATH and building it needs Go: %w", err)
	}
	if moduleDir, err = filepath.Abs(moduleDir); err != nil {
		return err
	}
	output, err := openLog("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, output.close()) }()
	building := path + ".building"
	build := command{name: "go build of the Temporal CLI", path: goTool, dir: moduleDir, stop: "TERM", remove: building,
		args: []string{"build", "-ldflags", "-s -w -X github.com/temporalio/cli/temporalcli.Version=" + version, "-o", building, cliPackage},
		// A workspace or a vendor setting of ours is not this module's.
		env: append(os.Environ(), "GOWORK=off", "GOFLAGS=", "PWD="+moduleDir)}
	fmt.Fprintf(log, "temporal: building the CLI %s from %s, once; this takes minutes\n", version, moduleDir)
	progress := startProgress(log, "temporal: still building", progressEvery)
	err = build.run(ctx, output)
	elapsed := progress.stop()
	if err != nil {
		return errors.Join(err, os.RemoveAll(building))
	}
	fmt.Fprintf(log, "temporal: built in %d s\n", int(elapsed.Seconds()))
	return os.Rename(building, path)
}

// progress repeats a line with the seconds passed.
type progress struct {
	started    time.Time
	quit, done chan struct{}
}

func startProgress(log io.Writer, line string, every time.Duration) *progress {
	p := &progress{started: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(log, "%s, %d s\n", line, int(time.Since(p.started).Round(time.Second).Seconds()))
			case <-p.quit:
				return
			}
		}
	}()
	return p
}

// stop ends the lines, and returns the time since the start.
func (p *progress) stop() time.Duration {
	close(p.quit)
	<-p.done
	return time.Since(p.started)
}
