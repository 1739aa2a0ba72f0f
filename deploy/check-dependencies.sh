#!/usr/bin/env bash
# Checks what the workspace depends on: licences, sources and duplicates by
# deny.toml, known vulnerabilities where their database can be reached, and
# that nothing is depended on without being used.
set -euo pipefail
cd "$(dirname "$0")/.."

# Seconds that fetching the database of vulnerabilities may take.
fetch_within=30

deny=$(deploy/check-tools.sh cargo-deny)
shear=$(deploy/check-tools.sh cargo-shear)

"$deny" --locked check --hide-inclusion-graph \
    --deny unmatched-skip --deny unnecessary-skip licenses sources bans
if timeout "$fetch_within" "$deny" --locked fetch db >/dev/null 2>&1; then
    "$deny" --locked check --disable-fetch advisories
else
    echo "advisories were not checked: their database can't be fetched here"
fi
"$shear" --locked --deny-warnings
