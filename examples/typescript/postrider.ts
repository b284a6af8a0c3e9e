// The part of Postrider's contract that this example uses; docs/schema has all of it.

export interface SendEmailInput {
  customer_id: string;
  /** What POST /v1.0/emails takes, in either shape. */
  message: {
    from?: { email: string; name?: string };
    to: { email: string; name?: string }[];
    subject: string;
    content: string | { text?: string; html?: string };
    tags?: string[];
    expires_at?: string;
  };
  idempotency_key?: string;
}

export interface SendEmailResult {
  email_id: string;
  status: 'queued' | 'sending' | 'delivered' | 'bounced' | 'failed' | 'canceled';
  status_detail?: string;
  recipients: {
    id: string;
    /** Masked: a***@example.net */
    address: string;
    status: string;
    smtp_code?: number;
    enhanced_code?: string;
    text?: string;
    attempts: number;
  }[];
}

/** The details of a run that failed because the message is not good. */
export interface ErrorDetails {
  errors: { pointer: string; code: string; detail: string }[];
}

/** SendEmail's type, for a typed client; its code is Postrider's. */
export type SendEmail = (input: SendEmailInput) => Promise<SendEmailResult>;
