#!/bin/sh
# Makes the roles and databases of Postrider and of Temporal, and sets the passwords of
# the roles. Safe to run again: a changed password takes effect then.
#
#   postrider   owns the database postrider
#   temporal    owns the databases temporal and temporal_visibility
#
# Neither is a superuser, may make roles or databases, or may connect to the other's
# databases. PGHOST, PGPORT, PGUSER and PGPASSWORD are those of the superuser;
# APPLICATION_PASSWORD and TEMPORAL_PASSWORD those that the roles get.
set -eu
: "${PGHOST:?}" "${PGUSER:?}" "${PGPASSWORD:?}" "${APPLICATION_PASSWORD:?}" "${TEMPORAL_PASSWORD:?}"
export APPLICATION_PASSWORD TEMPORAL_PASSWORD

# psql reads the passwords from its environment: arguments can be seen by others.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres <<'SQL'
SET client_min_messages = warning;
SET password_encryption = 'scram-sha-256';
\getenv postrider_password APPLICATION_PASSWORD
\getenv temporal_password TEMPORAL_PASSWORD
SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['postrider', 'temporal']) name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE postrider LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'postrider_password';
ALTER ROLE temporal LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'temporal_password';
SELECT format('CREATE DATABASE %I OWNER %I', db, owner)
FROM (VALUES ('postrider', 'postrider'), ('temporal', 'temporal'), ('temporal_visibility', 'temporal')) d (db, owner)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = db) \gexec
REVOKE ALL ON DATABASE postrider, temporal, temporal_visibility FROM PUBLIC;
SQL
echo "roles: done"
