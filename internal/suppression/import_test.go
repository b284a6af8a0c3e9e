package suppression_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/suppression"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func rules() suppression.Rules {
	return suppression.Rules{
		Address: func(a string) (string, error) {
			spec, err := intake.Address(a, "")
			return spec.Email, err
		},
		Domain: intake.Domain, Reasons: suppression.Reasons(), Now: now,
	}
}

// imported are the entries and the lots of an import.
type imported struct {
	suppression.Report
	lots []suppression.Lot
	// shown are the entries as text.
	shown []string
}

func show(e suppression.Entry) string {
	out := strings.Join([]string{e.Address, string(e.Scope), e.Target, string(e.Reason), e.Note}, "|")
	if !e.CreatedAt.IsZero() {
		out += "|" + e.CreatedAt.Format(time.RFC3339Nano)
	}
	if !e.ExpiresAt.IsZero() {
		out += "|until " + e.ExpiresAt.Format(time.RFC3339Nano)
	}
	return out
}

func read(t *testing.T, in suppression.Import, file string) (got imported, err error) {
	t.Helper()
	in.Rules = rules()
	in.Put = func(_ context.Context, l suppression.Lot) (suppression.Counts, error) {
		for _, e := range l.Entries {
			got.shown = append(got.shown, show(e))
		}
		l.Entries = nil // it is used again
		got.lots = append(got.lots, l)
		return suppression.Counts{Added: len(got.shown) - got.Added}, nil
	}
	got.Report, err = in.Read(t.Context(), strings.NewReader(file))
	return got, err
}

// TestFormats: files as these services export them.
func TestFormats(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in     suppression.Import
		file   string
		format suppression.Format
		want   []string
		// keepReason, keepNote are those of the lots.
		keepReason, keepNote bool
	}{
		"ours": {
			file: "address,scope,stream,topic,reason,note,expires_at,created_at\n" +
				"ann@x.test,all,,,hard_bounce,,,2026-01-02T03:04:05.678901Z\n" +
				"Bob@X.test,stream,broadcast,,soft_bounces,\"two\nlines, and \"\"quotes\"\"\",2026-06-01T00:00:00Z,\n" +
				"cid@x.test,,,news,unsubscribe,,,\n*@gone.test,,,,,'=1+1,,\n",
			format: suppression.FormatOwn,
			want: []string{"ann@x.test|all||hard_bounce||2026-01-02T03:04:05.678901Z", "Bob@x.test|stream|broadcast|soft_bounces|two\nlines, and \"quotes\"|until 2026-06-01T00:00:00Z",
				"cid@x.test|topic|news|unsubscribe|", "*@gone.test|all||manual|=1+1"},
		},
		"ours, other order, BOM, CRLF and semicolons": {
			file: "\ufeffReason;Address\r\ncomplaint;ann@x.test\r\n\r\nunsubscribe;\" bob@x.test \"\r\n", format: suppression.FormatOwn,
			want: []string{"ann@x.test|all||complaint|", "bob@x.test|stream|broadcast|unsubscribe|"}, keepNote: true,
		},
		"ours for Excel": {file: "sep=;\r\naddress;note\r\nann@x.test;a,b\r\n", format: suppression.FormatOwn, want: []string{"ann@x.test|all||manual|a,b"}, keepReason: true},
		"SendGrid bounces": {
			file: "status,reason,email,created\n5.1.1,\"550 5.1.1 The email account\ndoes not exist\",ann@x.test,1443651125\n", format: suppression.FormatSendGrid,
			want: []string{"ann@x.test|all||hard_bounce|5.1.1 550 5.1.1 The email account does not exist|2015-09-30T22:12:05Z"},
		},
		"SendGrid bounces of the API": {
			file: "email,created,reason\nann@x.test,2015-09-30T22:12:05Z,unknown user\n", format: suppression.FormatSendGrid,
			want: []string{"ann@x.test|all||hard_bounce|unknown user|2015-09-30T22:12:05Z"},
		},
		"SendGrid unsubscribes":  {file: "email,created\nann@x.test,2015-09-30 22:12:05\n", format: suppression.FormatSendGrid, want: []string{"ann@x.test|stream|broadcast|unsubscribe||2015-09-30T22:12:05Z"}, keepNote: true},
		"SendGrid spam reports":  {file: "ip,email,created\n192.0.2.1,ann@x.test,1443651125\n", format: suppression.FormatSendGrid, want: []string{"ann@x.test|all||complaint||2015-09-30T22:12:05Z"}, keepNote: true},
		"SendGrid, with reason=": {in: suppression.Import{Reason: suppression.Complaint}, file: "email,created\nann@x.test,\n", format: suppression.FormatSendGrid, want: []string{"ann@x.test|all||complaint|"}, keepNote: true},
		"Mailgun bounces": {
			file: "address,code,error,created_at\nann@x.test,550,\"No such mailbox, sorry\",\"Fri, 21 Oct 2011 11:02:55 UTC\"\n", format: suppression.FormatMailgun,
			want: []string{"ann@x.test|all||hard_bounce|550 No such mailbox, sorry|2011-10-21T11:02:55Z"},
		},
		"Mailgun complaints": {
			in: suppression.Import{Reason: suppression.Complaint}, file: "address,created_at\nann@x.test,\"Fri, 21 Oct 2011 11:02:55 GMT\"\n", format: suppression.FormatOwn,
			want: []string{"ann@x.test|all||complaint||2011-10-21T11:02:55Z"}, keepNote: true,
		},
		"Mailgun unsubscribes": {
			file: "address,tags,created_at\nann@x.test,*,2011-10-21 11:02:55 +0200\n", format: suppression.FormatMailgun,
			want: []string{"ann@x.test|stream|broadcast|unsubscribe|*|2011-10-21T09:02:55Z"},
		},
		"Postmark": {
			file: "EmailAddress,SuppressionReason,Origin,CreatedAt\na@x.test,HardBounce,Recipient,2019-12-10T08:58:33-05:00\nb@x.test,SpamComplaint,Recipient,\n" +
				"c@x.test,ManualSuppression,Recipient,\nd@x.test,ManualSuppression,Customer,\n", format: suppression.FormatPostmark,
			want: []string{"a@x.test|all||hard_bounce||2019-12-10T13:58:33Z", "b@x.test|all||complaint|", "c@x.test|stream|broadcast|unsubscribe|", "d@x.test|all||manual|"}, keepNote: true,
		},
		"SES": {
			file: "EmailAddress,Reason,LastUpdateTime\na@x.test,BOUNCE,2020-04-10T21:03:05Z\nb@x.test,COMPLAINT,\n", format: suppression.FormatSES,
			want: []string{"a@x.test|all||hard_bounce||2020-04-10T21:03:05Z", "b@x.test|all||complaint|"}, keepNote: true,
		},
		"SES as JSON lines": {
			file:   `{"EmailAddress":"a@x.test","Reason":"BOUNCE","LastUpdateTime":"2020-04-10T21:03:05Z"}` + "\n\n" + `{"EmailAddress":"b@x.test","Reason":"COMPLAINT","LastUpdateTime":1586552585.077,"Attributes":{}}`,
			format: suppression.FormatSES, want: []string{"a@x.test|all||hard_bounce||2020-04-10T21:03:05Z", "b@x.test|all||complaint||2020-04-10T21:03:05.077Z"}, keepNote: true,
		},
		"a list":               {file: "ann@x.test\nbob@x.test", format: suppression.FormatList, want: []string{"ann@x.test|all||manual|", "bob@x.test|all||manual|"}, keepReason: true, keepNote: true},
		"a list with a header": {file: "Email Address\nann@x.test\n", format: suppression.FormatList, want: []string{"ann@x.test|all||manual|"}, keepReason: true, keepNote: true},
		"a list of bounces": {
			in: suppression.Import{Format: suppression.FormatList, Reason: suppression.HardBounce}, file: "address\n=ann@x.test\n", format: suppression.FormatList,
			want: []string{"=ann@x.test|all||hard_bounce|"}, keepNote: true,
		},
		"our header as another format": {in: suppression.Import{Format: suppression.FormatMailgun}, file: "address,created_at\nann@x.test,1443651125\n", format: suppression.FormatMailgun, want: []string{"ann@x.test|all||hard_bounce||2015-09-30T22:12:05Z"}, keepNote: true},
		"nothing folds": {
			file: "a.b+c@x.test\na.b@x.test\nab@x.test\nAB@x.test\nпочта@пример.рф\nпочта@xn--e1afmkfd.xn--p1ai\n用户@例え.jp\n", format: suppression.FormatList,
			want: []string{"a.b+c@x.test|all||manual|", "a.b@x.test|all||manual|", "ab@x.test|all||manual|", "AB@x.test|all||manual|",
				"почта@xn--e1afmkfd.xn--p1ai|all||manual|", "用户@xn--r8jz45g.jp|all||manual|"}, keepReason: true, keepNote: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(t, tc.in, tc.file)
			require.NoError(t, err)
			require.Equal(t, tc.want, got.shown)
			require.Equal(t, tc.format, got.Format)
			require.Empty(t, got.Problems)
			require.Equal(t, []suppression.Lot{{KeepReason: tc.keepReason, KeepNote: tc.keepNote}}, got.lots)
		})
	}
}

// TestRefusedLines: a line that is not valid stops nothing, and is named with its column.
func TestRefusedLines(t *testing.T) {
	t.Parallel()
	got, err := read(t, suppression.Import{}, "Address,reason,scope,stream,topic,note,expires_at,created_at\n"+
		"ann@x.test,,,,,,,\n"+
		"not an address,,,,,,,\n"+
		",,,,,,,\n"+
		"b@x.test,bounced,,,,,,\n"+
		"b@x.test,,some,,,,,\n"+
		"b@x.test,,stream,,,,,\n"+
		"b@x.test,,,marketing,,,,\n"+
		"b@x.test,,all,broadcast,,,,\n"+
		"b@x.test,,topic,,News!,,,\n"+
		"b@x.test,,,broadcast,news,,,\n"+
		"b@x.test,,,,,"+strings.Repeat("n", 501)+",,\n"+
		"b@x.test,,,,,a\x01b,,\n"+
		"b@x.test,,,,,a\xffb,,\n"+
		"b@x.test,,,,,,2026-04-30T00:00:00Z,\n"+
		"b@x.test,,,,,,tomorrow,\n"+
		"b@x.test,,,,,,,2027-01-01T00:00:00Z\n"+
		"*@x.test,complaint,,,,,,\n"+
		"b@x.test,,,,,\"a\"b,,\n"+
		"b@x.test,,,,,\"never ends,,\n"+
		"*@bad_domain,,,,,,,\n"+
		"b@x.test"+strings.Repeat(",", 70)+"\n"+
		strings.Repeat("x", 70<<10)+"\n"+
		"zoe@x.test,,,,,\"over\ntwo lines\",,\n"+
		"a@x.test;b@x.test,,,,,,,\n")
	require.NoError(t, err)
	require.Equal(t, []string{"ann@x.test|all||manual|", "zoe@x.test|all||manual|over\ntwo lines"}, got.shown)
	require.Equal(t, 24, got.Read)
	require.Equal(t, 22, got.Refused)
	require.Equal(t, 2, got.Added)
	var problems []string
	for _, p := range got.Problems {
		require.NotEmpty(t, p.Detail)
		problems = append(problems, fmt.Sprintf("%d %s %s", p.Line, p.Column, p.Code))
	}
	require.Equal(t, []string{
		"3 Address invalid_address", "4 Address missing", "5 reason invalid", "6 scope invalid", "7 stream missing", "8 stream invalid", "9 stream unsupported",
		"10 topic invalid", "11 topic unsupported", "12 note too_long", "13 note control_character", "14  invalid_utf8", "15 expires_at past", "16 expires_at invalid",
		"17 created_at invalid", "18 reason unsupported", "19  malformed", "20  malformed", "21 Address invalid_address", "22  malformed", "23  malformed", "26 Address invalid_address",
	}, problems)
	require.NotContains(t, fmt.Sprint(got.Problems), "bad_domain", "it does not repeat what was refused")

	for file, want := range map[string]string{
		"Email,Created\na@x.test,someday\n":                                     "2 Created invalid",
		"EmailAddress,Reason\na@x.test,because\n":                               "2 Reason invalid",
		"a@x.test\nb@x.test,hard_bounce\n":                                      "2 address unsupported",
		"a@x.test\nb\n":                                                         "2 address invalid_address",
		`{"EmailAddress":"a@x.test","Reason":"BOUNCE"}` + "\n{broken\n":         "2  malformed",
		"EmailAddress,SuppressionReason,CreatedAt\na@x.test,HardBounce,1e300\n": "2 CreatedAt invalid",
	} {
		got, err := read(t, suppression.Import{}, file)
		require.NoError(t, err)
		require.Len(t, got.Problems, 1, file)
		p := got.Problems[0]
		require.Equal(t, want, fmt.Sprintf("%d %s %s", p.Line, p.Column, p.Code), file)
	}
}

func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"":                              "it is empty",
		"\ufeff\r\n \n":                 "it is empty",
		"\xff\xfea\x00":                 "it is UTF-16",
		"name,phone\nann,1\n":           "no header that is known",
		"address,colour\na@x.test,r\n":  "our own format has the columns address, scope,",
		"{\n \"EmailAddress\": \"a\"\n": "one object a line",
		"a,\"b\n":                       "its first line cannot be read",
		strings.Repeat("a", 70<<10):     "its first line has more than 65536 bytes",
	} {
		got, err := read(t, suppression.Import{}, file)
		f, ok := errors.AsType[*email.Failure](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, email.CodeInvalidRequest, f.Code)
		require.ErrorContains(t, err, want)
		require.Empty(t, got.lots)
	}
	_, err := read(t, suppression.Import{Format: suppression.FormatPostmark}, "email,created\na@x.test,\n")
	require.ErrorContains(t, err, "has a header with the column emailaddress")
	_, err = read(t, suppression.Import{Format: suppression.FormatList}, "foo\na@x.test\n")
	require.NoError(t, err)
}

// TestTheReportIsBounded: the report has the first problems, and all refused lines are counted.
func TestTheReportIsBounded(t *testing.T) {
	t.Parallel()
	got, err := read(t, suppression.Import{}, "a@x.test\n"+strings.Repeat("x\n", 5000))
	require.NoError(t, err)
	require.Equal(t, 5000, got.Refused)
	require.Len(t, got.Problems, suppression.MaxProblems)
}

// TestOpenQuotesAreReadInLinearTime: each line is looked at a few times, however many quotes are not closed.
func TestOpenQuotesAreReadInLinearTime(t *testing.T) {
	t.Parallel()
	got, err := read(t, suppression.Import{}, "address,note\n"+strings.Repeat("a@x.test,\"open\n"+strings.Repeat("b\n", 40_000), 5)+"zoe@x.test,\n")
	require.NoError(t, err)
	require.Equal(t, []string{"zoe@x.test|all||manual|"}, got.shown)
	require.Equal(t, 5*40_001, got.Refused)
}

// TestTheLastOfTwoEqualAddressesCounts: as if each were in a lot of its own.
func TestTheLastOfTwoEqualAddressesCounts(t *testing.T) {
	t.Parallel()
	got, err := read(t, suppression.Import{}, "address,note,created_at\na@x.test,one,2026-01-01T00:00:00Z\na@x.test,one,2026-02-01T00:00:00Z\na@X.test,two,\na@x.test,two,\n")
	require.NoError(t, err)
	require.Equal(t, []string{"a@x.test|all||manual|two|2026-01-01T00:00:00Z"}, got.shown)
	require.Equal(t, suppression.Counts{Added: 1, Changed: 1, Unchanged: 2}, got.Counts)
}

// TestAnImportEndsWithItsSource: lots that were stored before are in the report.
func TestAnImportEndsWithItsSource(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	var file strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&file, "a%d@x.test\n", i)
	}
	lots := 0
	in := suppression.Import{Rules: rules(), Put: func(_ context.Context, l suppression.Lot) (suppression.Counts, error) {
		lots++
		return suppression.Counts{Added: len(l.Entries)}, nil
	}}
	r, err := in.Read(t.Context(), io.MultiReader(strings.NewReader(file.String()), failing{broken}))
	require.ErrorIs(t, err, broken)
	require.Equal(t, 2, lots)
	require.Equal(t, 5000, r.Added)

	in.Put = func(context.Context, suppression.Lot) (suppression.Counts, error) {
		return suppression.Counts{}, broken
	}
	_, err = in.Read(t.Context(), strings.NewReader(file.String()))
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = in.Read(ctx, strings.NewReader(file.String()))
	require.ErrorIs(t, err, context.Canceled)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestAnExportReadsBackExactly: notes with quotes, line breaks and formulas, too.
func TestAnExportReadsBackExactly(t *testing.T) {
	t.Parallel()
	var entries []suppression.Entry
	for i, note := range []string{"", "plain", "=1+1", "'=1+1", "''-x", "'quoted'", "+1", "@x", "\tx", " x ", "a,b", "a;b", `say "hi"`, "two\nlines", "\n", "ü😀"} {
		entries = append(entries, suppression.Entry{Address: fmt.Sprintf("=a+%d@x.test", i), Scope: suppression.ScopeAll, Reason: suppression.Manual, Note: note, CreatedAt: now.Add(-time.Hour).Add(time.Duration(i) * time.Microsecond)})
	}
	entries = append(entries,
		suppression.Entry{Address: "'a@x.test", Scope: suppression.ScopeTopic, Target: "news", Reason: suppression.Unsubscribe, CreatedAt: now.Add(-time.Second), ExpiresAt: now.Add(time.Hour)},
		suppression.Entry{Address: "*@x.test", Scope: suppression.ScopeStream, Target: "broadcast", Reason: suppression.Manual, CreatedAt: now})
	export := func(entries []suppression.Entry) string {
		var out bytes.Buffer
		e, err := suppression.NewExport(&out, true)
		require.NoError(t, err)
		require.NoError(t, e.Write(append(entries, suppression.Entry{Scope: suppression.ScopeAll})), "one without an address is left out")
		return out.String()
	}
	file := export(entries)
	require.Contains(t, file, ",'=1+1,")
	require.Contains(t, file, "=a+0@x.test,all,,,manual,,,2026-05-01T11:00:00Z\n")
	var back []suppression.Entry
	in := suppression.Import{Rules: rules(), Put: func(_ context.Context, l suppression.Lot) (suppression.Counts, error) {
		back = append(back, l.Entries...)
		return suppression.Counts{}, nil
	}}
	r, err := in.Read(t.Context(), strings.NewReader(file))
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Equal(t, entries, back)
	require.Equal(t, file, export(back))
}

func FuzzImport(f *testing.F) {
	f.Add("address,note\na@x.test,\"a\nb\"\n")
	f.Add("a@x.test\n\"\n")
	f.Add(`{"EmailAddress":"a@x.test","Reason":"BOUNCE"}`)
	f.Fuzz(func(t *testing.T, file string) {
		got, err := read(t, suppression.Import{}, file)
		if err == nil {
			require.Equal(t, got.Read, got.Refused+got.Added+got.Changed+got.Unchanged)
		}
	})
}
