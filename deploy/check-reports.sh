#!/usr/bin/env bash
# Checks statements with programs that know nothing of Passbook: camt.053 against its
# schema and by an independent reader; XLSX, CSV and PDF by readers of their own. Each is
# compared with the JSON form. A self-test first breaks each file.
#
# The tools are installed into .tools/reports if needed, at the versions pinned in
# report-tools.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=deploy/report-tools.txt
folder=.tools/reports

# A copy of the pins is stored beside the tools. If the pins have changed, the tools are
# installed again.
if ! cmp -s "$pins" "$folder/report-tools.txt"; then
    mkdir -p .tools
    partial=$(mktemp -d .tools/reports.partial-XXXXXX)
    trap 'rm -rf "$partial"' EXIT
    echo "installing readers of camt.053, XLSX and PDF into $folder" >&2
    deploy/pip-install.sh "$pins" "$partial" >&2
    chmod 755 "$partial"
    cp "$pins" "$partial/report-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi

samples=$(mktemp -d)
trap 'rm -rf "$samples" "${partial:-$samples}"' EXIT
# With the features of the workspace, as `make test` builds: nothing is compiled twice.
cargo build --quiet --workspace --example render_statement
render=${CARGO_TARGET_DIR:-target}/debug/examples/render_statement

# name, entries, currency, its decimals, an addition to every third amount in minor units.
# `usd` fills many pages; the others differ in their decimals.
# `long` has amounts of 16 and balances of 17 digits: more than a cell's number keeps.
while read -r name entries currency decimals extra; do
    for format in json csv xlsx camt053 pdf; do
        "$render" "$format" "$entries" "$currency" "$decimals" "$extra" "$samples/$name.$format" 2>/dev/null
    done
done <<END
empty 0 USD 2 0
krw 300 KRW 0 0
usd 2000 USD 2 0
kwd 300 KWD 3 0
clf 300 CLF 4 0
long 20 USD 2 9000000000000000
END

# Python writes no files beside the sources, and uses no packages of the user.
PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH="$folder" python3 deploy/check_reports.py "$samples"
