DROP INDEX files_customer;
