-- What was fetched from a URL stays as a file. What was not yet has no source any
-- more: the e-mail fails for it, as it must not go without.
ALTER TABLE attachments DROP CONSTRAINT attachments_reference_check;
UPDATE attachments SET reference_type = 'file', reference_id = coalesce(blob_id, id) WHERE reference_type = 'url';
ALTER TABLE attachments
    DROP CONSTRAINT attachments_reference_type_check,
    ADD CONSTRAINT attachments_reference_type_check CHECK (reference_type IN ('file', 'recording')),
    ALTER COLUMN reference_id SET NOT NULL,
    DROP COLUMN url;
DROP INDEX attachments_blob;
DROP INDEX messages_blob;
DROP TABLE files;
DELETE FROM blobs WHERE expires_at IS NOT NULL;
ALTER TABLE blobs DROP COLUMN expires_at;
