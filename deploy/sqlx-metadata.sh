#!/usr/bin/env bash
# The descriptions of the SQL statements in crates/*/.sqlx, with which the
# services compile without a database.
#
#   sqlx-metadata.sh check      are they what the migrations and statements give?
#   sqlx-metadata.sh prepare    writes them anew
#
# The statements are described by a PostgreSQL of its own, started for this
# with the migrations applied, and written by the macros that check them.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-}
case $mode in
check | prepare) ;;
*)
    echo "usage: $0 check|prepare" >&2
    exit 2
    ;;
esac

passbook=${CARGO_TARGET_DIR:-target}/debug/passbook
scratch=$(mktemp -d)
# For root, PostgreSQL runs as another user, who has to pass through it.
chmod 711 "$scratch"
stop() {
    "$passbook" dev down --remove-data --dir "$scratch/stack" 2>/dev/null || true
    rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cargo build --quiet --package passbook
if ! "$passbook" dev up --output json --dir "$scratch/stack" --port 0 --detach \
    --account-replicas 0 --transaction-replicas 0 >"$scratch/stack.json" 2>"$scratch/log"; then
    cat "$scratch/log" >&2
    exit 1
fi

url() { # the URL of a database, from a line `"name": "postgres://…"`
    sed -n "s|.*\"$1\": \"\(postgres://[^\"]*\)\".*|\1|p" "$scratch/stack.json"
}

different=0
for database in account transaction; do
    crate=crates/$database-service
    fresh=$scratch/$database
    mkdir "$fresh"
    # The macros write while they compile; what is compiled already has to be touched.
    touch "$crate/src/lib.rs"
    env SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$fresh" \
        "$(echo "$database" | tr '[:lower:]' '[:upper:]')_DATABASE_URL=$(url "$database")" \
        cargo check --quiet --package "$database-service" --lib
    if [ -z "$(ls "$fresh")" ]; then
        echo "$crate: no statement was described; was it being built at the same time?" >&2
        exit 1
    fi
    if [ "$mode" = check ]; then
        diff -r "$crate/.sqlx" "$fresh" || different=1
    else
        rm -rf "$crate/.sqlx"
        cp -R "$fresh" "$crate/.sqlx"
        echo "$crate/.sqlx: $(find "$fresh" -type f | wc -l | tr -d ' ') statements"
    fi
done
if [ "$different" = 1 ]; then
    echo "crates/*/.sqlx are not what the statements and migrations give: run \`make prepare\`" >&2
    exit 1
fi
