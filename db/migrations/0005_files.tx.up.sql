-- Files that customers upload ahead of their e-mails. The row goes when its
-- customer deletes it; the bytes go once no e-mail refers to them.
CREATE TABLE files (
    id          uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    blob_id     uuid NOT NULL REFERENCES blobs (id),
    filename    text NOT NULL CHECK (filename <> ''),
    type        text NOT NULL CHECK (type <> ''),
    size        bigint NOT NULL CHECK (size >= 0),
    sha256      text NOT NULL CHECK (length(sha256) = 64),
    created_at  timestamptz NOT NULL
);
CREATE INDEX files_blob ON files (blob_id);

-- A blob that is still being written belongs to nobody, and expires unless
-- something takes it. Until then size and digest are not known.
ALTER TABLE blobs ADD COLUMN expires_at timestamptz;
CREATE INDEX blobs_expires ON blobs (expires_at) WHERE expires_at IS NOT NULL;
-- Taking a blob away asks all that may refer to it.
CREATE INDEX attachments_blob ON attachments (blob_id);
CREATE INDEX messages_blob ON messages (blob_id);

ALTER TABLE attachments
    ADD COLUMN url text NOT NULL DEFAULT '',
    ALTER COLUMN reference_id DROP NOT NULL,
    DROP CONSTRAINT attachments_reference_type_check,
    ADD CONSTRAINT attachments_reference_type_check CHECK (reference_type IN ('file', 'recording', 'url')),
    ADD CONSTRAINT attachments_reference_check CHECK ((reference_type = 'url') = (url <> '') AND (reference_type = 'url') = (reference_id IS NULL));
