package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"
)

// profiler serves /debug/pprof/ on POSTRIDER_PPROF_LISTEN, if it is set. The port is a separate
// one, because clients of the API must not reach it.
func (a *app) profiler(ctx context.Context, s *services) error {
	if a.cfg.PprofListen == "" {
		return nil
	}
	l, err := listen(ctx, a.cfg.PprofListen, "POSTRIDER_PPROF_LISTEN")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: httpStopTimeout}
	s.run("pprof", func() error {
		// A profile under way is cut off: the process does not wait for it.
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}
