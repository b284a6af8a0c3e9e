package suppression

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
)

// Codes of problems. The API has the same ones for its requests.
const (
	codeMissing     = "missing"
	codeInvalid     = "invalid"
	codeAddress     = "invalid_address"
	codeUnsupported = "unsupported"
	codeTooLong     = "too_long"
	codePast        = "past"
	codeControl     = "control_character"
	codeUTF8        = "invalid_utf8"
)

// The members of a draft, as problems name them. They are also the columns of our own files.
const (
	memberAddress = "address"
	memberScope   = "scope"
	memberStream  = "stream"
	memberTopic   = "topic"
	memberReason  = "reason"
	memberNote    = "note"
	memberExpires = "expires_at"
	memberCreated = "created_at"
)

// Problem is what is wrong with one member of a draft.
type Problem struct{ Member, Code, Detail string }

// Draft is an entry as a person or a file gives it.
type Draft struct {
	Address string
	// Scope, Stream and Topic: without a scope it follows from stream or topic, else from the reason.
	Scope, Stream, Topic string
	// Reason is empty for Manual.
	Reason string
	Note   string
	// ExpiresAt is zero for an entry that does not end, CreatedAt for one that begins now.
	ExpiresAt, CreatedAt time.Time
}

// Rules check drafts.
type Rules struct {
	// Address and Domain normalise an address and a domain. Their errors say what is wrong.
	Address, Domain func(string) (string, error)
	// Reasons are those that a draft may have.
	Reasons []Reason
	Now     time.Time
}

// Given are the reasons that a person gives for an entry. SoftBounces is not among them: it is found
// out from the outcomes of attempts.
func Given() []Reason { return []Reason{Manual, HardBounce, Complaint, Unsubscribe} }

// Entry checks a draft. The entry has neither ids nor a key nor a source.
func (r Rules) Entry(d Draft) (Entry, []Problem) {
	c := checks{rules: r}
	e := Entry{Reason: c.reason(d.Reason), Note: c.note(d.Note), ExpiresAt: d.ExpiresAt, CreatedAt: d.CreatedAt}
	e.Address = c.address(d.Address, e.Reason)
	e.Scope, e.Target = c.scope(d, e.Reason)
	if !d.ExpiresAt.IsZero() && !d.ExpiresAt.After(r.Now) {
		c.refuse(memberExpires, codePast, "this time has passed; give one in the future")
	}
	if !d.CreatedAt.IsZero() && (d.CreatedAt.Before(time.Unix(0, 0)) || d.CreatedAt.After(r.Now.Add(clockSkew))) {
		c.refuse(memberCreated, codeInvalid, "give a time in the past, after 1970")
	}
	return e, c.problems
}

// clockSkew is how far the clock of the program that wrote a file may be ahead of ours.
const clockSkew = 24 * time.Hour

// NormalAddress normalises the address of a draft or a filter, which may be for all of a domain. The problem
// is nil if the address is valid.
func (r Rules) NormalAddress(address string) (string, *Problem) {
	if address == "" {
		return "", &Problem{memberAddress, codeMissing, "give an address, or *@example.com for all addresses of a domain"}
	}
	if domain, all := strings.CutPrefix(address, wildcardPrefix); all {
		name, err := r.Domain(domain)
		if err != nil {
			return "", &Problem{memberAddress, codeAddress, err.Error()}
		}
		return Wildcard(name), nil
	}
	spec, err := r.Address(address)
	if err != nil {
		return "", &Problem{memberAddress, codeAddress, err.Error()}
	}
	return spec, nil
}

type checks struct {
	rules    Rules
	problems []Problem
}

func (c *checks) refuse(member, code, format string, args ...any) {
	c.problems = append(c.problems, Problem{member, code, fmt.Sprintf(format, args...)})
}

func (c *checks) address(address string, reason Reason) string {
	spec, problem := c.rules.NormalAddress(address)
	if problem != nil {
		c.problems = append(c.problems, *problem)
		return ""
	}
	if strings.HasPrefix(spec, wildcardPrefix) && reason != Manual {
		c.refuse(memberReason, codeUnsupported, "an entry for all addresses of a domain has the reason manual; leave the reason out, or name the address")
	}
	return spec
}

func (c *checks) reason(reason string) Reason {
	if reason == "" {
		return Manual
	}
	if !slices.Contains(c.rules.Reasons, Reason(reason)) {
		c.refuse(memberReason, codeInvalid, "give %s", OneOf(c.rules.Reasons))
	}
	return Reason(reason)
}

// OneOf lists words for a sentence.
func OneOf[S ~string](words []S) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	last := len(out) - 1
	return strings.Join(out[:last], ", ") + " or " + out[last]
}

// note makes line ends of Windows plain ones.
func (c *checks) note(note string) string {
	note = strings.ReplaceAll(note, "\r\n", "\n")
	switch {
	case !utf8.ValidString(note):
		c.refuse(memberNote, codeUTF8, "the text is not valid UTF-8; encode it as such")
	case strings.IndexFunc(note, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) >= 0:
		c.refuse(memberNote, codeControl, "remove the control characters other than line breaks and tabs")
	case len(note) > MaxNoteBytes:
		c.refuse(memberNote, codeTooLong, "the note has %d bytes, the limit is %d", len(note), MaxNoteBytes)
	}
	return note
}

// TopicShape is what the name of a topic looks like.
var TopicShape = regexp.MustCompile(`^[a-z0-9-]{1,50}$`)

var (
	streams = []email.Stream{email.StreamTransactional, email.StreamBroadcast}
	scopes  = []Scope{ScopeAll, ScopeStream, ScopeTopic}
)

// Streams lists the streams that an entry may cover.
func Streams() []email.Stream { return slices.Clone(streams) }

// Scopes lists the scopes.
func Scopes() []Scope { return slices.Clone(scopes) }

// Sources lists the sources.
func Sources() []Source { return []Source{FromDelivery, FromRecipient, FromCustomer, FromImport} }

// DefaultScope is what an entry covers that does not say it: a hard bounce, a complaint and a decision of
// the customer all mail, everything else broadcast mail.
func DefaultScope(reason Reason) (Scope, string) {
	if reason == Unsubscribe || reason == SoftBounces {
		return ScopeOf("")
	}
	return ScopeAll, ""
}

// scope is the scope of a draft, with its target.
func (c *checks) scope(d Draft, reason Reason) (Scope, string) {
	scope := Scope(d.Scope)
	switch {
	case scope != "":
	case d.Stream != "" && d.Topic != "":
		c.refuse(memberTopic, codeUnsupported, "an entry covers a stream or a topic: leave one of them out")
		return ScopeTopic, d.Topic
	case d.Topic != "":
		scope = ScopeTopic
	case d.Stream != "":
		scope = ScopeStream
	default:
		return DefaultScope(reason)
	}
	if !slices.Contains(scopes, scope) {
		c.refuse(memberScope, codeInvalid, "give %s", OneOf(scopes))
		return scope, ""
	}
	if d.Stream != "" && scope != ScopeStream {
		c.refuse(memberStream, codeUnsupported, "the scope %s has no stream: leave the stream out, or give the scope stream", scope)
	}
	if d.Topic != "" && scope != ScopeTopic {
		c.refuse(memberTopic, codeUnsupported, "the scope %s has no topic: leave the topic out, or give the scope topic", scope)
	}
	switch scope {
	case ScopeStream:
		if !slices.Contains(streams, email.Stream(d.Stream)) {
			c.refuse(memberStream, missingOr(d.Stream, codeInvalid), "give the stream that the entry covers: %s", OneOf(streams))
		}
		return scope, d.Stream
	case ScopeTopic:
		if !TopicShape.MatchString(d.Topic) {
			c.refuse(memberTopic, missingOr(d.Topic, codeInvalid), "give the topic that the entry covers: 1 to 50 of the characters a-z 0-9 -")
		}
		return scope, d.Topic
	}
	return scope, ""
}

func missingOr(value, code string) string {
	if value == "" {
		return codeMissing
	}
	return code
}

// Stream and Topic are the target of an entry whose scope has one of that kind; empty otherwise.
func (e Entry) Stream() string {
	if e.Scope == ScopeStream {
		return e.Target
	}
	return ""
}

// Topic: see Stream.
func (e Entry) Topic() string {
	if e.Scope == ScopeTopic {
		return e.Target
	}
	return ""
}

// Filter chooses entries of a list. Empty members choose all.
type Filter struct {
	// Address is normalised. Entries whose address was erased are found by it, too.
	Address string
	Reason  Reason
	Scope   Scope
	// Stream and Topic choose entries of these scopes only.
	Stream email.Stream
	Topic  string
	Source Source
}
