package pacing_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/pacing"
)

const (
	rate   = email.ThrottledBy("recipients:x.test")
	warmup = email.ThrottledBy("warmup:acme.test")
)

func TestTurnWaits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		turn *pacing.Turn
		want bool
	}{
		"none":                    {nil, false},
		"counted on a day only":   {&pacing.Turn{Day: "2026-11-29"}, false},
		"its time has come":       {&pacing.Turn{For: rate, At: start}, false},
		"a tenth of a second off": {&pacing.Turn{For: rate, At: start.Add(100 * time.Millisecond)}, false},
		"more than that":          {&pacing.Turn{For: rate, At: start.Add(101 * time.Millisecond)}, true},
	} {
		require.Equal(t, tt.want, tt.turn.Waits(start), name)
	}
}

func TestTurnHasSlot(t *testing.T) {
	t.Parallel()
	slot := func(ago time.Duration) *pacing.Turn {
		return &pacing.Turn{For: rate, At: start.Add(-ago), Reserved: true}
	}
	for name, tt := range map[string]struct {
		turn  *pacing.Turn
		relay time.Time
		want  bool
	}{
		"none":                   {nil, time.Time{}, false},
		"its slot has come":      {slot(0), time.Time{}, true},
		"59 seconds late":        {slot(59 * time.Second), time.Time{}, true},
		"a minute late":          {slot(time.Minute), time.Time{}, false},
		"the relay took so long": {slot(time.Hour), start.Add(-time.Second), true},
		"the relay did not":      {slot(time.Hour), start.Add(-time.Minute), false},
		"its slot is to come":    {slot(-time.Second), time.Time{}, false},
		"an estimate":            {&pacing.Turn{For: rate, At: start}, time.Time{}, false},
		"another rate's":         {&pacing.Turn{For: "recipients:y.test", At: start, Reserved: true}, time.Time{}, false},
	} {
		require.Equal(t, tt.want, tt.turn.HasSlot(rate, tt.relay, start), name)
	}
}

func TestTurnRequest(t *testing.T) {
	t.Parallel()
	later := start.Add(time.Hour)
	for name, tt := range map[string]struct {
		turn *pacing.Turn
		want pacing.Request
	}{
		"none":                      {nil, pacing.Request{N: 2}},
		"another rate's":            {&pacing.Turn{For: "recipients:y.test", At: later}, pacing.Request{N: 2}},
		"it waits: sooner ones":     {&pacing.Turn{For: rate, At: later}, pacing.Request{N: 2, Before: later}},
		"so with a slot":            {&pacing.Turn{For: rate, At: later, Reserved: true}, pacing.Request{N: 2, Before: later}},
		"its estimate has come":     {&pacing.Turn{For: rate, At: start}, pacing.Request{N: 2, Returning: true}},
		"it missed its slot: a new": {&pacing.Turn{For: rate, At: start.Add(-time.Hour), Reserved: true}, pacing.Request{N: 2}},
	} {
		tt.want.Stream = email.StreamBroadcast
		require.Equal(t, tt.want, tt.turn.Request(rate, email.StreamBroadcast, 2, start), name)
	}
}

func TestTurnOfADay(t *testing.T) {
	t.Parallel()
	var none *pacing.Turn
	require.Nil(t, none.Spent())
	require.Nil(t, (&pacing.Turn{For: rate, At: start, Reserved: true}).Spent(), "a retry needs another slot")
	counted := &pacing.Turn{For: rate, At: start, Reserved: true, Day: "2026-11-29"}
	require.Equal(t, &pacing.Turn{Day: "2026-11-29"}, counted.Spent(), "a retry is not counted twice on a day")
	require.Equal(t, "2026-11-29", counted.CountedOn())
	require.Empty(t, none.CountedOn())

	today, tomorrow := pacing.Turn{Day: "2026-11-30"}, pacing.Turn{For: warmup, At: start, Reserved: true, Day: "2026-12-01"}
	require.Equal(t, today, none.Counted(today))
	require.Equal(t, tomorrow, none.Counted(tomorrow))
	require.Equal(t, pacing.Turn{For: rate, At: start, Reserved: true, Day: "2026-11-30"}, counted.Counted(today), "it keeps its slot")
	require.Equal(t, tomorrow, counted.Counted(tomorrow), "a slot of today is no use on another day")
	require.Equal(t, today, tomorrow.Counted(today), "its day has come")
}

// TestTurnIsStored: rows of earlier versions hold turns in this form.
func TestTurnIsStored(t *testing.T) {
	t.Parallel()
	const stored = `{"for":"recipients:x.test","at":"1970-01-12T13:46:40Z","firm":true,"day":"2026-11-29"}`
	var turn pacing.Turn
	require.NoError(t, json.Unmarshal([]byte(stored), &turn))
	require.Equal(t, pacing.Turn{For: rate, At: start, Reserved: true, Day: "2026-11-29"}, turn)
	data, err := json.Marshal(turn)
	require.NoError(t, err)
	require.JSONEq(t, stored, string(data))
	data, err = json.Marshal(pacing.Turn{})
	require.NoError(t, err)
	require.JSONEq(t, `{}`, string(data))
}
