package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-milter"
	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-msgauth/dmarc"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/publicsuffix"

	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/dnstest"
)

// postfix is a real Postfix that takes mail for everybody into mailboxes, after a milter has judged it.
type postfix struct {
	Addr string
	t    *testing.T
	mail string
}

// startPostfix starts one that the test ends. It takes root. The test is skipped where that or Debian's package
// postfix is missing, unless POSTRIDER_TEST_POSTFIX is "required".
func startPostfix(t *testing.T, milterAddr string) *postfix {
	t.Helper()
	const program = "/usr/sbin/postfix"
	if _, err := os.Stat(program); err != nil || os.Geteuid() != 0 {
		if os.Getenv("POSTRIDER_TEST_POSTFIX") == "required" {
			t.Fatal("Debian's package postfix, and root, are required")
		}
		t.Skip("Debian's package postfix is not installed, or the test is not root's")
	}
	// Postfix's own users have to reach it; the directory of t.TempDir is closed to them.
	dir, err := os.MkdirTemp("/var/tmp", "postrider-postfix-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // Postfix's users read it
	owner, err := user.Lookup("postfix")
	require.NoError(t, err)
	uid, err := strconv.Atoi(owner.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(owner.Gid)
	require.NoError(t, err)
	p := &postfix{t: t, mail: filepath.Join(dir, "mail")}
	for _, sub := range []string{"etc", "queue", "data", "mail"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755)) //nolint:gosec // the same
	}
	for _, sub := range []string{"data", "mail"} {
		require.NoError(t, os.Chown(filepath.Join(dir, sub), uid, gid))
	}
	port, err := devstack.FreePort()
	require.NoError(t, err)
	p.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	etc := filepath.Join(dir, "etc")
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644)) //nolint:gosec // the same
	}
	write("main.cf", strings.Join([]string{
		"compatibility_level = 3.6", "queue_directory = " + dir + "/queue", "data_directory = " + dir + "/data", "command_directory = /usr/sbin",
		"daemon_directory = /usr/lib/postfix/sbin", "mail_owner = postfix", "setgid_group = postdrop", "myhostname = mx.receiver.test", "mydestination =",
		"inet_interfaces = 127.0.0.1", "inet_protocols = ipv4", "maillog_file = " + dir + "/log", "maillog_file_prefixes = /var/tmp",
		"virtual_mailbox_domains = static:all", "virtual_mailbox_maps = static:all/", "virtual_mailbox_base = " + p.mail,
		"virtual_uid_maps = static:" + owner.Uid, "virtual_gid_maps = static:" + owner.Gid, "virtual_minimum_uid = 100", "virtual_mailbox_limit = 0",
		"smtpd_peername_lookup = no", "disable_dns_lookups = yes", "alias_maps =", "notify_classes =", "append_dot_mydomain = no",
		"smtpd_milters = inet:" + milterAddr, "milter_default_action = tempfail", "",
	}, "\n"))
	write("master.cf", fmt.Sprintf(`%s inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - 10 virtual
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
`, p.Addr))
	run := func(command string) error {
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-c", etc, command).CombinedOutput()
		if err != nil {
			return fmt.Errorf("postfix %s: %w: %s", command, err, out)
		}
		return nil
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("postfix: %s", log)
		}
	})
	require.NoError(t, run("start"))
	t.Cleanup(func() { require.NoError(t, run("stop")) })
	return p
}

// messages are those in the mailbox, without the lines that the delivery has put before them.
func (p *postfix) messages() (out []string) {
	p.t.Helper()
	box := filepath.Join(p.mail, "all", "new")
	files, err := os.ReadDir(box)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(p.t, err)
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(box, f.Name()))
		require.NoError(p.t, err)
		out = append(out, strings.ReplaceAll(string(text), "\n", "\r\n"))
	}
	return out
}

// dmarcPolicy is a milter that refuses mail which is not authenticated and aligned with its From
// address (RFC 7489). It is stricter than the sender's policy: it takes p=none for reject, and refuses
// mail of domains without a record. It puts Authentication-Results before the other fields.
type dmarcPolicy struct {
	milter.NoOpMilter
	resolver *net.Resolver
	ip       net.IP
	helo     string
	from     string
	message  bytes.Buffer
}

// startDMARCPolicy starts the milter, which asks a DNS.
func startDMARCPolicy(t *testing.T, dns *dnstest.Net) (addr string) {
	t.Helper()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, dns.Recursive)
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &milter.Server{NewMilter: func() milter.Milter { return &dmarcPolicy{resolver: resolver} }, Actions: milter.OptAddHeader | milter.OptChangeHeader}
	go func() { _ = s.Serve(l) }() // ends at Close
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return l.Addr().String()
}

func (p *dmarcPolicy) Connect(_, _ string, _ uint16, addr net.IP, _ *milter.Modifier) (milter.Response, error) {
	p.ip = addr
	return milter.RespContinue, nil
}

func (p *dmarcPolicy) Helo(name string, _ *milter.Modifier) (milter.Response, error) {
	p.helo = name
	return milter.RespContinue, nil
}

func (p *dmarcPolicy) MailFrom(from string, _ *milter.Modifier) (milter.Response, error) {
	p.from = strings.Trim(from, "<>")
	p.message.Reset()
	return milter.RespContinue, nil
}

func (p *dmarcPolicy) Header(name, value string, _ *milter.Modifier) (milter.Response, error) {
	fmt.Fprintf(&p.message, "%s: %s\r\n", name, strings.ReplaceAll(strings.ReplaceAll(value, "\r", ""), "\n", "\r\n"))
	return milter.RespContinue, nil
}

func (p *dmarcPolicy) Headers(textproto.MIMEHeader, *milter.Modifier) (milter.Response, error) {
	p.message.WriteString("\r\n")
	return milter.RespContinue, nil
}

func (p *dmarcPolicy) BodyChunk(chunk []byte, _ *milter.Modifier) (milter.Response, error) {
	p.message.Write(chunk)
	return milter.RespContinue, nil
}

func (p *dmarcPolicy) Body(m *milter.Modifier) (milter.Response, error) {
	ctx := context.Background()
	lookup := func(name string) ([]string, error) { return p.resolver.LookupTXT(ctx, name) }
	author := authorDomain(p.message.String())
	bySPF, _ := spf.CheckHostWithSender(p.ip, p.helo, p.from, spf.WithContext(ctx), spf.WithResolver(p.resolver))
	_, returnDomain, _ := strings.Cut(p.from, "@")
	spfAligned := bySPF == spf.Pass && sameOrganisation(returnDomain, author)
	verified, err := msgauth.VerifyWithOptions(bytes.NewReader(p.message.Bytes()), &msgauth.VerifyOptions{LookupTXT: lookup})
	if err != nil {
		return milter.NewResponseStr('y', "550 5.6.0 the message cannot be read: "+err.Error()), nil
	}
	signatures := 0
	for _, v := range verified {
		if v.Err == nil && sameOrganisation(v.Domain, author) {
			signatures++
		}
	}
	result := "pass"
	if _, err := dmarc.LookupWithOptions(author, &dmarc.LookupOptions{LookupTXT: lookup}); err != nil || !spfAligned && signatures == 0 {
		result = "fail"
	}
	results := fmt.Sprintf("mx.receiver.test; spf=%s aligned=%t; dkim-signatures=%d/%d; dmarc=%s", bySPF, spfAligned, signatures, len(verified), result)
	if result == "fail" {
		return milter.NewResponseStr('y', "550 5.7.26 Unauthenticated email is not accepted: "+results), nil
	}
	if err := m.InsertHeader(0, "Authentication-Results", results); err != nil {
		return nil, err
	}
	return milter.RespAccept, nil
}

// authorDomain is that of the From field.
func authorDomain(message string) string {
	for line := range strings.SplitSeq(message, "\r\n") {
		if value, ok := strings.CutPrefix(line, "From: "); ok {
			_, domain, _ := strings.Cut(value, "@")
			return strings.Trim(domain, "> ")
		}
	}
	return ""
}

func sameOrganisation(one, other string) bool {
	a, errA := publicsuffix.EffectiveTLDPlusOne(one)
	b, errB := publicsuffix.EffectiveTLDPlusOne(other)
	return errA == nil && errB == nil && a == b
}
