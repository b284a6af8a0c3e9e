ALTER TABLE contents DROP COLUMN calendar_method, DROP COLUMN calendar;
