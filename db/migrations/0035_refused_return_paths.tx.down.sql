ALTER TABLE emails DROP COLUMN refused_path;
ALTER TABLE batches DROP COLUMN refused_paths;
