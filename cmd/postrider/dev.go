package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/dispatch"
)

func devCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dev", Short: "Run everything on this machine: Postgres, Temporal, API, worker and an inbox", Args: cobra.NoArgs,
		Long: `Starts a private Postgres and a Temporal dev server, unless DATABASE_URL or
TEMPORAL_ADDRESS names one, migrates, makes a demo customer, and runs the API,
a worker and an inbox that every mail arrives in. State is kept in
POSTRIDER_DEV_DIR; Ctrl-C stops everything it started.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return dev(cmd) },
	}
}

// devStack are the servers that dev started.
type devStack struct {
	postgres *devstack.Postgres
	temporal *devstack.Temporal
	// ownsKey: the secret key is the one in dev's directory, not one from a setting.
	ownsKey bool
}

// owned are the variables of the servers and the key that are dev's own.
func (d *devStack) owned() []string {
	var out []string
	if d.postgres != nil {
		out = append(out, "DATABASE_URL")
	}
	if d.temporal != nil {
		out = append(out, "TEMPORAL_ADDRESS", "POSTRIDER_TEMPORAL_UI_URL")
	}
	if d.ownsKey {
		out = append(out, "POSTRIDER_SECRET_KEY")
	}
	return out
}

// devStopTimeout is how long the servers may take to stop.
const devStopTimeout = 30 * time.Second

func (d *devStack) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), devStopTimeout)
	defer cancel()
	var errs []error
	if d.temporal != nil {
		errs = append(errs, d.temporal.Stop(ctx))
	}
	if d.postgres != nil {
		errs = append(errs, d.postgres.Stop(ctx))
	}
	return errors.Join(errs...)
}

func dev(cmd *cobra.Command) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	cfg, err := loadConfig(config.DevUse)
	if err != nil {
		return err
	}
	// The ports are checked first, because starting the servers takes time.
	for _, p := range []struct{ addr, setting string }{{cfg.Listen, "POSTRIDER_LISTEN"}, {cfg.InboundListen, "POSTRIDER_INBOUND_LISTEN"}} {
		l, err := listen(ctx, p.addr, p.setting)
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(cfg.DevDir, 0o755); err != nil {
		return fmt.Errorf("POSTRIDER_DEV_DIR: %w", err)
	}
	if len(cfg.PayloadKeys) > 0 && cfg.CodecToken.Reveal() == "" {
		cfg.CodecToken = config.NewSecret(rand.Text())
	}
	if err := dropStale(&cfg); err != nil {
		return err
	}
	stack := &devStack{}
	if stack.ownsKey, err = devSecret(&cfg); err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(out, "stopping")
		err = errors.Join(err, stack.stop(ctx))
	}()
	if err := stack.start(ctx, &cfg, out); err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(cfg.DevDir, "postrider.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	log := newLog(logFile, cfg.LogLevel)
	cfg.Log(log)
	if _, err := db.MigrateUp(ctx, cfg.DatabaseURL.Reveal()); err != nil {
		return err
	}
	m := divide(math.MaxInt64, cfg, config.ServeWorker)
	m.fill(&cfg)
	a, err := newApp(cfg, m, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.checkKey(ctx); err != nil {
		return err
	}
	if err := dispatch.EnsureSearchAttributes(ctx, a.temporal, a.namespace); err != nil {
		return fmt.Errorf("temporal: %w", err)
	}
	d, err := makeDemo(ctx, a.store, cfg, out)
	if err != nil {
		return fmt.Errorf("demo customer: %w", err)
	}
	if err := d.write(cfg, stack.owned()); err != nil {
		return err
	}
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go stack.watch(runCtx, cancel)
	if err := a.serve(runCtx, true, func() { d.print(out, cfg) }); err != nil {
		return err
	}
	if cause := context.Cause(runCtx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start starts the servers whose address no setting gives.
func (d *devStack) start(ctx context.Context, cfg *config.Config, out io.Writer) (err error) {
	if cfg.DatabaseURL.Reveal() == "" {
		d.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{
			Dir: cfg.DevDir, DirSetting: "POSTRIDER_DEV_DIR", Port: cfg.DevPostgresPort, PortSetting: "POSTRIDER_DEV_POSTGRES_PORT",
			Durable: true, Log: out,
		})
		if err != nil {
			return err
		}
		if err := createDatabase(ctx, d.postgres.URL("postgres")); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		cfg.DatabaseURL = config.NewSecret(d.postgres.URL("postrider"))
	}
	if os.Getenv("TEMPORAL_ADDRESS") != "" {
		return nil
	}
	cli, err := devstack.TemporalCLI(ctx, filepath.Join("tools", "temporal"), filepath.Join(cfg.DevDir, "tools"), out)
	if err != nil {
		return err
	}
	d.temporal, err = devstack.StartTemporal(ctx, devstack.TemporalOptions{
		CLI: cli, Dir: cfg.DevDir, Port: cfg.DevTemporalPort, PortSetting: "POSTRIDER_DEV_TEMPORAL_PORT",
		UIPort: cfg.DevTemporalUIPort, UIPortSetting: "POSTRIDER_DEV_TEMPORAL_UI_PORT", Log: out,
		UICodecEndpoint: codecEndpoint(*cfg),
	})
	if err != nil {
		return err
	}
	if cfg.TemporalUIURL == "" {
		cfg.TemporalUIURL = d.temporal.UIURL()
	}
	// The SDK reads its own settings from the environment.
	return os.Setenv("TEMPORAL_ADDRESS", d.temporal.Address())
}

// codecEndpoint is the URL at which the Temporal UI has payloads decrypted; empty if histories
// are not encrypted.
func codecEndpoint(cfg config.Config) string {
	if len(cfg.PayloadKeys) == 0 {
		return ""
	}
	return localURL("http", cfg.Listen) + codecPath + "/" + cfg.CodecToken.Reveal()
}

// watch ends the process when a server that it started has ended.
func (d *devStack) watch(ctx context.Context, end context.CancelCauseFunc) {
	var postgres, temporal <-chan struct{}
	if d.postgres != nil {
		postgres = d.postgres.Exited()
	}
	if d.temporal != nil {
		temporal = d.temporal.Exited()
	}
	select {
	case <-postgres:
		end(fmt.Errorf("the private Postgres ended: %w", d.postgres.Err()))
	case <-temporal:
		end(fmt.Errorf("the Temporal dev server ended: %w", d.temporal.Err()))
	case <-ctx.Done():
	}
}

// createDatabase creates the database on the first start.
func createDatabase(ctx context.Context, adminURL string) error {
	admin := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(adminURL)))
	var n int
	err := admin.QueryRowContext(ctx, "SELECT count(*) FROM pg_database WHERE datname = 'postrider'").Scan(&n)
	if err == nil && n == 0 {
		_, err = admin.ExecContext(ctx, "CREATE DATABASE postrider")
	}
	return errors.Join(err, admin.Close())
}

// devSecret reads the secret key from dev's directory, and makes it at the first start. It
// reports false if a setting gives the key.
func devSecret(cfg *config.Config) (kept bool, err error) {
	if len(cfg.SecretKey.Bytes()) > 0 {
		return false, nil
	}
	path := filepath.Join(cfg.DevDir, "secret.key")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		var key [32]byte
		rand.Read(key[:]) // crypto/rand.Read never fails
		text = []byte(base64.StdEncoding.EncodeToString(key[:]) + "\n")
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return false, err
	}
	if cfg.SecretKey, err = config.ParseKey(strings.TrimSpace(string(text))); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// localURL is the URL of a listen address on this machine.
func localURL(scheme, addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return scheme + "://" + addr
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
