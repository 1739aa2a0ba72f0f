#!/usr/bin/env bash
# Maintains crates/*/.sqlx: descriptions of the SQL statements. They let the services
# compile without a database.
#
#   sqlx-metadata.sh check      fails if they differ from the migrations and statements
#   sqlx-metadata.sh prepare    regenerates them
#
# A temporary PostgreSQL with all migrations applied describes the statements. The
# macros that check the statements write the descriptions while they compile.
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
# If this script runs as root, PostgreSQL runs as another user, who must be able to
# enter the folder.
chmod 711 "$scratch"
stop() {
    "$passbook" dev down --remove-data --dir "$scratch/stack" 2>/dev/null || true
    rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# `check` compiles the whole workspace, with the features of every other check. `prepare` compiles
# only what it needs: a statement without metadata does not compile.
select=(--workspace)
if [ "$mode" = prepare ]; then select=(--package passbook); fi
cargo build --quiet "${select[@]}" --bins
if ! "$passbook" dev up --output json --dir "$scratch/stack" --port 0 --detach \
    --account-replicas 0 --transaction-replicas 0 --report-replicas 0 >"$scratch/stack.json" 2>"$scratch/log"; then
    cat "$scratch/log" >&2
    exit 1
fi

url() { # prints the URL of the database $1, from a line `"name": "postgres://…"`
    sed -n "s|.*\"$1\": \"\(postgres://[^\"]*\)\".*|\1|p" "$scratch/stack.json"
}

# With everything up to date, only the touched crate is compiled below, and sees its database.
if [ "$mode" = check ]; then
    cargo check --quiet --workspace --lib
fi

# The database that describes the statements of each crate, dependencies first. A crate has only
# one: `reporting` reads the account database by statements that are checked when they run.
databases=(
    account-service:account
    transaction-service:transaction
    reporting:transaction
    report-service:report
)
different=0
for pair in "${databases[@]}"; do
    package=${pair%:*} database=${pair#*:}
    crate=crates/$package
    [ -d "$crate" ] || continue
    fresh=$scratch/$package
    mkdir "$fresh"
    if [ "$mode" = prepare ]; then
        select=(--package "$package")
        # Its dependencies must be up to date, as above. The crate itself can fail without metadata.
        cargo check --quiet "${select[@]}" --lib 2>/dev/null || true
    fi
    # A crate that depends on the touched one is compiled, too: it must not see its database.
    if [ "$mode" = check ]; then
        select=(--workspace)
        if [ "$package" = reporting ]; then select+=(--exclude report-service); fi
    fi
    # Touch the crate, because the macros write nothing for an up-to-date one.
    touch "$crate/src/lib.rs"
    env SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$fresh" \
        DATABASE_URL="$(url "$database")" \
        cargo check --quiet "${select[@]}" --lib
    if [ -z "$(ls "$fresh")" ]; then
        echo "$crate: no statement was described: make sure that no other build is running, and try again" >&2
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
    echo "crates/*/.sqlx differ from the statements and migrations: run \`make prepare\`" >&2
    exit 1
fi
