// Package pacing decides when mail may go: at which slot of a rate, and on which day
// of a warm-up plan. It computes with values that its caller loaded and writes back;
// it reads no clock and no store.
//
// Transactional mail reserves slots. Broadcast mail gets estimates, and a slot only
// when that is within the Horizon. So a newsletter of any size keeps transactional
// mail waiting for at most one Horizon.
package pacing
