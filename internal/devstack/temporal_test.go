package devstack

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// temporalCLI is the program all tests use, built at most once.
var temporalCLI = sync.OnceValues(func() (string, error) {
	return TemporalCLI(context.Background(), "../../tools/temporal", "../../.postrider/tools", nil)
})

func cliForTest(t *testing.T) string {
	t.Helper()
	path, err := temporalCLI()
	require.NoError(t, err)
	path, err = filepath.Abs(path)
	require.NoError(t, err)
	return path
}

func startTemporal(t *testing.T, options TemporalOptions) *Temporal {
	t.Helper()
	options.CLI = cliForTest(t)
	s, err := StartTemporal(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

func dial(t *testing.T, s *Temporal) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: s.Address(), Logger: silent{}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestTemporalKeepsStateAcrossARestart(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	options := TemporalOptions{Dir: t.TempDir(), Log: &log, DynamicConfig: map[string]string{"limit.blobSize.warn": "1048576"},
		SearchAttributes: map[string]string{"EmailStatus": "Keyword", "EmailRecipientDomains": "KeywordList"}}
	first := startTemporal(t, options)
	require.Contains(t, log.String(), first.Address())
	response, err := http.Get(first.UIURL())
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	run, err := dial(t, first).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: "none",
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("EmailStatus").ValueSet("queued"),
			temporal.NewSearchAttributeKeyKeywordList("EmailRecipientDomains").ValueSet([]string{"example.com"}))}, "SendEmail")
	require.NoError(t, err)
	require.NoError(t, first.Stop(t.Context()))
	require.NoError(t, first.Stop(t.Context()), "again")

	// An attribute added later is there as well.
	options.SearchAttributes["EmailRelay"] = "Keyword"
	second := startTemporal(t, options)
	found, err := dial(t, second).DescribeWorkflowExecution(t.Context(), "kept", run.GetRunID())
	require.NoError(t, err)
	require.Equal(t, "SendEmail", found.WorkflowExecutionInfo.Type.Name)
	_, err = dial(t, second).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "new", TaskQueue: "none",
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("EmailRelay").ValueSet("primary"),
			temporal.NewSearchAttributeKeyKeyword("EmailStatus").ValueSet("queued"))}, "SendEmail")
	require.NoError(t, err)

	_, err = StartTemporal(t.Context(), TemporalOptions{Dir: options.Dir, CLI: options.CLI})
	require.ErrorContains(t, err, "a server is running in "+filepath.Join(options.Dir, "temporal"))
}

func TestTemporalInMemory(t *testing.T) {
	t.Parallel()
	s := startTemporal(t, TemporalOptions{Headless: true})
	require.Empty(t, s.UIURL())
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Err())
	require.NoError(t, checkPort("temporal", s.port, ""))
}

func TestTemporalTriesAnotherPortIfOneIsTakenInBetween(t *testing.T) {
	t.Parallel()
	taken, pick := takenFirst(t)
	s := startTemporal(t, TemporalOptions{freePort: pick})
	require.NotEqual(t, taken, s.port)
}

func TestTemporalRefusesToStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	port := taken.Addr().(*net.TCPAddr).Port

	t.Run("on a port in use", func(t *testing.T) {
		t.Parallel()
		_, err := StartTemporal(t.Context(), TemporalOptions{CLI: cliForTest(t), Port: port, PortSetting: "POSTRIDER_DEV_TEMPORAL_PORT"})
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "temporal: port "+strconv.Itoa(port))
		require.ErrorContains(t, err, "POSTRIDER_DEV_TEMPORAL_PORT")
	})
	t.Run("on a UI port in use", func(t *testing.T) {
		t.Parallel()
		_, err := StartTemporal(t.Context(), TemporalOptions{CLI: cliForTest(t), UIPort: port, UIPortSetting: "POSTRIDER_DEV_TEMPORAL_UI_PORT"})
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "temporal UI: port "+strconv.Itoa(port))
		require.ErrorContains(t, err, "POSTRIDER_DEV_TEMPORAL_UI_PORT")
	})
	t.Run("with a bad value, and shows the log", func(t *testing.T) {
		t.Parallel()
		_, err := StartTemporal(t.Context(), TemporalOptions{CLI: cliForTest(t), DynamicConfig: map[string]string{"key": "{"}})
		require.ErrorContains(t, err, "temporal ended at its start: exit status 1; it printed:")
		require.ErrorContains(t, err, "invalid dynamic config values")
	})
	t.Run("without the program", func(t *testing.T) {
		t.Parallel()
		_, err := StartTemporal(t.Context(), TemporalOptions{CLI: "/nonexistent/temporal"})
		require.ErrorContains(t, err, "exit status 127")
		require.ErrorContains(t, err, "/nonexistent/temporal: not found")
	})
	t.Run("when it is given no time, and leaves nothing", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		dir := t.TempDir()
		_, err := StartTemporal(ctx, TemporalOptions{CLI: cliForTest(t), Dir: dir})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		startTemporal(t, TemporalOptions{Dir: dir})
	})
}

func TestTemporalAfterAHardEnd(t *testing.T) {
	t.Parallel()
	requireLinux(t)

	t.Run("of the server", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := startTemporal(t, TemporalOptions{Dir: dir})
		for _, pid := range descendants(t, s.process.cmd.Process.Pid) {
			if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) { // one ends with another
				require.NoError(t, err)
			}
		}
		select {
		case <-s.Exited():
		case <-time.After(5 * time.Second):
			require.Fail(t, "Exited is not closed")
		}
		require.ErrorContains(t, s.Err(), "temporal ended unexpectedly: exit status 137; the end of "+filepath.Join(dir, "temporal", "temporal.log"))
		startTemporal(t, TemporalOptions{Dir: dir})
	})

	t.Run("of the process that started it", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		h := startHelper(t, "temporal", dir, cliForTest(t))
		requireOwnGroup(t, h.pids)
		h.kill()
		startTemporal(t, TemporalOptions{Dir: dir})
		h.requireGone(t)
	})

	t.Run("of the process that started it in memory", func(t *testing.T) {
		t.Parallel()
		h := startHelper(t, "temporal", "", cliForTest(t))
		h.kill()
		h.requireGone(t)
	})
}
