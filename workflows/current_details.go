package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// A run describes itself in the Temporal UI and CLI: in its current details, which are
// Markdown, and in the summaries of activities and timers, one line each.

// maxReplyBytes bounds the quoted text of a server's reply, in bytes.
const maxReplyBytes = 160

// describe sets the current details: the e-mail's status, what happens now and what comes next.
func (s *sendEmail) describe(status email.Status, now, next string) {
	if status == "" {
		status = email.StatusQueued
	}
	s.details(string(status), now, next)
}

func (s *sendEmail) details(status, now, next string) {
	workflow.SetCurrentDetails(s.ctx, fmt.Sprintf("**%s**: %s.\n\nNext: %s.", status, now, next))
}

// attemptSummary is the summary of SendSMTP.
func attemptSummary(in delivery.SendSMTPInput) string {
	if in.RelayDown {
		return fmt.Sprintf("attempt %d, once a relay is there", in.Attempt)
	}
	return fmt.Sprintf("attempt %d", in.Attempt)
}

// recordSummary is the summary of RecordStatus. It states the attempt's outcome, because the
// summary of SendSMTP is written before the attempt. It has the reply's codes but not its
// text, which must not be in a history.
func recordSummary(sent delivery.SendSMTPResult, problem string) string {
	switch {
	case problem != "":
		return "status, an attachment is missing"
	case !sent.Sent:
		return "status, nothing was sent"
	case sent.Code == 0:
		return fmt.Sprintf("attempt %d: no reply", sent.Attempt)
	}
	return strings.TrimSpace(fmt.Sprintf("attempt %d: %d %s", sent.Attempt, sent.Code, sent.Enhanced))
}

func (s *sendEmail) describeSending(in delivery.SendSMTPInput) {
	s.describe(email.StatusSending, fmt.Sprintf("attempt %d is under way, at the relay's pace", in.Attempt), "the status per recipient")
}

func (s *sendEmail) describeRelayDown(in delivery.SendSMTPInput, detail email.Detail, why string) {
	s.details(string(detail), "no relay takes mail, "+quoted(why),
		fmt.Sprintf("attempt %d as soon as one does, tried every 10 s to 5 min", in.Attempt))
}

// describeNotAccepted describes a direct start whose message is not in Postgres yet.
func (s *sendEmail) describeNotAccepted(why string) {
	s.details("not accepted yet", quoted(why), s.waitSummary())
}

// describeFollowing describes a direct start that repeats another.
func (s *sendEmail) describeFollowing() {
	s.details("repeated", "the workflow "+quoted(s.owner)+" sends this e-mail", "its result, which is this run's too")
}

// waitSummary is the summary of the timer.
func (s *sendEmail) waitSummary() string {
	at := s.clock(s.state.NextAt)
	//exhaustive:enforce
	switch s.state.Waiting {
	case email.WaitingAcceptance:
		return "another try to store the message at " + at
	case email.WaitingHeld, email.WaitingPaused:
		return string(s.state.Waiting) + ", expires at " + at
	case email.WaitingScheduled:
		return "first attempt at " + at
	case email.WaitingThrottled:
		return fmt.Sprintf("attempt %d at %s: %s", s.state.NextAttempt, at, s.state.ThrottledBy)
	case email.WaitingRetry: // below
	}
	summary := fmt.Sprintf("attempt %d at %s", s.state.NextAttempt, at)
	if reply := s.lastReply(); reply != "" {
		summary += ": " + reply
	}
	return summary
}

func (s *sendEmail) lastReply() string {
	return replyText(s.state.Last.Code, s.state.Last.Enhanced, s.state.Last.Text)
}

// describeWaiting describes a waiting run: what it waits for, and which action ends the wait.
func (s *sendEmail) describeWaiting() {
	open := "it waits"
	switch s.state.Open {
	case 0: // not counted before the first attempt
	case 1:
		open = "one recipient waits"
	default:
		open = fmt.Sprintf("%d of its recipients wait", s.state.Open)
	}
	next := s.waitSummary()
	//exhaustive:enforce
	switch s.state.Waiting {
	case email.WaitingHeld:
		open = s.heldBy() + open
		next = "nothing before it is resumed" + s.alsoPaused() + s.expiry()
	case email.WaitingPaused:
		open = "mail like this is paused; " + open
		next = "nothing before the pause is lifted, see `postrider pauses`" + s.expiry()
	case email.WaitingScheduled:
		next += "; `reschedule` moves it"
	case email.WaitingRetry:
		next = fmt.Sprintf("attempt %d at %s; `retry_now` makes it at once", s.state.NextAttempt, s.clock(s.state.NextAt))
		open += s.needs()
		if reply := s.lastReply(); reply != "" {
			open += ", " + quoted(reply)
		}
	case email.WaitingThrottled: // the timer's summary says it
	case email.WaitingAcceptance: // describeNotAccepted has set them
	}
	s.details(s.statusOrDetail(), open, next)
}

// needs says what the operator or the sender has to change before an attempt can succeed.
func (s *sendEmail) needs() string {
	switch s.state.Detail {
	case email.DetailIPBlocked:
		return " because the server refuses the relay's address or the sender's domain for its reputation, see `relay.ip_blocked` in the worker's log"
	case email.DetailUnauthenticated:
		return " because the sender's domain does not authenticate the mail: its SPF, DKIM or DMARC record has to be changed"
	default:
		return ""
	}
}

// heldBy names the holders that have to resume the e-mail.
func (s *sendEmail) heldBy() string {
	customer, operator := slices.Contains(s.state.HeldBy, email.HolderCustomer), slices.Contains(s.state.HeldBy, email.HolderOperator)
	switch {
	case customer && operator:
		return "its customer and an operator hold it, and each has to resume it; "
	case customer:
		return "its customer holds it; "
	case operator:
		return "an operator holds it; "
	}
	return ""
}

// alsoPaused names the pause that still covers the e-mail after it is resumed.
func (s *sendEmail) alsoPaused() string {
	if !slices.Contains(s.state.HeldBy, email.HolderPause) {
		return ""
	}
	return " and the pause is lifted, see `postrider pauses`"
}

func (s *sendEmail) expiry() string {
	if s.state.NextAt.IsZero() {
		return ""
	}
	return "; it expires at " + s.clock(s.state.NextAt)
}

// describeFinished counts the recipients by status, and quotes the reply for one that was not
// reached.
func (s *sendEmail) describeFinished() {
	counts, reply := map[email.RecipientStatus]int{}, ""
	for _, r := range s.state.Results {
		counts[r.Status]++
		if r.Status != email.RecipientDelivered && reply == "" {
			reply = replyText(r.SMTPCode, r.Enhanced, r.Text)
		}
	}
	var ends []string
	for _, status := range email.RecipientStatuses() {
		if n := counts[status]; n > 0 {
			ends = append(ends, fmt.Sprintf("%d %s", n, status))
		}
	}
	summary := "of its recipients " + strings.Join(ends, ", ")
	if len(ends) == 0 {
		summary = "it was finished before this run"
	}
	if reply != "" {
		summary += ", " + quoted(reply)
	}
	status := string(s.state.Status)
	if s.state.Detail != "" {
		status += " " + string(s.state.Detail)
	}
	s.details(status, summary, "nothing, the e-mail is finished")
}

// clock formats a time for an operator: with the date if it is a day or more away.
func (s *sendEmail) clock(at time.Time) string {
	if at.Sub(workflow.Now(s.ctx)) < 24*time.Hour {
		return at.UTC().Format("15:04 UTC")
	}
	return at.UTC().Format("2006-01-02 15:04 UTC")
}

func replyText(code int, enhanced, text string) string {
	reply := strings.TrimSpace(enhanced + " " + text)
	if code != 0 {
		reply = fmt.Sprintf("%d %s", code, reply)
	}
	reply = strings.Join(strings.Fields(reply), " ")
	return strings.ToValidUTF8(reply[:min(len(reply), maxReplyBytes)], "")
}

// quoted makes a server's text a Markdown code span, so that the UI renders no Markdown that
// the server wrote. Summaries need none: the UI shows them as plain text.
func quoted(text string) string {
	text = strings.ReplaceAll(replyText(0, "", text), "`", "'")
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
