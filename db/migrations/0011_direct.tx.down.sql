DROP TABLE direct_starts;
