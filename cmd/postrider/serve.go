package main

import (
	"context"
	"errors"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/inbound"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/metrics"
)

func serveCommand() *cobra.Command {
	var withWorker bool
	cmd := &cobra.Command{
		Use: "serve [--worker]", Short: "Run the API, and with --worker the worker in the same process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			use := config.Serve
			if withWorker {
				use = config.ServeWorker
			}
			a, err := start(cmd, use)
			if err != nil {
				return err
			}
			return errors.Join(a.serve(cmd.Context(), withWorker, func() {}), a.close())
		},
	}
	cmd.Flags().BoolVar(&withWorker, "worker", false, "also run a worker, which starts new workflows without a round trip to Temporal (eager start)")
	return cmd
}

func workerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Short: "Run a worker", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := start(cmd, config.Worker)
			if err != nil {
				return err
			}
			return errors.Join(a.workAlone(cmd.Context()), a.close())
		},
	}
}

// start loads and logs the settings, and makes the parts of the process.
func start(cmd *cobra.Command, use config.Use) (*app, error) {
	cfg, err := loadConfig(use)
	if err != nil {
		return nil, err
	}
	log := newLog(cmd.ErrOrStderr(), cfg.LogLevel)
	heap := limitMemory(log, memlimit.FromCgroup)
	m := divide(heap, cfg, use)
	m.fill(&cfg)
	cfg.Log(log)
	a, err := newApp(cfg, m, log)
	if err != nil {
		return nil, err
	}
	if err := a.checkKey(cmd.Context()); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// keyCheckTimeout is how long the start waits for Postgres to check the secret key.
const keyCheckTimeout = 5 * time.Second

// checkKey returns db.ErrSecretKey for a key that does not decrypt the database's secrets. If
// Postgres is unavailable, it returns nil, and awaitKeyCheck checks the key later.
func (a *app) checkKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keyCheckTimeout)
	defer cancel()
	err := a.store.Keys.CheckSecretKey(ctx)
	if err == nil || errors.Is(err, db.ErrSecretKey) {
		a.keyChecked = err == nil
		return err
	}
	a.log.Warn("secret_key.unchecked", "error", err)
	return nil
}

// awaitKeyCheck repeats checkKey until Postgres has answered. A wrong key ends the process.
func (a *app) awaitKeyCheck(ctx context.Context) error {
	for !a.keyChecked && ctx.Err() == nil {
		select {
		case <-time.After(startRetry):
		case <-ctx.Done():
			return nil
		}
		if err := a.checkKey(ctx); err != nil {
			return err
		}
	}
	return nil
}

// serve runs the API and the dispatcher until ctx ends, with the inbound server if
// POSTRIDER_INBOUND_LISTEN is set, and with a worker if withWorker is. It calls listening when
// its ports are open.
func (a *app) serve(ctx context.Context, withWorker bool, listening func()) error {
	if err := a.spool.Prepare(); err != nil {
		return err
	}
	l, err := listen(ctx, a.cfg.Listen, "POSTRIDER_LISTEN")
	if err != nil {
		return err
	}
	handler, err := a.handler(withWorker)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if withWorker {
		a.watchReputations()
	} else {
		a.dispatcher.LeaveStarts()
	}
	ctx, s := newServices(ctx)
	s.run("api", func() error { return a.serveHTTP(ctx, l, handler) })
	s.run("dispatch", func() error { a.dispatcher.Run(ctx); return nil })
	s.run("secret key", func() error { return a.awaitKeyCheck(ctx) })
	if a.cfg.InboundListen != "" {
		in := a.inbound()
		if err := in.Listen(); err != nil {
			s.cancel()
			return errors.Join(err, s.wait())
		}
		s.run("inbound", func() error { return serveInbound(ctx, in) })
	}
	if err := a.profiler(ctx, s); err != nil {
		s.cancel()
		return errors.Join(err, s.wait())
	}
	if withWorker {
		s.run("relays", func() error { a.relays.Run(ctx); return nil })
		s.run("worker", func() error { return a.work(ctx) })
	}
	a.log.Info("api.listening", "address", l.Addr().String(), "worker", withWorker)
	listening()
	return s.wait()
}

// workAlone runs a worker and a port for its probes.
func (a *app) workAlone(ctx context.Context) error {
	l, err := listen(ctx, a.cfg.HealthListen, "POSTRIDER_HEALTH_LISTEN")
	if err != nil {
		return err
	}
	ctx, s := newServices(ctx)
	if err := a.profiler(ctx, s); err != nil {
		s.cancel()
		return errors.Join(err, l.Close(), s.wait())
	}
	a.watchReputations()
	s.run("health", func() error { return a.serveHTTP(ctx, l, api.Health(a.workerReady, a.metrics)) })
	s.run("dispatch", func() error { a.dispatcher.Run(ctx); return nil })
	s.run("relays", func() error { a.relays.Run(ctx); return nil })
	s.run("secret key", func() error { return a.awaitKeyCheck(ctx) })
	s.run("worker", func() error { return a.work(ctx) })
	return s.wait()
}

func (a *app) inbound() *inbound.Server {
	var own inbound.Own
	if a.cfg.Dev {
		own = a.store.Mail.HasEmail
	}
	in := inbound.New(inbound.Config{
		Addr: a.cfg.InboundListen, Steer: a.cfg.Dev, Own: own, Alone: a.turns.Acquire,
		MaxMessageBytes: a.cfg.InboundMaxMessageBytes, MemoryBytes: a.cfg.InboundMemoryBytes, SpoolDir: a.cfg.InboundSpoolDir, SpoolBytes: a.cfg.InboundSpoolBytes,
		MaxConnections: int(a.cfg.InboundMaxConnections), MaxConnectionsPerIP: int(a.cfg.InboundMaxConnectionsPerIP),
		MaxRecipients: int(a.cfg.InboundMaxRecipients), MaxErrors: int(a.cfg.InboundMaxErrors),
		MailTimeout: a.cfg.InboundMailTimeout, ReadTimeout: a.cfg.InboundReadTimeout, SessionTimeout: a.cfg.InboundSessionTimeout,
	}, a.store.Mailboxes, a.log)
	a.metrics.Watch(metrics.Limits{Budgets: func() map[string]membudget.State {
		return map[string]membudget.State{"receiving": in.Storing()}
	}})
	return in
}

func serveInbound(ctx context.Context, in *inbound.Server) error {
	done := make(chan error, 1)
	go func() { done <- in.Serve() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpStopTimeout)
	defer cancel()
	return in.Shutdown(stopCtx)
}
