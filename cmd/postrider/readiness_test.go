package main

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/smtptest"
)

// unready asks a worker until it is not ready for the reason wanted.
func (d *deployment) unready(want string) {
	d.t.Helper()
	d.eventually("not ready: "+want, func() bool {
		out, err := d.try("", "health", "--worker", "--ready")
		return err != nil && strings.Contains(out, "/readyz: 503 Service Unavailable: ") && strings.Contains(out, want)
	})
}

func (d *deployment) ready() {
	d.t.Helper()
	d.eventually("ready", func() bool { _, err := d.try("", "health", "--worker", "--ready"); return err == nil })
}

// TestWorkerReadiness: the probe, the command and the log agree.
func TestWorkerReadiness(t *testing.T) {
	t.Parallel()
	peer := (&smtptest.Peer{}).Start(t)
	pg := startPostgres(t, devstack.PostgresOptions{})
	port, err := devstack.FreePort()
	require.NoError(t, err)
	server := devstack.TemporalOptions{Dir: t.TempDir(), Port: port}
	temporal := startTemporal(t, server)
	addr := temporal.Address()
	require.NoError(t, temporal.Stop(context.WithoutCancel(t.Context())))
	d := newDeployment(t, binary(t), pg.URL("postgres"), addr, relayURL(peer))

	worker := d.start("worker")
	d.unready("postrider migrate up") // Postgres has no schema
	d.run("", "migrate", "up", "--skip-temporal")
	d.unready("temporal does not answer: ")
	api := d.start("serve")
	d.eventually("mail is accepted without Temporal", func() bool { _, err := d.try("", "health", "--ready"); return err == nil })
	startTemporal(t, server)
	d.unready("search attributes are missing: run `postrider migrate up`")
	d.settle()
	d.ready()
	d.eventually("the log says who is current", func() bool {
		return strings.Contains(worker.output(), `"msg":"worker.ready","deployment":"","build_id":"dev","current":"unversioned"`)
	})

	// A version that this worker is not becomes current: mail stands still, and it says so.
	c, err := client.Dial(client.Options{HostPort: addr})
	require.NoError(t, err)
	defer c.Close()
	elsewhere := freeAddress(t)
	versioned := d.startWith([]string{"POSTRIDER_DEPLOYMENT=postrider", "POSTRIDER_BUILD_ID=v1.1.0", "POSTRIDER_HEALTH_LISTEN=" + elsewhere}, "worker")
	d.eventually("the version says that it is not current", func() bool {
		return strings.Contains(versioned.output(), `"msg":"worker.unready","deployment":"postrider","build_id":"v1.1.0","current":"unversioned","reason":"this worker gets no tasks: its version is postrider v1.1.0, and current is unversioned`)
	})
	handle := c.WorkerDeploymentClient().GetHandle("postrider")
	current := func(id string) {
		d.eventually("current is "+id, func() bool {
			_, err := handle.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: id})
			return err == nil
		})
	}
	current("v1.1.0")
	d.unready("version postrider v1.1.0 is current and this worker is unversioned")
	d.eventually("the log says it, too", func() bool { return strings.Contains(worker.output(), `"msg":"worker.unready"`) })
	d.eventually("the other is ready", func() bool {
		res, err := http.Get("http://" + elsewhere + "/readyz")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	current("")
	d.ready()
	d.post(1)
	d.finished(d.sql(), patience)
	versioned.stop(t)
	worker.stop(t)
	api.stop(t)
}
