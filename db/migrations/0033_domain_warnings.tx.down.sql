DROP TABLE domain_warnings;
