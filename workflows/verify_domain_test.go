package workflows_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/senderdomain"
	"github.com/postrider/postrider/workflows"
)

func newDomainRun(t *testing.T) *run {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	r := &run{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	r.SetStartTime(start)
	r.SetTestTimeout(patience)
	r.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: patience})
	r.RegisterWorkflow(workflows.VerifyDomain)
	r.RegisterActivity(&activities.Activities{})
	return r
}

// verify runs the workflow to its end.
func (r *run) verify() (out email.VerifyDomainResult, err error) {
	r.ExecuteWorkflow(email.WorkflowVerifyDomain, email.VerifyDomainInput{DomainID: "D"})
	if err := r.GetWorkflowError(); err != nil {
		return out, err
	}
	return out, r.GetWorkflowResult(&out)
}

// domain keeps the state of a domain as the store does, in the run's time.
type domain struct {
	senderdomain.State
	run *run
	// result says what a check finds after a time.
	result func(after time.Duration) senderdomain.Result
	// changes are the times after the start at which the domain entered a status.
	changes []string
}

func (r *run) withDomain(result func(after time.Duration) senderdomain.Result) *domain {
	d := &domain{State: senderdomain.Start(start), run: r, result: result}
	on(r, email.ActivityCheckDomain, func(_ int, in delivery.CheckDomainInput) (delivery.CheckDomainResult, error) {
		now := r.Now()
		if in.VerifyNow {
			d.State = d.VerifyNow(now)
		}
		res := delivery.CheckDomainResult{Domain: "acme.test"}
		if !d.NextCheckAt.IsZero() && !d.NextCheckAt.After(now) {
			before := d.Status
			d.State, res.Checked = d.Next(d.result(now.Sub(start)), now, 0), true
			if d.Status != before {
				d.changes = append(d.changes, now.Sub(start).String()+" "+string(d.Status))
			}
		}
		if d.Status != senderdomain.DomainVerified {
			res.Problem = "TXT pr1r._domainkey.acme.test: missing"
		}
		res.Status, res.NextAt = string(d.Status), d.NextCheckAt
		return res, nil
	})
	return d
}

func TestVerifyDomainGivesUpAfter14Days(t *testing.T) {
	t.Parallel()
	r := newDomainRun(t)
	d := r.withDomain(func(time.Duration) senderdomain.Result { return senderdomain.Missed })
	res, err := r.verify()
	require.NoError(t, err)
	require.Equal(t, email.VerifyDomainResult{DomainID: "D", Domain: "acme.test", Status: "failed", Problem: "TXT pr1r._domainkey.acme.test: missing"}, res)
	require.Equal(t, []string{"336h0m0s failed"}, d.changes)
	require.Len(t, r.calls, 122, "6 times 10 s, 10 times 1 min, and so on")
}

// A domain is verified after an hour, loses a record on its third day and fails 48 hours later.
func TestVerifyDomainSeesARecordComeAndGo(t *testing.T) {
	t.Parallel()
	r := newDomainRun(t)
	d := r.withDomain(func(after time.Duration) senderdomain.Result {
		switch {
		case after < time.Hour, after > 73*time.Hour:
			return senderdomain.Missed
		case after > 30*time.Hour && after < 60*time.Hour:
			return senderdomain.Unknown
		}
		return senderdomain.Passed
	})
	res, err := r.verify()
	require.NoError(t, err)
	require.Equal(t, "failed", res.Status)
	require.Equal(t, []string{"1h1m0s verified", "73h1m0s warning", "121h1m0s failed"}, d.changes)
}

func TestVerifyDomainLooksNow(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(r *run, answered func(any, error)){
		"by a signal": func(r *run, answered func(any, error)) {
			r.SignalWorkflow(email.SignalVerifyNow, nil)
			answered(email.VerifyDomainResult{Status: "verified"}, nil)
		},
		"by an update": func(r *run, answered func(any, error)) {
			r.UpdateWorkflow(email.SignalVerifyNow, "1", &testsuite.TestUpdateCallback{OnReject: func(err error) { answered(nil, err) }, OnAccept: func() {}, OnComplete: answered})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDomainRun(t)
			const at = 30*time.Hour + 30*time.Minute // between two checks
			d := r.withDomain(func(after time.Duration) senderdomain.Result {
				if after < at {
					return senderdomain.Missed
				}
				return senderdomain.Passed
			})
			answers := 0
			r.RegisterDelayedCallback(func() {
				ask(r, func(res any, err error) {
					answers++
					require.NoError(t, err)
					require.Equal(t, "verified", res.(email.VerifyDomainResult).Status)
				})
			}, at)
			r.RegisterDelayedCallback(func() { r.CancelWorkflow() }, at+time.Hour)
			_, err := r.verify()
			require.ErrorContains(t, err, "canceled")
			require.Equal(t, []string{at.String() + " verified"}, d.changes)
			require.Equal(t, 1, answers)
		})
	}
}

// A wake-up makes the run read the state again: a request over REST has made a check due.
func TestVerifyDomainWakes(t *testing.T) {
	t.Parallel()
	r := newDomainRun(t)
	d := r.withDomain(func(after time.Duration) senderdomain.Result {
		if after < 30*time.Hour+5*time.Minute { // the next check is at 30:01
			return senderdomain.Missed
		}
		return senderdomain.Passed
	})
	r.RegisterDelayedCallback(func() { r.SignalWorkflow(email.SignalWake, nil) }, 29*time.Hour+10*time.Minute)
	r.RegisterDelayedCallback(func() {
		d.State = d.VerifyNow(r.Now())
		r.SignalWorkflow(email.SignalWake, nil)
	}, 30*time.Hour+10*time.Minute)
	r.RegisterDelayedCallback(func() { r.CancelWorkflow() }, 31*time.Hour)
	_, err := r.verify()
	require.ErrorContains(t, err, "canceled")
	require.Equal(t, []string{"30h10m0s verified"}, d.changes, "the needless wake-up was harmless")
}

func TestVerifyDomainEndsWithItsDomain(t *testing.T) {
	t.Parallel()
	r := newDomainRun(t)
	on(r, email.ActivityCheckDomain, func(n int, in delivery.CheckDomainInput) (delivery.CheckDomainResult, error) {
		require.Equal(t, "D", in.DomainID)
		if n == 1 {
			return delivery.CheckDomainResult{Domain: "acme.test", Status: "verified", NextAt: start.Add(24 * time.Hour)}, nil
		}
		return delivery.CheckDomainResult{Deleted: true}, nil
	})
	res, err := r.verify()
	require.NoError(t, err)
	require.True(t, res.Deleted)
	require.Equal(t, 24*time.Hour, r.Now().Sub(start))
}

func TestVerifyDomainContinuesAsNew(t *testing.T) {
	t.Parallel()
	r := newDomainRun(t)
	r.SetContinueAsNewSuggested(true)
	on(r, email.ActivityCheckDomain, func(int, delivery.CheckDomainInput) (delivery.CheckDomainResult, error) {
		return delivery.CheckDomainResult{Domain: "acme.test", Status: "verified", NextAt: start.Add(24 * time.Hour)}, nil
	})
	_, err := r.verify()
	require.ErrorContains(t, err, "continue as new")
	require.Len(t, r.calls, 1)
}

func TestVerifyDomainRefusesAnInputWithoutDomain(t *testing.T) {
	t.Parallel()
	r := newDomainRun(t)
	r.ExecuteWorkflow(email.WorkflowVerifyDomain, map[string]any{})
	require.ErrorContains(t, r.GetWorkflowError(), `give the sender domain: {"domain_id": "…"}`)
}
