package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/smtptest"
)

// BenchmarkHangingReceiver sends 1,000 e-mails of a customer without webhooks, then
// 1,000 of one whose receiver takes every call and never answers, on one
// installation, and so on in turn: from the first request until the relay has the
// last message. mails/s are the former's, hanging-mails/s the latter's, and ratio is
// what is left of the former.
//
//	go test ./cmd/postrider -run '^$' -bench HangingReceiver -benchtime 5x
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

	took := func(key string, n int) time.Duration {
		before, start := len(peer.Messages()), time.Now()
		d.flood(key, n)
		require.Eventually(b, func() bool { return len(peer.Messages()) == before+n }, 5*time.Minute, 2*time.Millisecond)
		return time.Since(start)
	}
	took(plain, 300) // what grows with use has grown
	took(hooked, 300)
	var without, with time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		without += took(plain, mails)
		with += took(hooked, mails)
		b.Logf("round %d: %v without, %v with", rounds, without, with)
	}
	db := d.sql()
	require.Equal(b, rounds*mails*2+300*2, d.count(db, "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"), "each is told of, later")
	b.ReportMetric(float64(rounds*mails)/without.Seconds(), "mails/s")
	b.ReportMetric(float64(rounds*mails)/with.Seconds(), "hanging-mails/s")
	b.ReportMetric(without.Seconds()/with.Seconds(), "ratio")
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
