DROP INDEX emails_tags;
DROP INDEX recipients_domain;
DROP INDEX recipients_address;
