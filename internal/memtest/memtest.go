// Package memtest measures what something costs in memory, at moments of a test's
// choice and after a collection, so that it does not depend on when the garbage
// collector gets to run. Tests that use it are not parallel: others' memory would
// count.
package memtest

import (
	"runtime"
	"time"
)

// Live is how many bytes the heap holds that something still refers to.
func Live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
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

// Peak is the most that the heap holds while do runs, besides what it held before, as far as
// it is seen by looking all the time.
func Peak(do func()) (held int64) {
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
