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

// maxReplyWords bounds what is quoted of a server's reply, in bytes.
const maxReplyWords = 160

// say puts into the current details where the e-mail stands, what is going on and
// what comes next.
func (s *sendEmail) say(standing email.Status, now, next string) {
	if standing == "" {
		standing = email.StatusQueued
	}
	s.details(string(standing), now, next)
}

func (s *sendEmail) details(standing, now, next string) {
	workflow.SetCurrentDetails(s.ctx, fmt.Sprintf("**%s**: %s.\n\nNext: %s.", standing, now, next))
}

// attempt is the summary of SendSMTP.
func attempt(in delivery.SendSMTPInput) string {
	if in.RelayDown {
		return fmt.Sprintf("attempt %d, once a relay is there", in.Attempt)
	}
	return fmt.Sprintf("attempt %d", in.Attempt)
}

// outcome is the summary of RecordStatus, which tells what came of the attempt: the
// summary of SendSMTP is written before it. It has the reply's codes and none of its words,
// which histories do not hold.
func outcome(sent delivery.SendSMTPResult, problem string) string {
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

func (s *sendEmail) saySending(in delivery.SendSMTPInput) {
	s.say(email.StatusSending, fmt.Sprintf("attempt %d is under way, at the relay's pace", in.Attempt), "the status per recipient")
}

func (s *sendEmail) sayRelayDown(in delivery.SendSMTPInput, detail email.Detail, why string) {
	s.details(string(detail), "no relay takes mail, "+quoted(why),
		fmt.Sprintf("attempt %d as soon as one does, tried every 10 s to 5 min", in.Attempt))
}

// sayNotAccepted tells of a direct start whose message is not in Postgres yet.
func (s *sendEmail) sayNotAccepted(why string) {
	s.details("not accepted yet", quoted(why), s.waitingFor()+", if all is well by then")
}

// sayFollowing tells of a direct start that repeats another.
func (s *sendEmail) sayFollowing() {
	s.details("repeated", "the workflow "+quoted(s.owner)+" sends this e-mail", "its result, which is this run's too")
}

// waitingFor is the summary of the timer.
func (s *sendEmail) waitingFor() string {
	at := s.clock(s.state.NextAt)
	//exhaustive:enforce
	switch s.state.Waiting {
	case email.WaitingAcceptance:
		return "the message is accepted at " + at
	case email.WaitingHeld, email.WaitingPaused:
		return string(s.state.Waiting) + ", expires at " + at
	case email.WaitingScheduled:
		return "first attempt at " + at
	case email.WaitingThrottled:
		return fmt.Sprintf("attempt %d at %s: %s", s.state.NextAttempt, at, s.state.ThrottledBy)
	case email.WaitingRetry: // below
	}
	words := fmt.Sprintf("attempt %d at %s", s.state.NextAttempt, at)
	if reply := s.lastReply(); reply != "" {
		words += ": " + reply
	}
	return words
}

func (s *sendEmail) lastReply() string {
	return replyWords(s.state.Last.Code, s.state.Last.Enhanced, s.state.Last.Text)
}

// sayWaiting tells what a run waits for that does nothing.
func (s *sendEmail) sayWaiting() {
	open := "it waits"
	switch s.state.Open {
	case 0: // not counted before the first attempt
	case 1:
		open = "one recipient waits"
	default:
		open = fmt.Sprintf("%d of its recipients wait", s.state.Open)
	}
	next := s.waitingFor()
	//exhaustive:enforce
	switch s.state.Waiting {
	case email.WaitingHeld:
		open = s.heldBy() + open
		next = "nothing before it is resumed" + s.alsoPaused() + s.expiry()
	case email.WaitingPaused:
		open = "an operator has paused mail like this; " + open
		next = "nothing before the pause is lifted, see `postrider pauses`" + s.expiry()
	case email.WaitingScheduled:
		next += "; `reschedule` moves it"
	case email.WaitingRetry:
		next = fmt.Sprintf("attempt %d at %s; `retry_now` makes it at once", s.state.NextAttempt, s.clock(s.state.NextAt))
		if reply := s.lastReply(); reply != "" {
			open += ", " + quoted(reply)
		}
	case email.WaitingThrottled: // the timer's words
	case email.WaitingAcceptance: // sayNotAccepted has set them
	}
	s.details(s.standing(), open, next)
}

// heldBy names who holds it, and has to resume it.
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

// alsoPaused tells of a pause that goes on covering it when it is resumed.
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

// sayFinished counts how the recipients ended, and quotes one who was not reached.
func (s *sendEmail) sayFinished() {
	counts, reply := map[email.RecipientStatus]int{}, ""
	for _, r := range s.state.Results {
		counts[r.Status]++
		if r.Status != email.RecipientDelivered && reply == "" {
			reply = replyWords(r.SMTPCode, r.Enhanced, r.Text)
		}
	}
	var ends []string
	for _, status := range email.RecipientStatuses() {
		if n := counts[status]; n > 0 {
			ends = append(ends, fmt.Sprintf("%d %s", n, status))
		}
	}
	words := "of its recipients " + strings.Join(ends, ", ")
	if len(ends) == 0 {
		words = "it had ended before"
	}
	if reply != "" {
		words += ", " + quoted(reply)
	}
	standing := string(s.state.Status)
	if s.state.Detail != "" {
		standing += " " + string(s.state.Detail)
	}
	s.details(standing, words, "nothing, this is the end")
}

// clock is a time as an operator reads it; one that is not within a day has its
// date.
func (s *sendEmail) clock(at time.Time) string {
	if at.Sub(workflow.Now(s.ctx)) < 24*time.Hour {
		return at.UTC().Format("15:04 UTC")
	}
	return at.UTC().Format("2006-01-02 15:04 UTC")
}

func replyWords(code int, enhanced, text string) string {
	words := strings.TrimSpace(enhanced + " " + text)
	if code != 0 {
		words = fmt.Sprintf("%d %s", code, words)
	}
	words = strings.Join(strings.Fields(words), " ")
	return strings.ToValidUTF8(words[:min(len(words), maxReplyWords)], "")
}

// quoted makes a server's text code, so that no Markdown of its making is shown
// as ours. Summaries are shown as they are.
func quoted(text string) string {
	text = strings.ReplaceAll(replyWords(0, "", text), "`", "'")
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
