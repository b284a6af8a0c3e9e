DROP FUNCTION rows_not_written(text, bigint, uuid[]);
