package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/smtptest"
)

// BenchmarkHangingReceiver sends four times 1,000 e-mails on one installation. The first and the
// last are of a customer without webhooks. The second and third are of one whose receiver takes
// every call and never answers. In this order, a slowdown over time affects both alike. It
// counts from the first request until the relay has the last message. mails/s are the
// former's, hanging-mails/s the latter's, each the median, and ratio is what is left of the former.
// cpu-ratio is the same by the processor time that Postrider, Postgres and Temporal took,
// which other work on the machine hardly changes.
//
//	go test ./cmd/postrider -run '^$' -bench HangingReceiver -benchtime 3x
func BenchmarkHangingReceiver(b *testing.B) {
	const mails = 1000
	peer := (&smtptest.Peer{}).Start(b)
	d := newGround(b).deploy(b, relayURL(peer), append(local, "POSTRIDER_REQUIRE_VERIFIED_DOMAINS=false", "POSTRIDER_LOG_LEVEL=warn")...)
	d.start("serve", "--worker")
	d.eventually("the API answers", func() bool { _, err := d.try("", "health", "--ready"); return err == nil })
	over := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	b.Cleanup(func() {
		close(over)
		hang.Close()
	})
	plain := d.key
	d.run("", "customer", "create", "--name", "HOOKED")
	hooked := d.run("", "key", "create", "--customer", "HOOKED")
	d.key = hooked
	d.endpoint(hang.URL, "")

	took := func(key string, n int, cpu times) time.Duration {
		before, start, used := len(peer.Messages()), time.Now(), processorTime(b)
		defer func() {
			for name, seconds := range processorTime(b) {
				cpu[name] += seconds - used[name]
				cpu["all"] += seconds - used[name]
			}
		}()
		d.flood(key, n)
		require.Eventually(b, func() bool { return len(peer.Messages()) == before+n }, 5*time.Minute, 2*time.Millisecond)
		return time.Since(start)
	}
	var without, with []time.Duration
	cpuWithout, cpuWith := times{}, times{}
	took(plain, 300, times{}) // what grows with use has grown
	took(hooked, 300, times{})
	rounds := 0
	for b.Loop() {
		rounds++
		first, second := took(plain, mails, cpuWithout), took(hooked, mails, cpuWith)
		third, fourth := took(hooked, mails, cpuWith), took(plain, mails, cpuWithout)
		without, with = append(without, first, fourth), append(with, second, third)
		b.Logf("round %d: without %v and %v, with %v and %v; processor time so far without: %v; with: %v", rounds, first, fourth, second, third, cpuWithout, cpuWith)
	}
	db := d.sql()
	require.Equal(b, rounds*mails*4+300*2, d.count(db, "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"), "each event has a delivery that is pending")
	b.ReportMetric(mails/median(without), "mails/s")
	b.ReportMetric(mails/median(with), "hanging-mails/s")
	b.ReportMetric(median(without)/median(with), "ratio")
	b.ReportMetric(cpuWithout["all"]/cpuWith["all"], "cpu-ratio")
}

// median is that of an even number of times, in seconds.
func median(ds []time.Duration) float64 {
	slices.Sort(ds)
	return (ds[len(ds)/2-1] + ds[len(ds)/2]).Seconds() / 2
}

// times are seconds of processor time by the name of the program.
type times map[string]float64

func (t times) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		out = append(out, fmt.Sprintf("%s %.1f s", name, t[name]))
	}
	return strings.Join(out, ", ")
}

// processorTime is what all processes that this one has started have used, which
// proc_pid_stat(5) has in units of 10 ms.
func processorTime(b *testing.B) times {
	b.Helper()
	type process struct {
		name          string
		parent, ticks int
	}
	out := times{}
	all := map[int]process{}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// Behind the name, which may hold anything: the state, the parent, and so on.
		stat := string(data)
		open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
		fields := strings.Fields(stat[end+1:])
		number := func(i int) int {
			n, err := strconv.Atoi(fields[i])
			require.NoError(b, err)
			return n
		}
		pid, err := strconv.Atoi(strings.Split(name, "/")[2])
		require.NoError(b, err)
		all[pid] = process{stat[open+1 : end], number(1), number(11) + number(12) + number(13) + number(14)}
	}
	for pid, p := range all {
		for up := p.parent; up > 1; up = all[up].parent {
			if up == os.Getpid() && pid != up {
				out[p.name] += float64(p.ticks) / 100
				break
			}
		}
	}
	return out
}

// flood has n e-mails accepted, 16 at a time, with as little work as can be.
func (d *deployment) flood(key string, n int) {
	d.t.Helper()
	const body = `{"from":{"email":"shop@acme.test"},"to":[{"email":"bob@y.test"}],"subject":"s","content":"Hi"}`
	caller := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range todo {
				res, err := caller.Post("http://"+d.api+"/v1.0/emails?accesskey="+key, "application/json", strings.NewReader(body))
				if err != nil {
					d.t.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusAccepted {
					d.t.Error(res.Status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.False(d.t, d.t.Failed(), "every mail is accepted")
}
