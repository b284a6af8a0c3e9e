#!/bin/sh
# Brings both of Temporal's databases to the schema of this image's version. Safe
# to run again: what is there already is left alone, so a new version of the image
# applies only what is new.
#
# POSTGRES_HOST POSTGRES_PORT POSTGRES_USER and SQL_PASSWORD say where; SCHEMA is
# the directory with the image's schemas. CREATE_DATABASES=false is for a role that may
# make no databases, where they exist: Postgres refuses it even for one that is there.
set -eu
: "${POSTGRES_HOST:?}" "${POSTGRES_USER:?}" "${SQL_PASSWORD:?}"

for name in temporal visibility; do
	case $name in
	temporal) database=temporal ;;
	visibility) database=temporal_visibility ;;
	esac
	tool() {
		temporal-sql-tool --plugin postgres12 --ep "$POSTGRES_HOST" -p "${POSTGRES_PORT:-5432}" -u "$POSTGRES_USER" --db "$database" "$@"
	}
	echo "schema: $database"
	[ "${CREATE_DATABASES:-true}" = false ] || tool create
	tool setup-schema -v 0.0
	tool update-schema -d "${SCHEMA:-/etc/temporal/schema}/postgresql/v12/$name/versioned"
done
echo "schema: done"
