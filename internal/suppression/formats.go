package suppression

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Format is a form of file that lists are imported from.
type Format string

// The formats.
const (
	// FormatOwn is what Export writes. A column may be missing, except the address.
	FormatOwn Format = "postrider"
	// FormatSendGrid has email, created, and in exports of bounces reason and status; in those of spam
	// reports ip.
	FormatSendGrid Format = "sendgrid"
	// FormatMailgun has address, created_at, and in exports of bounces code and error; in those of
	// unsubscribes tags.
	FormatMailgun Format = "mailgun"
	// FormatPostmark has EmailAddress, SuppressionReason, Origin and CreatedAt.
	FormatPostmark Format = "postmark"
	// FormatSES has EmailAddress, Reason and LastUpdateTime, as CSV or as one JSON object a line.
	FormatSES Format = "ses"
	// FormatList has one address a line.
	FormatList Format = "list"
)

// Formats lists them.
func Formats() []Format {
	return []Format{FormatOwn, FormatSendGrid, FormatMailgun, FormatPostmark, FormatSES, FormatList}
}

// Columns are those of our own files, in their order.
func Columns() []string {
	return []string{memberAddress, memberScope, memberStream, memberTopic, memberReason, memberNote, memberExpires, memberCreated}
}

// layout is how a file's records become drafts.
type layout struct {
	format Format
	// columns are the fields by columnName, header what the file calls them.
	columns map[string]int
	header  []string
	// json: each line is a JSON object, whose members are the columns.
	json bool
	// reasons, notes: the file says these of its entries.
	reasons, notes bool
}

// columnName is how columns are compared: exporters write them in different case, and with spaces.
func columnName(s string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), " ", ""))
}

// addressColumns are those with the address, by format.
var addressColumns = map[Format]string{
	FormatOwn: memberAddress, FormatSendGrid: "email", FormatMailgun: "address", FormatPostmark: "emailaddress", FormatSES: "emailaddress", FormatList: "address",
}

// listHeaders are the headers that a list of addresses may have.
var listHeaders = []string{"email", "e-mail", "emailaddress", "address", "recipient"}

// createdColumns are those with the time at which an entry began, by format.
var createdColumns = map[Format]string{FormatOwn: memberCreated, FormatSendGrid: "created", FormatMailgun: memberCreated, FormatPostmark: "createdat", FormatSES: "lastupdatetime"}

// column names the column of the file that a problem is about: member is one of a draft, or a columnName.
func (l *layout) column(member string) string {
	switch member {
	case memberAddress:
		member = addressColumns[l.format]
	case memberCreated:
		member = createdColumns[l.format]
	}
	if at, has := l.columns[member]; has && at < len(l.header) {
		return strings.TrimSpace(l.header[at])
	}
	return member
}

// recognise finds the format of a file by the fields of its first record; want is empty, or the format
// that the file is said to have. header reports whether the record is a header. A nil layout is a format
// that is not known.
func recognise(fields []string, want Format) (l *layout, header bool, problem string) {
	l = &layout{format: want, columns: map[string]int{}, header: fields}
	for i, name := range fields {
		if _, twice := l.columns[columnName(name)]; !twice {
			l.columns[columnName(name)] = i
		}
	}
	if want == "" {
		l.format = l.guess(fields)
	}
	if l.format == FormatList {
		header = len(fields) == 1 && slices.Contains(listHeaders, columnName(fields[0]))
		l.columns, l.header = map[string]int{memberAddress: 0}, nil
		return l, header, ""
	}
	if l.format == "" {
		return nil, false, "the first line is no header that is known, and no address: begin the file with one of the headers " +
			"address,scope,stream,topic,reason,note,expires_at,created_at (ours), email,created,reason (SendGrid), address,code,error,created_at (Mailgun), " +
			"EmailAddress,SuppressionReason,Origin,CreatedAt (Postmark), EmailAddress,Reason,LastUpdateTime (SES), or give one address a line"
	}
	if !l.has(addressColumns[l.format]) {
		return nil, false, fmt.Sprintf("a file of the format %s has a header with the column %s; this one begins with another line", l.format, addressColumns[l.format])
	}
	if l.format == FormatOwn {
		for name := range l.columns {
			if !slices.Contains(Columns(), name) {
				return nil, false, "our own format has the columns " + strings.Join(Columns(), ", ") + ": remove the others, or name the format of the file with ?format="
			}
		}
	}
	l.reasons = l.format != FormatOwn || l.has(memberReason)
	l.notes = l.has(memberNote) && l.format == FormatOwn || l.format == FormatSendGrid && l.has("reason") || l.format == FormatMailgun && (l.has("error") || l.has("tags"))
	return l, true, ""
}

func (l *layout) has(column string) bool {
	_, has := l.columns[column]
	return has
}

func (l *layout) guess(fields []string) Format {
	switch {
	case strings.Contains(fields[0], "@"):
		return FormatList
	case l.has("emailaddress") && l.has("suppressionreason"):
		return FormatPostmark
	case l.has("emailaddress") && (l.has("reason") || l.has("lastupdatetime")):
		return FormatSES
	case l.has("address") && (l.has("code") || l.has("error") || l.has("tags")):
		return FormatMailgun
	case l.has("email") && l.has("created"):
		return FormatSendGrid
	case l.has("address"):
		return FormatOwn
	case len(fields) == 1 && slices.Contains(listHeaders, columnName(fields[0])):
		return FormatList
	}
	return ""
}

// fieldsOfJSON makes the fields of a JSON line. ok is false if it is no object.
func fieldsOfJSON(line string) (fields map[string]string, ok bool) {
	var object map[string]any
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&object); err != nil || object == nil || strings.TrimSpace(line[d.InputOffset():]) != "" {
		return nil, false
	}
	fields = map[string]string{}
	for name, value := range object {
		switch v := value.(type) {
		case string:
			fields[columnName(name)] = v
		case json.Number:
			fields[columnName(name)] = v.String()
		}
	}
	return fields, true
}

// row has the fields of a record by column. Columns that the record does not have are empty.
type row struct {
	layout *layout
	fields []string
	object map[string]string
}

func (r row) field(column string) string {
	if r.object != nil {
		return strings.TrimSpace(r.object[column])
	}
	at, has := r.layout.columns[column]
	if !has || at >= len(r.fields) {
		return ""
	}
	if column == memberNote {
		return r.fields[at]
	}
	return strings.TrimSpace(r.fields[at])
}

// draft makes a draft of a record. Its problems name the columns of the file.
func (r row) draft() (d Draft, problems []Problem) {
	if n := len(r.fields); r.object == nil && n > len(r.layout.columns) && r.layout.format == FormatList {
		return d, []Problem{{memberAddress, codeUnsupported, "the line has more than an address: give a header that names the columns, or the address alone"}}
	}
	switch d.Address = r.field(addressColumns[r.layout.format]); r.layout.format {
	case FormatOwn:
		return r.own()
	case FormatSendGrid:
		d.Reason = string(r.sendGridReason())
		d.Note = foreignNote(r.field("status"), r.field("reason"))
	case FormatMailgun:
		if d.Reason = string(HardBounce); r.layout.has("tags") {
			d.Reason = string(Unsubscribe)
		}
		d.Note = foreignNote(r.field("code"), r.field("error"), r.field("tags"))
	case FormatPostmark:
		d.Reason, problems = r.word("suppressionreason", map[string]Reason{"hardbounce": HardBounce, "spamcomplaint": Complaint, "manualsuppression": r.postmarkManual()})
	case FormatSES:
		d.Reason, problems = r.word("reason", map[string]Reason{"bounce": HardBounce, "complaint": Complaint})
	}
	if created := r.field(createdColumns[r.layout.format]); created != "" {
		var ok bool
		if d.CreatedAt, ok = foreignTime(created); !ok {
			problems = append(problems, Problem{memberCreated, codeInvalid, "the time cannot be read; write it as 2026-01-02T15:04:05Z"})
		}
	}
	return d, problems
}

// own is the draft of a record in our own format.
func (r row) own() (d Draft, problems []Problem) {
	d = Draft{
		Address: r.field(memberAddress), Scope: r.field(memberScope), Stream: r.field(memberStream), Topic: r.field(memberTopic),
		Reason: r.field(memberReason), Note: unquoteFormula(r.field(memberNote)),
	}
	for column, into := range map[string]*time.Time{memberExpires: &d.ExpiresAt, memberCreated: &d.CreatedAt} {
		if r.field(column) == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, r.field(column))
		if other, ok := foreignTime(r.field(column)); column == memberCreated && ok { // Mailgun's complaints have our columns
			at, err = other, nil
		}
		if err != nil {
			problems = append(problems, Problem{column, codeInvalid, "give a time in RFC 3339 format: 2026-01-02T15:04:05Z"})
			continue
		}
		*into = at.UTC().Truncate(time.Microsecond)
	}
	return d, problems
}

// sendGridReason tells SendGrid's lists apart by their columns.
func (r row) sendGridReason() Reason {
	switch {
	case r.layout.has("ip"):
		return Complaint
	case r.layout.has("reason") || r.layout.has("status"):
		return HardBounce
	}
	return Unsubscribe
}

// postmarkManual tells apart what Postmark calls a manual suppression: by the recipient, or by others.
func (r row) postmarkManual() Reason {
	if strings.EqualFold(r.field("origin"), "recipient") {
		return Unsubscribe
	}
	return Manual
}

func (r row) word(column string, words map[string]Reason) (string, []Problem) {
	reason, known := words[columnName(r.field(column))]
	if !known {
		return "", []Problem{{column, codeInvalid, "the reason is not known; give ?reason= to import all lines with one reason"}}
	}
	return string(reason), nil
}

// foreignNote makes a note of what another service says, shortened to MaxNoteBytes.
func foreignNote(parts ...string) string {
	var said []string
	for _, p := range parts {
		if p != "" {
			said = append(said, p)
		}
	}
	note := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.Join(said, " "))
	if len(note) <= MaxNoteBytes || !utf8.ValidString(note) {
		return note
	}
	cut := MaxNoteBytes
	for !utf8.RuneStart(note[cut]) {
		cut--
	}
	return note[:cut]
}

// foreignLayouts are how other services write times.
var foreignLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700", "2006-01-02T15:04:05-0700", time.DateOnly,
	time.RFC1123, time.RFC1123Z,
}

// maxUnix is the last second of the year 9999. Larger numbers are milliseconds.
const maxUnix = 253402300799

// foreignTime reads a time of another service: a number of seconds or milliseconds since 1970, or one of
// foreignLayouts, in UTC without a time zone.
func foreignTime(s string) (time.Time, bool) {
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		if seconds > maxUnix {
			seconds /= 1000
		}
		if !(seconds >= 0 && seconds <= maxUnix) {
			return time.Time{}, false
		}
		return time.UnixMicro(int64(seconds * 1e6)).UTC(), true
	}
	for _, layout := range foreignLayouts {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC().Truncate(time.Microsecond), true
		}
	}
	return time.Time{}, false
}
