package smtp

import (
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/email"
)

// topic is a kind of phrase that servers use in replies.
type topic struct{ re *regexp.Regexp }

// in reports whether a text from plain speaks of the topic.
func (t topic) in(text string) bool { return t.re.MatchString(text) }

// phrases makes a topic of regular expressions for lower-case text.
func phrases(list ...string) topic { return topic{regexp.MustCompile(strings.Join(list, "|"))} }

// Topics of replies, by the phrases that servers write, collected from the sources that
// testdata/replies.tsv names. Phrases have two words or more where one word may be
// part of a name. The order in which classify asks for them matters.
var (
	// saysRelaying: the server does not pass mail on for us.
	saysRelaying = phrases(
		`\brelay(ing|s)?( access)?( mail)?( from| for| to)?( \S+){0,2}? (is |are )?(denied|prohibited|disabled|refused|rejected|not (permitted|allowed|authori[sz]ed|supported|possible)|isn't (permitted|allowed))`,
		`(not permitted|unable|not allowed|not authori[sz]ed|cannot|can't|won't|will not|refus(e|es|ed|ing)|not configured|not going) to relay`,
		`\b(cannot|can't|won't|will not|do not|does not|don't|doesn't) relay\b`, `\bnot an? (open )?(mail )?relay\b`, `\bno relaying\b`,
		`\brcpthosts\b`, `not in my list of allowed`, `invalid credentials for relay`, `relay(ing)? recipient in non-accepted domain`,
		`i cannot deliver mail for`, `delivery is not allowed to this address`,
	)
	// saysCredentials: the server wants to know who we are, or TLS, first.
	saysCredentials = phrases(
		`\b(authentication|authori[sz]ation|auth|login|log ?in) (is )?(required|needed|necessary|mandatory)`, `requires? (smtp )?(authentication|auth|login)\b`,
		`\bmust (first )?(authenticate|log ?in|be authenticated|be logged in|issue a starttls|use (tls|ssl|starttls|auth))`,
		`\bplease (authenticate|log ?in)\b`, `\bauthenticate (yourself )?first`, `\bnot (been )?authenticated\b`, `\bnot logged in\b`, `\bauthentication (failed|failure|unsuccessful)`, `unauthenticated (senders?|clients?|users?|connections?)\b`,
		`pop[- ]before[- ]smtp|check for (new )?mail first`, `(proper|valid) authentication`, `\b(starttls|tls|ssl|encryption|encrypted connection) (is )?(required|needed|mandatory)`, `session must be encrypted`,
	)
	// saysAccount: our account with the relay may not send, or not now.
	saysAccount = phrases(
		`\bdaily( \S+){0,5} (limit|quota)`, `\b(hourly|monthly|24[- ]hours?|hour)( \S+){0,4} (limit|quota)`, `(limit|quota)( \S+){0,4} per (\d+ )?(second|minute|hour|day|month)s?\b`,
		`\b(sending|relays?|outgoing|outbound|submission|recipient rate|message rate|sending rate|sender rate|rate)( \S+)? (limits?|quotas?)\b`, `max(imum)? (number of )?(e-?mails|messages|recipients|defers and failures)( allowed)? per (\d+ )?(second|minute|hour|day|month)s?\b`,
		`sending too (many|fast|much)`, `too many (e-?mails|messages|mails) (sent|from|in|per|too|today)\b`, `rate overlimit`, `\bcredits? (limit )?exceeded|maximum credits`, `throttling failure|maximum sending rate`,
		`too many recipient attempts`, `too (many|much) (recipients|rcpts|mail) from\b`, `\brecipients( \S+){0,2} (hour|day|minute|today)\b`, `frequency limited`, `tenant has exceeded|exceeded (its|their|your) (sending|message|recipient|e-?mail)`,
		`\b(your|smtp|sender'?s?|sending) (account|service|mailbox)( \S+){0,4} (suspended|disabled|blocked|locked|paused|deactivated|restricted|not (active|activated|allowed|enabled))`,
		`outgoing (mail|messages?|e-?mails?)( \S+){0,6} (suspended|blocked|disabled)`, `sending (is |has been )?(disabled|paused|suspended|blocked)`, `not allowed to send: `, `activate your \S+ account`,
		`spam abuse detected`, `access denied, bad outbound sender`, `\b(cumulative )?(message|mail|e-?mail|recipient)s? (cumulative )?(count|size|rate|number) quota\b|\b(message|mail|e-?mail|recipient)s? (count|rate|number) limit\b`, `\bmax(imum)? \d+ (e-?mails|mails|messages|recipients|requests)\b`, `\bratelimit\b`,
	)
	// saysSender: the envelope sender is refused.
	saysSender = phrases(
		`\bsender address( \S+)? (rejected|denied|refused|blocked|not)`, `\bsender (verify|verification)\b`, `^verification failed for|\bcould not verify (the )?sender`, `\b(callback|callout)\b`, `\b(invalid|unknown|unverified|unauthori[sz]ed|illegal|bad|forged) sender\b`,
		`\bsender( id| domain| e-?mail| is)?( \S+)? (rejected|denied|refused|unknown|invalid|not (allowed|authori[sz]ed|accepted|permitted|valid|verified|exist|found|known))`,
		`not (allowed|permitted|authori[sz]ed) to send (\S+ ){0,3}?(as|from|using|on behalf|with)\b`, `permissions? to send as`, `\bsend ?as ?denied`, `cannot send as`, `\bnot owned by\b`, `does not belong to (the )?(user|account|you|authenticated)`,
		`(\b(from (e-?mail|address|domain|name|header)|return[- ]path|envelope[- ]from|envelope[- ]sender|reverse[- ]path|from/sender)|'from')( e-?mail| address| domain| name| header)*( \S+){0,2} (is |are |was )?(not (match|verified|valid|owned|authori[sz]ed|allowed|exist|belong|registered|confirmed|accepted|permitted)|does(n't| not)|invalid|denied|rejected|refused|unverified|unknown)`,
		`\bverified sender|sender signature|e-?mail address is not verified|identit(y|ies) failed the check|sender identity`, `\bdomain of sender\b|\bsender'?s? (address'?s? )?domain\b`, `badmailfrom|envelope sender is in my`,
		`mail from( [a-z]\S*)? (is )?(not allowed|not permitted|denied|rejected|refused)`, `bounces? (messages? )?(are |is )?not accepted|null sender|empty sender`, `unable to verify (the )?sender`,
	)
	// saysMessageAuth: SPF, DKIM or DMARC of the sender's domain.
	saysMessageAuth = phrases(`\b(spf|dkim|dmarc)\b`, `sender policy framework`, `authentication (checks|level|requirements|information)`)
	// saysDomainList: a list of domains or URLs, so about the sender or the content.
	saysDomainList = phrases(`\b(dbl|uribl|surbl|rhsbl)\b`, `sending domain`, `\burls?\b( \S+){0,6} (listed|black ?list|block)`)
	// saysClient: our address, its names or its reputation are refused.
	saysClient = phrases(
		`\bclient (host|address|ip|server)\b( \S+){0,5}? (is |was |has been )?(rejected|blocked|denied|refused|banned)`, `service unavailable[;,] (client|host|sender ip)`,
		`\b(your|the|this|sending|sender'?s?|client|connecting|source|originating) (own )?(smtp |mail )?(server|host|mta|ip|ips|network|gateway|ip address|ip range|netblock)s?'?s?\b( \S+){0,8}? (blocked|block|black-?list\S*|blocklist\S*|denied|banned|listed|rejected|refused|reputation|not (allowed|permitted|welcome|accepted)|spammer)`,
		`\bbanned send(ing ip|er ip)|banned sending ip`, `\b(black ?list|block ?list|deny ?list|black-list|block-list)(ed|ing|s)?\b`, `\b(rbls?|dns-?bls?|realtime block|real-time block)`, `\bdnsbl\b`, `\bspam(haus|cop|rats)\b`, `\bsorbs\b|\buceprotect|\babuseat\b|\bbarracudacentral`,
		`\b(poor|bad|low)( ip| sender| mta)? reputation\b`, `\breputation (of|for) (the|your) (sending |sender )?(ip|server|host|mta)`, `\bip reputation`, `mta's poor reputation`,
		`\breverse (dns|lookup|hostname|name)|\bno ptr\b|\bptr records?\b|\brdns\b|\bfcrdns\b`, `cannot find your|cannot resolve your|could not resolve your|ip name lookup failed`, `\bhelo command rejected|\bbad helo|\binvalid helo|\bhelo/ehlo\b|\behlo argument|\b(helo|ehlo) (name|hostname|host|domain)?( \S+)? ?(rejected|invalid|not)`,
		`not allowed to connect|connections? (will )?not (be )?accepted|connection (refused|rejected|denied) from`, `that ip address is not allowed|traffic not accepted from this ip|ip not in whitelist|not in (the )?ip allow`,
		`access to (this|our|the) (mail|e-?mail) system|access to submit messages`, `(originating|coming) from your ip`, `messages from( \S+){1,2} weren't sent|part of their network`, `too many (concurrent |simultaneous )?(connections|sessions)`, `(sends?|sending|sent) from a? ?dynamic|dynamic (ip|address|host)`,
		`\bmail from ip\b|\bmail from \[?[0-9]+(\.[0-9]+){3}\]? (rejected|refused|denied|not)`, `\bip( address)?( is| was| has been)? (blocked|banned|listed|denied)\b`, `^(\S+ ){0,3}\[?[0-9]+(\.[0-9]+){3}\]?( is| was| has been)?( temporarily)? blocked\b`, `too many (invalid|unknown|nonexistent|bad) (recipients|users|rcpts)`,
	)
	// saysClientURL: the page of a list of addresses.
	saysClientURL = phrases(`spamhaus\.org/(query|lookup|sbl|xbl|pbl|zen|.{0,20}ip)`, `spamhaus\.org/?$`, `spamcop\.net`, `barracudacentral\.org`, `sorbs\.net`, `csi\.cloudmark\.com`, `ipcheck\.proofpoint\.com`, `uceprotect\.net`, `sender\.office\.com`)
	// saysServer: a server that is full, busy or not in service. It is asked of temporary
	// refusals only.
	saysServer = phrases(
		`\bservice (is )?(currently |temporarily )?not available`, `\bspace shortage\b`, `\binsufficient (system |server |queue |disk )+(storage|space|resources)`, `\bsystem storage\b`, `\b(no|not enough|low on|out of) (free |disk )*space (left|on|in)? ?(the )?(device|spool|queue|server|system)`, `\b(not enough|low on) disk space\b`,
		`\b(server|system|service|host|mta|queue)( is| are)? (currently |temporarily |too |very )*(busy|overloaded|unavailable|full|shutting down|going down|out of (memory|resources))`, `\b(load|system load|load average)( is)? too high\b|\bload average\b`, `\btoo many (concurrent |simultaneous |open )?(connections|sessions|processes)\b`, `\b(temporary|internal) (server|system|service) (error|failure|problem)`,
		`\b(server|system)( \S+){0,2} (error|problem)\b`, `\b(resources|memory) (are |is )?(temporarily )?(unavailable|exhausted)`, `\btoo busy\b`, `queue file write error`, `\bserver configuration (problem|error)`,
	)
	// saysOutOfService is asked of the reason of a reply: Postfix's whole reason when its
	// milter is away or its policy service has no answer. A footer may follow.
	saysOutOfService = phrases(`^(policy |mail )?service (is )?(currently |temporarily )?unavailable$`)
	// saysServerFault is asked of the reason behind "rejected:": something of the server
	// does not work.
	saysServerFault = phrases(
		`^(\S+ ){0,3}(service|server|database|backend|daemon|filter|policyd|lookup)s? (is |are )?(currently |temporarily )?(unavailable|not available|unreachable|down|failed|failure|error|timed? ?out)$`,
		`^(internal|server|system|unknown|local|configuration|temporary)( \S+)? (error|failure|problem)$`,
	)
	// saysCommandRejected is asked of the reason of a reply: the words of a milter that
	// refuses a command.
	saysCommandRejected = phrases(`^command rejected$`)
	// saysLongQuota: a quota of an hour or more.
	saysLongQuota = phrases(`\b(daily|day|monthly|month|weekly|week|hourly|hours?|24[- ]?h)\b`)
	// saysTooLarge: the message has too many bytes.
	saysTooLarge = phrases(`\b(message|mail|e-?mail|size)( \S+){0,3} (too (large|big)|exceeds|limit)\b`, `\btoo (large|big)\b`)
	// saysGreylisting: a first try is put off on purpose.
	saysGreylisting = phrases(`\bgr[ea]y-? ?list`)
	// saysUnknown: there is no such mailbox or domain.
	saysUnknown = phrases(
		`\b(user|mailbox|mail box|recipient|address|addressee|account|alias|destination|e-?mail|person|customer|subscriber|login|mail ?drop)( address| account| name| id)?( \S+){0,3}? (is |was |has been |are |is now )?(unknown|unavailable|not (found|known|exist|existing|recogni[sz]ed|listed|defined|active|activated|available|a (valid|known|local))|does(n't| not) exist|did not exist|inactive|disabled|deactivated|closed|expired|discontinued|terminated|no longer (valid|available|exists?|in use|active|on server|accepts?))`,
		`\bunknown( or (illegal|invalid|inactive))? (virtual )?(local )?(user|recipient|mailbox|address|account|alias|local[- ]part|destination|e-?mail|rcpt)`, `\binvalid( or unknown)? (virtual )?(mailbox|user|account|local[- ]part)\b`, `\billegal alias`,
		`\bno such (local |virtual |e-?mail )?(user|mailbox|recipient|address|person|account|domain|mail ?drop|customer|alias|id)`, `\bno (mailbox|mail box|user|account|recipient|person)( here)?( \S+)? (here|by that|with (that|this)|found|of that|named)\b`, `\bno valid recipients?\b`,
		`\bbad destination|\bbad address\b`, `\bnot our customer`, `(does not|doesn't|not) have an? (\S+ )?account`, `\b(does not|doesn't) have a \S+ account`, `\bnot a (valid|known) (mailbox|user|recipient|address|account|local)`, `\b(recipient|user)( address)? (not|isn't) (found|known)`,
		`\bunrout(e)?able (address|mail domain)`, `\buser not local\b`, `\b(recipient |e-?mail )?domain( \S+)? (does not|doesn't) exist`, `\bnull mx\b|\b(domain|host) (does not|doesn't) accept (any )?(e-?mail|mail)`, `\b(host|domain)( name)? not found|nxdomain`, `\brecipient no longer\b`, `\b(is )?no longer (employed|with (us|the company))`,
		`(benutzer|empf(ä|ae)nger|adresse|mailbox|postfach) (ist )?(unbekannt|existiert nicht|nicht (gefunden|vorhanden))|unbekannte?r? (benutzer|empf(ä|ae)nger|adresse)`, `usuario (desconocido|no existe|inexistente)|(buz(ó|o)n|cuenta|direcci(ó|o)n) (\S+ )?(no existe|inexistente|desconocida)`,
		`(utilisateur|destinataire|adresse|bo(î|i)te) (\S+ )?(inconnue?|inexistante?)`, `(utente|destinatario|indirizzo|casella) (sconosciut[oa]|inesistente)`, `usu(á|a)rio (desconhecido|inexistente)`, `nie ma takiego|nie istnieje`, `не существует|не найден`, `不存在`,
	)
	// saysOurs: what is unknown is a name or an address of ours.
	saysOurs = phrases(`\b(ip|client|your|helo|ehlo|sender|sender's|sending|source|from|return|ptr|dns|mx)( \S+)? (address|domain|host|hostname|name|account|user|record)\b`)
	// saysFull: the mailbox exists, and takes nothing now.
	saysFull = phrases(
		`\b(mailbox|mail box|inbox|quota|user|account|disk|storage|recipient|maildir)( \S+){0,3}? (is |are )?(full|over ?quota)\b`, `\bover ?(the |its |disk )?quota|\bquota (has been |is |was )?(exceeded|full|exhausted)|exceed(s|ed|ing)?( \S+){0,3} quota`, `out of (disk |storage )?space`, `(exceed(s|ed|ing)?|insufficient)( \S+){0,2} (storage|disk)|storage (limit|full|allocation)`,
	)
	// saysMailbox: the reply is about one mailbox. It is asked of a reason.
	saysMailbox = phrases(`\b(mailbox|mail box|inbox|maildir|user|account|addressee|recipient)\b`)
	// saysReceiving: the mailbox gets too much for now.
	saysReceiving = phrases(`receiving mail (too quickly|at a rate)`, `messages (that )?(they|it) can receive|recipient has exceeded`, `\btemporar(y|ily) (disabled|unavailable|locked|suspended|inactive)`)
	// saysContent: the message is refused.
	saysContent = phrases(
		`\b(spam|spammy|junk ?mail|unsolicited|virus|malware|phish\S*|bulk mail|unwanted mail|suspicious|malicious)\b`, `\b(content|attachment|body|subject|header)s?\b`, `\bclassified as\b`, `\bfilter(ed|s|ing)?\b`, `message (was |has been |is )?(rejected|refused|blocked|denied|not accepted|looks|scored)`, `security (issue|problem|threat)`,
	)
	// saysPolicy: a rule of the server or the recipient forbids this, and the reason is not said.
	saysPolicy = phrases(
		`administrative(ly)? prohibit`, `\bpolic(y|ies)\b`, `\b(prohibited|forbidden|banned|restricted|unwelcome|unauthori[sz]ed)\b`, `\b(access|permission|delivery|mail|service|connection|transaction) (is |was )?(denied|refused|rejected|blocked)`, `\bdenied\b|\bblocked\b|\brejected\b|\brefused\b`,
		`\bnot (allowed|permitted|authori[sz]ed|accepted|acceptable|wanted|welcome)\b`, `\babuse\b|\bgo away\b`, `\bgr[ea]y-?list`, `\b(try|retry) (again )?later|temporar(y|ily)`, `\brate limit`, `\bverif(y|ied|ication)\b`,
	)
	// saysBlocked: a policy, access, a list, our address or name, authentication, spam, the DNS, or a fault that may pass.
	// With any of these a reply is not hard.
	saysBlocked = phrases(
		`\bblocked\b`, `\bpolic(y|ies)\b`, `\b(access|permission|look-?ups?|service) (is |was |has been )?(denied|refused)\b`, `\bno access\b`, `\b(prohibited|forbidden|banned)\b`, `\babuse\b`, `\bgr[ea]y-?list`,
		`\b(black|block|deny)[- ]?list`, `\bdns-?bls?\b`, `\brbls?\b`, `\bis listed (at|in|on|by)\b`, `\b(your|sending|connecting|client) (\S+ )?(ip|host|server|mta)( address)?( \S+)? (is|was|are|has been) `,
		`\bnot (allowed|permitted|authori[sz]ed) to (send|deliver|mail|submit)\b`, `\b(for|from|of|in|by) (this |the |that |your )?sender('s)?\b`,
		`\binvalid dns\b|a/aaaa resource record|\bdns (server |look-?up )?(failure|failed|error|timeout|problem)|\bservfail\b|\b(could not|cannot|can't) be (resolved|looked up)`,
		`\btemporar(y|ily)\b`, `\bplease retry\b|\b(try|retry)( it)? (again )?(later|in [0-9]+)\b`, `\b(spf|dkim|dmarc|helo|ehlo|reputation|unsolicited|spam)\b`, `\btoo many (connections|sessions|errors|invalid|unknown|bad)\b`, `\btimed out\b`,
	)
	// saysAccess: Postfix's words for its access tables. They mean one recipient, or
	// everybody who has not logged in.
	saysAccess = phrases(`\brecipient address rejected: access denied`, `\brecipient address rejected: (permission|service) (denied|unavailable)`)
	// saysByRecipient: one recipient's own wish, with any code.
	saysByRecipient = phrases(`\b(blocked|black-?listed|rejected|denied|refused|listed|disabled|prohibited) by (the |this )?(recipient|user|addressee)\b`, `\bresolver\.rst\b`, `\brecipient (does not|doesn't|has|is not|only|wants)\b`, `\bsendernotauthenticatedfor`)
	// saysTooMany: the transaction has no room for another recipient.
	saysTooMany = phrases(
		`\btoo many (rcpts?|recipients|addresses|rcpt tos?|destinations)\b`, `\b(maximum|max|limit)( \S+){0,5} (recipients|rcpts|addresses)\b`, `\b(recipients?|rcpts?)( count| number| limit| per \S+| maximum){0,3} (is |was |has been )?(exceeded|reached)\b`, `\bno more recipients\b`, `\brecipients? limit( \S+){0,3} (reached|exceeded)`,
		`\bexceed(s|ed|ing)?( \S+){0,3} (recipients|recipient limit|rcpts)\b`,
	)
	// saysUnknownAtMicrosoft: Exchange Online's directory-based edge blocking. Its words are "Access denied", and
	// it refuses only addresses that are not in the directory of the recipient's tenant. The code AS(201806281) means that
	// alone, so the server's name behind it is not needed.
	saysUnknownAtMicrosoft = phrases(`\brecipient address rejected: access denied.{0,20}\bas\(201806281\d?\)|\brecipient address rejected: access denied.{0,300}\.protection\.outlook\.com`)
)

// rejection is Postfix's form of a refusal: what it refuses, "rejected:" and a reason. The
// reason is the server's own, or the operator's: any access table, policy service or filter
// may give it. So "Recipient address rejected:" alone says nothing about a mailbox.
var rejection = regexp.MustCompile(`(?i)^(?:\S* )?` + refusedParts + ` rejected: ?(.*)$`)

// footer is where a reason may end and a text begin that the operator appends to all
// refusals (Postfix's smtpd_reject_footer): a full stop, or a word with a capital letter,
// because the lines of a reply are joined.
var footer = regexp.MustCompile(`\.?(?:$| \p{Lu})|\. |; (?:contact|see|please|for) `)

// listed is Postfix's form of a refusal by a list on the net (reject_rbl_*, reject_rhsbl_*): it
// names what is on the list, not what was asked for.
var listed = regexp.MustCompile(`service unavailable; (?:unverified )?(client host|helo command|sender address|recipient address) \[.*?\] blocked using`)

// onList is what a list on the net has, by the form listed; "" for any other text from lowerWords.
func onList(words string) string {
	if m := listed.FindStringSubmatch(words); m != nil {
		return m[1]
	}
	return ""
}

// reason is the reason of a refusal.
type reason struct {
	// refused is what the server refuses, as "sender address"; "" in other forms than
	// rejection.
	refused string
	// texts are the reason in lower case: up to each place where a footer may begin.
	texts []string
}

// reasonOf reads the reason of a reply.
func reasonOf(rep email.Reply) (r reason) {
	text := wordsOf(rep)
	if m := rejection.FindStringSubmatch(text); m != nil {
		r.refused, text = strings.ToLower(m[1]), m[2]
	}
	for _, at := range footer.FindAllStringIndex(text, -1) {
		r.texts = append(r.texts, strings.ToLower(strings.TrimSpace(text[:at[0]])))
	}
	return r
}

// is reports whether the topic matches the reason up to any place where a footer may begin.
func (r reason) is(t topic) bool { return slices.ContainsFunc(r.texts, t.in) }

// isAllOf reports whether each part of the reason, between semicolons, is one of the topics.
func (r reason) isAllOf(topics ...topic) bool {
	return slices.ContainsFunc(r.texts, func(text string) bool {
		return !slices.ContainsFunc(strings.Split(text, "; "), func(part string) bool {
			return !slices.ContainsFunc(topics, func(t topic) bool { return t.in(part) })
		})
	})
}

// speaksOf reports whether the reason, without what may be a footer, speaks of the topic.
func (r reason) speaksOf(t topic) bool { return len(r.texts) > 0 && t.in(r.texts[0]) }

// address matches what is not the server's own words: an address, or what stands in
// angle brackets. webPage matches a URL.
var (
	address = regexp.MustCompile(`<[^<>]*>|"[^"\s]*"@\S+|[^\s<>"'()\[\],;:]+@[^\s<>"'()\[\],;:]*[^\s<>"'()\[\],;:.]`)
	webPage = regexp.MustCompile(`(?i)https?://\S*[^\s.,;!?]`)
)

// lowerWords is the words of a reply in lower case, without addresses, URLs and footer: a user's
// name in them could look like a reason.
func lowerWords(r email.Reply) string { return strings.ToLower(wordsOf(r)) }

// wordsOf is lowerWords as it was written.
func wordsOf(r email.Reply) string { return wordsIn(saidByServer(r)) }

// wordsIn is the words of a text of a server's, as wordsOf.
func wordsIn(text string) string {
	beginsWithURL := strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), "http")
	text = webPage.ReplaceAllString(text, " ")
	text = strings.Join(strings.Fields(address.ReplaceAllString(text, " ")), " ")
	if m := rejection.FindStringSubmatchIndex(text); m != nil {
		if end := sentenceEnd.FindStringIndex(text[m[4]:]); end != nil && end[0] > 0 {
			return text[:m[4]+end[0]]
		}
	}
	return withoutAdvice(text, beginsWithURL)
}

// sentenceEnd is where the reason of a refusal in the form rejection ends.
var sentenceEnd = regexp.MustCompile(`\.? *$|[.!?] | - | [(\[|]|,? [Ss]ee(?: |$)|; (?:contact|please|for) `)

// advice begins a sentence that is not about this refusal: operators append it to all refusals
// (Postfix's smtpd_reject_footer), on the same line or on lines of its own.
var advice = regexp.MustCompile(`(?i)([.;!]? ?)\b(` +
	`for (?:assistance|help|support|(?:\w+ ){1,2}(?:help|problems?|support|questions?)\b)|(?:\w+ ){1,3}(?:help|support|questions|problems): |` +
	`please (?:give|provide|contact|quote|include|call|visit)\b|(?:contact|call|visit|see)\b|if (?:your|you|the|this|it)\b|is your\b|` +
	`we (?:require|use|reject|block|check)\b|check your\b|learn more\b|rate limits:|your ip address is \[?[0-9]|` +
	`our (?:\w+ ){0,4}(?:polic(?:y|ies)|(?:black|block)lists?)\b|(?:black|block)lists?:|(time: .{1,40} )?client: )`)

// question is a sentence that asks, behind another one. A server that refuses gives a reason and
// asks nothing: operators append such sentences.
var question = regexp.MustCompile(`[.;!] [^.:;!?]{1,100}\?(?: |$)`)

// withoutAdvice cuts off a text where advice or a question begins. Advice begins after a punctuation
// mark. It also begins with a capital letter, because the lines of a reply are joined, and with
// Postfix's $localtime and $client_address together. The first words of a text are advice only if a
// URL stood before them (afterURL).
func withoutAdvice(text string, afterURL bool) string {
	if at := question.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	for _, at := range advice.FindAllStringSubmatchIndex(text, -1) {
		mark, first, withTime := text[at[2]:at[3]], text[at[4]], at[6] >= 0
		if strings.TrimSpace(mark) != "" || (at[0] > 0 || afterURL) && ('A' <= first && first <= 'Z' || withTime) {
			return strings.TrimRight(text[:at[0]], " .;")
		}
	}
	return text
}

// urlsOf is the URLs in a reply, without its footer, in lower case.
func urlsOf(r email.Reply) string {
	return strings.Join(webPage.FindAllString(strings.ToLower(saidByServer(r)), -1), " ")
}
