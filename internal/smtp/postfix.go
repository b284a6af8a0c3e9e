package smtp

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/email"
)

// refusedParts is what the form "PART rejected: REASON" of Postfix can refuse.
const refusedParts = `(?:unverified )?(client host|client certificate|sasl login name|helo command|sender address|recipient address|data command|end-of-data|etrn command)`

// postfixReasons are the reasons that Postfix itself writes behind "PART rejected: ", with any code.
// %s is one word. A tail with words of others is left out: the user behind "not owned by user", the
// address behind "cannot find your hostname,", a list's name and words behind "blocked using".
var postfixReasons = []string{
	"Access denied", "Relay access denied",
	"User unknown", "User unknown in local recipient table", "User unknown in virtual alias table",
	"User unknown in virtual mailbox table", "User unknown in relay recipient table",
	"Domain not found", "Host not found", "Domain %s does not accept mail (nullMX)",
	"need fully-qualified address", "need fully-qualified hostname", "Invalid name", "invalid ip address",
	"cannot find your hostname", "cannot find your reverse hostname",
	"not logged in", "not owned by user",
	"Improper use of SMTP command pipelining", "Multi-recipient bounce",
	"Unable to look up host %s as mail exchanger", "Unable to look up mail exchanger host",
	"Unable to look up mail exchanger information", "Unable to verify host %s as mail exchanger",
	"unverified address", "address verification problem",
	`undeliverable address: unknown user: "%s"`, "undeliverable address: mail for %s loops back to myself",
	"undeliverable address: Domain %s does not accept mail (nullMX)",
	"Try again later", "defer_if_permit requested", "defer_if_reject requested",
	"Service unavailable", "Service unavailable; blocked using", // of policy services
	"Service unavailable; Client host [%s] blocked using", "Service unavailable; client [%s] blocked using", // of access tables and policy services
	"Service unavailable; Sender address [%s] blocked using", "Service unavailable; Recipient address [%s] blocked using",
	"Server configuration problem", "Server configuration error",
	"Temporary lookup error", "Temporary lookup failure",
}

// postfixProbe is the reason of another server that Postfix passes on. It ends with the command.
var postfixProbe = regexp.MustCompile(`^undeliverable address: host .*?\(in reply to [A-Za-z -]+ command\)`)

// postfixReplies are whole replies of Postfix, postscreen and Postfix's milter client, with
// their codes. Without a code they have any. A 5 is also a 4, by soft_bounce. %s is one word.
var postfixReplies = []string{
	"Relay access denied", "Temporary lookup failure",
	"Service unavailable; Client host [%s] blocked using", "Service unavailable; Unverified Client host [%s] blocked using",
	"Service unavailable; Helo command [%s] blocked using",
	"Service unavailable; Sender address [%s] blocked using", "Service unavailable; Recipient address [%s] blocked using",
	"Service unavailable; client [%s] blocked using",
	"451 4.7.1 Service unavailable - try again later", "450 4.7.1 Service unavailable", "550 5.5.0 Service unavailable", "550 5.7.1 Command rejected",
	"Server configuration problem - try again later", "451 4.3.5 Server configuration problem", "451 4.3.5 Server configuration error",
	"451 4.3.0 Temporary lookup error", "451 4.3.0 Queue file write error", "450 4.3.0 Queue file write error", "454 4.3.0 Try again later",
	"452 4.3.1 Insufficient system storage", "421 4.3.0 Mail system error", "421 4.3.0 Server local error",
	"552 5.3.4 Message size exceeds fixed limit", "552 5.3.4 Message size exceeds file system imposed limit",
	"552 5.3.4 Message file too big", "552 5.3.4 Chunk exceeds message size limit",
	"Error: too many recipients from", "452 4.5.3 Error: too many recipients", "Error: too much mail from",
	"Error: too many AUTH commands from", "Error: too many connections from", "Error: too many new TLS sessions from",
	"421 4.7.0 Error: too many connections", "421 4.7.0 Error: too many errors", "421 4.4.2 Error: timeout exceeded",
	"421 4.7.0 Server closing connection",
	"Error: queue file write error", "Error: internal protocol error", "Error: message file too big", "Error: message content rejected",
	"Error: too many hops", "554 5.4.6 Too many hops", "Error: no recipients specified", "Error: service denied", "Error: service unavailable", "Error: internal error",
	"550 5.7.1 message content rejected", "554 5.5.1 Error: no valid recipients",
	"503 5.5.1 Error: need MAIL command", "503 5.5.1 Error: need RCPT command", "503 5.5.1 Error: nested MAIL command",
	"503 5.5.1 Error: send HELO/EHLO first", "Error: command not implemented", "Error: command not recognized", "Error: bad syntax",
	"501 5.1.3 Bad recipient address syntax", "501 5.1.7 Bad sender address syntax", "501 5.5.4 Bad message size syntax",
	"553 5.6.7 Must declare SMTPUTF8 to send unicode address", "Unsupported option",
	"530 5.7.0 Must issue a STARTTLS command first", "550 5.7.0 Error: insufficient authorization", "454 4.7.0 TLS not available due to local problem",
	"421 4.3.2 Service currently unavailable", "450 4.3.2 Service currently unavailable", "521 5.3.2 Service currently unavailable",
	"550 5.3.2 Service currently unavailable", "421 4.3.2 All server ports are busy", "421 4.3.2 All screening ports are busy",
	"421 4.3.2 No system resources", "550 5.5.1 Protocol error", "521 5.5.1 Protocol error",
}

// Beginnings of replies. postfixForm names the refused part. postfixAbout is an address, or Postfix's
// own name. postfixCodes are the codes in postfixReplies.
var (
	postfixForm  = regexp.MustCompile(`^(?:<(?:"[^"]*"@)?[^<>]*>: |[^\s:;,]+ )?(?i:` + refusedParts + `) rejected: `)
	postfixAbout = regexp.MustCompile(`^(?:<(?:"[^"]*"@)?[^<>]*>: |[a-z0-9-]+(?:\.[a-z0-9-]+)+ )`)
	postfixCodes = regexp.MustCompile(`^(\d{3}) (\d\.\d\.\d) `)
)

// ownReason is a reason or reply that Postfix itself writes: its codes, empty for any, and its text
// around the words that differ.
type ownReason struct {
	code, enhanced string
	parts          []string
}

var ownReasons, ownReplies = ownReasonsOf(postfixReasons), ownReasonsOf(postfixReplies)

func ownReasonsOf(texts []string) []ownReason {
	out := make([]ownReason, len(texts))
	for i, text := range texts {
		if codes := postfixCodes.FindStringSubmatch(text); codes != nil {
			out[i].code, out[i].enhanced, text = codes[1], codes[2], text[len(codes[0]):]
		}
		out[i].parts = strings.Split(text, "%s")
	}
	return out
}

// ownReasonEnd is where a reason that Postfix itself writes ends in a reply's text, or -1.
func ownReasonEnd(r email.Reply) int {
	before, all, end := len(postfixForm.FindString(r.Text)), ownReasons, 0
	if before > 0 {
		end = len(postfixProbe.FindString(r.Text[before:]))
	} else {
		before, all = len(postfixAbout.FindString(r.Text)), ownReplies
	}
	for _, own := range all {
		if own.code == "" || isCode(strconv.Itoa(r.Code), own.code) && isCode(r.Enhanced, own.enhanced) {
			end = max(end, endOf(own.parts, r.Text[before:]))
		}
	}
	if end == 0 {
		return -1
	}
	return before + end
}

// isCode reports whether a code is the one that Postfix gives, or the temporary one by soft_bounce.
func isCode(code, own string) bool {
	return code == own || strings.HasPrefix(own, "5") && code == "4"+own[1:]
}

// endOf is the length of one of Postfix's reasons at the beginning of a text. It is 0 for another
// reason, also if only the last word is longer.
func endOf(parts []string, text string) int {
	rest := text
	for i, part := range parts {
		at := strings.Index(rest, part)
		if at < 0 || i == 0 && at > 0 || strings.ContainsRune(rest[:at], ' ') {
			return 0
		}
		rest = rest[at+len(part):]
	}
	if next, _ := utf8.DecodeRuneInString(rest); unicode.IsLower(next) || unicode.IsDigit(next) {
		return 0
	}
	return len(text) - len(rest)
}

// saidByServer is a reply's text up to the end of a reason that Postfix itself writes. Behind it an
// operator's own text may follow (Postfix's smtpd_reject_footer). Any other text is returned as it is.
func saidByServer(r email.Reply) string {
	if end := ownReasonEnd(r); end >= 0 {
		return r.Text[:end]
	}
	return r.Text
}
