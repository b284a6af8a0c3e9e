package workflows_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/workflows"
)

// recorded reads a history that `make histories` has written.
func recorded(t *testing.T, file string) *historypb.History {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	require.NoError(t, err)
	return h
}

// recordings are the files of all versions.
func recordings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/histories/*/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// replay runs a history against a version of SendEmail, and the other workflows as they are.
func replay(h *historypb.History, sendEmail any) error {
	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflowWithOptions(sendEmail, workflow.RegisterOptions{Name: email.WorkflowSendEmail})
	r.RegisterWorkflowWithOptions(workflows.SendBatch, workflow.RegisterOptions{Name: email.WorkflowSendBatch})
	r.RegisterWorkflowWithOptions(workflows.DeliverWebhooks, workflow.RegisterOptions{Name: email.WorkflowDeliverWebhooks})
	r.RegisterWorkflowWithOptions(workflows.VerifyDomain, workflow.RegisterOptions{Name: email.WorkflowVerifyDomain})
	return r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), h)
}

// TestRecordedHistoriesReplay: runs that older code started continue with this code. If it
// fails, open runs would be stuck after a deployment: put the change behind workflow.GetVersion
// (docs/temporal.md), and record a history of the new version beside the old ones.
func TestRecordedHistoriesReplay(t *testing.T) {
	t.Parallel()
	for _, file := range recordings(t) {
		t.Run(strings.TrimPrefix(file, "testdata/histories/"), func(t *testing.T) {
			t.Parallel()
			require.NoError(t, replay(recorded(t, file), workflows.SendEmail), "see docs/temporal.md, for those who change the workflows")
		})
	}
}

// Each path of the workflows is in a recorded history: TestRecordedHistoriesReplay does not
// test the others.
func TestRecordedHistoriesCoverEveryPath(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, file := range recordings(t) {
		local := map[string]string{}
		for _, ev := range recorded(t, file).GetEvents() {
			seen[ev.GetEventType().String()]++
			if m := ev.GetMarkerRecordedEventAttributes(); m.GetMarkerName() == "LocalActivity" {
				var data struct{ ActivityType string }
				require.NoError(t, json.Unmarshal(m.GetDetails()["data"].GetPayloads()[0].GetData(), &data))
				local[data.ActivityType] = file
				seen["local "+data.ActivityType]++
			}
			seen["regular "+ev.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName()]++
			seen["signal "+ev.GetWorkflowExecutionSignaledEventAttributes().GetSignalName()]++
			seen["update "+ev.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput().GetName()]++
			seen["run of "+ev.GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()]++
		}
	}
	want := []string{
		"run of " + email.WorkflowSendEmail, "run of " + email.WorkflowDeliverWebhooks, "run of " + email.WorkflowSendBatch, "run of " + email.WorkflowVerifyDomain,
		"local " + email.ActivityAccept, "local " + email.ActivityResolveAttachments, "local " + email.ActivitySendSMTP,
		"local " + email.ActivityRecordStatus, "local " + email.ActivityFireWebhooks,
		"regular " + email.ActivityResolveAttachments, "regular " + email.ActivitySendSMTP, "regular " + email.ActivityRecordStatus,
		"regular " + email.ActivityControl, "regular " + email.ActivityFollow, "regular " + email.ActivityDeliverWebhooks,
		"local " + email.ActivityPlanBatch, "regular " + email.ActivitySendChunk, "regular " + email.ActivityControlBatch,
		"signal " + email.SignalWake, "signal hold", "signal resume", "signal cancel", "signal retry_now",
		"update hold", "update resume", "update reschedule", "update retry_now",
		"regular " + email.ActivityCheckDomain, "signal " + email.SignalVerifyNow, "update " + email.SignalVerifyNow,
	}
	for _, kind := range []enumspb.EventType{
		enumspb.EVENT_TYPE_TIMER_FIRED, enumspb.EVENT_TYPE_TIMER_CANCELED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED, enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
		enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
	} {
		want = append(want, kind.String())
	}
	for _, path := range want {
		require.NotZero(t, seen[path], "%s: no recording has it", path)
	}
}

// A change of the commands fails the replay, unless it is behind workflow.GetVersion.
func TestReplayCatchesIncompatibleChanges(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]func(workflow.Context, converter.RawValue) (email.SendEmailResult, error){
		"a step more": func(ctx workflow.Context, in converter.RawValue) (email.SendEmailResult, error) {
			if err := workflow.Sleep(ctx, time.Second); err != nil {
				return email.SendEmailResult{}, err
			}
			return workflows.SendEmail(ctx, in)
		},
		"a step less": func(workflow.Context, converter.RawValue) (email.SendEmailResult, error) {
			return email.SendEmailResult{}, nil
		},
		"another step": func(ctx workflow.Context, in converter.RawValue) (email.SendEmailResult, error) {
			err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute}), email.ActivityFollow, in).Get(ctx, nil)
			return email.SendEmailResult{}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := recorded(t, "testdata/histories/0/deferred.json")
			require.ErrorContains(t, replay(h, changed), "TMPRL1100")
		})
	}
	for _, file := range recordings(t) {
		h := recorded(t, file)
		started := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
		if started.GetWorkflowType().GetName() != email.WorkflowSendEmail {
			continue
		}
		behindTheVersion := func(ctx workflow.Context, in converter.RawValue) (email.SendEmailResult, error) {
			if workflow.GetVersion(ctx, email.WorkflowSendEmail, workflow.DefaultVersion, 1) >= 1 {
				if err := workflow.Sleep(ctx, time.Second); err != nil {
					return email.SendEmailResult{}, err
				}
			}
			return workflows.SendEmail(ctx, in)
		}
		require.NoError(t, replay(h, behindTheVersion), file)
	}
}

// The histories of the REST path hold no subject, text or mail address. Those of a direct start
// hold them in the run's input, and in no later event.
func TestHistoriesHoldNoContentAndNoAddresses(t *testing.T) {
	t.Parallel()
	masked := 0
	for _, file := range recordings(t) {
		direct := strings.HasPrefix(filepath.Base(file), "direct")
		for i, ev := range recorded(t, file).GetEvents() {
			text := ev.String()
			masked += strings.Count(text, "***@y.test")
			found := slices.DeleteFunc([]string{"the secret text", "the secret subject", "-secret"}, func(word string) bool { return !strings.Contains(text, word) })
			if direct && i == 0 {
				require.Len(t, found, 3, "%s: the input holds the content that is searched for", file)
				continue
			}
			require.Empty(t, found, "%s: event %d, %s", file, ev.GetEventId(), ev.GetEventType())
		}
	}
	require.NotZero(t, masked)
}
