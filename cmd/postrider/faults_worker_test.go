package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtptest"
)

// aWorkerIsStoppedLate: the same where the attempts are regular activities by then.
func aWorkerIsStoppedLate(t *testing.T, g *ground) {
	peer := newStall(".")
	peer.Start(t)
	t.Cleanup(peer.release)
	d := g.deploy(t, relayURL(peer.Peer), "POSTRIDER_DRAIN_TIMEOUT=60s")
	d.serve()
	worker := d.worker()
	mails := d.post(20)
	c, err := client.Dial(client.Options{HostPort: g.temporal.Address(), Namespace: d.namespace})
	require.NoError(t, err)
	defer c.Close()
	d.eventually("all mails are handed over", func() bool { return d.running(c, email.StatusSending) == 20 })
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	d.eventually("the worker drains", func() bool { return strings.Contains(worker.output(), "worker.draining") })
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM), "a supervisor and its process group may both send it")
	peer.release()
	require.NoError(t, worker.cmd.Wait(), worker.output())
	require.NotContains(t, worker.output(), "were still open")
	db := d.sql()
	require.Equal(t, 20, d.count(db, "SELECT count(*) FROM delivery_attempts WHERE phase = 'done'"), "every answer is in the journal before the process ends")
	d.worker()
	deliveredOnce(t, d, peer.Peer, mails)
	require.Zero(t, d.count(db, "SELECT count(*) FROM email_events WHERE reason = 'ambiguous'"))
}

// running counts the open runs that publish a status.
func (d *deployment) running(c client.Client, status email.Status) int {
	d.t.Helper()
	n, err := c.CountWorkflow(d.t.Context(), &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: d.namespace, Query: fmt.Sprintf("%s=%q AND ExecutionStatus=\"Running\"", email.SearchAttributeStatus, status)})
	require.NoError(d.t, err)
	return int(n.GetCount())
}

// hanging has a worker's 20 mails wait at a point of the transaction.
func hanging(t *testing.T, g *ground, point, drain string) (*stall, *deployment, *daemon, []sent) {
	peer := newStall(point)
	peer.Start(t)
	t.Cleanup(peer.release)
	d := g.deploy(t, relayURL(peer.Peer), "POSTRIDER_DRAIN_TIMEOUT="+drain)
	d.serve()
	worker := d.worker()
	mails := d.post(20)
	d.eventually("all mails wait at "+point, func() bool { return peer.waiting() == 20 })
	return peer, d, worker, mails
}

// aWorkerIsStoppedByForce: what is not at its final dot when the time is up is cut,
// and nothing of it was sent.
func aWorkerIsStoppedByForce(t *testing.T, g *ground) {
	peer, d, worker, mails := hanging(t, g, "RCPT", "3s")
	stopped := time.Now()
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, worker.cmd.Wait(), worker.output())
	require.Less(t, time.Since(stopped), 20*time.Second)
	require.Contains(t, worker.output(), "were still open", "it says so")
	peer.release()
	d.worker()
	deliveredOnce(t, d, peer.Peer, mails)
	require.Zero(t, d.count(d.sql(), "SELECT count(*) FROM email_events WHERE reason = 'ambiguous'"))
}

// aNewVersion: versioned workers take mail once their version is the current one.
// Runs go on with the next version, and back.
func aNewVersion(t *testing.T, g *ground) {
	peer := (&smtptest.Peer{}).Start(t)
	d := g.deploy(t, relayURL(peer))
	c, err := client.Dial(client.Options{HostPort: g.temporal.Address(), Namespace: d.namespace})
	require.NoError(t, err)
	defer c.Close()
	d.serve()
	version := func(id string) *daemon {
		w := d.startWith([]string{"POSTRIDER_DEPLOYMENT=postrider", "POSTRIDER_BUILD_ID=" + id, "POSTRIDER_HEALTH_LISTEN=" + freeAddress(t)}, "worker")
		d.eventually("the worker works", func() bool { return strings.Contains(w.output(), `"build_id":"`+id+`"`) })
		return w
	}
	deployment := c.WorkerDeploymentClient().GetHandle("postrider")
	current := func(id string) {
		d.eventually("version "+id+" is current", func() bool {
			_, err := deployment.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: id})
			return err == nil
		})
		// The server's parts that start runs hear of it later.
		d.eventually("new runs go to version "+id, func() bool {
			described, err := c.WorkflowService().DescribeWorkerDeployment(t.Context(), &workflowservice.DescribeWorkerDeploymentRequest{Namespace: d.namespace, DeploymentName: "postrider"})
			return err == nil && described.GetWorkerDeploymentInfo().GetRoutingConfigUpdateState() != enumspb.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS
		})
	}
	// Postgres has an e-mail's end before Temporal has that of the workflow task.
	requireRanBy := func(id string, m sent, why string) {
		t.Helper()
		var versions *workflowpb.WorkflowExecutionVersioningInfo
		d.eventually(why, func() bool {
			desc, err := c.DescribeWorkflowExecution(t.Context(), email.WorkflowIDPrefix+m.id, "")
			if err != nil {
				return false
			}
			versions = desc.GetWorkflowExecutionInfo().GetVersioningInfo()
			return desc.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
		})
		require.Equal(t, enumspb.VERSIONING_BEHAVIOR_AUTO_UPGRADE, versions.GetBehavior())
		require.Equal(t, id, versions.GetDeploymentVersion().GetBuildId(), why)
	}
	old := version("v1.0.0")
	early := d.post(1)[0]
	current("v1.0.0")
	db := d.sql()
	d.finished(db, patience)
	requireRanBy("v1.0.0", early, "a run that was accepted before there was a current version")
	d.sendAt = time.Now().Add(24 * time.Hour).UTC()
	waiting := d.post(1)[0]
	d.sendAt = time.Time{}
	d.eventually("it waits in a run", func() bool { return d.running(c, "scheduled") == 1 })

	version("v1.1.0")
	d.post(1)
	d.eventually("delivered", func() bool { return len(peer.Messages()) == 2 })
	current("v1.1.0")
	old.stop(t)
	_, err = d.client().Reschedule(t.Context(), waiting.id, time.Now())
	require.NoError(t, err)
	d.finished(db, patience)
	requireRanBy("v1.1.0", waiting, "a run that waited goes on with the new version")

	version("v1.0.0")
	current("v1.0.0")
	last := d.post(1)[0]
	d.finished(db, patience)
	requireRanBy("v1.0.0", last, "and back")
}

// aWorkerIsStopped: what has begun ends within the drain timeout, and nothing is
// ambiguous.
func aWorkerIsStopped(t *testing.T, g *ground) {
	peer, d, worker, mails := hanging(t, g, ".", "60s")
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	d.eventually("the worker drains", func() bool { return strings.Contains(worker.output(), "worker.draining") })
	peer.release()
	require.NoError(t, worker.cmd.Wait(), worker.output())
	require.NotContains(t, worker.output(), "were still open")
	db := d.sql()
	require.Equal(t, 20, d.count(db, "SELECT count(*) FROM delivery_attempts WHERE phase = 'done'"), "every answer is in the journal before the process ends")
	d.worker() // the runs end with the next one
	deliveredOnce(t, d, peer.Peer, mails)
	require.Zero(t, d.count(db, "SELECT count(*) FROM email_events WHERE reason = 'ambiguous'"))
}

// theRelaysAreChanged: a worker that starts with other relays judges the mail that waits. Mail that
// found no relay would try again after 5 minutes, which is more than patience.
func theRelaysAreChanged(t *testing.T, g *ground) {
	peer := (&smtptest.Peer{}).Start(t)
	closed, _ := closedPort(t)
	d := g.deploy(t, "smtp://"+closed+"?tls=none&name=old")
	d.stream = email.StreamBroadcast
	d.serve()
	db := d.sql()
	workerWith := func(relays string) (stop func()) {
		w := d.startWith([]string{"POSTRIDER_HEALTH_LISTEN=" + freeAddress(t), "POSTRIDER_SMTP_URLS=" + relays}, "worker")
		return func() {
			require.NoError(t, w.cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, w.cmd.Wait(), w.output())
		}
	}
	stop := workerWith("smtp://" + closed + "?tls=none&name=old")
	mails := d.post(4)
	d.eventually("all wait for the relay", func() bool {
		return d.count(db, "SELECT count(*) FROM emails WHERE relay_down_by = 'old'") == len(mails)
	})
	stop()

	stop = workerWith(relayURL(peer) + "&streams=transactional")
	d.eventually("no relay takes any", func() bool {
		return d.count(db, "SELECT count(*) FROM emails WHERE status_detail = 'no_relay' AND relay_down_by = ''") == len(mails)
	})
	d.eventually("the runs are woken", func() bool { return d.count(db, "SELECT count(*) FROM wakes") == 0 })
	stop()

	workerWith(relayURL(peer))
	d.eventually("all are delivered", func() bool {
		return d.count(db, "SELECT count(*) FROM emails WHERE status = 'delivered'") == len(mails)
	})
}
