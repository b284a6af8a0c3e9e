package smtp

import (
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Waits of mail whose sender's domain does not authenticate it. Both are floors of the schedule: the owner of the
// domain has to change the DNS first.
const (
	// unauthenticatedWait is the least wait after a permanent refusal (5xx).
	unauthenticatedWait = 48 * time.Hour
	// unauthenticatedRetry is the least wait after a temporary one (4xx).
	unauthenticatedRetry = time.Hour
)

// Topics about reputation, besides those in phrases.go.
var (
	// saysReputation: a list on the net or a reputation, with words that no server uses for a message or a mailbox.
	saysReputation = phrases(
		`\bspam(haus|cop|rats)\b`, `\b(sorbs|uceprotect|abuseat|barracudacentral|senderscore|mailspike|invaluement|hostkarma|abusix|senderbase|talosintelligence)\b`, `\bip[=:] ?[0-9a-f.:]+ - a problem occurred`, `\bcm-csi\b|\bcsi\.`,
		`\b(an?|the|more|by|in|using|realtime|dns) (rbls?|dns-?bls?|dns (black|block) ?lists?)\b`, `\bdns-?bls?\b`, `\breal-?time (black|block) ?list`, `\brbl\+`,
		`\b(poor|bad|low)( ip| sender| mta| domain)? reputation\b`, `\breputation (of|for) (the|your) (sending |sender )?(ip|server|host|mta|domain)`, `\b(ip|mta's poor) reputation\b`,
		`\b(mail|e-?mail|messages) originating from your ip`, `\bfrom your ip( address)? (has|have) been (temporarily )?(rate limited|blocked)`, `\bip( address)?( you're| you are)? using to send( \S+){1,3} not authori[sz]ed`,
		`\bbanned sender ?\[`, `\btemporarily deferred due to( \S+){0,4} (user complaints|unexpected volume)`, `\byour mail from \[?[0-9a-f.:]+\]? was rejected`,
		`\b(client (host|address)|your|sending|connecting|sender|mail from)( \S+){0,4} (ip|ips|host|\[?[0-9]+(\.[0-9]+){3}\]?)( address)?( \S+){0,4} (black-?list\S*|block-?list\S*|black list|block list|banned|spammer)`,
	)
	// saysReputationCode is asked of a whole reply: the names that Yahoo, Microsoft, Apple and Comcast give to such refusals. They
	// may stand behind what is read as advice.
	saysReputationCode = phrases(`\[(bl2\d|(ip)?tss0[4-9]|hcm[12]|cs01|bs02)\]`, `#bl00\d{4}`, `\((s3140|s3150|s3114|s775)\)`, `\brp-00[1-3]\b`)
	// saysListedContent: what is listed is something in the message, as a page that it links to.
	saysListedContent = phrases(
		`\b(urls?|uris?|links?|web ?sites?|contents?|body|attachments?|subject|phrases?|words?|keywords?|attached files?)( \S+){0,8} (listed|black-?listed|black ?list|block ?list|block-?listed)\b`, `\b(black|block)-?(listed )?(urls?|uris?|links?|content|domain in|words?|phrases?|attachments?|subject)\b`,
		`\b(black|block|deny)-?listed (url|uri|link|content|domain in|word|phrase|attachment|subject)s?\b`, `\b(listed|spamvertised) (urls?|uris?|links?|domains? in)\b`,
	)
	// saysClientListed: the client is on a list that has another name, as "sender blocklist".
	saysClientListed = phrases(`\brbl restriction: client\b`, `\bclient is on( \S+){0,3} (black|block)-?list`)
	// saysOtherList: what is listed is the recipient's own choice, or the sender's address on a list of the server.
	saysOtherList = phrases(
		`\b(recipient|user|addressee|customer)('s|s')?( own| personal)? (black|block|deny) ?-?list`, `\b(recipient|user|addressee)( \S+){0,2} (blocked|black-?listed|denied) (you|this sender|the sender|your address|mail from)\b`,
		`\b(sender|from|sender's|e-?mail|mail)( e-?mail)?( address)?( is| was| has been)?( on)?( our| the| my| a)? ?(black|block|deny)-? ?list(ed)?\b`,
	)
	// saysSpamVerdict: a filter has judged the message.
	saysSpamVerdict = phrases(
		`\b(is|as|looks? like|considered|detected|suspicion of|spam) (spam|junk|unsolicited|bulk)\b`, `\bspam( \S+){0,2} (score|detected|content|message|filter\S*|points)\b`, `\b(score|scored)\b`,
		`\b(virus|malware|phish\S*|trojan)\b( \S+){0,2} (found|detected|in|attachment)`, `\b(contains|infected)( \S+){0,3} (virus|malware|phish\S*)`, `\bspam content\b`, `\bhigh spam\b`,
	)
	// saysTooManyConnections: a limit of connections, which says nothing of a reputation.
	saysTooManyConnections = phrases(`too many( \S+){0,2} (connections|sessions)`)
	// saysNotAuthMethod: codes of saysAuth with another meaning (RFC 7505 section 4.2, RFC 8689 section 7).
	saysNotAuthMethod = phrases(`\bnull ?mx\b`, `\brequiretls\b`)

	saysSPF       = phrases(`\bspf\b`, `sender policy framework`)
	saysDKIM      = phrases(`\bdkim\b`)
	saysDMARC     = phrases(`\bdmarc\b`)
	saysAlignment = phrases(`\balign(ed|ment|s)?\b`)
	// saysUnauthenticated: the sender's domain does not authenticate the mail, and no mechanism is named.
	saysUnauthenticated = phrases(`\bunauthenticated (e-?mail|mail|message)`, `\b(mail|message|sender) is (unauthenticated|not authenticated)`, `authentication (checks|level|requirements|information)`)
)

// authCodes are the details of x.7 codes that say what of a message's authentication failed: RFC 7372 section 3, and
// those of Google and Microsoft.
var authCodes = map[string]delivery.AuthFault{
	"20": delivery.AuthDKIM, "21": delivery.AuthDKIM, "22": delivery.AuthAlignment, "23": delivery.AuthSPF, "26": delivery.AuthAny,
	"27": delivery.AuthSPF, "30": delivery.AuthDKIM, "31": delivery.AuthDMARC, "32": delivery.AuthAlignment, "40": delivery.AuthDMARC,
	"509": delivery.AuthDMARC, "515": delivery.AuthAny,
}

// authFaultOf says what a reply finds wrong with the authentication of the sender's domain, or nothing. A reply about a
// mailbox, a recipient's own rule or the content is about that.
func authFaultOf(at Stage, r email.Reply, words string) delivery.AuthFault {
	named := authNamed(words)
	detail, isPolicy := strings.CutPrefix(strings.TrimLeft(r.Enhanced, "45"), ".7.")
	byCode := authCodes[detail]
	switch {
	case r.Enhanced == "5.7.24": // a broken record; 4.7.24 is a DNS that does not answer
		byCode = delivery.AuthSPF
	case r.Enhanced == "4.7.24":
		return ""
	case r.Enhanced == "5.7.9" && at == StageFinal && strings.Contains(words, "policy reasons") && !saysSpamVerdict.in(strings.ToLower(r.Text)):
		return delivery.AuthDMARC // Yahoo; elsewhere it is a login's (RFC 4954 section 6)
	}
	switch {
	case saysByRecipient.in(words), saysNotAuthMethod.in(words):
		return ""
	case isPolicy && byCode != "":
		if byCode == delivery.AuthAny && named != "" {
			return named
		}
		return byCode
	case named == "", saysSpamVerdict.in(words), saysOtherList.in(words), saysListedContent.in(words), saysUnknownMailbox(r, words), saysFullMailbox(r, words):
		return ""
	case saysCredentials.in(words) && !saysMessageAuth.in(words):
		return ""
	}
	return named
}

// authNamed is the mechanism that the words name.
func authNamed(words string) delivery.AuthFault {
	spf, dkim, dmarc := saysSPF.in(words), saysDKIM.in(words), saysDMARC.in(words)
	switch {
	case saysAlignment.in(words) && (spf || dkim || dmarc):
		return delivery.AuthAlignment
	case dmarc:
		return delivery.AuthDMARC
	case spf && dkim, saysUnauthenticated.in(words):
		return delivery.AuthAny
	case spf:
		return delivery.AuthSPF
	case dkim:
		return delivery.AuthDKIM
	}
	return ""
}

// unauthenticated is the outcome of a reply that authFaultOf knows.
func unauthenticated(o delivery.Outcome, fault delivery.AuthFault) delivery.Outcome {
	wait := unauthenticatedWait
	if o.Status == email.RecipientDeferred {
		wait = max(unauthenticatedRetry, retryHint(o.Reply))
	}
	o.Status, o.Reason, o.Auth, o.RetryAfter, o.AtLeast = email.RecipientDeferred, email.DetailUnauthenticated, fault, wait, true
	return o
}

// namesList: a reply refuses our address or the sender's domain by name of a list on the net, or for a bad reputation.
func namesList(r email.Reply, words string) bool {
	switch onList(words) {
	case "client host", "helo command", "sender address":
		return true
	case "recipient address":
		return false
	}
	switch {
	case saysClientListed.in(words):
		return true
	case saysByRecipient.in(words), saysOtherList.in(words), saysListedContent.in(words), saysGreylisting.in(words), saysUnknownByCode(r, words):
		return false
	case saysReputation.in(words), in(r.Enhanced, "4.7.650", "4.7.651"), saysReputationCode.in(strings.ToLower(saidByServer(r))):
		return true
	}
	return saysClientURL.in(urlsOf(r)) && reasonOf(r).refused != "recipient address"
}

// isIPBlocked: the server refuses our address, its names or its reputation, or that of the sender's domain. Of a message,
// only a named list or reputation counts: filters say "blocked" of what they found in it.
func isIPBlocked(at Stage, r email.Reply, words string) bool {
	if namesList(r, words) {
		return true
	}
	switch {
	case saysByRecipient.in(words), saysOtherList.in(words), saysListedContent.in(words), saysGreylisting.in(words), saysTooManyConnections.in(words), saysRelaying.in(words), saysSender.in(words),
		saysUnknownMailbox(r, words) && in(r.Enhanced, "5.1.1", "5.1.10"), onList(words) == "recipient address":
		return false
	case at > StageRcpt && saysContent.in(words):
		return false
	}
	return blamesClient(r, words)
}

// NamesList reports whether a reply refuses our address or the sender's domain by name of a list on the net, or for a bad
// reputation. A relay may say so, and a recipient's own server.
func NamesList(r email.Reply) bool { return r.Code/100 > 3 && namesList(r, lowerWords(r)) }

// blockedReplies counts the different replies among outcomes that are about a list or a reputation, and gives one.
func blockedReplies(outcomes []delivery.Outcome) (n int, example email.Reply) {
	seen := map[email.Reply]bool{}
	for _, o := range outcomes {
		if seen[o.Reply] || o.Reason != email.DetailIPBlocked && !(o.RelayFault && NamesList(o.Reply)) {
			continue
		}
		seen[o.Reply] = true
		n, example = n+1, o.Reply
	}
	return n, example
}
