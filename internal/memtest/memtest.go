// Package memtest measures what something costs in memory, at moments of a test's
// choice and after a collection, so that it does not depend on when the garbage
// collector gets to run. Tests that use it are not parallel: others' memory would
// count.
package memtest

import "runtime"

// Live is how many bytes the heap holds that something still refers to.
func Live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Allocated is how many bytes the process has allocated so far, freed ones too.
func Allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}
