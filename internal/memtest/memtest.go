// Package memtest measures what something costs in memory. Tests that use it are
// not parallel: others' memory would count.
package memtest

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// Live is how many bytes the heap holds that something still refers to.
func Live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Peak runs do and tells how much the heap grew at its worst, garbage included,
// looking every millisecond.
func Peak(t testing.TB, do func()) int64 {
	t.Helper()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	before := Live()
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := before
		for {
			metrics.Read(sample)
			most = max(most, int64(sample[0].Value.Uint64()))
			select {
			case <-stop:
				peak <- most - before
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	return <-peak
}
