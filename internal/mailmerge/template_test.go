package mailmerge_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/mailmerge"
)

func TestDecodeRefusesVariablesInACalendar(t *testing.T) {
	t.Parallel()
	invite := invitationOf(100)
	message := func(ics string) string {
		return templated(`"subject":"s","content":{"text":"Dear {{email}}","calendar":{"method":"REQUEST","ics":`+quoted(ics)+`}}`, `{"email":"b@example.net"},{"email":"c@example.net"}`)
	}
	b := decodeBatch(t, message(invite))
	for i := range 2 {
		m, err := b.Message(i)
		require.NoError(t, err)
		require.Equal(t, invite, m.Calendar.ICS)
	}
	require.NotEqual(t, b.Fingerprint(), decodeBatch(t, message(strings.Replace(invite, "UID:1", "UID:2", 1))).Fingerprint())
	_, err := mailmerge.Decode([]byte(message(strings.Replace(invite, "UID:1", "UID:{{email}}", 1))), limits())
	require.Equal(t, "/message/content/calendar/ics", failure(t, err).Fields[0].Pointer)
}

func TestMessageRefusesVariablesThatBreakAHeader(t *testing.T) {
	t.Parallel()
	b := decodeBatch(t, templated(`"subject":"s","content":"t","headers":{"References":"<{{id}}@example.com>","X-Note":"{{id}}"}`,
		`{"email":"b@example.net","variables":{"id":"=?1"}},{"email":"c@example.net","variables":{"id":"ü"}}`))
	m, err := b.Message(0)
	require.NoError(t, err)
	require.Equal(t, "<=?1@example.com>", m.Headers[0].Value)
	_, err = b.Message(1)
	require.Equal(t, "/recipients/1/variables", failure(t, err).Fields[0].Pointer)
	require.Contains(t, failure(t, err).Fields[0].Detail, "the header References")
}

func TestMessageRefusesItemsWithoutARelay(t *testing.T) {
	t.Parallel()
	l := limits()
	l.Serves = func(r delivery.Route) bool { return r.SenderDomain == "x.com" }
	item := func(from string) string {
		return `{"from":{"email":"` + from + `"},"to":[{"email":"b@z.com"}],"subject":"s","content":"c"}`
	}
	b, err := mailmerge.Decode([]byte(`{"mode":"permissive","messages":[`+item("a@x.com")+`,`+item("a@y.com")+`]}`), l)
	require.NoError(t, err)
	_, err = b.Message(0)
	require.NoError(t, err)
	_, err = b.Message(1)
	f, ok := errors.AsType[*email.Failure](err)
	require.True(t, ok)
	require.Equal(t, "/messages/1/from", f.Fields[0].Pointer)
	require.Equal(t, "no_relay", f.Fields[0].Code)

	_, err = mailmerge.Decode([]byte(`{"message":{"from":{"email":"a@y.com"},"subject":"s","content":"c"},"recipients":[{"email":"b@z.com"}]}`), l)
	f, ok = errors.AsType[*email.Failure](err)
	require.True(t, ok)
	require.Equal(t, "/message/from", f.Fields[0].Pointer)
}
