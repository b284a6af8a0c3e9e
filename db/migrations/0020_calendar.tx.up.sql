-- An iCalendar object and its method, which go beside text and HTML.
ALTER TABLE contents
    ADD COLUMN calendar_method text NOT NULL DEFAULT '',
    ADD COLUMN calendar text NOT NULL DEFAULT '';
