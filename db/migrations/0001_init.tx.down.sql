DROP TABLE messages, mailboxes, webhook_deliveries, webhook_endpoints, attachments, blob_chunks, blobs, outbox,
    email_events, delivery_attempts, recipients, contents, emails, domains, access_keys, users, customers;
