ALTER TABLE delivery_attempts RESET (fillfactor);
ALTER TABLE recipients RESET (fillfactor);
DROP INDEX emails_created;
DROP INDEX emails_ended_badly;
