#!/usr/bin/env bash
# Tests the API of a running system from outside: the examples, then schemathesis, which sends
# requests made from the OpenAPI document and fails on a response that the document does not
# have, or if it did not reach every operation. Arguments go to `schemathesis run`.
#
#   deploy/test-api.sh                      with the fixed seed of api_tests/schemathesis.toml
#   deploy/test-api.sh --seed 7 --max-examples 500 --include-operation-id deposit
#
# It starts a stack of its own from the programs in target/debug, on a free port, and stops it.
# schemathesis is installed into .tools/api if needed, at the versions pinned in api-tools.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=deploy/api-tools.txt
folder=.tools/api
passbook=${PASSBOOK_BIN:-${CARGO_TARGET_DIR:-target}/debug/passbook}

# A copy of the pins is stored beside the tools. If the pins have changed, the tools are
# installed again.
if ! cmp -s "$pins" "$folder/api-tools.txt"; then
    mkdir -p .tools
    partial=$(mktemp -d .tools/api.partial-XXXXXX)
    trap 'rm -rf "$partial"' EXIT
    echo "installing schemathesis into $folder" >&2
    deploy/pip-install.sh "$pins" "$partial" >&2
    chmod 755 "$partial"
    cp "$pins" "$partial/api-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/passbook-api-XXXXXX")
# PostgreSQL may run as another user, who must be able to enter the folder.
chmod 711 "$scratch"
stop() {
    "$passbook" dev down --dir "$scratch/stack" >/dev/null 2>&1 || true
    rm -rf "$scratch" "${partial:-$scratch}"
}
trap stop EXIT
# Many of the requests have no valid token, all from one address.
PASSBOOK_FAILED_TOKEN_LIMIT=0 "$passbook" dev up --detach --port 0 --dir "$scratch/stack" >/dev/null

# Python writes no files beside the sources, and uses no packages of the user.
export PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 NO_PROXY=127.0.0.1
field() { # prints a field of the stack's file
    python3 -c 'import functools, json, sys
print(functools.reduce(dict.get, sys.argv[2:], json.load(open(sys.argv[1]))))' "$scratch/stack/stack.json" "$@"
}
PASSBOOK_URL=$(field api) PASSBOOK_TOKEN=$(field tokens admin)
export PASSBOOK_URL PASSBOOK_TOKEN

python3 -m unittest discover --start-directory examples/python
# The settings hold the token.
(umask 077 && PYTHONPATH=examples/python python3 deploy/api_tests/prepare.py >"$scratch/schemathesis.toml")
outcome=0
PYTHONPATH=$folder python3 -m schemathesis.cli --config-file "$scratch/schemathesis.toml" \
    run "$PASSBOOK_URL/v1/openapi.json" --report json --report-json-path "$scratch/report.json" "$@" || outcome=$?
python3 deploy/api_tests/reached.py "$scratch/report.json" || outcome=$?
# The books must balance after all of that.
"$passbook" verify --dir "$scratch/stack" || outcome=$?
exit "$outcome"
