#!/bin/sh
# Generates the passwords for deploy/compose.yaml, a key for signing tokens, and a
# teller's token. Writes them to deploy/compose/.env, and the public key to jwks.json
# beside it; git ignores both. Runs once, since the databases keep their first passwords.
# Needs the images of `make images`.
set -eu
umask 077
cd "$(dirname "$0")"

if [ -e .env ]; then
    echo "deploy/compose/.env already exists. New passwords need new volumes:" >&2
    echo "run docker compose down --volumes, and remove the file." >&2
    exit 1
fi
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' ../../Cargo.toml)
trap 'rm -f .env.json .env.partial jwks.partial' EXIT

# Converts Kubernetes Secrets, one field a line, to NAME="value". The key's line breaks
# stay as \n, since compose expands \n inside quotes.
"${PASSBOOK_IMAGE_TOOL:-docker}" run --rm --pull never --network none "docker.io/passbook/passbook:$version" \
    secrets print --dev >.env.json
awk -F '": "' '
    { sub(/",?$/, ""); key = $1; gsub(/[ "]/, "", key) }
    key == "name" { name = toupper($2); gsub(/-/, "_", name) }
    key == "password" { print name "_PASSWORD=\"" $2 "\"" }
    key == "jwks.json" { gsub(/\\"/, "\"", $2); print $2 > "jwks.partial" }
    key == "private-key" { print name "_PRIVATE_KEY=\"" $2 "\"" }
    key == "keys" { print name "=\"" $2 "\"" }
    key == "token" { print name "_TOKEN=\"" $2 "\"" }
    key == "teller" { print "TELLER_TOKEN=\"" $2 "\"" }
' .env.json >.env.partial
echo "GRAFANA_PASSWORD=\"$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')\"" >>.env.partial
# The services' user reads it.
chmod 644 jwks.partial
mv jwks.partial jwks.json
mv .env.partial .env
echo "wrote deploy/compose/.env and deploy/compose/jwks.json"
