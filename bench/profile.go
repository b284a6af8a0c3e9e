package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profileFor is how long a CPU profile is taken, while mails are sent.
const profileFor = 15 * time.Second

// profile keeps CPU profiles of a deployment's processes, sending e-mails one by one
// and in batches.
func (d *deployment) profile(ctx context.Context) error {
	return errors.Join(d.profileOf(ctx, d.name, d.round), d.profileOf(ctx, "batch", d.batchRound))
}

func (d *deployment) profileOf(ctx context.Context, name string, round func(context.Context) (sample, error)) error {
	dir := absolute(d.st.settings.profile)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	say("profiling %s for %s", name, profileFor)
	stop := time.Now().Add(profileFor)
	errs := make(chan error, len(d.pprof))
	for i, addr := range d.pprof {
		go func() {
			errs <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, int(profileFor.Seconds())), filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", name, i)))
		}()
	}
	var err error
	for err == nil && time.Now().Before(stop) {
		_, err = round(ctx)
	}
	for range d.pprof {
		err = errors.Join(err, <-errs)
	}
	return err
}

func fetch(ctx context.Context, url, path string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}

// flatPoint is how much memory the worker had after so many mails.
type flatPoint struct {
	mails int
	rss   int64
	rate  float64
}

const (
	flatMails = 100_000
	flatEvery = 5_000
	// flatOpen keeps so many on their way.
	flatOpen = 1000
)

// flat sends 100,000 mails in one go and looks at the worker's memory meanwhile.
func (d *deployment) flat(ctx context.Context) ([]flatPoint, error) {
	say("%s mails in one go", thousands(flatMails))
	pid := d.procs[len(d.procs)-1].Process.Pid
	var out []flatPoint
	begin, point := time.Now(), time.Now()
	for sent := 0; sent < flatMails; {
		open, err := d.open(ctx)
		if err != nil {
			return nil, err
		}
		if n := min(flatOpen-open, flatEvery-sent%flatEvery); n > flatOpen/4 || n == flatEvery-sent%flatEvery {
			if _, err := d.post(ctx, n, clients); err != nil {
				return nil, err
			}
			if sent += n; sent%flatEvery == 0 {
				out = append(out, flatPoint{sent, memory(pid, "VmRSS"), flatEvery / time.Since(point).Seconds()})
				say("%7d mails: %s, %.0f/s", sent, mib(out[len(out)-1].rss), out[len(out)-1].rate)
				point = time.Now()
			}
			continue
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := d.drained(ctx); err != nil {
		return nil, err
	}
	say("%d mails in %s", flatMails, time.Since(begin).Round(time.Second))
	return out, d.allDelivered(ctx)
}
