#!/usr/bin/env bash
# Checks the workspace's dependencies: licences, sources and duplicates against
# deny.toml, known vulnerabilities, and unused dependencies. Vulnerabilities are
# skipped on a machine that can't fetch their database.
set -euo pipefail
cd "$(dirname "$0")/.."

# Time limit in seconds for fetching the database of vulnerabilities.
fetch_timeout=30

deny=$(deploy/check-tools.sh cargo-deny)
shear=$(deploy/check-tools.sh cargo-shear)

"$deny" --locked check --hide-inclusion-graph \
    --deny unmatched-skip --deny unnecessary-skip --deny unused-wrapper licenses sources bans
if timeout "$fetch_timeout" "$deny" --locked fetch db >/dev/null 2>&1; then
    "$deny" --locked check --disable-fetch advisories
else
    echo "skipped the check for known vulnerabilities: fetching their database failed"
fi
"$shear" --locked --deny-warnings
