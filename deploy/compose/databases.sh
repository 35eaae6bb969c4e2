#!/bin/sh
# Run once by the postgres image, over an empty volume: the databases `dagster` (the instance) and `trips`, each with an owner
# of its own name who is no superuser. The superuser is let in through the container's own socket alone. Sorting is by code
# point, which a newer C library in a newer image cannot change under the indexes.
set -e
for name in dagster trips; do
  psql --quiet --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 --set name="$name" \
    --set password="$POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
sed -i "1i host all $POSTGRES_USER all reject" "$PGDATA/pg_hba.conf"
