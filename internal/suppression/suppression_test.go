package suppression_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/suppression"
)

func TestKeysKeepAddressesApart(t *testing.T) {
	t.Parallel()
	keys := suppression.NewKeys(make([]byte, suppression.KeyBytes))
	require.Len(t, keys.Key("ann@x.example"), 22)
	require.Equal(t, keys.Key("ann@x.example"), keys.Key("ann@X.Example"), "a domain has no case")
	different := map[string]string{}
	for _, a := range []string{"ann@x.example", "Ann@x.example", "ann+news@x.example", "a.nn@x.example", "ann@y.example", "anné@x.example", "*@x.example"} {
		k := keys.Key(a)
		require.Empty(t, different[k], "%s has the key of %s", a, different[k])
		different[k] = a
	}
	require.NotEqual(t, keys.Key("ann@x.example"), suppression.NewKeys([]byte("another secret of 32 bytes ......")).Key("ann@x.example"))
}

func TestWhatAnEntryCovers(t *testing.T) {
	t.Parallel()
	all := suppression.Entry{Scope: suppression.ScopeAll}
	stream := suppression.Entry{Scope: suppression.ScopeStream, Target: "broadcast"}
	topic := suppression.Entry{Scope: suppression.ScopeTopic, Target: "news"}
	for _, row := range []struct {
		stream             email.Stream
		topic              string
		all, stream2, news bool
	}{
		{email.StreamTransactional, "", true, false, false},
		{email.StreamTransactional, "news", true, false, true},
		{email.StreamBroadcast, "", true, true, false},
		{email.StreamBroadcast, "news", true, true, true},
		{email.StreamBroadcast, "offers", true, true, false},
	} {
		require.Equal(t, []bool{row.all, row.stream2, row.news}, []bool{all.Covers(row.stream, row.topic), stream.Covers(row.stream, row.topic), topic.Covers(row.stream, row.topic)}, row)
	}
	require.False(t, suppression.Entry{}.Covers(email.StreamBroadcast, "news"))
	scope, target := suppression.ScopeOf("news")
	require.Equal(t, []string{"topic", "news"}, []string{string(scope), target})
	scope, target = suppression.ScopeOf("")
	require.Equal(t, []string{"stream", "broadcast"}, []string{string(scope), target})
}

func TestTheCircuitOpens(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	// note adds results at regular times, every nth of them hard, and says at which one the circuit opened.
	note := func(c *suppression.Circuits, results, every int, over time.Duration) int {
		for i := range results {
			if c.Note("a", "x.example", i%every == 0, begin.Add(over*time.Duration(i)/time.Duration(results))) {
				return i + 1
			}
		}
		return 0
	}
	for name, row := range map[string]struct {
		results, every int
		over           time.Duration
		opensAt        int
	}{
		"every fourth, 13 of 50":   {60, 4, time.Minute, 53},
		"every fifth is no more":   {200, 5, time.Minute, 0},
		"all, but fewer than 50":   {49, 1, time.Minute, 0},
		"all":                      {50, 1, time.Minute, 50},
		"all, at the end of 10min": {50, 1, 10 * time.Minute, 50},
		"all, but slowly":          {200, 1, 45 * time.Minute, 0},
	} {
		var c suppression.Circuits
		require.Equal(t, row.opensAt, note(&c, row.results, row.every, row.over), name)
	}
	var c suppression.Circuits
	require.Equal(t, 50, note(&c, 80, 1, time.Minute))
	require.Zero(t, note(&c, 49, 1, time.Minute), "it counts anew")
	require.False(t, c.Note("b", "x.example", true, begin.Add(time.Minute)), "of another customer")
	require.False(t, c.Note("a", "y.example", true, begin.Add(time.Minute)), "of another domain")
}
