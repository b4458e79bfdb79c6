#!/bin/bash
# Run by the PostgreSQL image when its volume is new: a role for each service, which owns its database and enters no other.
set -euo pipefail

for service in roster claims auth; do
    password="${service^^}_PASSWORD"
    psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
        --set name="homeroom_$service" --set password="${!password}" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
psql --username "$POSTGRES_USER" --dbname postgres --command "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC"
