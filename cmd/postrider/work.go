package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dispatch"
	"github.com/postrider/postrider/worker"
)

const (
	// startRetry is the wait before a worker that has failed is started again.
	startRetry = 5 * time.Second
	// readinessEvery is the time between two checks of the worker's readiness, for the log.
	readinessEvery = 10 * time.Second
	// readinessTimeout bounds one such check.
	readinessTimeout = 5 * time.Second
	// stopGrace is how long the SDK may take to stop a worker after DrainTimeout.
	stopGrace = 5 * time.Second
)

// buildID is this process's worker version.
func (a *app) buildID() string { return cmp.Or(a.cfg.BuildID, version) }

// workerReady returns nil if a worker can work: Postgres answers, and Temporal gives it tasks.
func (a *app) workerReady(ctx context.Context) error {
	if err := a.store.Ready(ctx); err != nil {
		return err
	}
	return a.readiness.Check(ctx)
}

// work runs a worker until ctx ends, then lets it finish its activities. It starts a new worker
// if the SDK has ended one. The SDK does so when the namespace is missing for minutes, for
// example while an operator sets up an empty Temporal.
func (a *app) work(ctx context.Context) error {
	select {
	case <-a.dispatcher.Connected():
	case <-ctx.Done():
		return nil
	}
	for {
		if err := dispatch.AwaitSearchAttributes(ctx, a.temporal, a.namespace, a.log); err != nil {
			return nil // only ctx ends the wait
		}
		failed := make(chan error, 1)
		w, free := worker.New(a.temporal, a.activities, worker.Options{
			DrainTimeout: a.cfg.DrainTimeout, Deployment: a.cfg.Deployment, BuildID: a.buildID(),
			OnFatalError: func(err error) {
				select {
				case failed <- err:
				default: // the first one ends the worker
				}
			},
		})
		err := w.Start()
		if err == nil {
			a.readiness.SetPolling(true)
			a.log.Info("worker.started", "task_queue", email.TaskQueue, "deployment", a.cfg.Deployment, "build_id", a.buildID())
			err = a.watch(ctx, free, failed)
			a.readiness.SetPolling(false)
			a.dispatcher.StartEagerly(nil)
			if err == nil {
				a.drainWorker(ctx, w.Stop)
				return nil
			}
		}
		a.log.Warn("worker.failed", "error", err, "retry_in", startRetry)
		w.Stop()
		select {
		case <-time.After(startRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

// watch logs whether the worker is ready, and each change, until ctx ends. Starts are eager while all
// new runs may be the worker's. If the worker fails before, it returns the error.
func (a *app) watch(ctx context.Context, free *worker.Slots, failed <-chan error) error {
	tick := time.NewTicker(readinessEvery)
	defer tick.Stop()
	logged, first := "", true
	for {
		why := ""
		checkCtx, cancel := context.WithTimeout(ctx, readinessTimeout)
		if err := a.workerReady(checkCtx); err != nil {
			why = err.Error()
		}
		if ctx.Err() == nil && (first || why != logged) {
			a.logReadiness(checkCtx, why)
			logged, first = why, false
		}
		cancel()
		if a.readiness.TakesAll() {
			a.dispatcher.StartEagerly(free.Await)
		} else {
			a.dispatcher.StartEagerly(nil)
		}
		select {
		case err := <-failed:
			return err
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// logReadiness logs which worker version gets tasks, and why this worker gets none.
func (a *app) logReadiness(ctx context.Context, why string) {
	args := []any{"deployment", a.cfg.Deployment, "build_id", a.buildID()}
	if route, err := a.readiness.Route(ctx); err == nil { // on an error, why has the reason
		args = append(args, "current", route.Current.String())
		if route.RampPercent > 0 {
			args = append(args, "ramping", route.Ramping.String(), "ramp_percent", route.RampPercent)
		}
	}
	if why != "" {
		a.log.Warn("worker.unready", append(args, "reason", why)...)
		return
	}
	a.log.Info("worker.ready", args...)
}

// drainWorker lets the worker finish its exchanges and activities, for at most DrainTimeout and
// stopGrace. It does not wait longer for activities that still wait for an exchange, as the
// SDK's own timeout would.
func (a *app) drainWorker(ctx context.Context, stop func()) {
	a.log.Info("worker.draining", "timeout", a.cfg.DrainTimeout)
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.DrainTimeout)
	defer cancel()
	err := a.drain(drainCtx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-stopped:
	case <-drainCtx.Done():
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case <-stopped:
		case <-grace.C:
			err = errors.Join(err, errors.New("activities still run"))
		}
	}
	if err != nil {
		a.log.Warn("worker.drained", "error", err)
	}
}
