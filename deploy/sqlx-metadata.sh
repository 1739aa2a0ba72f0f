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

# The database that describes the statements of each crate. `reporting` reads the account
# database by statements that are checked when they run.
databases=(
    account-service:account
    transaction-service:transaction
    ledger-reader:transaction
    audit-log:account
    reporting:transaction
    report-service:report
    webhook-service:account
)
packages=("${databases[@]%:*}")

# `prepare` compiles only what it needs: a statement without metadata does not compile.
programs=(--workspace)
if [ "$mode" = prepare ]; then programs=(--package passbook); fi
cargo build --quiet --locked "${programs[@]}" --bins
if ! "$passbook" dev up --output json --dir "$scratch/stack" --port 0 --detach \
    --account-replicas 0 --transaction-replicas 0 --report-replicas 0 --webhook-replicas 0 \
    >"$scratch/stack.json" 2>"$scratch/log"; then
    cat "$scratch/log" >&2
    exit 1
fi

url() { # prints the URL of the database $1, from a line `"name": "postgres://…"`
    sed -n "s|.*\"$1\": \"\(postgres://[^\"]*\)\".*|\1|p" "$scratch/stack.json"
}

# cargo names the crate to its compiler. This wrapper shows each crate its own database.
{
    echo '#!/bin/sh'
    echo 'case $CARGO_PKG_NAME in'
    for pair in "${databases[@]}"; do
        fresh=$scratch/${pair%:*}
        mkdir "$fresh"
        echo "${pair%:*}) export SQLX_OFFLINE=false SQLX_OFFLINE_DIR='$fresh' DATABASE_URL='$(url "${pair#*:}")' ;;"
    done
    echo 'esac'
    echo 'exec "$@"'
} >"$scratch/rustc"
chmod 700 "$scratch/rustc"

# The macros write nothing for an up-to-date crate, so each is touched while it compiles. Its old
# time is restored: other builds of the same sources remain up to date.
selected=()
for package in "${packages[@]}"; do
    selected+=(--package "$package")
    touch -r "crates/$package/src/lib.rs" "$scratch/$package.time"
    touch "crates/$package/src/lib.rs"
done
# `check` compiles as `make check-lints` does, which then finds everything up to date.
compiled=0
if [ "$mode" = check ]; then
    RUSTC_WRAPPER=$scratch/rustc cargo clippy --quiet --locked --workspace --all-targets -- -D warnings || compiled=$?
else
    RUSTC_WRAPPER=$scratch/rustc cargo check --quiet --locked --lib "${selected[@]}" || compiled=$?
fi
for package in "${packages[@]}"; do
    touch -r "$scratch/$package.time" "crates/$package/src/lib.rs"
done
[ "$compiled" = 0 ] || exit "$compiled"

different=0
for package in "${packages[@]}"; do
    crate=crates/$package
    if [ -z "$(ls "$scratch/$package")" ]; then
        echo "$crate: no statement was described: make sure that no other build is running, and try again" >&2
        exit 1
    fi
    if [ "$mode" = check ]; then
        diff -r "$crate/.sqlx" "$scratch/$package" || different=1
    else
        rm -rf "$crate/.sqlx"
        cp -R "$scratch/$package" "$crate/.sqlx"
        echo "$crate/.sqlx: $(find "$crate/.sqlx" -type f | wc -l | tr -d ' ') statements"
    fi
done
if [ "$different" = 1 ]; then
    echo "crates/*/.sqlx differ from the statements and migrations: run \`make prepare\`" >&2
    exit 1
fi
