package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtptest"
)

// hidden is what a run was given that no log may hold, by what it is.
type hidden map[string]string

// new makes a text that is nowhere else. It is letters, digits and hyphens, so that it
// looks the same in a URL, in JSON and in a quoted string.
func (s hidden) new(what string) string {
	s[what] = "zq" + strings.ReplaceAll(what, " ", "-") + "-7c1f"
	return s[what]
}

// TestLogsHoldNoSecrets runs an installation at the log level debug, with all kinds of secrets,
// addresses and content. Its relays and receivers repeat in their answers what they receive.
//
// Logs may contain, as documented: ids, names of hosts and relays, the relay's user
// (config.loaded), and the addresses of clients (login.failed). Of an e-mail address they may
// contain the domain and the first letter (b***@example.net).
func TestLogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	secret := hidden{}
	r := newLogRun(t, secret)
	r.accounts()
	r.badRequests()
	r.mail()
	r.received()
	r.faults()

	log := r.logs()
	// Each of these lines is one of a part that the run went through.
	for _, message := range []string{"config.loaded", "http.answered", "http.failed", "login.succeeded", "login.failed", "email.accepted", "email.controlled", "email.recorded",
		"smtp.attempted", "relay.down", "batch.accepted", "batch.chunk", "batch.controlled", "webhook.attempted", "file.stored", "action refused", "inbound.stored", "worker.started"} {
		require.Contains(t, log, `"msg":"`+message+`"`)
	}
	for _, what := range slices.Sorted(maps.Keys(secret)) {
		for line := range strings.Lines(log) {
			if found := find([]byte(strings.ToLower(line)), strings.ToLower(secret[what])); found != "" {
				t.Errorf("the log holds the %s: %s", what, line)
				break
			}
			if found := find([]byte(line), secret[what]); found != "" { // base64 keeps no case
				t.Errorf("the log holds the %s: %s", what, line)
				break
			}
		}
	}
}

// logRun is a deployment whose processes and commands are listened to.
type logRun struct {
	*deployment
	secret           hidden
	peer             *smtptest.Peer
	inbound          string
	hooks            *httptest.Server
	recordings       atomic.Int32
	serving, working *daemon
	errors           bytes.Buffer
}

func newLogRun(t *testing.T, secret hidden) *logRun {
	t.Helper()
	r := &logRun{secret: secret, inbound: freeAddress(t)}
	// The relay repeats the recipient in its answers, and once all that was in the mail.
	var content atomic.Bool
	reason := strings.Join([]string{secret.new("subject"), secret.new("text body"), secret.new("header value")}, " ")
	r.peer = (&smtptest.Peer{User: "relayuser", Password: secret.new("relay password"), Extensions: []string{"DSN"}, Answer: func(line string) string {
		to, _, _ := strings.Cut(strings.TrimPrefix(line, "RCPT TO:"), " ")
		switch {
		case strings.HasPrefix(line, "RCPT TO:"):
			content.Store(strings.Contains(line, "content-"))
			switch {
			case strings.Contains(line, "bounced-"):
				return "550 5.1.1 " + to + ": no such user " + strings.Trim(to, "<>")
			case strings.Contains(line, "deferred-"):
				return "451 4.7.1 " + to + ": come again"
			}
		case line == "." && content.Load():
			return "554 5.7.1 spam words: " + reason
		}
		return ""
	}}).Start(t)
	denied := (&smtptest.Peer{User: "nobody", Password: "else", Answer: func(line string) string {
		if strings.HasPrefix(line, "AUTH PLAIN ") { // what some relays do
			credentials, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "AUTH PLAIN "))
			if err == nil {
				return "535 5.7.8 no: " + strings.ReplaceAll(string(credentials), "\x00", " ")
			}
		}
		return ""
	}}).Start(t)
	r.hooks = httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(r.hooks.Close)
	key := func(what string) string { // 32 bytes in hex, which find has to meet as they stand
		secret[what] = fmt.Sprintf("%x", what+strings.Repeat(".", 32-len(what)))
		return secret[what]
	}
	relays := "smtp://relayuser:" + secret["relay password"] + "@" + r.peer.Addr() + "?tls=none&name=peer&streams=transactional" +
		" smtp://deniedusr:" + secret.new("second relay password") + "@" + denied.Addr() + "?tls=none&name=denied&streams=broadcast"
	r.deployment = newGround(t).deploy(t, relays, append(slices.Clone(local),
		"POSTRIDER_LOG_LEVEL=debug", "POSTRIDER_INBOUND_LISTEN="+r.inbound,
		"POSTRIDER_SECRET_KEY="+key("secret key"), "POSTRIDER_SECRET_KEY_OLD="+key("old secret key"), "POSTRIDER_PAYLOAD_KEYS=k1:"+key("payload key"),
		"POSTRIDER_METRICS_TOKEN="+secret.new("metrics token"), "POSTRIDER_CODEC_TOKEN="+secret.new("codec token"),
		"POSTRIDER_RECORDING_URL="+r.hooks.URL+"/recordings/{customer_id}/{id}", "POSTRIDER_RECORDING_TOKEN="+secret.new("recording token"))...)
	secret["access key"] = r.key
	customer := regexp.MustCompile(`(?m)^(\S+) +ACME `).FindStringSubmatch(r.run("", "customer", "list"))
	require.Len(t, customer, 2)
	r.env = append(r.env, "POSTRIDER_ATTACHMENT_CIDRS="+customer[1]+"=127.0.0.0/8")
	r.serving, r.working = r.serve(), r.worker()
	return r
}

// receive plays the receivers of webhooks, and hosts of attachments and recordings. It
// repeats what it was sent.
func (r *logRun) receive(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller has gone
	}
	if strings.HasPrefix(req.URL.Path, "/recordings/") {
		r.recordings.Add(1)
	}
	switch {
	case strings.HasPrefix(req.URL.Path, "/good"):
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(req.URL.Path, "/moved"):
		http.Redirect(w, req, req.URL.Path+"?"+req.URL.RawQuery, http.StatusFound)
	default:
		w.Header().Set("X-Echo", req.Header.Get("Authorization"))
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(w, "%s %s %v %s", req.Method, req.URL, req.Header, body) // a caller that has gone is no matter
	}
}

// command runs a command of the program; what it writes to standard error is log.
func (r *logRun) command(stdin string, extra []string, args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), r.bin, args...)
	cmd.Env, cmd.Stdin, cmd.Stderr = append(slices.Clone(r.env), extra...), strings.NewReader(stdin), &r.errors
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// logs ends the processes and returns all they wrote.
func (r *logRun) logs() string {
	r.serving.stop(r.t.(*testing.T))
	r.working.stop(r.t.(*testing.T))
	return r.serving.output() + r.working.output() + r.errors.String()
}

// request makes one that may fail, with a credential.
func (r *logRun) request(method, path, credential, body string, headers ...string) (int, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.api+path, strings.NewReader(body))
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+credential)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	data, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	require.NoError(r.t, res.Body.Close())
	return res.StatusCode, data
}

// accounts has customers, keys and users made, logins that are right and wrong, and
// passwords changed.
func (r *logRun) accounts() {
	t, secret := r.t, r.secret
	out, err := r.command("", nil, "customer", "create", "--name", "Other")
	require.NoError(t, err, r.errors.String())
	secret["webhook secret of a new customer"] = out[strings.Index(out, "whsec_"):]
	_, err = r.command(secret.new("password")+"\n", nil, "user", "create", "--customer", "ACME", "--username", "ann")
	require.NoError(t, err)
	_, err = r.command("short\n", nil, "user", "create", "--customer", "ACME", "--username", "bob")
	require.Error(t, err)
	_, err = r.command("", []string{"DATABASE_URL=postgres://someone:" + secret.new("database password") + "@127.0.0.1:1/none"}, "migrate", "status")
	require.Error(t, err)
	_, err = r.command("", []string{"POSTRIDER_SECRET_KEY=" + secret.new("unusable secret key")}, "key", "list", "--customer", "ACME")
	require.Error(t, err)
	_, err = r.command("", []string{"POSTRIDER_SMTP_URLS=smtp://u:" + secret.new("password of an unusable relay") + "@host:port?nonsense=1"}, "worker")
	require.Error(t, err)

	login := func(want int, username, password string) (token string) {
		status, data := r.request("POST", "/auth/login", "", `{"username":"`+username+`","password":"`+password+`"}`)
		require.Equal(t, want, status, string(data))
		var answer struct{ Token string }
		require.NoError(t, json.Unmarshal(data, &answer))
		return answer.Token
	}
	login(401, "ann", secret.new("wrong password"))
	login(401, secret.new("password typed as a name"), "some password")
	token := login(200, "ann", secret["password"])
	status, data := r.request("POST", "/v1.0/auth/password", token, `{"password":"`+secret.new("wrong present password")+`","new_password":"`+secret.new("new password")+`"}`)
	require.Equal(t, 403, status, string(data))
	status, data = r.request("POST", "/v1.0/auth/password", token, `{"password":"`+secret["password"]+`","new_password":"`+secret["new password"]+`"}`)
	require.Equal(t, 200, status, string(data))
	secret["token"], secret["second token"] = token, login(200, "ann", secret["new password"])
	status, _ = r.request("GET", "/v1.0/emails", token, "")
	require.Equal(t, 401, status, "the first token has ended")
	status, data = r.request("POST", "/v1.0/accesskeys", secret["second token"], `{"name":"`+secret.new("name of a key")+`"}`)
	require.Equal(t, 200, status, string(data))
	var made struct{ Token string }
	require.NoError(t, json.Unmarshal(data, &made))
	require.NotEmpty(t, made.Token)
	secret["second access key"] = made.Token
	status, _ = r.request("GET", "/metrics", secret["metrics token"], "")
	require.Equal(t, 200, status)
}

// badRequests are what is refused, with secrets in every place.
func (r *logRun) badRequests() {
	secret := r.secret
	for _, bad := range [][]string{
		{"GET", "/v1.0/emails?accesskey=" + secret.new("wrong access key"), "", ""},
		{"GET", "/v1.0/emails", secret.new("wrong bearer"), ""},
		{"GET", "/v1.0/emails", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0." + secret.new("forged signature"), ""},
		{"GET", "/v1.0/" + secret.new("path"), r.key, ""},
		{"GET", "/v1.0/emails/" + secret.new("id in a path"), r.key, ""},
		{"GET", "/v1.0/emails?recipient=" + secret.new("address in a query") + "@y.test&q=" + secret.new("words in a query"), r.key, ""},
		{"GET", "/codec/" + secret.new("wrong codec token"), "", ""},
		{"POST", "/codec/" + secret["codec token"] + "/decode", "", "{"},
		{"GET", "/metrics", secret.new("wrong metrics token"), ""},
		{"POST", "/v1.0/emails", r.key, `{"from":"` + secret.new("text of a wrong type") + `","` + secret.new("unknown member") + `":1}`},
		{"POST", "/v1.0/emails", r.key, `{"subject": ` + secret.new("text of no JSON")},
		{"POST", "/v1.0/emails", r.key, `{"from":{"email":"` + secret.new("sender of another domain") + `@other.test"},"to":[{"email":"` + secret.new("recipient of a refused mail") + `@y.test"}],"subject":"s","content":"x"}`},
		{"POST", "/v1.0/emails/batch", r.key, `{"message":{"from":{"email":"shop@acme.test"},"subject":"{{a}}","content":"x"},"recipients":[{"email":"` + secret.new("recipient of a refused batch") + `","variables":{"b":"` + secret.new("variable of a refused batch") + `"}}]}`},
		{"POST", "/v1.0/webhooks", r.key, `{"url":"ftp://x/` + secret.new("path of a refused webhook") + `"}`},
	} {
		status, data := r.request(bad[0], bad[1], bad[2], bad[3], "Idempotency-Key", secret.new("idempotency key"), "User-Agent", secret.new("user agent"), "Cookie", "s="+secret.new("cookie"))
		require.GreaterOrEqual(r.t, status, 400, "%v: %s", bad, data)
		require.Less(r.t, status, 500, "%v: %s", bad, data)
	}
}

// mail has e-mails of all kinds sent, held and canceled, and webhooks called.
func (r *logRun) mail() {
	t, secret := r.t, r.secret
	_, hook := r.endpoint(r.hooks.URL+"/good/"+secret.new("path of a webhook"), "")
	secret["webhook secret"] = hook
	bad, _ := r.endpoint(r.hooks.URL+"/bad/"+secret.new("path of a failing webhook")+"?key="+secret.new("query of a failing webhook"), "")
	moved, _ := r.endpoint(r.hooks.URL+"/moved/"+secret.new("path of a moved webhook"), "")
	gone, _ := r.endpoint("http://"+freeAddress(t)+"/"+secret.new("path of an unreachable webhook"), "")

	send := func(what, more string) string {
		m := fmt.Sprintf(`{"from":{"email":"shop@acme.test","name":%q},"to":[{"email":"%s@y.test","name":%q}],"subject":%q,"content":{"text":%q,"html":%q},"headers":{"X-Own":%q},"metadata":{"order":%q}%s}`,
			secret.new("name of a sender"), secret.new(what+" recipient"), secret.new("name of a recipient"), secret["subject"], secret["text body"], secret.new("html body"), secret["header value"], secret.new("metadata"), more)
		return text(t, r.rest(202, "POST", "/v1.0/emails", m), "id")
	}
	status := func(id string, want email.Status) {
		t.Helper()
		r.eventually(string(want), func() bool { return r.rest(200, "GET", "/v1.0/emails/"+id, "")["status"] == string(want) })
	}
	secret["content of an attachment"] = "zqcontent-of-an-attachment-7c1f"
	file := r.upload(secret.new("name of a file")+".txt", secret["content of an attachment"])
	sent := send("sent", `,"attachments":[{"reference_type":"file","reference_id":"`+file+`"},{"filename":"`+secret.new("name of an attachment")+`.txt","content":"`+base64.StdEncoding.EncodeToString([]byte(secret["content of an attachment"]))+`"}]`)
	status(sent, email.StatusDelivered)
	r.rest(202, "POST", "/v1.0/emails/"+sent+"/resend", "")
	status(send("bounced", ""), email.StatusBounced)
	status(send("content", ""), email.StatusBounced)
	deferred := send("deferred", "")
	r.eventually("it is deferred", func() bool {
		return r.rest(200, "GET", "/v1.0/emails/"+deferred, "")["status_detail"] == string(email.DetailDeferred)
	})
	r.rest(200, "POST", "/v1.0/emails/"+deferred+"/hold", "")
	r.rest(200, "POST", "/v1.0/emails/"+deferred+"/resume", "")
	r.signal(deferred, secret.new("argument of a signal"))
	r.rest(200, "POST", "/v1.0/emails/"+deferred+"/cancel", "")
	send("relay down", `,"stream":"broadcast"`)
	r.eventually("the second relay is down", func() bool { return strings.Contains(r.working.output(), `"relay.down"`) })
	status(send("fetched", `,"attachments":[{"url":"`+r.hooks.URL+"/missing/"+secret.new("path of an attachment")+"?sig="+secret.new("query of an attachment")+`"}],"expires_at":"`+time.Now().Add(3*time.Second).UTC().Format(time.RFC3339)+`"`), email.StatusFailed)
	send("recorded", `,"attachments":[{"reference_type":"recording","reference_id":"`+aRecording+`"}]`)
	r.eventually("a recording is asked for", func() bool { return r.recordings.Load() > 0 })

	batch := r.rest(202, "POST", "/v1.0/emails/batch", fmt.Sprintf(`{"message":{"from":{"email":"shop@acme.test"},"subject":"{{a}}","content":"{{a}} %s"},"recipients":[{"email":"%s@y.test","variables":{"a":%q}},{"email":"bounced-%s@y.test","variables":{"a":"x"}}]}`,
		secret.new("body of a batch"), secret.new("recipient of a batch"), secret.new("variable"), secret.new("bounced recipient of a batch")))
	id := text(t, batch, "id")
	r.rest(200, "POST", "/v1.0/batches/"+id+"/hold", "")
	r.rest(200, "POST", "/v1.0/batches/"+id+"/resume", "")
	r.eventually("the batch is sent", func() bool { return strings.Contains(r.working.output(), `"msg":"batch.chunk"`) })
	for _, endpoint := range []string{bad, moved, gone} {
		r.eventually("the webhook fails", func() bool {
			return r.rest(200, "GET", "/v1.0/webhooks/"+endpoint, "")["last_error"] != ""
		})
	}
}

// upload stores a file.
func (r *logRun) upload(name, content string) (id string) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	require.NoError(r.t, err)
	_, err = io.WriteString(part, content)
	require.NoError(r.t, err)
	require.NoError(r.t, form.Close())
	status, data := r.request("POST", "/v1.0/files", r.key, body.String(), "Content-Type", form.FormDataContentType())
	require.Equal(r.t, 201, status, string(data))
	var file struct{ ID string }
	require.NoError(r.t, json.Unmarshal(data, &file))
	return file.ID
}

// signal sends a run what it cannot read.
func (r *logRun) signal(id, argument string) {
	c, err := temporal.Dial(temporal.Options{HostPort: r.temporalAddress(), Namespace: r.namespace, Logger: quiet{}})
	require.NoError(r.t, err)
	defer c.Close()
	for _, name := range []string{string(email.ActionReschedule), "no-such-signal"} {
		require.NoError(r.t, c.SignalWorkflow(r.t.Context(), "email-"+id, "", name, argument))
	}
	r.eventually("the signal is refused", func() bool { return strings.Contains(r.working.output(), "signal without a readable time") })
}

func (r *logRun) temporalAddress() string {
	for _, setting := range r.env {
		if address, ok := strings.CutPrefix(setting, "TEMPORAL_ADDRESS="); ok {
			return address
		}
	}
	require.FailNow(r.t, "no TEMPORAL_ADDRESS")
	return ""
}

// received talks to the SMTP port as senders and as strangers do.
func (r *logRun) received() {
	t, secret := r.t, r.secret
	box := "box-" + secret.new("mailbox")
	_, err := r.sql().ExecContext(t.Context(), `INSERT INTO mailboxes (id, customer_id, address) SELECT gen_random_uuid(), id, $1 FROM customers WHERE name = 'ACME'`, box+"@in.test")
	require.NoError(t, err)
	conn, err := net.Dial("tcp", r.inbound)
	require.NoError(t, err)
	defer conn.Close()
	smtp := textproto.NewConn(conn)
	_, _, err = smtp.ReadResponse(220)
	require.NoError(t, err)
	for _, line := range []string{
		"EHLO client.test", "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00ann\x00"+secret["new password"])), secret.new("unknown SMTP command"),
		"MAIL FROM:<" + secret.new("sender of received mail") + "@x.test>", "RCPT TO:<" + secret.new("unknown mailbox") + "@in.test>", "RCPT TO:<" + box + "@in.test>", "DATA",
		"Subject: " + secret.new("subject of received mail") + "\r\n\r\n" + secret.new("body of received mail") + "\r\n.", "QUIT",
	} {
		require.NoError(t, smtp.PrintfLine("%s", line))
		_, _, err = smtp.ReadResponse(0)
		require.NoError(t, err, line)
	}
	r.eventually("it is stored", func() bool { return strings.Contains(r.serving.output(), `"msg":"inbound.stored"`) })
}

// faults makes the database refuse a row, which Postgres describes with all that is in it.
func (r *logRun) faults() {
	_, err := r.sql().ExecContext(r.t.Context(), `ALTER TABLE emails ADD CONSTRAINT a_fault CHECK (subject NOT LIKE '%fault%') NOT VALID`)
	require.NoError(r.t, err)
	status, data := r.request("POST", "/v1.0/emails", r.key, `{"from":{"email":"shop@acme.test"},"to":[{"email":"`+r.secret.new("recipient at a fault")+`@y.test"}],"subject":"`+r.secret.new("subject at a fault")+`","content":"x"}`)
	require.Equal(r.t, http.StatusInternalServerError, status, string(data))
}
