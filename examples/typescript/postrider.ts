// What SendEmail takes and answers. Made from docs/schema by `make schemas`; a test compares.

/** SendEmailInput starts SendEmail: either for an e-mail that is stored already,
 * named by EmailID alone, or with a message, under any workflow id (a direct start). */
export type SendEmailInput = {
  email_id: string;
  /** CustomerID is the id of the customer that sends the message. */
  customer_id?: string;
  /** IdempotencyKey identifies the message, as the header Idempotency-Key does. Empty means
   * that the workflow id does. */
  idempotency_key?: string;
} | {
  /** CustomerID is the id of the customer that sends the message. */
  customer_id: string;
  /** Message is a body of POST /v1.0/emails, in either shape, of at most
   * MaxDirectMessageBytes. It is raw JSON, so that the workflow does not interpret it. */
  message: Message;
  /** IdempotencyKey identifies the message, as the header Idempotency-Key does. Empty means
   * that the workflow id does. */
  idempotency_key?: string;
};

/** An e-mail to send. It takes a sender, unless the customer has a `default_source`, at least one recipient in `to`, `destinations`,
 * `cc` or `bcc`, a subject and a content. To, cc and bcc may list 50 recipients together, by default (`POSTRIDER_MAX_RECIPIENTS`). */
export type Message = {
  /** Text, HTML and decoded attachments together may have 26214400 bytes by default, uploaded and fetched ones included. Programs
   * and other files that mail servers refuse are refused (`attachment_blocked`). */
  attachments?: AttachmentInput[];
  /** Recipients that no other recipient sees. */
  bcc?: AddressInput[];
  /** Receives the events of this e-mail, in addition to the customer's webhooks. Https and a public address, unless the operator allows others. */
  callback_url?: string;
  /** Recipients whom all see. */
  cc?: AddressInput[];
  content: ContentInput;
  /** The recipients; another name for `to`. */
  destinations?: AddressInput[];
  /** When to give up, at most 366 days after the first attempt. Without it attempts end 72 h after the first, by default. */
  expires_at?: string;
  /** The sender. */
  from?: AddressInput;
  /** Header fields of the client, in their order. Fields that Postrider or mail servers write are refused. An ASCII value is sent unchanged. Other
   * characters are encoded where the field allows it, and refused elsewhere. All fields together may have 65536 bytes. */
  headers?: Record<string, string>;
  /** Sends to suppressed addresses, too. It takes the scope `suppressions:ignore`, and the audit log notes it. A direct start refuses it. */
  ignore_suppressions?: boolean;
  /** Comes back in answers and webhooks, never on the wire. Names have at most 64 bytes, values 512. */
  metadata?: Record<string, string>;
  /** `retry` if left out. It decides what happens if the server's answer to the message did not arrive. `retry` sends it to the same server again after 1 min, 30 min, 4 h and 12 h;
   * after the fifth copy without an answer the recipient ends as `failed` with the reason `ambiguous`. `fail` ends so after the first. */
  on_ambiguous?: "retry" | "fail";
  /** Addresses for the Reply-To header. */
  reply_to?: AddressInput[];
  /** When to begin; at most 366 days ahead. A time that has passed means now. */
  send_at?: string;
  /** The sender; another name for `from`. */
  source?: AddressInput;
  /** `transactional` if left out. */
  stream?: Stream;
  /** At most 998 bytes without control characters; may be empty. */
  subject: string;
  /** Labels; as metadata, and lists can be filtered by them. */
  tags?: string[];
  /** The recipients. */
  to?: AddressInput[];
  /** Gives the recipient, who has to be the only one, a link to unsubscribe by: in `List-Unsubscribe` and `List-Unsubscribe-Post` (RFC 8058),
   * and in place of `{{unsubscribe_url}}` in text and HTML. With a topic the recipient unsubscribes from that, else from all broadcast mail.
   * Left out, it is true for broadcast mail, unless that has a `List-Unsubscribe` of its own or `POSTRIDER_PUBLIC_URL` is not set. Transactional
   * mail needs a topic. */
  unsubscribe?: boolean | UnsubscribeTopic;
};

/** `{"email","name"}`, where `name` is the display name; or `{"type","target","target_name","name","detail"}`, where it is
 * `target_name`, and `name` and `detail` are labels that only come back in answers. The two are not mixed. */
export type AddressInput = {
  /** A label. */
  detail?: string;
  /** The bare address, without quotes, brackets and comments. */
  email?: string;
  /** The display name beside `email`, a label beside `target`. */
  name?: string;
  /** The bare address. */
  target?: string;
  /** The display name. */
  target_name?: string;
  type?: "email";
};

/** One of: `content` in base64, with a `filename`; a reference to an uploaded file or to a recording; a `url` that is fetched when the
 * mail is due. */
export type AttachmentInput = {
  /** Base64 of either alphabet (RFC 4648 sections 4 and 5), with padding or without; white space is ignored. */
  content?: string;
  /** Makes it an inline file that HTML names as `cid:…`: 1 to 128 of the characters A-Z a-z 0-9 . _ @ + -. */
  content_id?: string;
  /** At most 255 bytes; a path before it is cut off. A file, a recording or a URL has a name of its own. */
  filename?: string;
  /** Send without it if it cannot be had. */
  optional?: boolean;
  /** The id, a UUID; empty is none. */
  reference_id?: string;
  /** What `reference_id` names. Empty is none, and `url` stands with `url`. */
  reference_type?: "file" | "recording" | "url" | "";
  /** The media type; found out where it is missing. Not with a recording. */
  type?: string;
  /** Called without credentials, over https and at public addresses only, unless the operator allows others. */
  url?: string;
};

/** An invitation beside text or HTML: it becomes a `text/calendar` part with its method in multipart/alternative (RFC 6047), which mail programs
 * show with buttons to answer. In a batch all recipients get the same one, without variables. */
export type CalendarInput = {
  /** One iCalendar object (RFC 5545), at most 1048576 bytes. Line ends become CRLF. */
  ics: string;
  /** PUBLISH, REQUEST, REPLY, ADD, CANCEL, REFRESH, COUNTER or DECLINECOUNTER, the same as METHOD in `ics`. */
  method: string;
};

/** The text, or text and HTML, one of which is not empty. Text is made from the HTML where there is only HTML. */
export type ContentInput = ContentText | ContentParts;

export type ContentParts = {
  calendar?: CalendarInput;
  html?: string;
  text?: string;
};

/** Plain text. */
export type ContentText = string;

/** Separates mail that a recipient waits for from newsletters. */
export type Stream = "transactional" | "broadcast";

/** The name of a topic. */
export type Topic = string;

export type UnsubscribeTopic = {
  topic: Topic;
};

/** SendEmailResult is the e-mail's final status. A refusal by a recipient's server is in the
 * result, and is not an error. Addresses are masked (MaskAddress). */
export type SendEmailResult = {
  email_id: string;
  status: "queued" | "sending" | "delivered" | "bounced" | "failed" | "canceled";
  status_detail?: string;
  recipients: {
    id: string;
    address: string;
    status: "queued" | "sending" | "deferred" | "delivered" | "bounced" | "failed" | "canceled" | "expired" | "suppressed" | "complained";
    smtp_code?: number;
    enhanced_code?: string;
    text?: string;
    attempts: number;
  }[];
};

/** State is an e-mail's state as a workflow needs it. An activity reads it from Postgres, so
 * that the workflow keeps no counts of its own. */
export type State = {
  /** Empty while the message of a direct start is not accepted yet. */
  status: "" | "queued" | "sending" | "delivered" | "bounced" | "failed" | "canceled";
  status_detail?: string;
  /** Final: the e-mail is finished; no attempt follows. */
  final?: boolean;
  /** NextAttempt is the number of the next attempt, for SendSMTP. */
  next_attempt?: number;
  /** Open is how many recipients are not finished. */
  open?: number;
  /** NextAt is when the next attempt is due; zero with Waiting empty means now. */
  next_at?: string;
  /** Waiting is what the next attempt waits for. Empty means that an attempt is due. */
  waiting?: string;
  /** HeldBy are the holders that keep the e-mail; empty unless it is held. */
  held_by?: string[];
  /** ThrottledBy names the rate or plan that throttles the e-mail: "relay:NAME",
   * "recipients:DOMAIN" or "warmup:DOMAIN". Empty unless it is throttled. */
  throttled_by?: string;
  /** OnlyRelay names the only relay that the next attempt may use, because that relay's reply
   * to the message never came. Empty means any relay. */
  only_relay?: string;
  /** FaultyRelay names the relay whose fault ended the last attempt. Empty means none. */
  faulty_relay?: string;
  /** Last is the reply that best explains the wait, with masked addresses. */
  last?: {
    /** Code is the three-digit reply code; 0 means that no reply came. */
    code?: number;
    /** Enhanced is the enhanced status code, as "5.1.1"; empty if the server gave none. */
    enhanced_code?: string;
    /** Text is the rest of the reply, its lines joined by spaces, at most MaxReplyText bytes. */
    text?: string;
  };
  /** Results is filled when Final, for the run's result. */
  results?: {
    id: string;
    address: string;
    status: "queued" | "sending" | "deferred" | "delivered" | "bounced" | "failed" | "canceled" | "expired" | "suppressed" | "complained";
    smtp_code?: number;
    enhanced_code?: string;
    text?: string;
    attempts: number;
  }[];
};

/** RescheduleInput is the argument of the signal and the update "reschedule"; the
 * other actions take none. */
export type RescheduleInput = {
  send_at: string;
};

/** ErrorDetails are the details of an application error that refuses an input. */
export type ErrorDetails = {
  errors: {
    /** Pointer is a JSON Pointer (RFC 6901) into the body; for a query
     * parameter, a header or a direct start's own members its name, without a slash. */
    pointer: string;
    /** Code is the stable name of the problem, for example "missing". */
    code: string;
    /** Detail says how to correct it. It never repeats the value. */
    detail: string;
  }[];
};

/** SendEmail's type, for a typed client; its code is Postrider's. */
export type SendEmail = (input: SendEmailInput) => Promise<SendEmailResult>;
