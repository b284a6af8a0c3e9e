-- What a relay that takes other mail said to the return path of an e-mail that waits for it, since when, and when the
-- e-mail is tried next. NULL: it does not wait for that.
ALTER TABLE emails ADD COLUMN refused_path jsonb;
-- The same for the e-mails of a batch that wait, by the domain of their sender.
ALTER TABLE batches ADD COLUMN refused_paths jsonb;
