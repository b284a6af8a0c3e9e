package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/devstack"
)

// TestSuppressionCommands: what is added is listed, checked and removed, and a list that is exported is
// imported for another customer.
func TestSuppressionCommands(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t, devstack.PostgresOptions{})
	d := newDeployment(t, binary(t), pg.URL("postgres"), "127.0.0.1:1", "smtp://127.0.0.1:1?tls=none")
	d.run("", "migrate", "up", "--skip-temporal")
	d.run("", "customer", "create", "--name", "ACME")
	d.run("", "customer", "create", "--name", "Other")
	do := func(args ...string) string {
		t.Helper()
		return d.run("", append([]string{"suppression"}, append(args, "--customer", "ACME")...)...)
	}
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := d.try("", append([]string{"suppression"}, append(args, "--customer", "ACME")...)...)
		require.Error(t, err, args)
		require.Contains(t, out, want)
	}

	require.Equal(t, "ann+x@example.net added: all mail, manual", do("add", "ann+x@Example.NET", "--note", "by phone"))
	require.Equal(t, "ann+x@example.net changed: all mail, complaint", do("add", "ann+x@example.net", "--reason", "complaint", "--expires", "2999-01-01T00:00:00Z"))
	require.Equal(t, "*@example.org added: topic news, manual", do("add", "*@example.org", "--topic", "news"))
	require.Equal(t, "bob@example.net added: stream broadcast, unsubscribe", do("add", "bob@example.net", "--reason", "unsubscribe"))
	refused("the address: an address looks like local@domain\n", "add", "bob")
	refused("--expires: this time has passed", "add", "bob@example.net", "--expires", "2020-01-01T00:00:00Z")
	refused("--expires: give a time in RFC 3339 format", "add", "bob@example.net", "--expires", "tomorrow")
	refused("--reason: give manual, hard_bounce, complaint or unsubscribe", "add", "bob@example.net", "--reason", "soft_bounces")
	refused("--stream: give the stream", "add", "bob@example.net", "--scope", "stream")

	list := do("list")
	require.Regexp(t, `^ADDRESS +COVERS +REASON +SOURCE +ADDED +EXPIRES +NOTE +ID\nbob@example\.net +stream broadcast +unsubscribe +manual +\S+Z +- +- +\S+\n\*@example\.org +topic news .*\nann\+x@example\.net +all mail +complaint +manual +\S+Z +2999-01-01T00:00:00Z +- +\S+$`, list)
	require.NotContains(t, do("list", "--reason", "complaint"), "bob@")
	require.Len(t, strings.Split(do("list", "--max", "2"), "\n"), 3)
	refused("--reason: give hard_bounce", "list", "--reason", "spam")
	require.NotContains(t, d.run("", "suppression", "list", "--customer", "Other"), "@")

	require.Contains(t, do("check", "ann+x@example.net"), "ann+x@example.net is suppressed\nADDRESS")
	require.Equal(t, "ann@example.net may be sent to", do("check", "ann@example.net"))
	require.Contains(t, do("check", "zoe@example.org", "bob@example.net"), "zoe@example.org may be sent to\nADDRESS")
	require.Contains(t, do("check", "zoe@example.org", "--topic", "news", "--stream", "broadcast"), "zoe@example.org is suppressed\n")
	refused("--stream: give transactional or broadcast", "check", "a@example.net", "--stream", "x")

	file := filepath.Join(t.TempDir(), "bounces.csv")
	require.NoError(t, os.WriteFile(file, []byte("email,created,reason\ncid@example.net,1443651125,550 unknown\nbad,1443651125,x\n"), 0o600))
	require.Equal(t, "sendgrid: 2 read, 1 added, 0 changed, 0 unchanged, 1 refused\nline 3: email: an address looks like local@domain", do("import", file))
	refused("the file cannot be imported: it is empty", "import", "-")
	refused("--format: give postrider, sendgrid", "import", file, "--format", "x")
	refused("--reason: give hard_bounce", "import", file, "--reason", "x")

	exported := do("export") + "\n"
	require.Equal(t, 5, strings.Count(exported, "\n"))
	require.Equal(t, "postrider: 4 read, 4 added, 0 changed, 0 unchanged, 0 refused", d.run(exported, "suppression", "import", "-", "--customer", "Other"))
	require.Equal(t, exported, d.run("", "suppression", "export", "--customer", "Other")+"\n")

	require.Equal(t, "ann+x@example.net removed: all mail, complaint; it has ended recipients of 0 e-mails in the last 30 days", do("remove", "ann+x@example.net"))
	refused("the list has no entry for this address", "remove", "ann+x@example.net")
	id := regexp.MustCompile(`\S+$`).FindString(do("list", "--reason", "unsubscribe"))
	require.Contains(t, do("remove", id), "bob@example.net removed")
	refused("there is no such suppression", "remove", id)
}
