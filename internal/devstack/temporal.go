package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// TemporalOptions says where and how a Temporal dev server runs.
type TemporalOptions struct {
	// CLI is the temporal program, as TemporalCLI returns it.
	CLI string

	// Dir keeps the state (Dir/temporal/temporal.db) and the server's log
	// (temporal.log beside it). It is created if need be. Empty keeps the state in
	// memory and the log in a file without a name.
	Dir string

	// Port of the gRPC frontend and UIPort of the web UI, on 127.0.0.1. 0 is a
	// free one, another at each start.
	Port, UIPort int
	// PortSetting and UIPortSetting are the settings that the ports came from, for
	// errors. May be empty.
	PortSetting, UIPortSetting string
	// Headless leaves out the web UI.
	Headless bool

	// UICodecEndpoint is where the UI has payloads decrypted. May be empty.
	UICodecEndpoint string

	// SearchAttributes to register: name to type (Keyword, KeywordList, Text, Int,
	// Double, Bool, Datetime). Those of an earlier start in Dir remain.
	SearchAttributes map[string]string
	// DynamicConfig sets values of the server's dynamic config, as JSON.
	DynamicConfig map[string]string

	// Log receives progress in lines. Nil discards them.
	Log io.Writer

	freePort func() (int, error) // nil is FreePort
}

// Temporal is a running dev server.
type Temporal struct {
	*server
	port   int
	uiPort int // 0 without a UI
}

// StartTemporal starts a server and returns when its frontend answers, the
// namespace default exists and the search attributes can be used. ctx bounds the
// start only; the server runs until Stop, or until the current process ends in
// any way. State in Dir survives.
func StartTemporal(ctx context.Context, options TemporalOptions) (*Temporal, error) {
	options.Log = orDiscard(options.Log)
	if err := options.absolute(); err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	if err := options.checkPorts(); err != nil {
		return nil, err
	}
	lock, err := options.lockDir(ctx)
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	for attempt := 1; ; attempt++ {
		t, err := options.serve(ctx, lock)
		if err == nil {
			fmt.Fprintf(options.Log, "temporal: %s\n", strings.TrimSpace(t.Address()+" "+t.UIURL()))
			return t, nil
		}
		// The server chooses further ports for its internal services. If one of
		// them was taken meanwhile, another start chooses others.
		if taken := options.checkPorts(); taken != nil {
			return nil, errors.Join(taken, giveBack(lock))
		}
		if !errors.Is(err, errPortTaken) || attempt == portAttempts {
			return nil, errors.Join(fmt.Errorf("temporal: %w", err), giveBack(lock))
		}
	}
}

// absolute makes the paths good for a server whose working directory is not ours.
func (o *TemporalOptions) absolute() error {
	for _, path := range []*string{&o.CLI, &o.Dir} {
		if *path == "" {
			continue
		}
		full, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = full
	}
	return nil
}

// errPortTaken means that the server found one of its ports in use.
var errPortTaken = errors.New("a port was taken in between")

// checkPorts checks the ports that were asked for.
func (o TemporalOptions) checkPorts() error {
	if o.Port != 0 {
		if err := checkPort("temporal", o.Port, o.PortSetting); err != nil {
			return err
		}
	}
	if o.UIPort != 0 && !o.Headless {
		return checkPort("temporal UI", o.UIPort, o.UIPortSetting)
	}
	return nil
}

func (o TemporalOptions) lockDir(ctx context.Context) (*os.File, error) {
	if o.Dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(o.stateDir(), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, o.stateDir())
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("a server is running in %s: stop it first: %w", o.stateDir(), err)
	}
	return lock, err
}

func (o TemporalOptions) stateDir() string { return filepath.Join(o.Dir, "temporal") }

// giveBack frees the directory, if there is one. The server has ended.
func giveBack(lock *os.File) error {
	if lock == nil {
		return nil
	}
	return unlockDir(lock)
}

// serve starts the server and waits until it is ready. When it fails, the server
// has ended and the lock is still ours.
func (o TemporalOptions) serve(ctx context.Context, lock *os.File) (*Temporal, error) {
	t := &Temporal{}
	var err error
	if t.port, err = choosePort("temporal", o.Port, o.PortSetting, o.freePort); err != nil {
		return nil, err
	}
	if !o.Headless {
		if t.uiPort, err = choosePort("temporal UI", o.UIPort, o.UIPortSetting, o.freePort); err != nil {
			return nil, err
		}
	}
	logPath := ""
	if o.Dir != "" {
		logPath = filepath.Join(o.stateDir(), "temporal.log")
	}
	output, err := openLog(logPath)
	if err != nil {
		return nil, err
	}
	process, err := command{name: "temporal", path: o.CLI, args: o.arguments(t.port, t.uiPort), env: temporalEnvironment(),
		stop: "TERM", files: []*os.File{lock}, output: output.file}.start()
	if err != nil {
		return nil, errors.Join(err, output.close())
	}
	if err := o.awaitReady(ctx, t, process, output); err != nil {
		return nil, errors.Join(err, process.stop(context.WithoutCancel(ctx)), output.close())
	}
	t.server = newServer(process, output, func() error { return giveBack(lock) })
	return t, nil
}

func (o TemporalOptions) arguments(port, uiPort int) []string {
	args := []string{"server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(port)}
	if o.Headless {
		args = append(args, "--headless")
	} else {
		args = append(args, "--ui-ip", "127.0.0.1", "--ui-port", strconv.Itoa(uiPort))
		if o.UICodecEndpoint != "" {
			args = append(args, "--ui-codec-endpoint", o.UICodecEndpoint)
		}
	}
	if o.Dir != "" {
		// WAL is as fast as memory; the default file mode is less than half that.
		args = append(args, "--db-filename", filepath.Join(o.stateDir(), "temporal.db"),
			"--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal")
	}
	for _, name := range slices.Sorted(maps.Keys(o.SearchAttributes)) {
		args = append(args, "--search-attribute", name+"="+o.SearchAttributes[name])
	}
	for _, key := range slices.Sorted(maps.Keys(o.DynamicConfig)) {
		args = append(args, "--dynamic-config-value", key+"="+o.DynamicConfig[key])
	}
	return args
}

// temporalEnvironment leaves out TEMPORAL_*: it is meant for clients, and the CLI
// would read it.
func temporalEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "TEMPORAL_") })
}

func (o TemporalOptions) awaitReady(ctx context.Context, t *Temporal, p *process, output *serverLog) error {
	err := awaitReady(ctx, p, func(ctx context.Context) error {
		return temporalReady(ctx, t.Address(), o.SearchAttributes)
	})
	if err == nil {
		return nil
	}
	printed, readErr := output.end()
	if strings.Contains(printed, "address already in use") || strings.Contains(printed, "can't set") {
		err = fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return errors.Join(fmt.Errorf("%w%s", err, output.tail()), readErr)
}

// Address is the frontend's host and port, as in TEMPORAL_ADDRESS.
func (t *Temporal) Address() string { return localAddress(t.port) }

// UIURL is the address of the web UI, or empty without one.
func (t *Temporal) UIURL() string {
	if t.uiPort == 0 {
		return ""
	}
	return "http://" + localAddress(t.uiPort)
}
