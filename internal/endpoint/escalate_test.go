package endpoint_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/endpoint"
)

func TestNoEndpointIsDisabledUnwarned(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	// fails plays failures at these hours of the first one.
	fails := func(hours ...int) (warnings []int, disabled int) {
		var warned time.Time
		for _, h := range hours {
			at := since.Add(time.Duration(h) * time.Hour)
			warn, disable := endpoint.Escalate(at, since, warned)
			if disable {
				return warnings, h
			}
			if warn {
				warned = at
				warnings = append(warnings, h)
			}
		}
		return warnings, 0
	}
	var hourly []int
	for h := range 200 {
		hourly = append(hourly, h)
	}
	warnings, disabled := fails(hourly...)
	require.Equal(t, []int{24, 96}, warnings)
	require.Equal(t, 120, disabled)
	warnings, disabled = fails(0, 1, 300, 310, 323, 324, 330)
	require.Equal(t, []int{300}, warnings, "seldom called, and still warned a day before")
	require.Equal(t, 324, disabled)
	warnings, disabled = fails(0, 30, 100, 130)
	require.Equal(t, []int{30, 100}, warnings)
	require.Equal(t, 130, disabled)
	warnings, disabled = fails(0, 30, 110, 121, 134)
	require.Equal(t, []int{30, 110}, warnings)
	require.Equal(t, 134, disabled)
	require.Equal(t, since.Add(134*time.Hour), endpoint.DisablesAt(since, since.Add(110*time.Hour)))
	require.Equal(t, since.Add(120*time.Hour), endpoint.DisablesAt(since, time.Time{}))
}
