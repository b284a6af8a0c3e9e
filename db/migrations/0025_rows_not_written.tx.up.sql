-- Says which rows a statement should have changed and did not, and has its transaction fail.
CREATE FUNCTION rows_not_written(of_table text, expected bigint, missing uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'of % rows of %, % are not as they were read: %', expected, of_table, cardinality(missing), array_to_string(missing[1:20], ', ')
        USING ERRCODE = 'assert_failure';
END $$;
