package main

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/proxy"
	temporal "go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
)

// TestEncryptedHistories: with keys set, Temporal holds nothing in the clear but
// names and search attributes; who has the token reads it in the UI and the CLI;
// and keys rotate under runs that wait.
func TestEncryptedHistories(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef0123"
	oldKey, newKey := "old:"+strings.Repeat("ab", 32), "new:"+strings.Repeat("cd", 32)
	bin, path, dir, ports := binary(t), temporalOnPath(t), t.TempDir(), freePorts(t)
	s := startStack(t, bin, path, dir, ports, "POSTRIDER_PAYLOAD_KEYS="+oldKey, "POSTRIDER_CODEC_TOKEN="+token)
	sent := s.send(mailTo("you", "bounce"))
	s.await(sent.ID, email.StatusDelivered)
	later := mailTo("later")
	later.SendAt = time.Now().Add(time.Hour)
	waiting := s.send(later)
	s.requireEncrypted(sent.WorkflowID, "old")

	cli := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(path, "temporal"), args...)
		cmd.Env = []string{"TEMPORAL_ADDRESS=" + s.env["TEMPORAL_ADDRESS"], "HOME=" + dir}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	show := []string{"workflow", "show", "-w", sent.WorkflowID, "-o", "json"}
	require.Empty(t, find([]byte(cli(show...)), email.ActivitySendSMTP, "bounced"), "not even the names of local activities")
	read := cli(append(show, "--codec-endpoint", s.env["POSTRIDER_URL"]+codecPath, "--codec-auth", "Bearer "+token)...)
	require.NotEmpty(t, find([]byte(read), email.ActivitySendSMTP))
	require.NotEmpty(t, find([]byte(read), "bounced"))
	res, err := http.Post(s.env["POSTRIDER_URL"]+codecPath+"/decode", "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	t.Run("in the UI", func(t *testing.T) {
		page(t, browser(t), s.get(sent.ID).WorkflowURL, "Activity Type SendSMTP", `"status": "delivered"`, "b***@example.net")
	})
	s.stop()

	s = startStack(t, bin, path, dir, ports, "POSTRIDER_PAYLOAD_KEYS="+newKey+","+oldKey)
	_, err = s.api.Reschedule(t.Context(), waiting.ID, time.Now())
	require.NoError(t, err)
	s.await(waiting.ID, email.StatusDelivered)
	s.requireEncrypted(waiting.WorkflowID, "old", "new")
	again := s.send(mailTo("after"))
	s.await(again.ID, email.StatusDelivered)
	s.requireEncrypted(again.WorkflowID, "new")
}

// requireEncrypted looks at every payload of a run but the search attributes.
func (s *stack) requireEncrypted(workflowID string, keys ...string) {
	s.t.Helper()
	c, err := temporal.Dial(temporal.Options{HostPort: s.env["TEMPORAL_ADDRESS"], Logger: quiet{}})
	require.NoError(s.t, err)
	defer c.Close()
	s.started(c, workflowID)
	require.Eventually(s.t, func() bool { // the run ends a moment after the status is written
		d, err := c.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
		return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}, patience, 20*time.Millisecond)
	seen := map[string]int{}
	iter := c.GetWorkflowHistory(s.t.Context(), workflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		ev, err := iter.Next()
		require.NoError(s.t, err)
		err = proxy.VisitPayloads(s.t.Context(), ev, proxy.VisitPayloadsOptions{SkipSearchAttributes: true,
			Visitor: func(_ *proxy.VisitPayloadsContext, ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
				for _, p := range ps {
					require.Equal(s.t, "binary/encrypted", string(p.GetMetadata()["encoding"]), "%s: %s", ev.GetEventType(), p.GetData())
					seen[string(p.GetMetadata()["encryption-key-id"])]++
				}
				return ps, nil
			}})
		require.NoError(s.t, err)
	}
	for _, k := range keys {
		require.NotZero(s.t, seen[k], k)
	}
	require.Len(s.t, seen, len(keys))
}
