package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/nodetest"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestExamples runs the programs of examples/ as their readers do, against a real
// deployment.
func TestExamples(t *testing.T) {
	t.Parallel()
	peer := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "RCPT TO:<bounce@") {
			return "550 5.1.1 no such mailbox"
		}
		return ""
	}}).Start(t)
	s := newGround(t).starter(t, peer, relayURL(peer))
	t.Run("order", func(t *testing.T) {
		t.Parallel()
		out, _, code := s.example(t, "go", "run", "./order", "-customer", s.customer, "-from", "shop@acme.test", "-to", "ann@y.test", "-order", "1")
		require.Zero(t, code)
		require.Equal(t, "\"by mail\"\n", out)
		out, _, code = s.example(t, "go", "run", "./order", "-customer", s.customer, "-from", "shop@acme.test", "-to", "ann@y.test", "-order", "1")
		require.Zero(t, code)
		require.Equal(t, "\"by mail\"\n", out, "started again, the order makes the same message")
		require.Equal(t, 1, s.count(s.sql(), "SELECT count(*) FROM emails WHERE workflow_id = 'order-1-confirmation'"))
		out, _, code = s.example(t, "go", "run", "./order", "-customer", s.customer, "-from", "shop@acme.test", "-to", "bounce@y.test", "-phone", "+1555", "-order", "2")
		require.Zero(t, code)
		require.Equal(t, "to +1555: Thank you for order 2.\n\"by text message: the mail is bounced\"\n", out)
		_, fault, code := s.example(t, "go", "run", "./order", "-customer", s.customer, "-from", "shop@elsewhere.test", "-to", "ann@y.test", "-order", "3")
		require.NotZero(t, code)
		require.Contains(t, fault, "sender_domain_unverified")
	})
	t.Run("drip", func(t *testing.T) {
		t.Parallel()
		out, _, code := s.example(t, "go", "run", "./drip", "-customer", s.customer, "-from", "shop@acme.test", "-to", "drip@y.test", "-every", "1s")
		require.Zero(t, code)
		require.JSONEq(t, `{"Mails":3,"End":"complete"}`, out)
	})
	t.Run("approval", func(t *testing.T) {
		t.Parallel()
		go func() { // as soon as the draft waits
			for t.Context().Err() == nil {
				update := exec.CommandContext(t.Context(), s.cli, "workflow", "update", "execute", "--workflow-id", "announcement", "--name", "decide",
					"--input", `{"Approved":true,"By":"ann"}`, "--address", s.at, "--namespace", s.namespace)
				if update.Run() == nil {
					return
				}
			}
		}()
		out, _, code := s.example(t, "go", "run", "./approval", "-customer", s.customer, "-from", "shop@acme.test", "-to", "approval@y.test")
		require.Zero(t, code)
		require.Equal(t, "\"delivered, approved by ann\"\n", out)
	})
	t.Run("digest", func(t *testing.T) {
		t.Parallel()
		ctx, enough := context.WithCancel(t.Context())
		defer enough()
		program := exec.CommandContext(ctx, "go", "run", "./digest", "-customer", s.customer, "-from", "shop@acme.test", "-to", "digest@y.test", "-for", "2s")
		program.Dir, program.Env = "../../examples", s.exampleEnv()
		program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
		program.WaitDelay = 10 * time.Second
		require.NoError(t, program.Start())
		s.eventually("the digest can be added to", func() bool {
			return s.temporal.SignalWorkflow(t.Context(), "digest", "", "add", "a thing happened") == nil
		})
		db := s.sql()
		s.eventually("the digest is delivered", func() bool {
			return s.count(db, "SELECT count(*) FROM emails WHERE subject = '1 things happened' AND status = 'delivered'") == 1
		})
		require.NoError(t, s.temporal.TerminateWorkflow(t.Context(), "digest", "", "enough"))
		enough()
		require.Error(t, program.Wait(), "it ends with its workflow, or by the signal")
	})
	t.Run("typescript", func(t *testing.T) {
		t.Parallel()
		dir := nodetest.Build(t, "../../examples/typescript", map[string]string{"goldens.ts": goldens(t)})
		run := func(name string, args ...string) (out, fault string, code int) {
			return s.exampleIn(t, dir, name, args...)
		}
		for range 2 { // the second start is of the same mail
			out, fault, code := run("node", "out/start.js", s.customer, "shop@acme.test", "typescript@y.test", "order-7")
			require.Zero(t, code, fault)
			require.Regexp(t, `^t\*\*\*@y\.test delivered: 250 `, out)
		}
		require.Equal(t, 1, s.count(s.sql(), "SELECT count(*) FROM emails WHERE workflow_id = 'order-7-mail'"))
		_, _, code := run("node", "out/start.js", s.customer, "shop@acme.test", "bounce@y.test", "order-8")
		require.Equal(t, 1, code)
		_, fault, code := run("node", "out/start.js", s.customer, "shop@acme.test", "no address", "order-9")
		require.Equal(t, 2, code)
		require.Contains(t, fault, "invalid_request")
		require.Contains(t, fault, "/to/0/email invalid_address")
	})
}

// goldens are the published payloads as TypeScript, which does not compile where the
// types of examples/typescript are others.
func goldens(t *testing.T) string {
	t.Helper()
	code := "import type * as postrider from \"./postrider.js\";\n"
	for _, kind := range []string{"SendEmailInput", "SendEmailResult", "State", "RescheduleInput", "ErrorDetails"} {
		files, err := filepath.Glob("../../email/testdata/payloads/" + kind + ".*json")
		require.NoError(t, err)
		require.NotEmpty(t, files, kind)
		for i, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			code += fmt.Sprintf("// %s\nexport const golden%s%d: postrider.%s = %s;\n", filepath.Base(file), kind, i, kind, text)
		}
	}
	return code
}

// example runs a program of examples/ and tells what it said, and its exit code.
func (s *starter) example(t *testing.T, name string, args ...string) (out, fault string, code int) {
	t.Helper()
	return s.exampleIn(t, "../../examples", name, args...)
}

func (s *starter) exampleIn(t *testing.T, dir, name string, args ...string) (string, string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var out, fault bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, s.exampleEnv(), &out, &fault
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), fault.String(), exit.ExitCode()
	}
	require.NoError(t, err)
	return out.String(), fault.String(), 0
}

func (s *starter) exampleEnv() []string {
	return append(os.Environ(), "TEMPORAL_ADDRESS="+s.at, "TEMPORAL_NAMESPACE="+s.namespace)
}
