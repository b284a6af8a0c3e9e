package sendcli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

func TestParseCSV(t *testing.T) {
	t.Parallel()
	row := func(line int, address, name string, variables ...string) csvRow {
		r := csvRow{line: line}
		r.Email, r.Name = address, name
		for i := 0; i < len(variables); i += 2 {
			if r.Variables == nil {
				r.Variables = map[string]string{}
			}
			r.Variables[variables[i]] = variables[i+1]
		}
		return r
	}
	for name, tt := range map[string]struct {
		text string
		want []csvRow
	}{
		"plain":             {"email\na@x.test\nb@x.test", []csvRow{row(2, "a@x.test", ""), row(3, "b@x.test", "")}},
		"BOM, CRLF, spaces": {"\xef\xbb\xbfemail , name,order\r\n a@x.test ,Ann, 1\r\n", []csvRow{row(2, "a@x.test", "Ann", "order", " 1")}},
		"quotes":            {"email,text\n\na@x.test,\"say \"\"hi\"\",\r\nAnn\"\nb@x.test,\"\"\n", []csvRow{row(3, "a@x.test", "", "text", "say \"hi\",\nAnn"), row(5, "b@x.test", "", "text", "")}},
		"an empty name":     {"name,email\n,a@x.test\n", []csvRow{row(2, "a@x.test", "", "name", "")}},
		"semicolons":        {"email;order\na@x.test;1,5\n", []csvRow{row(2, "a@x.test", "", "order", "1,5")}},
		"any case":          {"EMail,NAME,kunde,Order\na@x.test,Ann,K,1\n", []csvRow{row(2, "a@x.test", "Ann", "Kunde", "K", "Order", "1")}},
		"columns not used":  {"Email,first name,,2nd\na@x.test,Ann,x,y\n", []csvRow{row(2, "a@x.test", "")}},
		"tabs":              {"email\torder\na@x.test\t1;2\n", []csvRow{row(2, "a@x.test", "", "order", "1;2")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseCSV([]byte(tt.text), uses{"Kunde"})
			require.NoError(t, errors.Join(err, got.err()))
			require.Equal(t, tt.want, got.rows)
		})
	}
	for text, want := range map[string]string{
		"":                                   "it is empty; its first line names the columns, as email,name,order",
		"email,name\n":                       "it names columns, but no recipient",
		"mail,name\na@x.test,A\n":            "line 1: no column is named email; there are mail, name",
		"Email,email\na@x.test,b@x.test\n":   "line 1: column 2, \"email\": it is there twice; rename one of them",
		"email,order no,email\na@x.test,1,2": "line 1: column 2, \"order no\": its name is a variable's, 1 to 64 of the characters A-Z a-z 0-9 _ . -, no digit first; rename it\nline 1: column 3, \"email\": it is there twice; rename one of them",
		"email,a\nx@x.test\n,1\ny@x.test,1,2": "line 2: it has 1 field, the first line names 2 columns\nline 3: the column email is empty\n" +
			"line 4: it has 3 fields, the first line names 2 columns",
		"email,a\nx@x.test,\"1\ny@x.test,2\nz@x.test,3\n": "line 2: the quote that opens there is not closed, or a quote inside of it is not doubled",
		"email,a\nx@x.test,1\ny@x.test,a \"b\"\n":         `line 3: a quote is not closed, or stands inside of a field; put the field into quotes and double those in it: "say ""hi"""`,
		"email,a\nx@x.test,1\ny@x.test,Gr\xfc\xdfe\n":     "line 3: the text is not UTF-8; save it as CSV in UTF-8",
		"email,a\rx@x.test,1\r":                           "its lines end with CR alone; save it with LF or CRLF",
		"\xff\xfee\x00":                                   "it is UTF-16; save it as CSV in UTF-8",
	} {
		f, err := parseCSV([]byte(text), uses{"order no"})
		require.EqualError(t, errors.Join(err, f.err()), want, "%q", text)
	}
	f, err := parseCSV([]byte("email\n"+strings.Repeat("\"\"\n", 100)), nil)
	require.NoError(t, err)
	require.Len(t, f.bad, 100)
	require.Len(t, strings.Split(f.err().Error(), "\n"), maxCSVProblems)
}

func TestSplit(t *testing.T) {
	t.Parallel()
	rows := make([]csvRow, 25001)
	for i := range rows {
		rows[i].line = i
	}
	sizes := func(rows []csvRow, contentBytes int) (out []int) {
		next := 0
		for _, part := range split(rows, contentBytes) {
			require.Equal(t, next, part[0].line, "in order, none left out")
			next += len(part)
			out = append(out, len(part))
		}
		return out
	}
	require.Equal(t, []int{10000, 10000, 5001}, sizes(rows, 1000))
	require.Equal(t, []int{10000}, sizes(rows[:10000], 1000))
	require.Equal(t, []int{128, 128, 44}, sizes(rows[:300], 1<<20), "the copies together have a limit")
	for i := range rows[:9] {
		rows[i].Variables = map[string]string{"a": strings.Repeat("x", 5<<20)}
	}
	require.Equal(t, []int{3, 3, 3}, sizes(rows[:9], 10), "a request has a limit")
}

// fakeBatches is an API with scripted answers that records the requests.
type fakeBatches struct {
	mu       sync.Mutex
	keys     []string
	sizes    []int
	accept   func(n int, b client.Batch) (int, string)
	progress func(n int, id string) string
	reads    int
}

func (f *fakeBatches) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Method == "POST":
		var b client.Batch
		body, err := io.ReadAll(r.Body)
		if err = errors.Join(err, json.Unmarshal(body, &b)); err != nil {
			panic(err)
		}
		f.keys, f.sizes = append(f.keys, r.Header.Get("Idempotency-Key")), append(f.sizes, len(b.Recipients))
		status, answer := f.accept(len(f.keys), b)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	case strings.HasPrefix(r.URL.Path, "/v1.0/batches/"):
		f.reads++
		_, _ = io.WriteString(w, f.progress(f.reads, strings.TrimPrefix(r.URL.Path, "/v1.0/batches/")))
	default:
		_, _ = io.WriteString(w, `{"result":[{"recipients":[{"address":"b@x.test","status":"bounced","reason":"hard","smtp_code":550,"text":"no such user"}]}],"next_page_token":""}`)
	}
}

func accepted(n int, b client.Batch) (int, string) {
	return 202, fmt.Sprintf(`{"id":"b-%d","status":"sending","total":%[2]d,"accepted":%[2]d,"items":[]}`, n, len(b.Recipients))
}

func stand(id, status string, delivered, bounced, queued int, details string) string {
	return fmt.Sprintf(`{"id":"%s","status":"%s","emails":{"total":%d,"delivered":%d,"bounced":%d,"queued":%d},"details":{%s},"rate":10}`,
		id, status, delivered+bounced+queued, delivered, bounced, queued, details)
}

// sendFile sends a file to a scripted API.
func sendFile(t *testing.T, api *fakeBatches, csv string, change func(*flags)) (string, error) {
	t.Helper()
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, "pr_x", client.WithRetry(client.Retry{Tries: 1}))
	require.NoError(t, err)
	f := &flags{from: "a@x.test", subject: "s", subjectGiven: true, text: "{{name}}", batch: "-", key: "k"}
	if change != nil {
		change(f)
	}
	var out, errOut bytes.Buffer
	err = f.sendBatch(t.Context(), c, srv.URL, strings.NewReader(csv), &out, &errOut)
	require.True(t, f.json || errOut.Len() == 0)
	return out.String() + errOut.String(), err
}

func TestSendBatchProgress(t *testing.T) {
	t.Parallel()
	const csv = "email,name\na@x.test,A\nb@x.test,B\nc@x.test,C\n"
	api := &fakeBatches{accept: accepted, progress: func(n int, id string) string {
		if n == 1 {
			return stand(id, "sending", 1, 0, 2, "")
		}
		return stand(id, "finished", 3, 0, 0, "")
	}}
	out, err := sendFile(t, api, csv, nil)
	require.NoError(t, err)
	require.Regexp(t, `^b-1 accepted: 3 e-mails\n1 of 3 \(33%\), 1 delivered, 2 open, 10/s, 0s left\n3 e-mails in [\d.]+m?s: 3 delivered\n$`, out)
	require.Equal(t, []string{"k"}, api.keys)

	for name, tt := range map[string]struct {
		stand string
		wait  time.Duration
		code  error
		words string
	}{
		"a bounce":     {stand("b-1", "finished", 2, 1, 0, ""), 0, exitNotDelivered, "2 delivered, 1 bounced\nb@x.test bounced (hard): 550 no such user\n"},
		"both":         {stand("b-1", "sending", 1, 1, 1, `"deferred":1`), 0, exitNotDelivered, "1 delivered, 1 bounced, 1 deferred\nb@x.test"},
		"deferred":     {stand("b-1", "sending", 2, 0, 1, `"deferred":1`), 0, exitStillOpen, "2 delivered, 1 deferred\n"},
		"the wait end": {stand("b-1", "sending", 2, 0, 1, `"relay_down":1`), 50 * time.Millisecond, exitStillOpen, "2 delivered, 1 relay_down\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &fakeBatches{accept: accepted, progress: func(int, string) string { return tt.stand }}
			out, err := sendFile(t, api, csv, func(f *flags) { f.wait = tt.wait })
			require.Equal(t, tt.code, err)
			require.Contains(t, out, tt.words)
		})
	}
}

func TestSendBatchRefusalsNameTheLine(t *testing.T) {
	t.Parallel()
	const csv = "email,order\n\na@x.test,1\nb,2\n"
	refused := `{"code":"invalid_request","detail":"d","errors":[{"pointer":"/recipients/1/email","code":"invalid_address","detail":"an address looks like local@domain"},
		{"pointer":"/recipients/0/variables/name","code":"missing","detail":"give its value"},{"pointer":"/recipients/1/variables","code":"invalid","detail":"too long"}`
	api := &fakeBatches{accept: func(int, client.Batch) (int, string) { return 400, refused + "]}" }}
	_, err := sendFile(t, api, csv, nil)
	require.EqualError(t, err, "--batch -: line 4, column email: an address looks like local@domain\n"+
		"--batch -: line 3, column name: the message uses it, and there is no such column; add it\n--batch -: line 4: too long\nnothing of this batch was sent; --permissive sends what is good")
	api = &fakeBatches{accept: func(int, client.Batch) (int, string) {
		return 400, refused + `,{"pointer":"/message/content/text","code":"invalid","detail":"a {{ has no }} behind it"},{"pointer":"/message/from","code":"missing","detail":"x"}]}`
	}}
	_, err = sendFile(t, api, csv, nil)
	require.ErrorContains(t, err, "\n--text: a {{ has no }} behind it\n--from: give the sender; this customer has no default source")
	require.NotContains(t, err.Error(), "--permissive")

	api = &fakeBatches{progress: func(_ int, id string) string { return stand(id, "finished", 1, 0, 0, "") }, accept: func(_ int, b client.Batch) (int, string) {
		require.Equal(t, email.BatchPermissive, b.Mode)
		return 202, `{"id":"b-1","total":2,"accepted":1,"refused":1,"items":[{"index":0,"id":"1"},{"index":1,"error":{"code":"invalid_request","detail":"d","errors":[
			{"pointer":"/recipients/1/email","code":"invalid_address","detail":"an address looks like local@domain"}]}}]}`
	}}
	out, err := sendFile(t, api, csv, func(f *flags) { f.permissive = true })
	require.Equal(t, exitNotDelivered, err)
	require.Contains(t, out, "1 row refused:\n--batch -: line 4, column email: an address looks like local@domain\n")

	out, err = sendFile(t, api, csv+"c@x.test\n,3\n", func(f *flags) { f.permissive = true })
	require.Equal(t, exitNotDelivered, err)
	require.Equal(t, []int{2, 2}, api.sizes, "what is no row is left out")
	require.Contains(t, out, "3 rows refused:\n--batch -: line 5: it has 1 field, the first line names 2 columns\n--batch -: line 6: the column email is empty\n--batch -: line 4, column email: ")
	_, err = sendFile(t, api, "email,order\na@x.test\n", func(f *flags) { f.permissive = true })
	require.EqualError(t, err, "--batch -: line 2: it has 1 field, the first line names 2 columns")
}

func TestSendBatchInParts(t *testing.T) {
	t.Parallel()
	csv := "email\n" + strings.Repeat("a@x.test\n", 25001)
	api := &fakeBatches{accept: accepted, progress: func(_ int, id string) string { return stand(id, "finished", 10, 0, 0, "") }}
	out, err := sendFile(t, api, csv, nil)
	require.NoError(t, err)
	require.Equal(t, []int{10000, 10000, 5001}, api.sizes)
	require.Equal(t, []string{"k-1", "k-2", "k-3"}, api.keys)
	require.Contains(t, out, "30 e-mails in ")

	api = &fakeBatches{accept: func(n int, b client.Batch) (int, string) {
		if n == 2 {
			return 402, `{"code":"credits_exhausted","detail":"there are no credits left"}`
		}
		return accepted(n, b)
	}}
	out, err = sendFile(t, api, csv, nil)
	require.Equal(t, "b-1 accepted: 10000 e-mails\n", out)
	require.EqualError(t, err, "there are no credits left\n1 batch was accepted before that; --idempotency-key k makes it safe to send the corrected file again, if the lines before stay as they are")

	// A part of which nothing is good does not keep the others back in permissive mode.
	api = &fakeBatches{progress: func(_ int, id string) string { return stand(id, "finished", 10, 0, 0, "") }, accept: func(n int, b client.Batch) (int, string) {
		if n == 2 {
			return 400, `{"code":"invalid_request","detail":"d","errors":[{"pointer":"/recipients/0/email","code":"invalid_address","detail":"x"}]}`
		}
		return accepted(n, b)
	}}
	out, err = sendFile(t, api, csv, func(f *flags) { f.permissive = true })
	require.Equal(t, exitNotDelivered, err)
	require.Contains(t, out, "10000 rows refused:\n--batch -: line 10002, column email: x\n")
	require.Len(t, api.keys, 3)
}

func TestSendBatchDryRun(t *testing.T) {
	t.Parallel()
	const shown = `{"source":"Subject: s\r\n\r\nA\r\n","size_bytes":20,"checks":[{"id":"x","level":"warning","title":"T","detail":"D"},{"id":"y","level":"ok","title":"O","detail":"K"}],"batch":`
	api := &fakeBatches{accept: func(_ int, b client.Batch) (int, string) {
		return 200, fmt.Sprintf(shown+`{"total":%[1]d,"accepted":%[1]d,"refused":0,"items":[]}}`, len(b.Recipients))
	}}
	dry := func(f *flags) { f.dryRun = true }
	out, err := sendFile(t, api, "email,name\na@x.test,A\nb@x.test,B\n", dry)
	require.NoError(t, err)
	require.Equal(t, "Subject: s\n\nA\n\nwarning: T: D\nNothing was sent: this is the first of 2 copies, in 1 batch. Each has 20 bytes or so.\n", out)
	_, err = sendFile(t, api, "email\n"+strings.Repeat("a@x.test\n", 10001), dry)
	require.NoError(t, err)
	require.Equal(t, []int{2, 10000, 1}, api.sizes, "all rows are checked")

	api = &fakeBatches{accept: func(n int, b client.Batch) (int, string) {
		if n == 1 {
			return 400, `{"code":"invalid_request","detail":"d","errors":[{"pointer":"/recipients/0/email","code":"invalid_address","detail":"x"}]}`
		}
		return 200, shown + `{"total":2,"accepted":1,"refused":1,"items":[{"index":1,"error":{"code":"invalid_request","detail":"d","errors":[{"pointer":"/recipients/1/email","code":"invalid_address","detail":"y"}]}}]}}`
	}}
	csv := "email\n" + strings.Repeat("a\n", 10000) + "c@x.test\n,\nd\n"
	out, err = sendFile(t, api, csv, func(f *flags) { f.dryRun, f.permissive = true, true })
	require.Equal(t, exitNotDelivered, err)
	require.Contains(t, out, "this is the first of 1 copy, in 1 batch. ")
	require.Contains(t, out, "\n10002 rows refused:\n--batch -: line 10003: it has 2 fields, the first line names 1 column\n--batch -: line 2, column email: x\n--batch -: line 10004, column email: y\n")
	out, err = sendFile(t, api, "email\nd\n", func(f *flags) { f.dryRun, f.permissive, f.json = true, true, true })
	require.Equal(t, exitNotDelivered, err)
	require.Contains(t, out, "1 row refused:\n", "beside the JSON")
	api = &fakeBatches{accept: func(int, client.Batch) (int, string) {
		return 400, `{"code":"invalid_request","detail":"d","errors":[{"pointer":"/recipients/1/email","code":"invalid_address","detail":"x"}]}`
	}}
	_, err = sendFile(t, api, "email\na@x.test\nb\n", dry)
	require.EqualError(t, err, "--batch -: line 3, column email: x")
}

func TestSendBatchAsJSON(t *testing.T) {
	t.Parallel()
	api := &fakeBatches{accept: accepted, progress: func(_ int, id string) string { return stand(id, "finished", 1, 0, 0, "") }}
	out, err := sendFile(t, api, "email\na@x.test\n,\n", func(f *flags) { f.permissive, f.json = true, true })
	require.Equal(t, exitNotDelivered, err)
	progress, refused, _ := strings.Cut(out, "\n]\n")
	require.True(t, json.Valid([]byte(progress+"]")), progress)
	require.NotContains(t, progress, "next_attempt_at", "a time that there is not")
	require.Equal(t, "1 row refused:\n--batch -: line 3: it has 2 fields, the first line names 1 column\n", refused)
}

func TestSendBatchFlags(t *testing.T) {
	t.Parallel()
	api := &fakeBatches{}
	_, err := sendFile(t, api, "email\n,\n", func(f *flags) { f.to = []string{"a@x.test"}; f.sendAt = "soon" })
	require.EqualError(t, err, "--send-at \"soon\": give a time in RFC 3339 format: 2026-01-02T15:04:05Z\n--to: the recipients are in the file of --batch; remove it\n"+
		"--batch -: line 2: it has 2 fields, the first line names 1 column")
	_, err = sendFile(t, api, "", func(f *flags) { f.text = "-" })
	require.EqualError(t, err, "--batch: standard input is --text or --html already; put one of them into a file")
	_, err = sendFile(t, api, "", func(f *flags) { f.batch = "/nowhere.csv" })
	require.ErrorContains(t, err, "--batch: open /nowhere.csv")
	f := &flags{permissive: true, subjectGiven: true}
	_, err = f.message(nil)
	require.EqualError(t, err, "--permissive, --dry-run: these go with --batch")
	require.Empty(t, api.keys)
}
