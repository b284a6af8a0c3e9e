// Package memtest measures memory at times of a test's choice, after a collection. So the
// figure does not depend on when the garbage collector runs. Tests that use it are not
// parallel: others' memory would count.
package memtest

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// Live is how many bytes the heap holds that something still refers to. Garbage that
// is made while the collection sweeps does not count: on a busy machine that takes long.
func Live() int64 {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return int64(live[0].Value.Uint64())
}

// Idle is Live without what pools hold (sync.Pool), which a first collection leaves them. It is
// for before what is measured: what others had left there would count.
func Idle() int64 {
	runtime.GC()
	return Live()
}

// Allocated is how many bytes the process has allocated so far, freed ones too.
func Allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}

// peakRuns is how often Peak runs what it measures, at most.
const peakRuns = 3

// Peak is the most that the heap holds while do runs, without the bytes that it held before. If that
// is not less than limit, do runs again, and the least of the peaks counts: garbage that is made
// during a collection counts as held, and on a busy machine a collection takes long.
func Peak(limit int64, do func()) (held int64) {
	held = peak(do)
	for range peakRuns - 1 {
		if held < limit {
			break
		}
		held = min(held, peak(do))
	}
	return held
}

// peak samples the heap without a pause while do runs.
func peak(do func()) (held int64) {
	before, stop, stopped := Idle(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			held = max(held, Live()-before)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	<-stopped
	return held
}
